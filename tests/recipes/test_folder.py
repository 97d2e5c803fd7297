"""Folders as people have them: in every layout, with litter, links and hostile names."""

import io
import os
import sys

import pytest
from PIL import Image

from recipes.parts import folder
from recipes.parts.folder import Folder, read_image_file
from recipes.parts.headers import inspect
from zoo.errors import InputError

needs_links = pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need a privilege on Windows")
needs_byte_names = pytest.mark.skipif(sys.platform != "linux", reason="file names are Unicode there")

FOUR = ("a/1.png", "a/2.png", "b/1.png", "b/2.png")


def listing(source):
    return [(example.file, source.classes[example.label], example.split) for example in source]


def test_one_folder_a_class(put_images):
    source = Folder(str(put_images(*FOUR)))
    assert source.classes == ("a", "b")
    assert source.splits == ()
    assert source.notices == ()
    assert len(source) == 4
    assert listing(source) == [(file, file[0], None) for file in FOUR]


@pytest.mark.parametrize(
    "names", [("train", "validation", "test"), ("Train", "val", "TEST"), ("training", "valid", "testing")]
)
def test_folders_of_splits(put_images, names):
    train, validation, test = names
    root = put_images(f"{test}/a/1.png", *(f"{train}/{file}" for file in FOUR), f"{validation}/b/1.png")
    source = Folder(str(root))
    assert source.splits == ("train", "validation", "test")
    assert listing(source) == [
        *((f"{train}/{file}", file[0], "train") for file in FOUR),
        (f"{validation}/b/1.png", "b", "validation"),
        (f"{test}/a/1.png", "a", "test"),
    ]


def test_iterating_again_gives_the_same_and_reads_the_files(put_images):
    root = put_images(*FOUR)
    source = Folder(str(root))
    assert listing(source) == listing(source)
    assert [example.read() for example in source] == [(root / file).read_bytes() for file in FOUR]


def test_images_are_found_at_any_depth_and_sorted_plainly(put_images):
    files = ("10/x.png", "10/deep/er/y.png", "2/B.png", "2/a.png")
    source = Folder(str(put_images(*files)))
    assert source.classes == ("10", "2")
    assert [example.file for example in source] == ["10/deep/er/y.png", "10/x.png", "2/B.png", "2/a.png"]


def test_hidden_files_and_litter_are_passed_over_without_a_word(put_images):
    root = put_images(*FOUR, "a/.hidden.png", ".git/x.png", "__MACOSX/a/1.png", "a/__MACOSX/._1.png")
    (root / "a" / ".DS_Store").write_bytes(b"x")
    (root / "b" / "Thumbs.db").write_bytes(b"x")
    source = Folder(str(root))
    assert [example.file for example in source] == list(FOUR)
    assert source.notices == ()


def test_files_that_are_no_images_are_counted(put_images):
    root = put_images(*FOUR, "loose.png")
    (root / "a" / "readme.txt").write_text("hello")
    (root / "b" / "deep").mkdir()
    (root / "b" / "deep" / "labels.csv").write_text("1,2")
    source = Folder(str(root))
    assert [example.file for example in source] == list(FOUR)
    assert source.notices == (
        "not used: 1 image outside of the class folders",
        "not used: 2 files of other kinds among the images",
    )


