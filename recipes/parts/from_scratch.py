"""How a network with random weights is trained: one stage, in which everything learns."""

from recipes.parts.stages import OptimizerName, Stage

STEP_IMAGES = 64
"""Images an update for which the learning rate of sgd below is meant."""


def training_stage(
    *,
    epochs: int,
    images: int,
    optimizer: OptimizerName = "sgd",
    learning_rate: float | None = None,
    weight_decay: float | None = None,
    warmup: float = 0.1,
) -> Stage:
    """All of a network at once, to the end of its schedule, batch norm included.

    Args:
        epochs: How often each image is shown.
        images: Of an update of the weights.
        optimizer: See `recipes.parts.optimizers`.
        learning_rate: Peak; by default 0.1 for sgd at 64 images an update, in proportion to them (Goyal et al. 2017),
            and 0.002 for adamw.
        weight_decay: By default 0.005 for sgd, 0.05 for adamw.
        warmup: Fraction of the steps, in [0, 1), over which the learning rate rises from zero.

    Returns:
        The stage.

    Raises:
        InputError: If a number is out of range.

    Reference:
        - [Goyal et al., Accurate, Large Minibatch SGD](https://arxiv.org/abs/1706.02677)
    """
    rate, decay = {"sgd": (0.1 * images / STEP_IMAGES, 5e-3), "adamw": (2e-3, 0.05)}[optimizer]
    return Stage(
        name="training",
        unfreeze="all",
        epochs=epochs,
        patience=epochs,
        batch_norm="trained",
        optimizer=optimizer,
        learning_rate=rate if learning_rate is None else learning_rate,
        weight_decay=decay if weight_decay is None else weight_decay,
        warmup=warmup,
    )
