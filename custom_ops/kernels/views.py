"""An image seen as windows, and as cells: what every compiled kernel is written in.

Forward, an operator is a function of the *members* of its windows. Member (i, j) of all windows together is
one strided slice of the image, of the shape of the output, so max pooling is `reduce(tf.maximum, members)`.

Backward, the image is cut into *cells* of the size of the strides, `(batch, rows, stride, columns, stride,
channels)`. Cell q is covered by the windows q + d for a few *offsets* d, and row u of the cell is row
`u + before - d * stride` of that window, if it has such a row (`before` counts the absent rows in front of
the image). So the gradient of the image is a sum over offsets of shifted outputs: gathered, never scattered.

Sizes are ints where they are known while tracing, and scalar tensors where they are not.
"""

import dataclasses
from collections.abc import Iterator
from functools import reduce
from typing import Any

import numpy as np
import tensorflow as tf

from custom_ops.dispatch import xla_is_compiling
from custom_ops.window import Window

Tensor = Any
Size = Any  # an int, or a scalar int32 tensor
Range = tuple[Size, Size]  # from, and up to


def dimension(x: Tensor, axis: int) -> Size:
    """The size of an axis, static if it is known."""
    return x.shape[axis] if x.shape[axis] is not None else tf.shape(x)[axis]


def known(*sizes: Size) -> bool:
    """Whether all sizes are ints."""
    return all(isinstance(size, int) for size in sizes)


def larger(a: Size, b: Size) -> Size:
    """The larger of two sizes."""
    return max(a, b) if known(a, b) else tf.maximum(a, b)


def smaller(a: Size, b: Size) -> Size:
    """The smaller of two sizes."""
    return min(a, b) if known(a, b) else tf.minimum(a, b)


def pad(x: Tensor, rows: tuple[Size, Size], columns: tuple[Size, Size], fill: float = 0.0) -> Tensor:
    """Adds rows and columns around an image, if there are any to add."""
    amounts = (*rows, *columns)
    if known(*amounts) and not any(amounts):
        return x
    return tf.pad(x, [(0, 0), rows, columns, (0, 0)], constant_values=fill)


def covered(numbers: Any, values: Tensor) -> Tensor:
    """The values where a window covers the position (see `View.covering`), and zero elsewhere."""
    if isinstance(numbers, np.ndarray) and (numbers >= 0).all():
        return values
    return tf.where(numbers >= 0, values, tf.zeros([], values.dtype))


