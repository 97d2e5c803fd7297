"""What mixed and gated pooling share: a learned mixture of maximum and mean, for all channels or for each."""

from typing import Any

from custom_ops.arguments import check_bool
from custom_ops.layers.base import Pooling


class MixturePooling(Pooling):
    """A windowed layer of either rank with a mixture."""

    def __init__(
        self,
        pool_size: Any = 2,
        strides: Any = None,
        padding: str = "valid",
        per_channel: bool = False,
        **keywords: Any,
    ) -> None:
        super().__init__(pool_size, strides, padding, **keywords)
        self.per_channel = check_bool(per_channel, "per_channel")

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "per_channel": self.per_channel}
