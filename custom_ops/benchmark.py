"""How fast the operators are: `python -m custom_ops.benchmark`.

For each operator: milliseconds forward, and forward with the gradients of all inputs; how many times faster
it is than the stock Keras op or, where there is none, than the composition of TensorFlow ops that a user
would write; and its time in copies of the input, the limit that memory sets (below 1: it reads all and writes
a quarter).

Everything runs from a plain `tf.function`, float32. All that is compared runs interleaved, round by round,
and a ratio is the median of the rounds' ratios: a slow moment of the machine then hits both sides alike. The
gradient that comes in from behind is random numbers: XLA would compute half of the work ahead for the ones that
TensorFlow takes otherwise.

    python -m custom_ops.benchmark --json speed.json      all operators; under four minutes on two cores
    python -m custom_ops.benchmark --readme speed.json    the ratios of that run as they stand in the README
    python -m custom_ops.benchmark max soft               some of them
    python -m custom_ops.benchmark --dispatch max avg     both forms over sizes, for the table in `dispatch`
"""

import argparse
import dataclasses
import functools
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import custom_ops
from custom_ops import ops

Tensor = Any
Function = Callable[..., Tensor]
Shape = tuple[int, int, int, int]

SHAPES: tuple[Shape, ...] = ((8, 112, 112, 64), (32, 56, 56, 64), (32, 28, 28, 256))
# From 0.2 MB to 51 MB, for the crossing points.
DISPATCH_SHAPES: tuple[Shape, ...] = (*((n, 28, 28, 64) for n in (1, 4, 8, 16, 32, 64, 128, 256)), *SHAPES)


@dataclasses.dataclass(frozen=True)
class Case:
    """One line of the table.

    Args:
        name: operator, window and strides.
        ours: our operator, of the input and the parameters.
        rival: what a user would write instead, of the same.
        parameters: makes the parameters for an input shape.
        inside_xla: whether both run inside one function with `jit_compile=True`.
        positive: whether the input is what a ReLU gives.
    """

    name: str
    ours: Function
    rival: Function
    parameters: Callable[[Shape], Sequence[Any]] = lambda shape: ()
    inside_xla: bool = False
    positive: bool = False

    @property
    def operator(self) -> str:
        """The stem of the operator's name."""
        return self.name.split()[0]


# ---------------------------------------------------------------------------- what a user would write instead


def pool(mode: str, x: Tensor, size: int, strides: int) -> Tensor:
    """The stock op."""
    stock = keras.ops.max_pool if mode == "max" else keras.ops.average_pool
    return stock(x, size, strides, "valid", data_format="channels_last")


def power_mean(x: Tensor, p: Tensor, count: int) -> Tensor:
    """Lp (count 4) and GeM (count 1) of positive numbers."""
    return tf.pow(count * pool("avg", tf.pow(x, p), 2, 2), 1 / p)


def weighted(x: Tensor, logits: Tensor, size: int) -> Tensor:
    """Soft pooling and LIP; overflows for logits above 88."""
    e = tf.exp(logits)
    return pool("avg", e * x, size, 2) / pool("avg", e, size, 2)


def gated(x: Tensor, weights: Tensor) -> Tensor:
    """A gate from a depthwise convolution."""
    filters = tf.broadcast_to(weights[:, :, None, None], (2, 2, x.shape[-1], 1))
    return mixed(x, tf.sigmoid(tf.nn.depthwise_conv2d(x, filters, (1, 2, 2, 1), "VALID")))


def mixed(x: Tensor, a: Tensor) -> Tensor:
    """A mixture of the two stock pools."""
    return a * pool("max", x, 2, 2) + (1 - a) * pool("avg", x, 2, 2)


def stacked(x: Tensor, size: int) -> Tensor:
    """All members of the windows along a new last axis."""
    height, width = x.shape[1] - size + 1, x.shape[2] - size + 1
    return tf.stack([x[:, i : i + height : 2, j : j + width : 2] for i in range(size) for j in range(size)], -1)


def stochastic(x: Tensor) -> Tensor:
    """Draws an index from the running sums, and gathers."""
    sums = tf.cumsum(windows := stacked(x, 2), axis=-1)
    draw = tf.random.stateless_uniform(tf.shape(sums[..., -1]), (1, 2)) * sums[..., -1]
    drawn = tf.reduce_sum(tf.cast(draw[..., None] >= sums[..., :-1], tf.int32), -1)
    return tf.gather(windows, drawn, batch_dims=4)


