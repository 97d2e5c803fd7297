"""What a first look at a source finds, and what it makes of files that are no good."""

from dataclasses import replace

import pytest
from PIL import Image

from recipes.parts.folder import Folder
from recipes.parts.scan import scan, scan_as_test
from recipes.parts.sources import Digits
from zoo.errors import InputError


def files(class_name, count, split=""):
    return [f"{split}{class_name}/{index}.png" for index in range(count)]


def test_sizes_counts_and_splits(put_images):
    put_images(*files("a", 20), width=40, height=30)
    root = put_images(*files("b", 10), width=8, height=50)
    found = scan(Folder(str(root)), seed=0)
    assert found.classes == ("a", "b")
    assert len(found.images) == 30
    assert {(image.width, image.height) for image in found.images} == {(40, 30), (8, 50)}
    assert found.median_side == 30
    assert found.counts == {
        "a": {"train": 14, "validation": 3, "test": 3},
        "b": {"train": 6, "validation": 2, "test": 2},
    }
    assert (found.count("train"), found.count("validation"), found.count("test")) == (20, 5, 5)
    assert found.unreadable == ()
    assert found.notices == ("validation and test drawn from train: 15% of each class, by seed 0",)


def test_the_split_depends_on_content_and_not_on_names(put_images):
    root = put_images(*files("a", 20), *files("b", 20))
    before = {image.sha256: image.split for image in scan(Folder(str(root)), seed=3).images}
    for index, file in enumerate(sorted(root.glob("*/*.png"))):
        file.rename(file.with_name(f"{(index * 7) % 40}_renamed.png"))
    after = {image.sha256: image.split for image in scan(Folder(str(root)), seed=3).images}
    assert after == before
    assert {image.sha256: image.split for image in scan(Folder(str(root)), seed=4).images} != before


def test_given_splits_are_used_and_the_missing_one_is_drawn(put_images):
    root = put_images(*(file for name in "ab" for split in ("train/", "test/") for file in files(name, 10, split)))
    found = scan(Folder(str(root)), seed=0)
    assert found.counts["a"] == {"train": 8, "validation": 2, "test": 10}
    assert all(image.split == "test" for image in found.images if image.file.startswith("test/"))
    assert found.notices == ("validation drawn from train: 15% of each class, by seed 0",)


def test_progress_is_told_of_every_file(put_images):
    told = []
    scan(Folder(str(put_images(*files("a", 5), *files("b", 5)))), seed=0, progress=lambda *state: told.append(state))
    assert told == [(done, 10) for done in range(1, 11)]


def spoil(root):
    (root / "a" / "x.jpg").write_bytes(b"\xff\xd8\xff")
    (root / "b" / "y\n[red].png").write_bytes(b"hello")
    (root / "b" / "z.png").write_bytes(b"")


def test_unreadable_files_are_listed_with_the_reason(put_images):
    root = put_images(*files("a", 5), *files("b", 5))
    spoil(root)
    found = scan(Folder(str(root)), seed=0)
    assert len(found.images) == 10
    assert [(bad.file, bad.reason) for bad in found.unreadable] == [
        ("a/x.jpg", "its JPEG header is damaged"),
        ("b/y\n[red].png", "not a JPEG, PNG, BMP, GIF or WebP image"),
        ("b/z.png", "the file is empty"),
    ]
    assert (
        "skipped 3 unreadable files: a/x.jpg (its JPEG header is damaged), b/y\\n[red].png (not a JPEG, PNG, BMP, "
        "GIF or WebP image), b/z.png (the file is empty)"
    ) in found.notices


def test_unreadable_files_are_fatal_on_request(put_images):
    root = put_images(*files("a", 5), *files("b", 5))
    spoil(root)
    with pytest.raises(InputError, match=r"Cannot read 3 files: a/x\.jpg .* or give --bad-images skip"):
        scan(Folder(str(root)), seed=0, bad_images="error")


@pytest.mark.parametrize("training", [True, False])
def test_of_many_unreadable_files_it_is_said_where_all_are_listed(put_images, training):
    root = put_images(*files("a", 5), *files("b", 5))
    for index in range(7):
        (root / "a" / f"bad{index}.png").write_bytes(b"")
    source = Folder(str(root))

    def look(bad_images):
        if training:
            return scan(source, seed=0, bad_images=bad_images)
        return scan_as_test(source, source.classes, bad_images=bad_images)

    notice = next(line for line in look("skip").notices if line.startswith("skipped"))
    assert notice.count("the file is empty") == 5
    assert notice.endswith("and 2 more" + ("; unreadable.json in the run folder lists all" if training else ""))
    with pytest.raises(
        InputError, match=r"Cannot read 7 files: .* and 2 more\. Repair .* lists all in unreadable\.json"
    ):
        look("error")


def test_a_file_that_cannot_be_opened_is_unreadable(put_images):
    root = put_images(*files("a", 5), *files("b", 5))
    source = Folder(str(root))
    (root / "a" / "0.png").unlink()
    found = scan(source, seed=0)
    assert [(bad.file, bad.reason) for bad in found.unreadable] == [("a/0.png", "No such file or directory")]


