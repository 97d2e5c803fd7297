"""How weights follow their gradients: the optimizers of the recipes, each with the same schedule and the same rules."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from recipes.parts.blocks import Block
from recipes.parts.stages import OptimizerName

MOMENTUM = 0.9


def make_optimizer(
    name: OptimizerName,
    weights: Sequence[keras.Variable],
    learning_rate: keras.optimizers.schedules.LearningRateSchedule,
    *,
    weight_decay: float = 0.0,
    accumulate: int = 1,
    rate_factors: Mapping[str, float] | None = None,
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
        rate_factors: By the `path` of a weight, what its learning rate is multiplied by, and with it its decay; 1 for
            those that are not in it. `layer_decay_factors` and `block_factors` make some.

    Returns:
        The optimizer; its `learning_rate` is that of a weight with a factor of 1. It is built already, because
        TensorFlow traces a step twice that creates variables, which takes seconds.

    Reference:
        - [Loshchilov and Hutter, Decoupled Weight Decay Regularization](https://arxiv.org/abs/1711.05101)
        - [He et al., Bag of Tricks for Image Classification](https://arxiv.org/abs/1812.01187)
    """
    arguments: dict[str, Any] = {
        "learning_rate": learning_rate,
        "gradient_accumulation_steps": accumulate if accumulate > 1 else None,
        "decay": weight_decay,
        "factors": [(rate_factors or {}).get(weight.path, 1.0) for weight in weights],
    }
    optimizer: keras.optimizers.Optimizer
    if name == "sgd":
        optimizer = _SGD(momentum=MOMENTUM, nesterov=True, name="sgd", **arguments)
    else:
        optimizer = _Adam(name="adam", **arguments)
    optimizer.build(weights)
    return optimizer


class _RatePerWeight(keras.optimizers.Optimizer):
    """An optimizer with a learning rate and a weight decay for each weight.

    Keras has one learning rate for all weights, and takes their decay away before the update. Its `MultiOptimizer`
    finds weights by regular expressions and has no `learning_rate` to read.

    Args:
        decay: Fraction of a weight with two axes or more that an update takes away, times the learning rate. Kernels
            have as many, depthwise ones included; biases and norms hold one number a channel.
        factors: Of the learning rate, in the order of the weights that the optimizer will be built for.
        **arguments: Those of the optimizer of Keras that this is mixed into.
    """

    def __init__(self, *, decay: float, factors: Sequence[float], **arguments: Any) -> None:
        super().__init__(**arguments)
        self._decay = decay
        self._factors = tuple(factors)

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        index = self._get_variable_index(variable)
        rate = keras.ops.cast(learning_rate * self._factors[index], variable.dtype)
        if self._decay and len(variable.shape) > 1:
            variable.assign_sub(variable * self._decay * rate)
        self._update(index, tf.cast(tf.convert_to_tensor(gradient), variable.dtype), variable, rate)

    def _update(self, index: int, gradient: tf.Tensor, variable: tf.Variable, rate: tf.Tensor) -> None:
        """Change a weight and its moments, by an op that does all of it in one pass over their numbers.

        Keras does the same in 12 ops, each of which reads and writes as much as the weight holds.
        """
        raise NotImplementedError


class _SGD(_RatePerWeight, keras.optimizers.SGD):
    """Stochastic gradient descent."""

    def _update(self, index: int, gradient: tf.Tensor, variable: tf.Variable, rate: tf.Tensor) -> None:
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=self.momentums[index].value.handle,
            lr=rate,
            grad=gradient,
            momentum=tf.cast(self.momentum, variable.dtype),
            use_nesterov=self.nesterov,
        )


class _Adam(_RatePerWeight, keras.optimizers.Adam):
    """Adam."""

    def _update(self, index: int, gradient: tf.Tensor, variable: tf.Variable, rate: tf.Tensor) -> None:
        step = tf.cast(self.iterations + 1, variable.dtype)
        beta_1, beta_2 = (tf.cast(beta, variable.dtype) for beta in (self.beta_1, self.beta_2))
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(beta_1, step),
            beta2_power=tf.pow(beta_2, step),
            lr=rate,
            beta1=beta_1,
            beta2=beta_2,
            epsilon=tf.cast(self.epsilon, variable.dtype),
            grad=gradient,
        )


def layer_decay_factors(blocks: Sequence[Block], model: keras.Model, decay: float) -> dict[str, float]:
    """Learning rates that fall with depth: deeper layers know what all images have in common, and should change least.

    Args:
        blocks: Of the model, from input to head.
        model: Whose weights they hold.
        decay: What the rate of a block is of that of the block after it, in (0, 1]; 1 makes all alike. For networks
            of 12 to 24 blocks, 0.65 to 0.9 are usual.

    Returns:
        By the path of a weight, the factor of its learning rate, for `make_optimizer`. That of the head is 1.

    Reference:
        - [Clark et al., ELECTRA](https://arxiv.org/abs/2003.10555)
        - [Bao et al., BEiT](https://arxiv.org/abs/2106.08254)
    """
    last = len(blocks) - 1
    return block_factors(blocks, model, {block.name: decay ** (last - index) for index, block in enumerate(blocks)})


def block_factors(blocks: Sequence[Block], model: keras.Model, factors: Mapping[str, float]) -> dict[str, float]:
    """Factors for every weight from one for each block.

    Args:
        blocks: Of the model.
        model: Whose weights they hold.
        factors: By the name of a block; 1 for a block that is not in it.

    Returns:
        By the path of a weight.
    """
    return {
        weight.path: factors.get(block.name, 1.0)
        for block in blocks
        for layer in block.layers
        for weight in model.get_layer(layer).weights
    }
