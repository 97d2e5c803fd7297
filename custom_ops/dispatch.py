"""Which form of a kernel runs: `"xla"`, compiled for the shape it meets, or `"native"`, TensorFlow ops.

Slices and arithmetic fuse into one pass over memory when XLA compiles them, and take a pass each when it does
not; TensorFlow's built-in ops are the other way round. So every kernel has two forms, and `choose` picks:

1. what `custom_ops.lowering` forces;
2. inside a function that XLA is compiling: xla;
3. in a layer called without `training=True`: native, so that an exported model holds no compiled function;
4. otherwise what was measured to be faster: `NATIVE_IS_FASTER`.
"""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any, Literal

from tensorflow.python.eager import record
from tensorflow.python.framework import ops as framework_ops
from tensorflow.python.ops import control_flow_util

Form = Literal["xla", "native"]

# Megabytes of input from which the native form is faster on a CPU. An operator without a line is faster compiled.
# Measured with `python -m custom_ops.benchmark --dispatch` on two cores, from 0.2 to 51 MB:
# - max with gradient: TensorFlow's kernel notes in the forward pass where each maximum was, while XLA reads the
#   input again. Compiled is 1.2 to 1.4 times as fast up to 0.8 MB, as fast at 2 MB, and 0.6 to 0.85 from 6 MB on.
# - avg: compiled is 0.84 to 1.35 times as fast forward, and 0.97 to 1.6 times with gradient, without a pattern.
# - the rest, and max forward: compiled is as fast (max from 13 MB on) or faster at every size.
NEVER = float("inf")
NATIVE_IS_FASTER: dict[str, tuple[float, float]] = {
    # operator: (forward, forward and gradient)
    "max": (NEVER, 3.0),
}

_forced: contextvars.ContextVar[Form | None] = contextvars.ContextVar("forced", default=None)
_exportable: contextvars.ContextVar[bool] = contextvars.ContextVar("exportable", default=False)


@contextlib.contextmanager
def lowering(form: Form) -> Iterator[None]:
    """Forces one form of every kernel that is called, or traced, in the block.

    Args:
        form: `"xla"` or `"native"`.

    Raises:
        ValueError: for any other value.

    Example:
        >>> with custom_ops.lowering("native"):
        ...     y = custom_ops.ops.soft_pool2d(x)
    """
    if form not in ("xla", "native"):
        raise ValueError(f"`form` must be 'xla' or 'native'. Received: form={form!r}")
    token = _forced.set(form)
    try:
        yield
    finally:
        _forced.reset(token)


@contextlib.contextmanager
def layer_call(training: Any) -> Iterator[None]:
    """Marks what a layer calls. Unless `training` is True the graph may be exported, and must stay native."""
    token = _exportable.set(training is not True)
    try:
        yield
    finally:
        _exportable.reset(token)


def choose(operator: str, x: Any) -> Form:
    """Picks the form in which `operator` runs on the tensor `x`. A size that is not known counts as large."""
    forced = _forced.get()
    if forced is not None:
        return forced
    if xla_is_compiling():
        return "xla"
    if _exportable.get():
        return "native"
    elements = x.shape.num_elements()
    megabytes = NEVER if elements is None else elements * x.dtype.size / 1e6
    forward, with_gradient = NATIVE_IS_FASTER.get(operator, (NEVER, NEVER))
    threshold = with_gradient if gradient_is_recorded() else forward
    return "native" if threshold < NEVER and megabytes >= threshold else "xla"


def xla_is_compiling() -> bool:
    """Whether the code that runs now is being traced inside a function that XLA will compile.

    TensorFlow does not say so in public; a test holds this to what it promises.
    """
    graph = framework_ops.get_default_graph()
    return bool(control_flow_util.GraphOrParentsInXlaContext(graph))


def gradient_is_recorded() -> bool:
    """Whether a gradient tape is open. Not public either, and tested."""
    return bool(record.could_possibly_record())
