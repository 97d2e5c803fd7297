"""Models as data: specs that build into plain functional Keras models, with pretrained weights.

`import zoo`, `list_models` and `MODELS` do not import TensorFlow; the first use of `build_model` does, and so
do the registries of parts.

Example:
    ```python
    from zoo import build_model, list_models

    list_models()    # ["lenet", "vgg_nano", ...]
    model = build_model("efficientnet_lite0", input_shape=(224, 224, 3), num_classes=10, weights="imagenet")
    ```
"""

import importlib
from typing import TYPE_CHECKING, Any

from zoo.errors import InputError
from zoo.models import MODELS, list_models
from zoo.spec import (
    HeadSpec,
    ModelSpec,
    PoolSpec,
    PreprocessingSpec,
    ScalingSpec,
    StageSpec,
    StemSpec,
    StyleSpec,
)
from zoo.vary import vary

if TYPE_CHECKING:
    from zoo.blocks import BLOCKS
    from zoo.build import build_model
    from zoo.folding import FoldingPlan, fold_batch_norm, folding_plan
    from zoo.heads import HEADS
    from zoo.plugins import load_plugin
    from zoo.pools import POOLS
    from zoo.stems import STEMS
    from zoo.surgery import adapt_input_channels, cuts, feature_extractor, replace_head, split, swap_pooling
    from zoo.table import model_table
    from zoo.weights.load import LoadReport, load_weights

__all__ = [
    "BLOCKS",
    "HEADS",
    "MODELS",
    "POOLS",
    "STEMS",
    "FoldingPlan",
    "HeadSpec",
    "InputError",
    "LoadReport",
    "ModelSpec",
    "PoolSpec",
    "PreprocessingSpec",
    "ScalingSpec",
    "StageSpec",
    "StemSpec",
    "StyleSpec",
    "adapt_input_channels",
    "build_model",
    "cuts",
    "feature_extractor",
    "fold_batch_norm",
    "folding_plan",
    "list_models",
    "load_plugin",
    "load_weights",
    "model_table",
    "replace_head",
    "split",
    "swap_pooling",
    "vary",
]

# What is imported only when it is asked for, since it needs Keras (PEP 562), and from where.
_LAZY = {
    "BLOCKS": "zoo.blocks",
    "FoldingPlan": "zoo.folding",
    "HEADS": "zoo.heads",
    "LoadReport": "zoo.weights.load",
    "POOLS": "zoo.pools",
    "STEMS": "zoo.stems",
    "adapt_input_channels": "zoo.surgery",
    "build_model": "zoo.build",
    "cuts": "zoo.surgery",
    "feature_extractor": "zoo.surgery",
    "fold_batch_norm": "zoo.folding",
    "folding_plan": "zoo.folding",
    "load_plugin": "zoo.plugins",
    "load_weights": "zoo.weights.load",
    "model_table": "zoo.table",
    "replace_head": "zoo.surgery",
    "split": "zoo.surgery",
    "swap_pooling": "zoo.surgery",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
