"""Class folders, also zipped: as torchvision's ImageFolder reads them, and errors whose remedy works."""

from __future__ import annotations

import shutil
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from isthmus.data.class_folder import ClassFolder
from isthmus.data.store import open_labelled_store
from isthmus.errors import UserError

FRUIT = {"pear": 5, "apple": 10, "plum": 5}


def class_folder(path: Path, counts: dict[str, int]) -> Path:
    """Noise in grey and in colour, with so many images per class."""
    rng = np.random.default_rng(0)
    for name, count in counts.items():
        (path / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            shape = (9, 7, 3) if number % 2 else (9, 7)
            pixels = rng.integers(0, 256, shape, np.uint8)
            Image.fromarray(pixels).save(path / name / f"p{number}.png")
    return path


def zipped(folder: Path, place: Path, inside: str = "") -> Path:
    """A zip file of a folder, in reverse order, with entries that are not of the dataset."""
    with zipfile.ZipFile(place, "w") as archive:
        for path in sorted(folder.rglob("*"), reverse=True):
            archive.write(path, f"{inside}{path.relative_to(folder).as_posix()}")
        archive.writestr("__MACOSX/apple/._p0.png", b"no image")
    return place


def error(path: Path, test_share: float | None = 0.2) -> str:
    with pytest.raises(UserError) as caught:
        list(ClassFolder(path, test_share))
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence.replace(str(path), "PATH")


def is_accepted(path: Path, test_share: float | None = 0.2) -> bool:
    """Whether the folder can be read, after the remedy of an error."""
    return len(list(ClassFolder(path, test_share))) > 0


def test_items_equal_those_of_torchvision(tmp_path):
    path = class_folder(tmp_path / "fruit", FRUIT)
    (path / "apple" / "Thumbs.db").write_text("no image")
    theirs = ImageFolder(path)
    (path / ".hidden").mkdir()
    (path / "notes.txt").write_text("no class")
    source = ClassFolder(path, 0.2)
    assert source.class_names == tuple(theirs.classes) == ("apple", "pear", "plum")
    assert source.label_scheme == "classes fruit: apple, pear, plum"
    assert len(source) == len(theirs) == 20
    for item, (image, label), (file, _) in zip(source, theirs, theirs.samples, strict=True):
        assert np.array_equal(item.image, np.asarray(image))
        assert source.class_names.index(item.group) == label
        assert path / item.name == Path(file)


def test_subfolders_of_a_class_belong_to_it_as_in_torchvision(tmp_path):
    path = class_folder(tmp_path / "fruit", {"pear": 2, "apple": 2, "plum": 0})
    class_folder(path / "apple", {"old": 2, "old-ones": 1, "old/older": 2, "empty": 0})
    class_folder(path / "plum" / "deep", {"deeper": 3})  # none directly in the class
    theirs = ImageFolder(path)
    class_folder(path / "pear", {".hidden": 2})
    source = ClassFolder(path, 0.2)
    assert [path / item.name for item in source] == [Path(file) for file, _ in theirs.samples]
    assert Counter(item.group for item in source) == {"apple": 7, "pear": 2, "plum": 3}
    before = source.fingerprint()
    (path / "plum" / "deep" / "deeper" / "p2.png").unlink()
    assert ClassFolder(path, 0.2).fingerprint() != before


def test_the_test_part_is_always_the_same_and_stratified(tmp_path):
    path = class_folder(tmp_path, FRUIT)
    parts = [item.part for item in ClassFolder(path, 0.2)]
    assert parts == [item.part for item in ClassFolder(path, 0.2)]
    in_test = [item.group for item in ClassFolder(path, 0.2) if item.part == "test"]
    assert Counter(in_test) == {"apple": 2, "pear": 1, "plum": 1}
    assert sum(item.part == "test" for item in ClassFolder(path, 0.5)) == 10


def test_train_and_test_folders_are_kept(tmp_path):
    class_folder(tmp_path / "train", {"b": 2, "a": 3, "c": 1})
    class_folder(tmp_path / "test", {"b": 2, "a": 1})
    source = ClassFolder(tmp_path, 0.2)
    assert source.class_names == ("a", "b", "c")
    items = list(source)
    assert Counter((i.part, i.group) for i in items) == {
        ("train", "a"): 3,
        ("train", "b"): 2,
        ("train", "c"): 1,
        ("test", "a"): 1,
        ("test", "b"): 2,
    }
    assert [items[0].name, items[-1].name] == ["train/a/p0.png", "test/b/p1.png"]


@pytest.mark.parametrize("inside", ["", "fruit/"])
def test_a_zip_file_gives_the_same_items_and_content_as_its_folder(tmp_path, inside):
    path = class_folder(tmp_path / "fruit", FRUIT)
    class_folder(path / "apple", {"old": 2, "old-ones": 1, ".hidden": 1})
    place = zipped(path, tmp_path / "fruit.zip", inside)
    folder, archive = ClassFolder(path, 0.2), ClassFolder(place, 0.2)
    assert len(archive) == len(folder) == 23
    for ours, theirs in zip(archive, folder, strict=True):
        assert (ours.name, ours.group, ours.part) == (theirs.name, theirs.group, theirs.part)
        assert np.array_equal(ours.image, theirs.image)
    assert archive.class_names == folder.class_names
    assert archive.label_scheme == folder.label_scheme
    stores = [open_labelled_store(source, 8, 3, tmp_path) for source in (folder, archive)]
    assert stores[0].content == stores[1].content


def test_the_fingerprint_of_a_zip_file_changes_with_the_file(tmp_path):
    path = class_folder(tmp_path / "fruit", FRUIT)
    before = ClassFolder(zipped(path, tmp_path / "fruit.zip"), 0.2).fingerprint()
    assert ClassFolder(tmp_path / "fruit.zip", 0.2).fingerprint() == before
    (path / "pear" / "p0.png").unlink()
    assert ClassFolder(zipped(path, tmp_path / "fruit.zip"), 0.2).fingerprint() != before


def test_a_damaged_zip_file_and_a_damaged_entry_are_named(tmp_path):
    path = class_folder(tmp_path / "fruit", FRUIT)
    place = zipped(path, tmp_path / "fruit.zip")
    whole = place.read_bytes()
    content = (path / "pear" / "p1.png").read_bytes()
    middle = whole.index(content, whole.index(b"pear/p1.png")) + len(content) // 2
    place.write_bytes(whole[:middle] + b"\0\0\0\0" + whole[middle + 4 :])
    assert error(place) == (
        "PATH/pear/p1.png: cannot be decoded (Bad CRC-32 for file 'pear/p1.png'): every file must "
        "hold a complete image; get it again or remove it"
    )
    place.write_bytes(whole[:-100])
    assert error(place) == (
        "PATH: cannot be opened (File is not a zip file): it must be a folder or a complete zip "
        "file; get it again or remove it"
    )
    place.write_bytes(whole)
    assert is_accepted(place)


def test_train_can_be_a_class_of_trains(tmp_path):
    source = ClassFolder(class_folder(tmp_path, {"train": 4, "plane": 4}), 0.5)
    assert source.class_names == ("plane", "train")
    assert sum(item.part == "test" for item in source) == 4


def test_a_folder_can_be_stored(tmp_path):
    path = class_folder(tmp_path / "fruit", FRUIT)
    store = open_labelled_store(ClassFolder(path, 0.2), 8, 1, tmp_path)
    assert store.images.shape == (20, 8, 8, 1)
    assert store.labels.tolist() == [0] * 10 + [1] * 5 + [2] * 5
    assert store.label_scheme == "classes fruit: apple, pear, plum, 8 px, grey"


def test_many_classes_are_counted_in_the_label_scheme(tmp_path):
    path = class_folder(tmp_path / "letters", dict.fromkeys("abcdefghijklmn", 2))
    assert ClassFolder(path, 0.5).label_scheme == (
        "classes letters: a, b, c, d, e, f, g, h, i, j, k, l ... (14 classes)"
    )


def test_the_fingerprint_depends_on_files_and_share_but_not_on_the_location(tmp_path):
    path = class_folder(tmp_path / "a" / "fruit", FRUIT)
    before = ClassFolder(path, 0.2).fingerprint()
    shutil.copytree(path, tmp_path / "b" / "fruit")  # keeps modification times
    assert ClassFolder(tmp_path / "b" / "fruit", 0.2).fingerprint() == before
    assert ClassFolder(path, 0.3).fingerprint() != before
    (path / "plum" / "p4.png").rename(path / "pear" / "p5.png")
    assert ClassFolder(path, 0.2).fingerprint() != before


def test_a_missing_folder_is_rejected(tmp_path):
    assert error(tmp_path / "none") == (
        "PATH: no such folder: it must hold one folder per class; set data.folder"
    )
    class_folder(tmp_path / "train", {"a": 2, "b": 2})
    assert error(tmp_path) == (
        "PATH/test: no such folder: train/ and test/ must both exist, each with one folder per "
        "class; add the missing folder"
    )
    class_folder(tmp_path / "test", {"a": 2, "b": 2})
    assert is_accepted(tmp_path)
    class_folder(tmp_path / "without", {"a": 2, "b": 2})
    assert error(tmp_path / "without", None).startswith("PATH/train: no such folder: train/ and")


def test_a_single_class_and_none_are_rejected(tmp_path):
    assert error(tmp_path) == (
        "PATH: no class folders: at least two classes are needed, each a folder of images; "
        "add class folders, or set data.folder"
    )
    class_folder(tmp_path, {"frog": 3})
    assert error(tmp_path) == (
        "PATH: only one class folder (frog): at least two classes are needed, each a folder of "
        "images; add class folders, or set data.folder"
    )
    class_folder(tmp_path, {"newt": 3})
    assert is_accepted(tmp_path)


def test_an_empty_class_folder_is_named(tmp_path):
    class_folder(tmp_path, {"frog": 3, "newt": 3, "toad": 0})
    (tmp_path / "toad" / "notes.txt").write_text("no image")
    sentence = (
        "contains no image: it must have .jpg, .jpeg, .png, .bmp, .tif, .tiff, .webp files; "
        "add some, or remove the folder"
    )
    assert error(tmp_path) == f"PATH/toad: {sentence}"
    parts = tmp_path / "parts"
    class_folder(parts / "train", {"frog": 3, "newt": 3})
    class_folder(parts / "test", {"frog": 3, "newt": 0})
    assert error(parts) == f"PATH/test/newt: {sentence}"
    class_folder(parts / "test", {"newt": 1})
    assert is_accepted(parts)


def test_a_file_that_is_not_an_image_is_named(tmp_path):
    path = class_folder(tmp_path, {"frog": 3, "newt": 3})
    (path / "newt" / "p1.png").write_text("no image")
    assert error(path) == (
        "PATH/newt/p1.png: cannot be decoded (not a known image format): "
        "every file must hold a complete image; get it again or remove it"
    )
    (path / "newt" / "p1.png").unlink()
    assert is_accepted(path)


def test_a_class_with_test_images_only_is_rejected(tmp_path):
    sentence = (
        "PATH: class toad has test images but no training images: every class that is tested must "
        "be trained on; add training images of it, or remove it"
    )
    parts = tmp_path / "parts"
    class_folder(parts / "train", {"frog": 3, "newt": 3})
    class_folder(parts / "test", {"frog": 3, "newt": 3, "toad": 3})
    assert error(parts) == sentence
    class_folder(parts / "train", {"toad": 1})
    assert is_accepted(parts)
    # Drawn: at this share the test part contains the only toad for every seed.
    drawn = class_folder(tmp_path / "drawn", {"frog": 30, "toad": 1})
    assert error(drawn, 0.97) == sentence