def test_a_class_whose_images_cannot_be_read_is_refused(put_images):
    root = put_images(*files("a", 2), *files("b", 5))
    (root / "a" / "0.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"fewer than 2 images \(without 1 that cannot be used\): a \(1\)"):
        scan(Folder(str(root)), seed=0)


def test_rotated_photos_are_counted_and_told_how_to_mend(put_images):
    root = put_images(*files("a", 5), *files("b", 5))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 10)).save(root / "a" / "photo.jpg", exif=exif)
    found = scan(Folder(str(root)), seed=0)
    assert found.rotated == ("a/photo.jpg",)
    notice = next(line for line in found.notices if "EXIF" in line)
    assert notice.startswith("ignored the EXIF rotation of 1 photo, as")
    assert "a/photo.jpg" in notice
    assert "mogrify -auto-orient" in notice


def test_the_same_content_in_two_splits_or_two_classes_is_reported(put_images):
    root = put_images(
        *(file for split in ("train/", "val/", "test/") for name in "ab" for file in files(name, 5, split))
    )

    def copy(source, target):
        (root / target).write_bytes((root / source).read_bytes())

    copy("train/a/0.png", "test/a/copy.png")
    copy("train/a/1.png", "train/b/copy.png")
    copy("train/a/2.png", "train/a/copy.png")  # harmless
    found = scan(Folder(str(root)), seed=0)
    assert found.in_two_splits == (("train/a/0.png", "test/a/copy.png"),)
    assert found.in_two_classes == (("train/a/1.png", "train/b/copy.png"),)
    assert any(
        "found 1 image in two splits" in line and "train/a/0.png = test/a/copy.png" in line for line in found.notices
    )
    assert any("found 1 image in two classes" in line for line in found.notices)


def test_drawn_splits_share_no_content(put_images):
    root = put_images(*files("a", 20), *files("b", 20))
    for index in range(20):
        (root / "a" / f"copy {index}.png").write_bytes((root / "a" / f"{index}.png").read_bytes())
    found = scan(Folder(str(root)), seed=0)
    assert found.in_two_splits == ()
    assert found.counts["a"] == {"train": 28, "validation": 6, "test": 6}


@pytest.mark.parametrize(("count", "told"), [(29, False), (30, True)])
def test_imbalance_is_told(put_images, count, told):
    found = scan(Folder(str(put_images(*files("a", count), *files("b", 10)))), seed=0)
    line = f"classes are uneven: {count} images of 'a', 10 of 'b'; --class-weights makes them count alike"
    assert (line in found.notices) == told


def test_a_class_that_a_split_lacks_is_told(put_images):
    root = put_images(*files("a", 5, "train/"), *files("b", 5, "train/"), *files("b", 3, "test/"))
    assert "test has no images of a" in scan(Folder(str(root)), seed=0).notices


def test_two_images_a_class_are_just_enough(put_images):
    found = scan(Folder(str(put_images(*files("a", 2), *files("b", 2)))), seed=0)
    assert (found.count("train"), found.count("validation"), found.count("test")) == (2, 1, 1)


def test_too_few_different_images_to_draw_from_are_refused(put_images):
    root = put_images(*files("a", 2), *files("b", 2))
    (root / "b" / "1.png").write_bytes((root / "b" / "0.png").read_bytes())
    with pytest.raises(InputError, match="too few images to draw validation images from"):
        scan(Folder(str(root)), seed=0)


class Unlabelled(Digits):
    """Digits of which every tenth has no label, as in test splits of TFDS."""

    def __iter__(self):
        for index, example in enumerate(super().__iter__()):
            yield replace(example, label=-1) if index % 10 == 0 else example


def test_images_without_a_label_are_left_out():
    found = scan(Unlabelled(), seed=0)
    assert len(found.images) == 1617
    assert "skipped 180 images without a label" in found.notices


def test_the_digits_of_a_seed_are_always_split_alike():
    """Published figures are of these splits."""
    found = scan(Digits(), seed=0)
    assert (found.count("train"), found.count("validation"), found.count("test")) == (1259, 269, 269)
    tested = [index for index, image in enumerate(found.images) if image.split == "test"]
    assert tested[:10] == [6, 9, 13, 36, 55, 57, 59, 60, 66, 71]


# New images for a finished model


def test_new_images_are_all_tested_and_labelled_as_the_model_does(put_images):
    root = put_images(*files("b", 3), *files("c", 1))
    found = scan_as_test(Folder(str(root), for_training=False), ["c", "a", "b"])
    assert found.classes == ("c", "a", "b")
    assert [(image.file, image.label, image.split) for image in found.images] == [
        *((f"b/{index}.png", 2, "test") for index in range(3)),
        ("c/0.png", 0, "test"),
    ]


def test_of_new_images_in_splits_only_the_test_split_is_used(put_images):
    root = put_images(*files("a", 5, "train/"), *files("b", 5, "train/"), *files("b", 2, "test/"))
    found = scan_as_test(Folder(str(root), for_training=False), ["a", "b"])
    assert [image.file for image in found.images] == ["test/b/0.png", "test/b/1.png"]


def test_new_images_of_an_unknown_class_are_refused(put_images):
    source = Folder(str(put_images(*files("a", 3), *files("x", 1))), for_training=False)
    with pytest.raises(InputError, match=r"classes that the model does not know: x\. It knows: a, b"):
        scan_as_test(source, ["a", "b"])


def test_nothing_to_test_on_is_refused(put_images):
    root = put_images("a/0.png")
    (root / "a" / "0.png").write_bytes(b"")
    with pytest.raises(InputError, match="no labelled image that can be read"):
        scan_as_test(Folder(str(root), for_training=False), ["a", "b"])
