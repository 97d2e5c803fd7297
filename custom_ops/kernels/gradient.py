"""From formulas, forward and backward, to a differentiable function in either form."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from custom_ops.dispatch import Form
from custom_ops.kernels.views import View
from custom_ops.window import Window

Tensor = Any
Formula = Callable[..., Tensor]
Shape = tuple[int | None, ...]


def accumulator(dtype: Any) -> Any:
    """The type to compute in: float32 for the half precision types."""
    return tf.float64 if dtype == tf.float64 else tf.float32


def differentiable(
    form: Form,
    window: Window,
    forward: Formula,
    backward: Sequence[Formula | None],
    stages: Sequence[Formula] = (),
) -> Callable[..., Tensor]:
    """Makes a differentiable function of formulas.

    The formulas get their tensors in float32 (float64 if the first is float64), whatever was given.

    Args:
        form: `"xla"` compiles each formula by itself, `"native"` runs it op by op. The gradient stands
            outside of the compiled functions: inside it would make them twice as slow.
        window: the window of the `view` that every formula gets first.
        forward: `forward(view, *inputs)` returns the output.
        backward: one function per input, `gradient(view, *inputs, y, dy, *stages)`, which returns that
            input's gradient, or `None` if it has none. They are apart because XLA on CPU makes a pass for
            each result anyway, and one that nobody asks for is pruned.
        stages: what the backward formulas share, each `stage(view, *inputs, y, dy, *earlier_stages)`, such as
            a number per window, which XLA would otherwise compute again at each position of the cells. A
            backward formula may be one of the stages.

    Returns:
        A function of the inputs.
    """

    def function(*inputs: Tensor) -> Tensor:
        prepare = functools.partial(prepared, form, window, tuple(map(shape_but_batch, inputs)))
        # The backward formulas use the output *of this function*, which has a gradient, so that they can be
        # differentiated again. The forward formula's own gradient is hidden: nobody shall spend memory on it.
        outputs: list[Tensor] = []

        @tf.custom_gradient
        def pool(*inputs: Tensor) -> Any:
            def gradients(dy: Tensor) -> list[Tensor | None]:
                known, done = [*inputs, outputs[0], dy], {}
                for stage in stages:
                    done[stage] = prepare(stage, None)(*known)
                    known.append(done[stage])

                def gradient(formula: Formula | None, index: int) -> Tensor | None:
                    if formula in done:
                        return tf.cast(done[formula], inputs[index].dtype)
                    return formula and prepare(formula, index)(*known)

                return [gradient(formula, index) for index, formula in enumerate(backward)]

            return prepare(forward, None)(*map(tf.stop_gradient, inputs)), gradients

        outputs.append(pool(*inputs))
        return tf.cast(outputs[0], inputs[0].dtype)

    return function


def shape_but_batch(x: Tensor) -> Shape:
    """The static shape of a parameter, and that of an image without its batch."""
    return tuple(x.shape[1:] if x.shape.rank == 4 else x.shape)


def never_compiled(formula: Formula) -> Formula:
    """Marks a formula that runs op by op in the xla form, too, because TensorFlow has a kernel for it."""
    formula.never_compiled = True  # type: ignore[attr-defined]  # functions take attributes
    return formula


@functools.cache
def prepared(
    form: Form, window: Window, shapes: tuple[Shape, ...], formula: Formula, like: int | None
) -> Callable[..., Tensor]:
    """The formula with its window and its types settled, compiled if the form is xla.

    Kept for ever, as a compiled function must be. The window is part of the key because a dataclass as an
    argument of a `tf.function` would retrace at every call, and the `shapes` of the inputs are, but for the
    batch, so that `reduce_retracing` generalises that alone: other sizes stay known, which saves padding and
    masks.
    """
    run = functools.partial(evaluate, formula, window, like)
    if form == "native" or hasattr(formula, "never_compiled"):
        return run
    return tf.function(run, jit_compile=True, autograph=False, reduce_retracing=True)


def evaluate(formula: Formula, window: Window, like: int | None, *tensors: Tensor) -> Tensor:
    """Evaluates a formula in the accumulator's type; the result gets the type of input `like`, if any."""
    dtype = accumulator(tensors[0].dtype)
    wide = [tf.cast(tensor, dtype) if tensor.dtype.is_floating else tensor for tensor in tensors]
    result = formula(View(window, tensors[0]), *wide)
    return result if like is None else tf.cast(result, tensors[like].dtype)