def test_an_image_is_known_by_its_content_or_by_its_name(put_images):
    """What is called an image and is none must come up as unreadable; what is one counts under any name."""
    root = put_images(*FOUR)
    (root / "a" / "1.png").rename(root / "a" / "1.jpg_large")
    (root / "b" / "2.png").rename(root / "b" / "no ending")
    (root / "b" / "photo.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    (root / "b" / "empty.jpg").write_bytes(b"")
    source = Folder(str(root))
    assert [example.file for example in source] == [
        "a/1.jpg_large",
        "a/2.png",
        "b/1.png",
        "b/empty.jpg",
        "b/no ending",
        "b/photo.HEIC",
    ]


def test_train_may_be_the_name_of_a_class(put_images):
    source = Folder(str(put_images("bus/1.png", "bus/2.png", "train/1.png", "train/2.png")))
    assert source.classes == ("bus", "train")
    assert source.splits == ()


def test_folders_beside_those_of_splits_are_mentioned(put_images):
    source = Folder(str(put_images(*(f"train/{file}" for file in FOUR), "unlabelled/1.png")))
    assert source.classes == ("a", "b")
    assert source.notices == ("not used: folders beside those of the splits, unlabelled",)


def test_an_empty_folder_of_a_split_is_a_missing_split(put_images):
    root = put_images(*(f"train/{file}" for file in FOUR))
    (root / "test").mkdir()
    assert {split for _, _, split in listing(Folder(str(root)))} == {"train"}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((), "No images in '.*': it should hold one folder a class"),
        (("1.png", "2.png"), "Images but no class folders in"),
        (("a/1.png", "a/2.png"), "only one class, 'a'"),
        (("a/1.png", "b/1.png", "b/2.png"), r"fewer than 2 images: a \(1\)"),
        (("test/a/1.png", "test/b/1.png"), "no images to train on, only test"),
        (("train/1.png", "test/1.png"), "'.*test' holds images but no class folders"),
        (
            ("train/a/1.png", "train/b/1.png", "val/a/1.png", "validation/b/1.png"),
            "are the validation split: val and validation",
        ),
        ((*(f"train/{file}" for file in FOUR), "val/A/1.png"), "class 'A' in validation but not in train"),
        (("flowers/rose/1.png", "flowers/tulip/1.png"), "one folder of folders: give folder:.*flowers"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(put_images, tmp_path, files, message):
    (tmp_path / "images").mkdir()
    put_images(*files)
    with pytest.raises(InputError, match=message) as refusal:
        Folder(str(tmp_path / "images"))
    assert "\n" not in str(refusal.value)


def test_a_class_folder_without_images_is_not_passed_over(put_images):
    root = put_images(*FOUR)
    (root / "c").mkdir()
    with pytest.raises(InputError, match=r"fewer than 2 images: c \(0\)"):
        Folder(str(root))


@pytest.mark.parametrize("path", ["nowhere", "", "a\0b"])
def test_a_folder_that_is_not_there(path):
    with pytest.raises(InputError, match="does not exist"):
        Folder(path)


def test_a_file_is_not_a_folder(put_images):
    with pytest.raises(InputError, match="is a file"):
        Folder(str(put_images("1.png") / "1.png"))


def test_a_folder_that_may_not_be_read(put_images, monkeypatch):
    root = put_images(*FOUR)

    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(folder.os, "listdir", refuse)
    with pytest.raises(InputError, match="cannot be read: Permission denied"):
        Folder(str(root))


def test_for_evaluation_any_labelled_image_will_do(put_images):
    source = Folder(str(put_images("a/1.png")), for_training=False)
    assert listing(source) == [("a/1.png", "a", None)]


@needs_links
def test_links_are_followed_but_never_in_a_circle(put_images):
    root = put_images(*FOUR, "elsewhere/3.png", "elsewhere/4.png")
    (root / "elsewhere").rename(root.parent / "elsewhere")
    (root / "a" / "up").symlink_to(root, target_is_directory=True)
    (root / "a" / "itself").symlink_to(root / "a" / "itself")
    (root / "b" / "more").symlink_to(root.parent / "elsewhere", target_is_directory=True)
    (root / "b" / "once more").symlink_to(root.parent / "elsewhere", target_is_directory=True)
    source = Folder(str(root))
    of_b = [example.file for example in source if source.classes[example.label] == "b"]
    assert of_b == ["b/1.png", "b/2.png", "b/more/3.png", "b/more/4.png"]


@needs_links
def test_a_broken_link_to_an_image_is_kept_to_be_reported(put_images):
    root = put_images(*FOUR)
    (root / "a" / "3.jpg").symlink_to(root / "gone.jpg")
    (root / "a" / "4.txt").symlink_to(root / "gone.txt")
    source = Folder(str(root))
    broken = [example for example in source if example.file == "a/3.jpg"]
    with pytest.raises(FileNotFoundError):
        broken[0].read()
    assert source.notices == ("not used: 1 file of other kinds among the images",)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_opened(put_images):
    root = put_images(*FOUR)
    os.mkfifo(root / "a" / "pipe.png")
    assert len(Folder(str(root))) == 4
    with pytest.raises(OSError, match="not a regular file"):
        read_image_file(root / "a" / "pipe.png")


@needs_byte_names
def test_names_that_are_no_text(put_images, tmp_path):
    name = os.fsdecode(b"\xff\xfe cat\n\x1b[2J[red].png")
    root = put_images(*FOUR, f"a/{name}", f"{name}/1.png", f"{name}/2.png")
    source = Folder(str(root))
    assert name in source.classes
    example = next(example for example in source if example.file == f"a/{name}")
    assert inspect(example.read()).width == 9
    (root / name / "2.png").unlink()
    with pytest.raises(InputError) as refusal:
        Folder(str(root))
    assert str(refusal.value).isprintable()


def test_a_file_too_large_to_be_an_image_is_not_read(put_images, monkeypatch):
    source = Folder(str(put_images(*FOUR)))
    monkeypatch.setattr(folder, "_MAX_BYTES", 100)
    with pytest.raises(OSError, match="larger than"):
        next(iter(source)).read()


def test_the_limit_lets_every_image_through_that_may_be_decoded():
    """Even without compression: 16 bits, four channels."""
    pixels = Image.new("RGBA", (512, 512))
    encoded = io.BytesIO()
    pixels.save(encoded, "PNG", compress_level=0)
    assert 2 * len(encoded.getvalue()) * (folder.MAX_PIXELS // 512**2) < folder._MAX_BYTES * 1.01
