"""Names under which saved models find the layers of the zoo."""

import keras

_PACKAGE = "zoo"


def register(cls: type) -> type:
    """Register a layer under `zoo>Name`.

    Raises:
        ValueError: If another class has that name; Keras by itself would replace it silently. The same class
            once more is fine, as when a notebook cell runs twice.
    """
    name = f"{_PACKAGE}>{cls.__name__}"
    old = keras.saving.get_registered_object(name)
    if old is not None and (old.__module__, old.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(f"{name} is registered already, as {old.__module__}.{old.__qualname__}")
    registered: type = keras.saving.register_keras_serializable(_PACKAGE)(cls)
    return registered
