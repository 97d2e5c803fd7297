"""An inference copy of a model with its batch norms folded."""

from collections.abc import Callable
from functools import reduce
from typing import Any

import keras
import numpy as np

from zoo.folding.affine import Affine, absorb, affine_of
from zoo.folding.plan import FoldingPlan, folding_plan
from zoo.graph import as_functional, copy_model


def fold_batch_norm(model: keras.Model) -> keras.Model:
    """Copy a model for inference, with batch norm folded into convolutions and dense layers.

    In inference mode batch norm multiplies each channel by one number and adds another, which the layer before or
    after it can do in its kernel and bias at no cost. In float32 the outputs change by rounding only, as the folding
    is done in float64. The copy knows nothing of the statistics of a batch any more, so it is frozen: it is not for
    training.

    Args:
        model: A functional model or a built `Sequential`, which stays as it is. Models inside it are folded too.

    Returns:
        A functional model of stock layers and of what else `model` has, under the names of `model`, without the batch
        norms of `folding_plan(model).folded`. Those of `folding_plan(model).kept` are still there.

    Raises:
        InputError: If the model has no graph, as a subclass of `keras.Model` with a `call` of its own.

    Example:
        ```python
        fast = fold_batch_norm(model)
        fast.save("fast.keras")
        [name for name, reason in folding_plan(model).kept]    # []
        ```

    Reference:
        - [Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
        Inference](https://arxiv.org/abs/1712.05877), section 3.2
    """
    folded = _fold(model, folding_plan(model))
    folded.trainable = False
    return folded


def _fold(model: keras.Model, plan: FoldingPlan) -> keras.Model:
    operations = {operation.name: operation for operation in as_functional(model).operations}
    norms = {name: affine_of(operations[name]) for name in (*_all(plan.before), *_all(plan.after))}
    replace: dict[str, Callable[..., Any]] = dict.fromkeys(norms, _pass_on)
    for name in {*plan.before, *plan.after}:
        # The norms before a layer are listed from the last to the first, those after it from the first to the last.
        before = _join([norms[norm] for norm in reversed(plan.before.get(name, []))])
        after = _join([norms[norm] for norm in plan.after.get(name, [])])
        replace[name] = _with_weights(*absorb(operations[name], before, after))
    for name, inner in plan.nested.items():
        if inner.folded:
            replace[name] = _fold(operations[name], inner)
    return copy_model(model, replace)


def _all(norms: dict[str, list[str]]) -> list[str]:
    return [name for names in norms.values() for name in names]


def _join(affines: list[Affine]) -> Affine | None:
    """What is applied one after the other, as one."""
    return reduce(lambda earlier, later: later.after(earlier), affines) if affines else None


def _with_weights(layer: keras.Layer, weights: list[np.ndarray]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        outputs = layer(*args, **kwargs)
        layer.set_weights(weights)
        return outputs

    return call


def _pass_on(inputs: Any, *args: Any, **kwargs: Any) -> Any:
    return inputs
