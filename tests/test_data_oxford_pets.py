"""Oxford-IIIT Pet: label schemes against the published meaning, on noise and on real pets."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import OxfordIIITPet

from isthmus.data.oxford_pets import TRIMAP_SCHEMES, OxfordPets
from isthmus.data.store import open_store
from isthmus.errors import UserError
from isthmus.recipe.rules import IGNORE_INDEX

SHARED = Path(__file__).parents[2] / "shared" / "data"
TRIMAP = np.array([[1, 1, 3, 2], [1, 3, 2, 2], [3, 2, 2, 2]], np.uint8)
EXPECTED = {
    "classes3": [[0, 0, 2, 1], [0, 2, 1, 1], [2, 1, 1, 1]],
    "pet+border": [[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]],
    "pet": [[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]],
    "ignore-border": [[1, 1, 255, 0], [1, 255, 0, 0], [255, 0, 0, 0]],
    "border": [[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0]],
}


def small_set(root: Path, trainval: int = 10, test: int = 2) -> Path:
    """Random images in the layout of the data set."""
    images = root / "oxford-iiit-pet" / "images"
    annotations = root / "oxford-iiit-pet" / "annotations"
    images.mkdir(parents=True)
    (annotations / "trimaps").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part, count, first in (("trainval", trainval, 0), ("test", test, trainval)):
        names = [f"great_pyrenees_{i}" for i in range(first, first + count)]
        (annotations / f"{part}.txt").write_text("".join(f"{name} 1 1 1\n" for name in names))
        for name in names:
            noise = rng.integers(0, 256, (*TRIMAP.shape, 3), np.uint8)
            Image.fromarray(noise).save(images / f"{name}.jpg")
            Image.fromarray(TRIMAP).save(annotations / "trimaps" / f"{name}.png")
    return root


def opened(root: Path, trimap="classes3", split="official") -> OxfordPets:
    return OxfordPets(root, trimap, split, download=False)


@pytest.mark.parametrize("trimap", TRIMAP_SCHEMES)
def test_each_label_scheme_maps_the_trimap_to_its_classes(tmp_path, trimap):
    source = opened(small_set(tmp_path), trimap)
    item = next(iter(source))
    assert item.mask.tolist() == EXPECTED[trimap]
    assert item.group == "great_pyrenees"
    assert source.label_scheme == f"oxford-pets, {trimap}"


def test_class_names_are_in_the_order_of_the_indices():
    for label_scheme in TRIMAP_SCHEMES.values():
        pet, background, border = label_scheme.ids
        assert label_scheme.class_names[pet] in ("pet", "foreground", "rest")
        assert label_scheme.class_names[background] in ("background", "rest")
        assert border == IGNORE_INDEX or label_scheme.class_names[border] in (
            "border",
            "foreground",
            "background",
        )


def test_the_reference_split_excludes_the_official_test_part(tmp_path):
    small_set(tmp_path)
    items = list(opened(tmp_path, split="reference"))
    trainval = [f"great_pyrenees_{i}" for i in range(10)]
    assert [item.name for item in items] == trainval
    order = np.random.default_rng(1234).permutation(10)
    in_train = {item.name for item in items if item.part == "train"}
    assert in_train == {trainval[i] for i in order[:8]}
    assert (
        opened(tmp_path, split="reference").label_scheme == "oxford-pets, classes3, reference split"
    )


def test_the_sorted_split_has_the_last_fifth_of_the_names_as_test_part(tmp_path):
    base = small_set(tmp_path, trainval=4) / "oxford-iiit-pet"
    listed = base / "annotations/trainval.txt"
    for name in ("beagle_3", "Abyssinian_7", "Abyssinian_12"):  # in no order, capitals first
        shutil.copy(base / "images/great_pyrenees_0.jpg", base / f"images/{name}.jpg")
        shutil.copy(
            base / "annotations/trimaps/great_pyrenees_0.png",
            base / f"annotations/trimaps/{name}.png",
        )
        listed.write_text(f"{name} 1 1 1\n" + listed.read_text())
    in_test = [item.name for item in opened(tmp_path, split="sorted") if item.part == "test"]
    assert in_test == ["great_pyrenees_2", "great_pyrenees_3"]
    assert opened(tmp_path, split="sorted").label_scheme == "oxford-pets, classes3, sorted split"


def test_the_official_split_equals_the_lists(tmp_path):
    parts = [item.part for item in opened(small_set(tmp_path))]
    assert parts == ["train"] * 10 + ["test"] * 2


def test_the_fingerprint_depends_on_files_label_scheme_and_split(tmp_path):
    small_set(tmp_path)
    before = opened(tmp_path).fingerprint()
    assert opened(tmp_path).fingerprint() == before
    assert opened(tmp_path, "pet").fingerprint() != before
    assert opened(tmp_path, split="reference").fingerprint() != before
    Image.new("RGB", (4, 3)).save(tmp_path / "oxford-iiit-pet/images/great_pyrenees_0.jpg")
    assert opened(tmp_path).fingerprint() != before


def test_missing_data_are_rejected_with_the_expected_folders(tmp_path):
    with pytest.raises(UserError) as caught:
        opened(tmp_path)
    assert str(caught.value) == (
        f"no Oxford-IIIT Pet in {tmp_path}: expected {tmp_path}/oxford-iiit-pet/images and "
        ".../annotations; name the right folder with --data-root or ISTHMUS_DATA, "
        "or set neither to download the data set"
    )


def test_a_failed_download_is_rejected(tmp_path, monkeypatch):
    def unplugged(self: OxfordIIITPet) -> None:
        raise OSError("no network")

    monkeypatch.setattr(OxfordIIITPet, "_download", unplugged)
    with pytest.raises(UserError, match=r"^cannot download Oxford-IIIT Pet into .* \(no network\)"):
        OxfordPets(tmp_path, "pet", "official", download=True)


def test_broken_files_are_named(tmp_path):
    base = small_set(tmp_path) / "oxford-iiit-pet"
    image = base / "images/great_pyrenees_1.jpg"
    trimap = base / "annotations/trimaps/great_pyrenees_2.png"
    whole = image.read_bytes()
    image.write_bytes(whole[:-30])
    with pytest.raises(UserError, match=r"great_pyrenees_1\.jpg: cannot be decoded .*truncated"):
        list(opened(tmp_path))
    image.unlink()
    with pytest.raises(
        UserError, match=r"great_pyrenees_1\.jpg: no such file, although trainval\.txt"
    ):
        opened(tmp_path)
    Image.new("RGB", (9, 9)).save(image)
    with pytest.raises(UserError, match=r"_1\.jpg: 9 x 9 px, but its trimap .* is 4 x 3 px"):
        list(opened(tmp_path))
    image.write_bytes(whole)
    Image.fromarray(TRIMAP - 1).save(trimap)
    with pytest.raises(UserError, match=r"_2\.png: has the values \[0, 1, 2\]: a trimap has"):
        list(opened(tmp_path))


@pytest.fixture
def real_root() -> Path:
    root = Path(os.environ.get("ISTHMUS_TEST_DATA") or SHARED)
    if not (root / "oxford-iiit-pet").is_dir():
        pytest.skip("no Oxford-IIIT Pet here; name its folder with ISTHMUS_TEST_DATA")
    return root


def test_real_items_equal_those_of_torchvision(real_root, tmp_path):
    theirs = OxfordIIITPet(real_root, split="trainval", target_types="segmentation")
    ours = opened(real_root)
    for row, item in zip(range(5), ours, strict=False):
        image, trimap = theirs[row]
        assert np.array_equal(item.image, np.asarray(image))
        assert np.array_equal(item.mask + 1, np.asarray(trimap))
    tests = OxfordIIITPet(real_root, split="test")
    assert len(ours) == len(theirs) + len(tests)


@pytest.mark.slow
def test_the_complete_real_set_can_be_stored(real_root, tmp_path):
    store = open_store(opened(real_root, "ignore-border"), 64, "nearest", tmp_path)
    assert set(np.unique(store.masks)) == {0, 1, IGNORE_INDEX}
    assert len(set(store.names)) == len(store.names)
