"""CIFAR-10: the official files if they are there, otherwise the JPEG copy, as folder or zip file."""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import CIFAR10

from isthmus.data.images import read_image
from isthmus.data.labelled_sets import SETS, CifarJpegs, labelled_set
from isthmus.errors import UserError

CIFAR10_CLASSES = SETS["cifar10"].class_names


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def error(work: Any, *options: Any, root: Path) -> str:
    with pytest.raises(UserError) as caught:
        list(work(*options))
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence.replace(str(root), "PATH")


def small_cifar10(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two images per batch; torchvision is told their checksums."""
    folder = root / CIFAR10.base_folder
    folder.mkdir(parents=True)

    def written(name: str, content: dict[str, Any]) -> list[str]:
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    for part in ("train_list", "test_list"):
        names = [name for name, _ in getattr(CIFAR10, part)]
        batches = [
            {"data": noise(2, 3072, seed=i), "labels": [i, 9 - i]} for i in range(len(names))
        ]
        monkeypatch.setattr(
            CIFAR10, part, [written(*pair) for pair in zip(names, batches, strict=True)]
        )
    _, md5 = written("batches.meta", {"label_names": list(CIFAR10_CLASSES)})
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5})
    return folder


def jpeg_folder(root: Path) -> Path:
    for part, count in (("train", 3), ("test", 2)):
        for number in range(count):
            for label in CIFAR10_CLASSES:
                path = root / "cifar10" / part / label / f"{number:04}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(noise(32, 32, 3, seed=count + number)).save(path)
    return root / "cifar10"


def zipped(folder: Path, root: Path) -> Path:
    """A zip file in reverse order, with an entry that is not of the dataset."""
    root.mkdir(exist_ok=True)
    with zipfile.ZipFile(root / "cifar10.zip", "w") as archive:
        for path in sorted(folder.rglob("*.jpg"), reverse=True):
            archive.write(path, path.relative_to(folder.parent))
        archive.writestr("__MACOSX/cifar10/train/frog/._0001.jpg", b"no image")
    return root / "cifar10.zip"


def test_the_official_files_come_before_the_jpeg_copy(tmp_path, monkeypatch):
    folder = small_cifar10(tmp_path, monkeypatch)
    jpeg_folder(tmp_path)
    source = labelled_set("cifar10", tmp_path, download=False)
    assert source.label_scheme == "cifar10"
    theirs = [*CIFAR10(tmp_path, train=True), *CIFAR10(tmp_path, train=False)]
    assert len(source) == len(theirs) == 12
    for item, (image, label) in zip(source, theirs, strict=True):
        assert np.array_equal(item.image, np.asarray(image))
        assert CIFAR10_CLASSES.index(item.group) == label
    (folder / "test_batch").write_bytes(b"changed")
    assert error(labelled_set, "cifar10", tmp_path, False, root=tmp_path).startswith(
        "PATH/cifar-10-batches-py: the train set cannot be read (Dataset not found or corrupted"
    )


def test_the_jpeg_copy_gives_the_same_items_from_zip_and_folder(tmp_path):
    folder = jpeg_folder(tmp_path / "a")
    zipped(folder, tmp_path / "b")
    by_place = [labelled_set("cifar10", tmp_path / place, download=False) for place in ("a", "b")]
    expected = [
        f"{part}/{label}/{number:04}"
        for part, count in (("train", 3), ("test", 2))
        for label in CIFAR10_CLASSES
        for number in range(count)
    ]
    for source in by_place:
        assert source.label_scheme == "cifar10 (JPEG copy)"
        assert source.class_names == CIFAR10_CLASSES
        assert len(source) == 50
        items = list(source)
        assert [item.name for item in items] == expected
        for item in items:
            assert item.name.startswith(f"{item.part}/{item.group}/")
            assert np.array_equal(item.image, read_image(folder / f"{item.name}.jpg"))
    assert list((tmp_path / "b").iterdir()) == [tmp_path / "b" / "cifar10.zip"]


def test_a_changed_jpeg_copy_has_another_fingerprint(tmp_path):
    folder = jpeg_folder(tmp_path)
    source = CifarJpegs(folder)
    before = source.fingerprint()
    assert CifarJpegs(folder).fingerprint() == before
    Image.new("RGB", (32, 32)).save(folder / "train/frog/0001.jpg")
    assert CifarJpegs(folder).fingerprint() != before
    place = zipped(folder, tmp_path)
    before = CifarJpegs(place).fingerprint()
    (folder / "test/frog/0001.jpg").unlink()
    assert CifarJpegs(zipped(folder, tmp_path)).fingerprint() != before


def test_a_damaged_entry_is_named(tmp_path):
    folder = jpeg_folder(tmp_path / "a")
    place = zipped(folder, tmp_path)
    content = (folder / "train/frog/0001.jpg").read_bytes()
    whole = place.read_bytes()
    middle = whole.index(content, whole.index(b"train/frog/0001.jpg")) + len(content) // 2
    place.write_bytes(whole[:middle] + b"\0\0\0\0" + whole[middle + 4 :])
    assert error(labelled_set, "cifar10", tmp_path, False, root=tmp_path) == (
        "PATH/cifar10.zip/cifar10/train/frog/0001.jpg: cannot be decoded (Bad CRC-32 for file "
        "'cifar10/train/frog/0001.jpg'): every file must hold a complete image; "
        "get it again or remove it"
    )
    (folder / "train/frog/0002.jpg").write_bytes(content[:-40])
    assert error(CifarJpegs, folder, root=tmp_path).startswith(
        "PATH/a/cifar10/train/frog/0002.jpg: cannot be decoded (image file is truncated"
    )


def test_a_damaged_zip_file_and_other_classes_are_rejected(tmp_path):
    place = zipped(jpeg_folder(tmp_path / "a"), tmp_path)
    place.write_bytes(place.read_bytes()[:-100])
    assert error(CifarJpegs, place, root=tmp_path) == (
        "PATH/cifar10.zip: cannot be opened (File is not a zip file): it must be a folder or a "
        "complete zip file; get it again or remove it"
    )
    folder = jpeg_folder(tmp_path / "b")
    (folder / "train" / "truck").rename(folder / "train" / "zebra")
    (folder / "test" / "truck").rename(folder / "test" / "zebra")
    known = ", ".join(CIFAR10_CLASSES)
    assert error(labelled_set, "cifar10", tmp_path / "b", False, root=tmp_path) == (
        f"PATH/b/cifar10: has the classes {known[:-5]}zebra: the JPEG copy of CIFAR-10 has {known}; "
        "get it again or remove it"
    )


def test_the_real_copy_has_sixty_thousand_images(data_root):
    source = labelled_set("cifar10", data_root, download=False)
    assert len(source) == 60_000
    first = next(iter(source))
    assert first.name == "train/airplane/0000"
    assert first.image.shape == (32, 32, 3)
