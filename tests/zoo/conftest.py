"""Small models, so that the tests need no time, and the settings of Keras as they were."""

from collections.abc import Iterator

import keras
import pytest

from zoo import HeadSpec, ModelSpec, PreprocessingSpec, StageSpec, StemSpec, StyleSpec


@pytest.fixture
def tiny_spec() -> ModelSpec:
    """A network of 3 blocks with every part that EfficientNet-Lite has; its smallest input is 4 pixels."""
    return ModelSpec(
        name="tiny",
        family="efficientnet_lite",
        image_size=16,
        preprocessing=PreprocessingSpec(scale=1 / 128, offset=-127 / 128),
        style=StyleSpec(activation="relu6"),
        stem=StemSpec(filters=4),
        stages=(
            StageSpec(block="inverted_residual", filters=4, depth=1, arguments={"expansion": 1}),
            StageSpec(
                block="inverted_residual",
                filters=6,
                depth=2,
                strides=2,
                arguments={"expansion": 2, "kernel_size": 5},
            ),
        ),
        head=HeadSpec(filters=8, dropout=0.5),
    )


@pytest.fixture
def keras_settings() -> Iterator[None]:
    """Put back what a test changes in Keras's global settings."""
    policy, data_format = keras.config.dtype_policy(), keras.config.image_data_format()
    yield
    keras.config.set_dtype_policy(policy)
    keras.config.set_image_data_format(data_format)
