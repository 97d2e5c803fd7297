"""From a pair of formulas, forward and backward, to a differentiable function in either form."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from custom_ops.dispatch import Form
from custom_ops.kernels.views import View
from custom_ops.window import Window

Tensor = Any
Formula = Callable[..., Tensor]


def accumulator(dtype: Any) -> Any:
    """The type to compute in: float32 for the half precision types."""
    return tf.float64 if dtype == tf.float64 else tf.float32


def differentiable(
    form: Form, forward: Formula, backward: Sequence[Formula | None], window: Window
) -> Callable[..., Tensor]:
    """Makes a differentiable function of formulas.

    The formulas get their tensors in float32 (float64 if the first is float64), whatever was given.

    Args:
        form: `"xla"` compiles each formula by itself, `"native"` runs it op by op. The gradient stands outside
            of the compiled functions: inside it would make them twice as slow.
        forward: `forward(view, *inputs)` returns the output.
        backward: one function per input, `gradient(view, *inputs, y, dy)`, which returns that input's gradient,
            or `None` if it has none. They are apart because XLA on CPU makes a pass for each result anyway, and
            one that nobody asks for is pruned.
        window: the window, for `view`.

    Returns:
        A function of the inputs.
    """

    def function(*inputs: Tensor) -> Tensor:
        shape = tuple(inputs[0].shape[1:])
        run_forward = prepared(form, forward, window, shape, None)
        run_backward = [
            gradient and prepared(form, gradient, window, shape, index)
            for index, gradient in enumerate(backward)
        ]
        # The backward formulas use the output *of this function*, which has a gradient, so that they can be
        # differentiated again. The forward formula's own gradient is hidden: nobody shall spend memory on it.
        outputs: list[Tensor] = []

        @tf.custom_gradient
        def pool(*inputs: Tensor) -> Any:
            def gradients(dy: Tensor) -> list[Tensor | None]:
                return [gradient and gradient(*inputs, outputs[0], dy) for gradient in run_backward]

            return run_forward(*map(tf.stop_gradient, inputs)), gradients

        outputs.append(pool(*inputs))
        return tf.cast(outputs[0], inputs[0].dtype)

    return function


@functools.cache
def prepared(
    form: Form, formula: Formula, window: Window, shape: tuple[int | None, ...], like: int | None
) -> Callable[..., Tensor]:
    """The formula with its window and its types settled, compiled if the form is xla.

    Kept for ever, as a compiled function must be. The window is part of the key because a dataclass as an argument
    of a `tf.function` would retrace at every call, and the `shape` of the input without its batch is, so that
    `reduce_retracing` generalises the batch only: other sizes stay known, which saves padding and masks.
    """
    run = functools.partial(evaluate, formula, window, like)
    return (
        run
        if form == "native"
        else tf.function(run, jit_compile=True, autograph=False, reduce_retracing=True)
    )


def evaluate(formula: Formula, window: Window, like: int | None, *tensors: Tensor) -> Tensor:
    """Evaluates a formula in the accumulator's type; the result gets the type of input `like`, if there is one."""
    dtype = accumulator(tensors[0].dtype)
    wide = [tf.cast(tensor, dtype) if tensor.dtype.is_floating else tensor for tensor in tensors]
    result = formula(View(window, tensors[0]), *wide)
    return result if like is None else tf.cast(result, tensors[like].dtype)
