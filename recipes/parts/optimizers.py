"""How weights follow their gradients: the optimizers of the recipes, each with the same schedule and the same rules."""

from collections.abc import Sequence

import keras

from recipes.parts.stages import OptimizerName

MOMENTUM = 0.9


def make_optimizer(
    name: OptimizerName,
    weights: Sequence[keras.Variable],
    learning_rate: keras.optimizers.schedules.LearningRateSchedule,
    *,
    weight_decay: float = 0.0,
    accumulate: int = 1,
) -> keras.optimizers.Optimizer:
    """An optimizer, built for some weights.

    Weight decay is decoupled from the gradient: each update takes `learning_rate * weight_decay` of a weight away
    (Loshchilov and Hutter 2019), under every optimizer. Biases and the scales and offsets of norms have none, as they
    hold no capacity that could be too much (He et al. 2019, section 3.1).

    Args:
        name: `adamw`, which without weight decay is Adam, or `sgd`, with a Nesterov momentum of 0.9.
        weights: What it will train.
        learning_rate: Counted in batches, also where several make up one update.
        weight_decay: Fraction.
        accumulate: Batches whose mean gradient makes up one update.

    Returns:
        The optimizer. It is built already, because TensorFlow traces a step twice that creates variables, which takes
        seconds.

    Reference:
        - [Loshchilov and Hutter, Decoupled Weight Decay Regularization](https://arxiv.org/abs/1711.05101)
        - [He et al., Bag of Tricks for Image Classification](https://arxiv.org/abs/1812.01187)
    """
    arguments = {
        "learning_rate": learning_rate,
        "weight_decay": weight_decay or None,
        "gradient_accumulation_steps": accumulate if accumulate > 1 else None,
    }
    if name == "sgd":
        optimizer = keras.optimizers.SGD(momentum=MOMENTUM, nesterov=True, **arguments)
    else:
        optimizer = keras.optimizers.Adam(**arguments)
    if weight_decay:
        # One number a channel, or more: kernels have two axes and more, depthwise ones included.
        optimizer.exclude_from_weight_decay(var_list=[weight for weight in weights if len(weight.shape) < 2])
    optimizer.build(weights)
    return optimizer
