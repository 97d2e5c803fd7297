"""Which positions of its input each position of a layer's output looks at, along one axis. Pure Python.

These rules compose: through the windows of one layer, those of the next see what a position far down the network
sees of the image. That is how receptive fields are found, exactly, also through layers that enlarge.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Windows:
    """A rule that gives every position of an axis the stretch of another axis that it looks at.

    The rule repeats: position `cycle * period + phase` looks from `first[phase] + cycle * step` to
    `last[phase] + cycle * step`, both included. A layer that enlarges has a period above 1, since neighbours look
    at different numbers of positions there. Positions before 0 and after the end, where padding stands, count
    like all others.

    Args:
        first: First position looked at, for each position of one period; ascending.
        last: Last position looked at, likewise.
        step: How far the windows move in one period, positions.
    """

    first: tuple[int, ...]
    last: tuple[int, ...]
    step: int

    @property
    def period(self) -> int:
        """Positions after which the rule repeats."""
        return len(self.first)

    @property
    def size(self) -> int:
        """Positions from first to last, of the window that has most."""
        return max(last - first for first, last in zip(self.first, self.last, strict=True)) + 1

    @property
    def stride(self) -> float:
        """Distance from one window to the next, on average."""
        return self.step / self.period

    def at(self, position: int) -> tuple[int, int]:
        """The first and the last position that `position` looks at."""
        cycle, phase = divmod(position, self.period)
        return self.first[phase] + cycle * self.step, self.last[phase] + cycle * self.step

    def then(self, following: "Windows") -> "Windows":
        """What the windows of the `following` layer see through these."""
        # So many of its periods, until they end where one of ours does.
        cycles = self.period // math.gcd(self.period, following.step)
        seen = [following.at(position) for position in range(following.period * cycles)]
        return Windows(
            first=tuple(self.at(first)[0] for first, _ in seen),
            last=tuple(self.at(last)[1] for _, last in seen),
            step=following.step * cycles // self.period * self.step,
        )

    def union(self, other: "Windows") -> "Windows | None":
        """Windows that hold both; None if the two move at different speeds, so that none of fixed size does."""
        if self.step * other.period != other.step * self.period:
            return None
        period = math.lcm(self.period, other.period)
        pairs = [(self.at(position), other.at(position)) for position in range(period)]
        return Windows(
            first=tuple(min(ours[0], theirs[0]) for ours, theirs in pairs),
            last=tuple(max(ours[1], theirs[1]) for ours, theirs in pairs),
            step=self.step * (period // self.period),
        )


ITSELF = Windows(first=(0,), last=(0,), step=1)


def sliding(length: int, size: int, stride: int, dilation: int, padding: str) -> Windows:
    """A convolution or a pooling layer.

    Args:
        length: Positions of the input, which decide how "same" padding divides in two.
        size: Positions that a window reads.
        stride: Positions from window to window.
        dilation: Positions from one that is read to the next.
        padding: `"valid"`, `"same"` (the odd position comes last, TensorFlow's rule) or `"causal"`.
    """
    reach = dilation * (size - 1)
    before = 0
    if padding == "same":
        before = max(0, (-(-length // stride) - 1) * stride + reach + 1 - length) // 2
    elif padding == "causal":
        before = reach
    return Windows(first=(-before,), last=(reach - before,), step=stride)


def transposed(length: int, output_length: int, size: int, stride: int, dilation: int, padding: str) -> Windows:
    """A transposed convolution: position `p` of the input adds to the output from `p * stride - before` on.

    Args:
        length: Positions of the input.
        output_length: Positions of the output.
        size: Positions of the output that one of the input adds to.
        stride: Distance between the places that neighbours add to.
        dilation: Distance between the positions that one adds to.
        padding: `"valid"` or `"same"`.
    """
    reach = dilation * (size - 1)
    before = max(0, (length - 1) * stride + reach + 1 - output_length) // 2 if padding == "same" else 0
    last = tuple((phase + before) // stride for phase in range(stride))
    # A kernel smaller than the stride leaves gaps; there, we name the nearest position.
    first = tuple(min(-(-(phase + before - reach) // stride), last[phase]) for phase in range(stride))
    return Windows(first=first, last=last, step=1)


def enlarged(factor: int, *, between: bool) -> Windows:
    """Upsampling by a whole factor.

    Args:
        factor: Positions of the output for one of the input.
        between: Whether positions between two of the input are interpolated, or the nearest is repeated.
    """
    if not between:
        return Windows(first=(0,) * factor, last=(0,) * factor, step=1)
    # Position p of the output lies at (p + 1/2) / factor - 1/2.
    places = [2 * phase + 1 - factor for phase in range(factor)]
    return Windows(
        first=tuple(place // (2 * factor) for place in places),
        last=tuple(-(-place // (2 * factor)) for place in places),
        step=1,
    )


def cells(length: int, count: int) -> Windows:
    """Adaptive pooling: a fixed number of cells that divide the axis, overlapping where it does not come out even.

    Args:
        length: Positions of the input.
        count: Positions of the output.
    """
    return Windows(
        first=tuple(cell * length // count for cell in range(count)),
        last=tuple(-(-(cell + 1) * length // count) - 1 for cell in range(count)),
        step=length,
    )


def shifted(offset: int) -> Windows:
    """Padding (`offset` below zero) and cropping."""
    return Windows(first=(offset,), last=(offset,), step=1)
