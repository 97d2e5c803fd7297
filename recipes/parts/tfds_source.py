"""Image classification data sets of TensorFlow Datasets, as encoded files."""

from collections.abc import Iterator
from difflib import get_close_matches
from functools import partial
from typing import Any

import numpy as np

from recipes.parts.names import listed, printable
from recipes.parts.sources import SPLITS, Example, SplitName
from zoo.errors import InputError


class TfdsSource:
    """A data set of TensorFlow Datasets.

    It is downloaded and prepared in TFDS's own default folder, unless it is there already. Its splits named
    train, validation and test are used as they are, and no others. Classes that are declared but have no image are
    left out. Images stay encoded until our own decoder reads them.

    Args:
        name: TFDS's own `name`, `name/config` or `name/config:version`.

    Raises:
        InputError: If there is no such data set, if its examples do not have one image and one label, or if
            it cannot be prepared.
    """

    def __init__(self, name: str) -> None:
        # Imported here: it takes a while, and only this source needs it.
        import tensorflow_datasets as tfds

        builder = _find(tfds, name)
        self.name = f"tfds:{builder.info.full_name}"
        self._image_key, self._label_key = _keys(tfds, builder, name)
        try:
            builder.download_and_prepare()
        except (
            AssertionError,  # files to be fetched by hand
            ImportError,  # a package that only some data sets need, such as Apache Beam
            OSError,  # no network, no space
            tfds.core.download.util.DownloadError,
            tfds.core.download.download_manager.NonMatchingChecksumError,
            tfds.core.download.extractor.ExtractError,
            tfds.core.download.extractor.UnsafeArchiveError,
        ) as error:
            raise InputError(f"TFDS cannot prepare {self.name}: {_one_line(error)}") from error
        self._builder = builder
        self._sizes: dict[SplitName, int] = {
            split: builder.info.splits[split].num_examples for split in SPLITS if split in builder.info.splits
        }
        self.splits = tuple(self._sizes)
        others = sorted(set(builder.info.splits) - set(self._sizes))
        if "train" not in self._sizes:
            raise InputError(f"{self.name} has no train split, only {listed(sorted(builder.info.splits))}")
        declared = builder.info.features[self._label_key].names
        used = self._labels_with_images(len(declared))
        self.classes = tuple(declared[label] for label in used)
        self._label_of = {given: label for label, given in enumerate(used)}
        empty = [name for label, name in enumerate(declared) if label not in self._label_of]
        notices = []
        if others:
            notices.append(f"not used: other splits of {self.name}, {listed(others)}")
        if empty:
            notices.append(f"left out classes without any image: {listed(empty)}")
        self.notices = tuple(notices)

    def __len__(self) -> int:
        return sum(self._sizes.values())

    def __iter__(self) -> Iterator[Example]:
        for split in self._sizes:
            for index, example in enumerate(self._examples(split, self._image_key, self._label_key)):
                encoded: bytes = example[self._image_key]
                yield Example(
                    file=f"{split}/{index}",
                    label=self._label_of.get(int(example[self._label_key]), -1),
                    split=split,
                    read=partial(bytes, encoded),
                )

    def _examples(self, split: SplitName, *keys: str) -> Iterator[dict[str, Any]]:
        """Yield these features of a split's examples, images still encoded."""
        import tensorflow_datasets as tfds

        skipped = {key: tfds.decode.SkipDecoding() for key in keys if key == self._image_key}
        decoders = tfds.decode.PartialDecoding(dict.fromkeys(keys, True), decoders=skipped)
        examples = self._builder.as_dataset(split=split, shuffle_files=False, decoders=decoders)
        yield from examples.as_numpy_iterator()

    def _labels_with_images(self, declared: int) -> list[int]:
        """Return the labels that occur, sorted. TFDS shuffles, so that all of them usually turn up early on."""
        found: set[int] = set()
        for split in self._sizes:
            for example in self._examples(split, self._label_key):
                found.add(int(example[self._label_key]))
                if len(found - {-1}) == declared:
                    return list(range(declared))
        return sorted(found - {-1})


def _find(tfds: Any, name: str) -> Any:
    try:
        return tfds.builder(name)
    except tfds.core.DatasetNotFoundError as error:
        close = get_close_matches(name, tfds.list_builders(with_community_datasets=False), n=3)
        hint = f" Did you mean {' or '.join(close)}?" if close else " tfds.list_builders() lists them"
        raise InputError(f"TFDS has no data set '{printable(name)}'.{hint}") from error
    except (ValueError, AssertionError, ImportError) as error:
        raise InputError(f"TFDS cannot open '{printable(name)}': {_one_line(error)}") from error


def _keys(tfds: Any, builder: Any, name: str) -> tuple[str, str]:
    """Return the names of the image and of the label among a data set's features."""
    features = dict(builder.info.features) if hasattr(builder.info.features, "keys") else {}

    def only(kind: type, key: object) -> str | None:
        if isinstance(key, str) and isinstance(features.get(key), kind):
            return key
        found = [key for key, feature in features.items() if isinstance(feature, kind)]
        return found[0] if len(found) == 1 else None

    supervised = builder.info.supervised_keys or (None, None)
    image, label = only(tfds.features.Image, supervised[0]), only(tfds.features.ClassLabel, supervised[1])
    if image is None or label is None or np.dtype(features[image].np_dtype).kind != "u":
        raise InputError(
            f"tfds:{printable(name)} does not give one image and one class label an example; "
            f"it gives {listed(sorted(features)) if features else 'no named features'}"
        )
    return image, label


def _one_line(error: BaseException) -> str:
    return printable(" ".join(str(error).split()))[:300] or type(error).__name__
