"""What frozen layers say of the images of a run: computed once, kept in a store, read by stages in place of images."""

import copy
import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from recipes.parts.activation_store import ActivationStore
from recipes.parts.augment import Augmentation
from recipes.parts.batches import evaluation_batches, view_batches
from recipes.parts.dataset import DataSet, Split
from recipes.parts.frozen_prefix import Cut, told_apart
from recipes.parts.inference import Inference
from recipes.parts.run_folder import versions
from zoo.errors import InputError
from zoo.folding import fold_batch_norm

StoredType = Literal["float32", "float16"]


@dataclass(frozen=True, kw_only=True)
class FrozenLayers:
    """How to keep what frozen layers say, so that they need not say it in every epoch."""

    store: ActivationStore
    """Where it is kept."""
    memory_budget_bytes: int = 10**9
    """What fits in here is read into memory at the beginning of a stage; the rest stays in files that are mapped."""
    views: int | None = None
    """Where training images are augmented: how many augmented versions of each are kept, of which every epoch draws
    one. None chooses from the number of epochs and the space, 0 keeps none."""
    dtype: StoredType = "float32"
    """float16 takes half the space and rounds what the other layers read, to about 3 digits."""
    fold: bool = True
    """Fold batch norm where frozen layers run once. That is faster, and rounds otherwise: weights at the end are then
    the same to 1e-5 as if frozen layers ran in every epoch, and without it bit for bit, with full batches."""
    shared: bool = False
    """Whether other runs read the same, so that what it takes to compute it does not count in deciding whether it
    pays."""


@dataclass(frozen=True)
class Request:
    """Activations of one split at one cut."""

    split: Literal["train", "validation"]
    view: int | None
    """Which augmented version of the images; None for the images as they are."""
    cut: Cut

    @property
    def images(self) -> tuple[str, int | None]:
        """What is shown to the frozen layers."""
        return self.split, self.view

    @property
    def name(self) -> tuple[str, int | None, str]:
        """What tells it from others of the same model, as long as nothing before the cuts changes."""
        return *self.images, self.cut.layer


class StackedViews:
    """Several augmented versions of the same examples as one array, version after version, without a copy.

    Args:
        views: Arrays `(n, ...)` of the same shape.
    """

    def __init__(self, views: Sequence[np.ndarray]) -> None:
        self.views = views
        self.examples = len(views[0])
        self.shape = (len(views) * self.examples, *views[0].shape[1:])
        self.dtype = views[0].dtype

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        chosen, examples = np.divmod(rows, self.examples)
        gathered = np.empty((len(rows), *self.shape[1:]), self.dtype)
        for view in np.unique(chosen):
            here = chosen == view
            gathered[here] = self.views[view][examples[here]]
        return gathered