def median(x: Tensor, size: int) -> Tensor:
    """Sorts the windows."""
    ordered, count = tf.sort(stacked(x, size), -1), size * size
    return 0.5 * (ordered[..., (count - 1) // 2] + ordered[..., count // 2])


def blur(x: Tensor) -> Tensor:
    """A depthwise convolution with a constant."""
    filters = np.outer([1, 2, 1], [1, 2, 1]).astype("float32")[:, :, None, None] / 16
    return tf.nn.depthwise_conv2d(x, np.tile(filters, (1, 1, x.shape[-1], 1)), (1, 2, 2, 1), "VALID")


def separable(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """A depthwise convolution with the product of two softmaxes."""
    filters = tf.nn.softmax(rows, 0)[:, None] * tf.nn.softmax(columns, 0)[None]
    return tf.nn.depthwise_conv2d(x, filters[..., None], (1, 2, 2, 1), "VALID")


# -------------------------------------------------------------------------------------------------- cases


def normal(*shape: int) -> Any:
    """Numbers for a parameter."""
    return np.random.default_rng(1).normal(size=shape).astype("float32")


def case(name: str, size: int, rival: Function, parameters: Any = lambda shape: (), **options: Any) -> Case:
    """An operator with a window of `size` and strides of 2."""
    operator = getattr(ops, f"{name}_pool2d")
    keywords = {"pool_size": size, "strides": 2}

    def ours(x: Tensor, *values: Tensor) -> Tensor:
        return operator(x, *values, **keywords)

    return Case(f"{name} {size}x{size}", ours, rival, parameters, **options)


def layer_case(name: str, size: int, ours: str, stock: str) -> Case:
    """Our layer against the one of Keras, inside a function that XLA compiles."""
    return Case(
        f"{name} {size}x{size} in XLA",
        getattr(custom_ops.layers, ours)(size, 2),
        getattr(keras.layers, stock)(size, 2, data_format="channels_last"),
        inside_xla=True,
    )


def p_of(shape: Shape) -> tuple[Any]:
    """An exponent."""
    return (np.float32(3),)


def cases() -> list[Case]:
    """The lines of the table."""
    return [
        *(case("max", k, lambda x, k=k: pool("max", x, k, 2)) for k in (2, 3)),
        *(case("avg", k, lambda x, k=k: pool("avg", x, k, 2)) for k in (2, 3)),
        case("lp", 2, lambda x, p: power_mean(tf.abs(x), p, 4), p_of),
        case("gem", 2, lambda x, p: power_mean(tf.maximum(x, 1e-6), p, 1), p_of, positive=True),
        *(case("soft", k, lambda x, k=k: weighted(x, x, k)) for k in (2, 3)),
        case("lip", 2, lambda x, logits: weighted(x, logits, 2), lambda shape: (normal(*shape),)),
        case("mixed", 2, mixed, lambda shape: (np.float32(0.3),)),
        case("gated", 2, gated, lambda shape: (normal(2, 2),)),
        Case("stochastic 2x2", lambda x: ops.stochastic_pool2d(x, (1, 2), True), stochastic, positive=True),
        case("blur", 3, blur),
        Case("max_blur 2x2", lambda x: ops.max_blur_pool2d(x, strides=2), lambda x: blur(pool("max", x, 2, 1))),
        *(
            case("separable", k, separable, lambda shape, k=k: (normal(k, shape[3]), normal(k, shape[3])))
            for k in (2, 3)
        ),
        *(case("median", k, lambda x, k=k: median(x, k)) for k in (2, 3)),
        *(layer_case("max", k, "MaxPooling2D", "MaxPooling2D") for k in (2, 3)),
        *(layer_case("avg", k, "AvgPooling2D", "AveragePooling2D") for k in (2, 3)),
    ]


# ---------------------------------------------------------------------------------------------- measuring


def forward(function: Function, jit: bool) -> Function:
    """The function, in a graph."""
    return tf.function(function, jit_compile=jit, autograph=False)


def with_gradient(function: Function, jit: bool) -> Function:
    """The function and the gradients of all its inputs, given the one of its output first, in a graph."""

    def run(dy: Tensor, *inputs: Tensor) -> Tensor:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            y = function(*inputs)
        return y, tape.gradient(y, inputs, dy)

    return tf.function(run, jit_compile=jit, autograph=False)


def interleaved(functions: Sequence[Callable[[], Any]], seconds: float) -> list[list[float]]:
    """Milliseconds of each function in each round; at least five rounds, and as many as the time allows."""
    for function in functions:
        function()
        function()
    rounds: list[list[float]] = []
    end = time.perf_counter() + seconds
    while len(rounds) < 5 or time.perf_counter() < end:
        row = []
        for function in functions:
            start = time.perf_counter()
            function()
            row.append((time.perf_counter() - start) * 1e3)
        rounds.append(row)
    return [list(column) for column in zip(*rounds, strict=True)]


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median over the rounds of one time over another."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def inputs_for(case: Case, shape: Shape) -> list[Tensor]:
    """The input and the parameters of a case."""
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    if case.positive:
        x = np.maximum(x, 0) + 0.01
    return [tf.constant(x), *map(tf.constant, case.parameters(shape))]


def ways(case: Case, inputs: list[Tensor]) -> list[tuple[str, Callable[..., Function], list[Tensor]]]:
    """The two ways to run a case: what they are called, what makes the function, and what that is given."""
    dy = normal(*case.rival(*inputs).shape)
    return [("forward", forward, inputs), ("gradient", with_gradient, [tf.constant(dy), *inputs])]


def measure(case: Case, shape: Shape, seconds: float) -> dict[str, Any]:
    """Times a case at a shape, forward and with gradient."""
    inputs = inputs_for(case, shape)
    copy = tf.function(lambda x: tf.raw_ops.DeepCopy(x=x), autograph=False)
    line: dict[str, Any] = {"op": case.name, "shape": list(shape)}
    for key, wrap, given in ways(case, inputs):
        ours, rival = (wrap(function, case.inside_xla) for function in (case.ours, case.rival))
        calls = [functools.partial(f, *given) for f in (ours, rival)]
        times = interleaved([*calls, functools.partial(copy, inputs[0])], seconds)
        line[key] = {
            "ms": statistics.median(times[0]),
            "rival_ms": statistics.median(times[1]),
            "faster": ratio(times[1], times[0]),
            "copies": ratio(times[0], times[2]),
        }
    return line


def measure_forms(case: Case, shape: Shape, seconds: float) -> dict[str, Any]:
    """Times both forms of a case at a shape, and what the dispatch picks."""
    inputs = inputs_for(case, shape)
    line: dict[str, Any] = {"op": case.name, "shape": list(shape), "megabytes": math.prod(shape) * 4 / 1e6}
    for key, wrap, given in ways(case, inputs):
        functions = [wrap(in_form(form, case.ours), jit=False) for form in ("native", "xla")]
        functions.append(wrap(case.ours, jit=False))
        times = interleaved([functools.partial(f, *given) for f in functions], seconds)
        line[key] = {
            "xla_faster": ratio(times[0], times[1]),
            "picked_over_better": ratio(times[2], [min(pair) for pair in zip(*times[:2], strict=True)]),
        }
    return line


def in_form(form: Any, function: Function) -> Function:
    """The function with one form forced while it is traced."""

    def run(*inputs: Tensor) -> Tensor:
        with custom_ops.lowering(form):
            return function(*inputs)

    return run


# --------------------------------------------------------------------------------------------------- main


def speed_row(line: dict[str, Any]) -> str:
    """One line of the table."""
    cells = [f"{line['op']:<18} {'x'.join(map(str, line['shape'])):<14}"]
    for key in ("forward", "gradient"):
        part = line[key]
        cells.append(f"{part['ms']:8.2f} {part['faster']:7.2f} {part['copies']:7.2f}")
    return " |".join(cells)


def dispatch_row(line: dict[str, Any]) -> str:
    """One line of the comparison of the forms."""
    cells = [f"{line['op']:<18} {'x'.join(map(str, line['shape'])):<14} {line['megabytes']:8.2f} MB"]
    for key in ("forward", "gradient"):
        cells.append(f"{line[key]['xla_faster']:8.2f} {line[key]['picked_over_better']:7.2f}")
    return " |".join(cells)


def readme_rows(lines: list[dict[str, Any]]) -> dict[str, str]:
    """For each operator what stands in the README: its lowest and highest ratio, forward / with gradient."""
    ratios: dict[str, list[str]] = {}
    for op in dict.fromkeys(line["op"] for line in lines):
        operator, window, *inside = op.split()
        spans = []
        for key in ("forward", "gradient"):
            values = [line[key]["faster"] for line in lines if line["op"] == op]
            digits = 1 if max(values) < 10 else 0
            low, high = (f"{value:.{digits}f}" for value in (min(values), max(values)))
            spans.append(low if low == high else f"{low}–{high}")
        ratios.setdefault(" ".join([operator, *inside]), []).append(f"{window}: {' / '.join(spans)}")
    return {operator: "; ".join(windows) for operator, windows in ratios.items()}


def main() -> None:
    """Reads the command line, measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("operators", nargs="*", help="operators to measure, such as max or soft; all by default")
    parser.add_argument("--dispatch", action="store_true", help="compare the two forms over sizes")
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--readme", type=Path, help="print the README's ratios from such a file, without measuring")
    parser.add_argument("--seconds", type=float, default=0.4, help="time for each measurement (default 0.4)")
    arguments = parser.parse_args()

    if arguments.readme:
        for operator, ratios in readme_rows(json.loads(arguments.readme.read_text())).items():
            print(f"{operator:<12} {ratios}")
        return
    chosen = [case for case in cases() if not arguments.operators or case.operator in arguments.operators]
    if not chosen:
        names = sorted({case.operator for case in cases()})
        parser.error(f"no such operator: {' '.join(arguments.operators)}. There are: {' '.join(names)}")
    lines = []
    if arguments.dispatch:
        print(f"{'':18} {'':14} {'input':>11} |{'xla x':>8} {'pick':>7} |{'xla x':>8} {'pick':>7} (with gradient)")
        for case in chosen:
            for shape in () if case.inside_xla else DISPATCH_SHAPES:
                lines.append(measure_forms(case, shape, arguments.seconds))
                print(dispatch_row(lines[-1]), flush=True)
    else:
        columns = f"{'ms':>8} {'x':>7} {'copies':>7}"
        print(f"{'':18} {'':14} |{columns} |{columns} (with gradient)")
        for case in chosen:
            for shape in SHAPES:
                lines.append(measure(case, shape, arguments.seconds))
                print(speed_row(lines[-1]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(lines, indent=2) + "\n")


if __name__ == "__main__":
    main()
