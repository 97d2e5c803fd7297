"""A folder of images: one folder a class, or train, validation and test folders of such."""

import os
import stat
from collections.abc import Iterator
from functools import partial

from recipes.parts.headers import MAX_PIXELS, sniff
from recipes.parts.names import counted, listed, printable
from recipes.parts.sources import SPLITS, Example, SplitName, check_trainable
from zoo.errors import InputError

SPLIT_FOLDERS: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
    "testing": "test",
}

# Files with these endings were meant as images: one that cannot be decoded is reported by name. Other files
# are images if they begin like one, whatever they are called, and are counted otherwise.
_IMAGE_ENDINGS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".dib", ".gif", ".webp"}
    | {".tif", ".tiff", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".ico", ".ppm", ".pgm"}  # not decoded
)
# What file managers and archives leave behind, besides names that begin with a dot.
_LITTER = frozenset({"__macosx", "thumbs.db", "desktop.ini", "@eadir"})

# The largest file that can hold MAX_PIXELS pixels, at 16 bits and four channels without compression.
_MAX_BYTES = 8 * MAX_PIXELS + 2**20


class Folder:
    """Images in a folder, found below each class's folder at any depth.

    Classes are the names of folders in plain sorted order, as in Keras: "10" comes before "2". Hidden files
    and what file managers leave behind are passed over; symbolic links are followed, each folder once a
    class.

    Args:
        path: The folder.
        for_training: Whether its images must be enough to train on.

    Raises:
        InputError: If there is no such folder, or nothing in it that could be used.
    """

    def __init__(self, path: str, *, for_training: bool = True) -> None:
        self.name = f"folder:{os.path.abspath(path)}"
        self._path = path
        self._shown = printable(path)
        if not os.path.isdir(path):
            what = "is a file" if os.path.isfile(path) else "does not exist"
            raise InputError(f"No folder of images: '{self._shown}' {what}")
        self._ignored: list[str] = []
        self._other_files = 0
        layout = self._layout()
        self._examples: list[tuple[str, str, SplitName | None]] = []  # file, class, split
        classes: set[str] = set()
        for split, folder in layout.items():
            for class_name in self._subfolders(folder):
                classes.add(class_name)
                for file in sorted(self._images(_join(folder, class_name))):
                    self._examples.append((file, class_name, split))
        self.classes = tuple(sorted(classes))
        self.splits = tuple(split for split in layout if split is not None)
        folders = {"", *layout.values()}
        self._loose = sum(_is_image(path) for folder in folders for path in self._files(folder))
        self._check_content()
        if for_training:
            if None in layout:
                self._check_nesting()
            check_trainable(self.name, self.classes, [(name, split) for _, name, split in self._examples])
        self.notices = self._make_notices()

    def __len__(self) -> int:
        return len(self._examples)

    def __iter__(self) -> Iterator[Example]:
        index = {class_name: label for label, class_name in enumerate(self.classes)}
        for file, class_name, split in self._examples:
            read = partial(read_image_file, os.path.join(self._path, file))
            yield Example(file=file, label=index[class_name], split=split, read=read)

    def _layout(self) -> dict[SplitName | None, str]:
        """Return the folder that holds the class folders of each split, or of None if there are no splits.

        A folder called "train" may also be a class. It is a split if it holds folders, or if all folders
        beside it are called like splits too.
        """
        found = self._subfolders("")
        like_splits = [name for name in found if name.lower() in SPLIT_FOLDERS]
        holding_folders = [name for name in like_splits if self._subfolders(name)]
        if not like_splits or (like_splits != found and not holding_folders):
            return {None: ""}
        self._ignored = [name for name in found if name not in like_splits]
        layout: dict[SplitName | None, str] = {}
        for name in like_splits:
            split = SPLIT_FOLDERS[name.lower()]
            if split in layout:
                raise InputError(f"Two folders in '{self._shown}' are the {split} split: {layout[split]} and {name}")
            if not self._subfolders(name) and any(self._images(name)):
                raise InputError(
                    f"'{_shown(self._path, name)}' holds images but no class folders: put the images of each "
                    f"class in a folder of its own, or move it away"
                )
            layout[split] = name
        # In the order of SPLITS, not of the names.
        return {split: layout[split] for split in SPLITS if split in layout}

    def _subfolders(self, folder: str) -> list[str]:
        """Return the names of the folders in a folder, sorted."""
        path = os.path.join(self._path, folder)
        return sorted(name for name in _names(path) if os.path.isdir(os.path.join(path, name)))

    def _files(self, folder: str) -> list[str]:
        """Return the paths of whatever else is in a folder."""
        paths = [os.path.join(self._path, folder, name) for name in _names(os.path.join(self._path, folder))]
        return [path for path in paths if not os.path.isdir(path)]

    def _images(self, folder: str) -> Iterator[str]:
        """Yield the images at any depth below a folder, relative to the whole source; count other files."""
        seen: set[tuple[int, int]] = set()  # links may lead back up, or to the same place twice
        waiting = [folder]
        while waiting:
            current = waiting.pop()
            identity = _identity(os.path.join(self._path, current))
            if identity in seen:
                continue
            seen.add(identity)
            for name in sorted(_names(os.path.join(self._path, current)), reverse=True):
                below = _join(current, name)
                path = os.path.join(self._path, below)
                if os.path.isdir(path):
                    waiting.append(below)
                elif _is_image(path):
                    yield below
                else:
                    self._other_files += 1

    def _check_content(self) -> None:
        if not self._examples:
            found = "Images but no class folders" if self._loose else "No images"
            raise InputError(
                f"{found} in '{self._shown}': it should hold one folder a class, or train, validation and "
                f"test folders of such"
            )

    def _check_nesting(self) -> None:
        """Raise if the folder holds just the real one, as when an archive unpacks into one of its own."""
        if len(self.classes) == 1 and len(self._subfolders(self.classes[0])) > 1:
            raise InputError(
                f"All there is in '{self._shown}' is one folder of folders: give "
                f"folder:{_shown(self._path, self.classes[0])}"
            )

    def _make_notices(self) -> tuple[str, ...]:
        notices = []
        if self._loose:
            notices.append(f"not used: {counted(self._loose, 'image')} outside of the class folders")
        if self._ignored:
            notices.append(f"not used: folders beside those of the splits, {listed(self._ignored)}")
        if self._other_files:
            notices.append(f"not used: {counted(self._other_files, 'file')} of other kinds among the images")
        return tuple(notices)