class Activations:
    """The activations of a run's images at the cuts of its stages.

    Args:
        model: The whole model.
        data: Its images.
        settings: How to keep them.
        batch_size: Images at a time. Outputs depend on it in their last bits: with the batch size of the training,
            training on them gives the same weights as training through the frozen layers.
        augmentation: What makes views.
        seed: Decides views.
    """

    def __init__(
        self,
        model: keras.Model,
        data: DataSet,
        settings: FrozenLayers,
        *,
        batch_size: int,
        augmentation: Augmentation,
        seed: int,
    ) -> None:
        self.model = model
        self.splits = {"train": data.train, "validation": data.validation}
        self.fingerprint = data.fingerprint
        self.settings = settings
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.seed = seed
        self.computer = {"versions": versions(), "device": _device()}
        """What else decides the last bits."""
        self._passes: dict[tuple[str, ...], Inference] = {}
        self._digests: dict[Cut, str] = {}

    def of_versions(self, augmentation: Augmentation) -> "Activations":
        """The same with other versions of the images, and the same traced networks."""
        other = copy.copy(self)
        other.augmentation = augmentation
        return other

    def requests(self, cut: Cut, views: int) -> list[Request]:
        """What a stage needs that trains behind a cut.

        Args:
            cut: Of the stage.
            views: How many versions of each training image; 0 for the images as they are.
        """
        return [
            *(Request("train", view, cut) for view in (range(views) if views else [None])),
            Request("validation", None, cut),
        ]

    def bytes_of(self, request: Request) -> int:
        """What an answer takes."""
        numbers = len(self.splits[request.split]) * math.prod(_shape(request.cut))
        return numbers * np.dtype(self.settings.dtype).itemsize

    def keys(self, requests: Sequence[Request]) -> list[dict[str, Any]]:
        """The names of answers in the store; everything that decides their bits is in them."""
        orders = {name: _order(split) for name, split in self.splits.items()}
        augmentation = asdict(self.augmentation)
        return [
            {
                "computes": self.digest(request.cut),
                "cut": request.cut.layer,
                "folded": self.settings.fold,
                "data": self.fingerprint,
                "images": orders[request.split],
                "split": request.split,
                "view": None if request.view is None else [augmentation, self.seed, request.view],
                "batch_size": self.batch_size,
                "dtype": self.settings.dtype,
                **self.computer,
            }
            for request in requests
        ]

    def missing_rows(self, requests: Sequence[Request]) -> int:
        """How many images frozen layers still have to see for some answers, each version of an image counted."""
        left: dict[tuple[str, int | None], int] = {}
        for request, key in zip(requests, self.keys(requests), strict=True):
            todo = len(self.splits[request.split]) - self.settings.store.rows(key)
            left[request.images] = max(left.get(request.images, 0), todo)
        return sum(left.values())

    def seconds_per_image(self, requests: Sequence[Request]) -> float:
        """Time the pass that computes some answers on a batch; it is traced here, and not again by `fill`."""
        infer = self._pass(list(dict.fromkeys(request.cut for request in requests)))
        shown = self._batches(self.splits[requests[0].split], requests[0].view, first=0)
        times, images = [time.perf_counter()], []
        for outputs in infer.batches(shown.take(8)):
            times.append(time.perf_counter())
            images.append(len(keras.tree.flatten(outputs)[0]))
        # Not the first, for which the network is traced, nor those that were made ready meanwhile, if there are others.
        begin = min(4, len(images) - 1)
        return (times[-1] - times[begin]) / sum(images[begin:])

    def fill(self, requests: Sequence[Request], progress: Callable[[int, int], None]) -> int:
        """Compute what is not there yet, in one pass through the frozen layers for all cuts.

        Args:
            requests: All that is wanted.
            progress: Is told how many images are done, and how many there are. May raise to stop; what is done is kept.

        Returns:
            How many images were shown to the frozen layers.

        Raises:
            InputError: If there is no room.
        """
        keys = dict(zip(requests, self.keys(requests), strict=True))
        together: dict[tuple[str, int | None], list[Request]] = {request.images: [] for request in requests}
        # In the same order everywhere, so that of two processes that fill the same none waits for ever.
        for request in sorted(requests, key=lambda request: json.dumps(keys[request], sort_keys=True)):
            together[request.images].append(request)
        total = self.missing_rows(requests)
        if not total:
            return 0
        shown = 0
        for (name, view), wanted in together.items():
            split = self.splits[name]
            with ExitStack() as stack:
                entries = {
                    request.cut: stack.enter_context(
                        self.settings.store.fill(
                            keys[request],
                            shape=(len(split), *_shape(request.cut)),
                            dtype=np.dtype(self.settings.dtype),
                            about={
                                "model": self.model.name,
                                "data": self._describe(name, view),
                                "cut": request.cut.layer,
                            },
                            while_waiting=partial(progress, shown, total),
                        )
                    )
                    for request in wanted
                }
                entries = {cut: entry for cut, entry in entries.items() if entry.done < len(split)}
                if not entries:
                    continue
                done = min(entry.done for entry in entries.values())
                cuts = _computed_with(list(entries), requests)
                asked = [entries.get(cut) for cut in cuts]
                for outputs in self._pass(cuts).tensors(self._batches(split, view, first=done)):
                    answers = keras.tree.flatten(outputs)  # Keras has no list of one output
                    begin, done = done, done + len(answers[0])
                    for entry, rows in zip(asked, answers, strict=True):
                        if entry is not None and entry.done == begin:
                            entry.append(self._rounded(rows.numpy()))
                    shown += done - begin
                    progress(shown, total)
        return shown

    def load(self, requests: Sequence[Request]) -> tuple[Split, Split]:
        """The splits with activations in place of images.

        Args:
            requests: Of one cut, all filled.

        Returns:
            Training split, whose `images` are `StackedViews` where there are several, and validation split.
        """
        left = self.settings.memory_budget_bytes
        loaded: dict[str, list[np.ndarray]] = {"validation": [], "train": []}
        # The validation split first, as every epoch reads all of it.
        for request, key in sorted(
            zip(requests, self.keys(requests), strict=True), key=lambda pair: pair[0].split == "train"
        ):
            array = self.settings.store.load(key, memory_budget_bytes=left)
            left -= 0 if isinstance(array, np.memmap) else array.nbytes
            loaded[request.split].append(array)
        train = loaded["train"]
        return (
            replace(self.splits["train"], images=train[0] if len(train) == 1 else StackedViews(train)),
            replace(self.splits["validation"], images=loaded["validation"][0]),
        )

    def forget(self, requests: Sequence[Request]) -> None:
        """Let answers go when others need the room."""
        for key in self.keys(requests):
            self.settings.store.forget(key)

    def weights_have_changed(self) -> None:
        """Look at weights anew, since some before the cuts may be others now."""
        self._digests.clear()

    def digest(self, cut: Cut) -> str:
        """What a cut's prefix computes, see `Cut.digest`; found once as long as weights stay."""
        if cut not in self._digests:
            self._digests[cut] = cut.digest()
        return self._digests[cut]

    def _rounded(self, rows: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            rounded = rows.astype(self.settings.dtype, copy=False)
        if self.settings.dtype == "float16" and np.isinf(rounded).any():
            raise InputError("Activations are too large for float16 (65,504): give --cache-dtype float32")
        return rounded

    def _pass(self, cuts: Sequence[Cut]) -> Inference:
        """All cuts by one traced network."""
        # With the weights as they are now: folding copies them.
        computed = tuple(map(self.digest, cuts))
        if computed not in self._passes:
            with told_apart([cut.prefix for cut in cuts]):
                model = keras.Model(self.model.input, [cut.prefix.output for cut in cuts])
                self._passes[computed] = Inference(fold_batch_norm(model) if self.settings.fold else model)
        return self._passes[computed]

    def _batches(self, split: Split, view: int | None, first: int) -> tf.data.Dataset:
        if view is None:
            return evaluation_batches(split, batch_size=self.batch_size, first=first)
        return view_batches(
            split, batch_size=self.batch_size, augmentation=self.augmentation, seed=self.seed, view=view, first=first
        )

    def _describe(self, split: str, view: int | None) -> str:
        version = "" if view is None else f", version {view + 1}"
        return f"{self.fingerprint[:8]} {split}{version}"


def _device() -> str:
    """What computes: other kinds round otherwise."""
    gpus = tf.config.list_physical_devices("GPU")
    return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")) if gpus else "CPU"


def _shape(cut: Cut) -> tuple[int, ...]:
    shape: tuple[int, ...] = cut.prefix.output.shape[1:]
    return shape


def _computed_with(cuts: Sequence[Cut], requests: Sequence[Request]) -> list[Cut]:
    """What a pass to some cuts may give besides, so that it need not be traced once more for other images."""
    every = dict.fromkeys(request.cut for request in requests)
    depth = max(len(cut.prefix.layers) for cut in cuts)
    return [cut for cut in every if len(cut.prefix.layers) <= depth]


def _order(split: Split) -> str:
    """A hash of which image stands in which row."""
    return hashlib.sha256("\n".join([str(len(split)), *split.sha256]).encode()).hexdigest()
