"""Names under which saved models find layers, for every package of this project."""

from collections.abc import Callable

import keras


def registrar(package: str) -> Callable[[type], type]:
    """A class decorator that registers a layer under `package>Name`, so that a saved model finds it.

    Args:
        package: start of the name.

    Raises:
        ValueError: from the decorator, if another class has that name. The same class once more is fine, as when a
            notebook cell runs twice. Keras by itself would replace the old class silently.
    """

    def register(cls: type) -> type:
        name = f"{package}>{cls.__name__}"
        old = keras.saving.get_registered_object(name)
        if old is not None and (old.__module__, old.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(f"{name} is registered already, as {old.__module__}.{old.__qualname__}")
        registered: type = keras.saving.register_keras_serializable(package)(cls)
        return registered

    return register
