"""The window that slides over an image: its checks and its output size, in pure Python.

Along one axis of `length` positions a window of `size` positions moves in steps of `stride`. With `"valid"`
padding every window lies inside; with `"same"` padding there are `ceil(length / stride)` windows, centred
over the axis (the odd position goes to the end), and the positions outside are absent: they are no zeros.
"""

import dataclasses
from typing import Any, Literal, cast

Padding = Literal["valid", "same"]
Pair = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Window:
    """A checked window over `(batch, height, width, channels)`.

    Args:
        size: rows and columns of a window, in positions.
        strides: rows and columns from one window to the next.
        padding: `"valid"` or `"same"`.
    """

    size: Pair
    strides: Pair
    padding: Padding

    @property
    def positions(self) -> int:
        """Number of positions in a window, absent ones included."""
        return self.size[0] * self.size[1]

    def output_shape(self, height: int | None, width: int | None) -> tuple[int | None, int | None]:
        """Rows and columns of the output; `None` where the input's are not known."""
        rows, columns = (
            None if length is None else output_length(length, size, stride, self.padding)
            for length, size, stride in zip((height, width), self.size, self.strides, strict=True)
        )
        return rows, columns


def output_length(length: int, size: int, stride: int, padding: Padding) -> int:
    """Number of windows along an axis.

    Args:
        length: positions along the axis.
        size: positions of a window.
        stride: positions from one window to the next.
        padding: `"valid"` or `"same"`.

    Raises:
        ValueError: if no window fits.
    """
    if padding == "same":
        return -(-length // stride)
    if length < size:
        raise ValueError(
            f"A window of {size} does not fit into an input of {length} with padding='valid'. "
            "Use a smaller `pool_size`, a larger input or padding='same'."
        )
    return (length - size) // stride + 1


def make_window(pool_size: Any, strides: Any, padding: Any, rank: int) -> Window:
    """Checks the arguments of a pooling operator.

    Args:
        pool_size: an int, or one int per spatial axis.
        strides: the same, or `None` for `pool_size`.
        padding: `"valid"` or `"same"`, in any case.
        rank: spatial axes of the input, 1 or 2. A window of rank 1 stands along the first axis of two.

    Raises:
        ValueError: if an argument is none of these.
    """
    size = positive_ints(pool_size, rank, "pool_size")
    step = size if strides is None else positive_ints(strides, rank, "strides")
    if rank == 1:
        size, step = (size[0], 1), (step[0], 1)
    return Window(cast(Pair, size), cast(Pair, step), check_padding(padding))


def positive_ints(value: Any, count: int, name: str) -> tuple[int, ...]:
    """Returns `value` as a tuple of `count` positive ints; an int stands for all of them."""
    items = (value,) * count if is_int(value) else value
    if (
        not isinstance(items, tuple | list)
        or len(items) != count
        or not all(is_int(item) and item > 0 for item in items)
    ):
        several = f"a tuple of {count} positive ints" if count > 1 else "a tuple of one"
        raise ValueError(f"`{name}` must be a positive int or {several}. Received: {name}={value!r}")
    return tuple(int(item) for item in items)


def check_padding(padding: Any) -> Padding:
    """Returns `padding` in lower case if it is one of the two that exist."""
    lowered = padding.lower() if isinstance(padding, str) else padding
    check_choice(lowered, ("valid", "same"), "padding")
    return cast(Padding, lowered)


def check_choice(value: Any, choices: tuple[str, ...], name: str) -> None:
    """Checks that `value` is one of a few words."""
    if value not in choices:
        raise ValueError(f"`{name}` must be {' or '.join(map(repr, choices))}. Received: {name}={value!r}")


def check_levels(levels: Any) -> tuple[int, ...]:
    """Returns the levels of a pyramid, if they are one positive int or more."""
    if not isinstance(levels, tuple | list) or not levels:
        raise ValueError(f"`levels` must be a tuple of positive ints. Received: levels={levels!r}")
    return positive_ints(levels, len(levels), "levels")


def is_int(value: Any) -> bool:
    """Whether `value` counts as an int: NumPy's ints do, True and False do not."""
    return hasattr(value, "__index__") and not isinstance(value, bool) and getattr(value, "ndim", 0) == 0
