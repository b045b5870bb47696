"""Own classes: read as torchvision's ImageFolder reads them, and a sentence for each bad folder."""

from __future__ import annotations

import shutil
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
    """Noise in grey and in colour, so many images a class."""
    rng = np.random.default_rng(0)
    for name, count in counts.items():
        (path / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            shape = (9, 7, 3) if number % 2 else (9, 7)
            pixels = rng.integers(0, 256, shape, np.uint8)
            Image.fromarray(pixels).save(path / name / f"p{number}.png")
    return path


def error(path: Path, test_share: float = 0.2) -> str:
    with pytest.raises(UserError) as caught:
        list(ClassFolder(path, test_share))
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence.replace(str(path), "PATH")


def test_items_are_those_that_torchvision_gives(tmp_path):
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


def test_folders_within_a_class_belong_to_it_as_torchvision_has_it(tmp_path):
    path = class_folder(tmp_path / "fruit", {"pear": 2, "apple": 2, "plum": 0})
    class_folder(path / "apple", {"old": 2, "old-ones": 1, "old/older": 2, "empty": 0})
    class_folder(path / "plum" / "deep", {"deeper": 3})  # none right in the class
    theirs = ImageFolder(path)
    class_folder(path / "pear", {".hidden": 2})
    source = ClassFolder(path, 0.2)
    assert [path / item.name for item in source] == [Path(file) for file, _ in theirs.samples]
    assert Counter(item.group for item in source) == {"apple": 7, "pear": 2, "plum": 3}
    before = source.fingerprint()
    (path / "plum" / "deep" / "deeper" / "p2.png").unlink()
    assert ClassFolder(path, 0.2).fingerprint() != before


def test_the_test_part_is_the_same_every_time_and_stratified(tmp_path):
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


def test_the_fingerprint_follows_files_and_share_but_not_the_place(tmp_path):
    path = class_folder(tmp_path / "a" / "fruit", FRUIT)
    before = ClassFolder(path, 0.2).fingerprint()
    shutil.copytree(path, tmp_path / "b" / "fruit")  # keeps times of change
    assert ClassFolder(tmp_path / "b" / "fruit", 0.2).fingerprint() == before
    assert ClassFolder(path, 0.3).fingerprint() != before
    (path / "plum" / "p4.png").rename(path / "pear" / "p5.png")
    assert ClassFolder(path, 0.2).fingerprint() != before


def test_a_missing_folder_is_rejected(tmp_path):
    assert error(tmp_path / "none") == (
        "PATH: no such folder: it must hold a folder a class; set data.folder"
    )
    class_folder(tmp_path / "train", {"a": 2, "b": 2})
    assert error(tmp_path) == (
        "PATH/test: no such folder: where there is train/ or test/, both must be there, with a "
        "folder a class in each; add it"
    )


def test_a_single_class_and_none_are_rejected(tmp_path):
    assert error(tmp_path) == (
        "PATH: no class folder in it: labels need two classes or more, each a folder with its "
        "images; add them, or set data.folder"
    )
    class_folder(tmp_path, {"frog": 3})
    assert error(tmp_path) == (
        "PATH: only the class folder frog in it: labels need two classes or more, each a folder "
        "with its images; add them, or set data.folder"
    )


def test_an_empty_class_folder_is_named(tmp_path):
    class_folder(tmp_path, {"frog": 3, "newt": 3, "toad": 0})
    (tmp_path / "toad" / "notes.txt").write_text("no image")
    sentence = (
        "no image in it: it must hold .jpg, .jpeg, .png, .bmp, .tif, .tiff, .webp files; "
        "put them there, or take the folder out"
    )
    assert error(tmp_path) == f"PATH/toad: {sentence}"
    parts = tmp_path / "parts"
    class_folder(parts / "train", {"frog": 3, "newt": 3})
    class_folder(parts / "test", {"frog": 3, "newt": 0})
    assert error(parts) == f"PATH/test/newt: {sentence}"


def test_a_file_that_is_no_image_is_named(tmp_path):
    path = class_folder(tmp_path, {"frog": 3, "newt": 3})
    (path / "newt" / "p1.png").write_text("no image")
    assert error(path) == (
        "PATH/newt/p1.png: cannot be decoded (no kind of image that is known): "
        "every file must hold a whole image; fetch it again or take it out"
    )


def test_a_class_that_is_only_tested_is_rejected(tmp_path):
    sentence = (
        "PATH: class toad is in the test part but not in the training part: every class that is "
        "evaluated must be learned; add training images of it, or take it out"
    )
    parts = tmp_path / "parts"
    class_folder(parts / "train", {"frog": 3, "newt": 3})
    class_folder(parts / "test", {"frog": 3, "newt": 3, "toad": 3})
    assert error(parts) == sentence
    # Drawn: at this share the test part takes the only toad, whatever the seed.
    drawn = class_folder(tmp_path / "drawn", {"frog": 30, "toad": 1})
    assert error(drawn, 0.97) == sentence
