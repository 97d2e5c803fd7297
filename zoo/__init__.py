"""Models as data: specs that build into plain functional Keras models, with pretrained weights.

`import zoo`, `list_models` and `MODELS` do not import TensorFlow; the first use of `build_model` does.

Example:
    ```python
    from zoo import build_model, list_models

    list_models()    # ["efficientnet_lite0", ...]
    model = build_model("efficientnet_lite0", input_shape=(224, 224, 3), num_classes=10, weights="imagenet")
    ```
"""

from typing import TYPE_CHECKING, Any

from zoo.errors import InputError
from zoo.models import MODELS, list_models
from zoo.spec import HeadSpec, ModelSpec, PreprocessingSpec, StageSpec, StemSpec, StyleSpec

if TYPE_CHECKING:
    from zoo.build import build_model

__all__ = [
    "MODELS",
    "HeadSpec",
    "InputError",
    "ModelSpec",
    "PreprocessingSpec",
    "StageSpec",
    "StemSpec",
    "StyleSpec",
    "build_model",
    "list_models",
]


def __getattr__(name: str) -> Any:
    """Import Keras only when something that needs it is asked for (PEP 562)."""
    if name == "build_model":
        from zoo.build import build_model

        return build_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