@dataclasses.dataclass(frozen=True)
class Axis:
    """The windows along one axis: `count` of them on `length` positions, the first starting at `-before`."""

    length: Size
    size: int
    stride: int
    before: Size
    count: Size
    reaches_out: bool

    def windows_with(self, member: int) -> tuple[Size, Size]:
        """The first window, and the one past the last, in which `member` lies inside the image."""
        if not self.reaches_out:
            return 0, self.count
        first = larger(0, -((member - self.before) // self.stride))
        past = smaller(self.count, (self.length - 1 + self.before - member) // self.stride + 1)
        return first, larger(first, past)

    def start(self, member: int, first: Size) -> Size:
        """Where `member` of window `first` lies in the image."""
        return first * self.stride + member - self.before

    def places(self, member: int, first: Size, past: Size) -> slice:
        """Where `member` of the windows from `first` to `past` lies in the image."""
        start = self.start(member, first)
        return slice(start, start + larger(0, (past - first - 1) * self.stride + 1), self.stride)

    def presence(self, member: int) -> Any:
        """Whether `member` lies inside the image, per window."""
        arange = np.arange if known(self.length, self.count) else tf.range
        position = arange(self.count) * self.stride + (member - self.before)
        return (position >= 0) & (position < self.length)

    @property
    def cells(self) -> Size:
        """Number of cells of `stride` positions, the last one filled up."""
        return -(-self.length // self.stride)

    @property
    def offsets(self) -> range:
        """How far the windows that cover a cell stand from it, counted in windows."""
        if known(self.before):
            least = most = self.before
        else:
            least, most = 0, (self.size - 1) // 2
        return range(-((self.size - 1 - least) // self.stride), (self.stride - 1 + most) // self.stride + 1)

    def members_at(self, offset: int) -> Any:
        """For each position of a cell, which member it is of the window at `offset`; -1 for none."""
        member = np.arange(self.stride, dtype=np.int32) + (self.before - offset * self.stride)
        where = np.where if known(self.before) else tf.where
        return where((member >= 0) & (member < self.size), member, -1)


def make_axis(length: Size, size: int, stride: int, padding: str) -> Axis:
    """Lays windows along an axis, as `custom_ops.window.output_length` counts them."""
    if padding == "valid":
        return Axis(length, size, stride, 0, larger(0, (length - size) // stride + 1), reaches_out=False)
    count = -(-length // stride)
    outside = larger(0, (count - 1) * stride + size - length)
    return Axis(length, size, stride, outside // 2, count, reaches_out=not known(outside) or outside > 0)


class View:
    """The windows and the cells of images of the shape of `x (batch, height, width, channels)`."""

    def __init__(self, window: Window, x: Tensor) -> None:
        self.window = window
        self.batch, height, width, self.channels = (dimension(x, axis) for axis in range(4))
        self.down = make_axis(height, window.size[0], window.strides[0], window.padding)
        self.across = make_axis(width, window.size[1], window.strides[1], window.padding)

    # ------------------------------------------------------------------------------------------ windows

    def members(self, x: Tensor, fill: float) -> list[Tensor]:
        """The members of all windows, row by row, each `(batch, rows, columns, channels)`.

        Absent ones hold `fill`. Each slice is padded by itself: padding the whole image takes twice the time.
        """
        # Outside XLA a strided slice takes 13 times as long as a slice of cells; inside, filling up cells costs.
        cut = self.cut_image if xla_is_compiling() else self.cut_cells
        source = x if xla_is_compiling() else self.split(x)
        members = []
        for i in range(self.down.size):
            for j in range(self.across.size):
                (top, bottom), (left, right) = self.down.windows_with(i), self.across.windows_with(j)
                member = cut(source, i, j, (top, bottom), (left, right))
                rows, columns = (top, self.down.count - bottom), (left, self.across.count - right)
                members.append(pad(member, rows, columns, fill))
        return members

    def cut_image(self, x: Tensor, i: int, j: int, rows: Range, columns: Range) -> Tensor:
        """Member (i, j) of a range of windows, as a strided slice of the image."""
        return x[:, self.down.places(i, *rows), self.across.places(j, *columns)]

    def cut_cells(self, cells: Tensor, i: int, j: int, rows: Range, columns: Range) -> Tensor:
        """The same as a slice of the cells: a member stands at the same position in all of them."""
        row, column = self.down.start(i, rows[0]), self.across.start(j, columns[0])
        top, left = row // self.down.stride, column // self.across.stride
        return cells[
            :,
            top : top + rows[1] - rows[0],
            row % self.down.stride,
            left : left + columns[1] - columns[0],
            column % self.across.stride,
        ]

    def per_member(self, kernel: Tensor) -> list[Tensor]:
        """The weights of each member, from a kernel `(rows, columns, channels or 1)`."""
        return [kernel[i, j] for i in range(self.down.size) for j in range(self.across.size)]

    def presence(self) -> list[Any]:
        """Whether each member lies inside the image, `(rows, columns, 1)`; `[]` if all always do."""
        if not (self.down.reaches_out or self.across.reaches_out):
            return []
        return [
            self.down.presence(i)[:, None, None] & self.across.presence(j)[None, :, None]
            for i in range(self.down.size)
            for j in range(self.across.size)
        ]

    def counts(self, dtype: Any) -> Tensor:
        """Number of positions inside the image, one for all windows or `(rows, columns, 1)`."""
        presence = self.presence()
        if not presence:
            return tf.constant(self.window.positions, dtype)
        return tf.add_n([tf.cast(inside, dtype) for inside in presence])

    # -------------------------------------------------------------------------------------------- cells

    @property
    def overlaps(self) -> bool:
        """Whether several windows can reach into one cell."""
        return len(self.down.offsets) * len(self.across.offsets) > 1

    def split(self, x: Tensor) -> Tensor:
        """The image as cells `(batch, rows, stride, columns, stride, channels)`, the last ones filled up."""
        down, across = self.down, self.across
        rows = (0, down.cells * down.stride - down.length)
        columns = (0, across.cells * across.stride - across.length)
        shape = (self.batch, down.cells, down.stride, across.cells, across.stride, self.channels)
        return tf.reshape(pad(x, rows, columns), shape)

    def join(self, cells: Tensor) -> Tensor:
        """The image that these cells make up; a size of 1 along an axis of a cell is repeated."""
        down, across = self.down, self.across
        shape = (self.batch, down.cells, down.stride, across.cells, across.stride, self.channels)
        cells = tf.broadcast_to(cells, shape)
        height, width = down.cells * down.stride, across.cells * across.stride
        x = tf.reshape(cells, (self.batch, height, width, self.channels))
        if known(height, width) and (height, width) == (down.length, across.length):
            return x
        return x[:, : down.length, : across.length]

    def covering(self, *outputs: Tensor) -> Iterator[tuple[Any, list[Tensor]]]:
        """Goes through the offsets, with the outputs as the cells see them from there.

        Yields:
            `(numbers, views)`: `numbers (stride, 1, stride, 1)` tells for each position of a cell which
            member it is of the window there, or -1 if the window does not cover it. Each of `views` is
            `(batch, rows, 1, columns, 1, channels)`, and zero where no window stands.
        """
        down, across = self.down, self.across
        rows_around, columns_around = (
            (-axis.offsets[0], larger(0, axis.cells + axis.offsets[-1] - axis.count)) for axis in (down, across)
        )
        padded = [pad(y, rows_around, columns_around) for y in outputs]
        for d in down.offsets:
            for e in across.offsets:
                rows, columns = down.members_at(d)[:, None], across.members_at(e)[None, :]
                where = np.where if known(down.before, across.before) else tf.where
                numbers = where((rows >= 0) & (columns >= 0), rows * across.size + columns, -1)
                top, left = rows_around[0] + d, columns_around[0] + e
                views = [y[:, top : top + down.cells, left : left + across.cells] for y in padded]
                yield numbers[:, None, :, None], [view[:, :, None, :, None] for view in views]

    def weights_at(self, numbers: Any, kernel: Tensor) -> Tensor:
        """The weight of each position of a cell (see `covering`), and any for number -1."""
        rows = tf.reshape(kernel, (-1, kernel.shape[-1]))
        rows = tf.concat([tf.zeros_like(rows[:1]), rows], 0)
        return tf.gather(rows, tf.squeeze(numbers, -1) + 1)

    def transpose(self, dy: Tensor, kernel: Tensor) -> Tensor:
        """Hands each window's gradient to its members times their weights: a weighted sum, transposed."""
        cells = [covered(numbers, self.weights_at(numbers, kernel) * g) for numbers, (g,) in self.covering(dy)]
        return self.join(reduce(tf.add, cells))