def read_image_file(path: str | os.PathLike[str]) -> bytes:
    """Read a file that should hold an image, without waiting for ever or filling the memory.

    Args:
        path: The file.

    Returns:
        Its content, which need not be an image.

    Raises:
        OSError: If it cannot be read, is no regular file (to open a pipe would wait for ever), or is too large
            to be an image that may be decoded. Its `strerror` says which.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(None, "not a regular file")
    if status.st_size > _MAX_BYTES:
        raise OSError(None, f"larger than {_MAX_BYTES // 2**20} MiB")
    with open(path, "rb") as file:
        return file.read()


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _shown(*parts: str) -> str:
    return printable(os.path.join(*parts))


def _names(folder: str) -> list[str]:
    """Return the names in a folder, without what is hidden."""
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise InputError(f"The folder '{printable(folder)}' cannot be read: {error.strerror}") from error
    return [name for name in names if not name.startswith(".") and name.lower() not in _LITTER]


def _identity(folder: str) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _is_image(path: str) -> bool:
    ending = os.path.splitext(path)[1].lower()
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # to open a pipe would wait for ever
            return False
        if ending in _IMAGE_ENDINGS:
            return True
        with open(path, "rb") as file:
            return sniff(file.read(12)) is not None
    except OSError:  # a link that leads nowhere, or a file that may not be read
        return ending in _IMAGE_ENDINGS
