"""Batches with labels: equal to scipy and torchvision, depending on (seed, epoch, row) only."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import functional as F  # noqa: N812

from isthmus.data.batches import LabelledImages, as_float, complete_batch, flipped, shifted
from isthmus.data.store import LabelledStore
from isthmus.errors import UserError


def store_of(images: np.ndarray) -> LabelledStore:
    n = len(images)
    return LabelledStore(
        images=images,
        labels=np.arange(n, dtype=np.int64) % 3,
        names=tuple(f"p{i}" for i in range(n)),
        groups=tuple("abc"[i % 3] for i in range(n)),
        parts=("train",) * n,
        class_names=("a", "b", "c"),
        label_scheme="noise",
        content="0",
    )


def noise(n: int, side_px: int = 12, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, side_px, side_px, channels), np.uint8)


def changing(store: LabelledStore, rows: Any = None, seed: int = 7) -> LabelledImages:
    indices = np.arange(len(store.names)) if rows is None else np.asarray(rows)
    return LabelledImages(store, indices, 0.5, 3, seed)


def drawn(images: LabelledImages, batch: int = 4) -> dict[int, bytes]:
    """The changed image of each row, read in batches of this size."""
    seen = {}
    for first in range(0, len(images), batch):
        got = images.__getitems__(range(first, min(first + batch, len(images))))
        for row, image in zip(got["index"].tolist(), got["image"], strict=True):
            seen[row] = image.numpy().tobytes()
    return seen


@pytest.mark.parametrize("channels", [1, 3])
def test_without_changes_a_batch_equals_the_store(channels):
    store = store_of(noise(9, 8, channels))
    batch = LabelledImages(store, np.array([8, 2, 5]), 0.0, 0, 0).__getitems__([2, 0])
    assert batch["index"].tolist() == [5, 8]
    assert batch["label"].tolist() == [2, 2]
    assert torch.equal(batch["image"], as_float(torch.from_numpy(store.images[[5, 8]])))
    assert batch["image"].shape == (2, channels, 8, 8)
    assert batch["label"].dtype == batch["index"].dtype == torch.int64


def test_one_item_equals_a_batch_of_one():
    images = changing(store_of(noise(6)))
    item, batch = images[4], images.__getitems__([4])
    assert torch.equal(item["image"], batch["image"][0])
    assert (int(item["label"]), int(item["index"])) == (1, 4)


def test_draws_do_not_depend_on_order_batch_or_subset():
    store = store_of(noise(40))
    forwards = drawn(changing(store))
    assert drawn(changing(store), batch=40) == forwards
    assert drawn(changing(store, np.arange(40)[::-1]), batch=7) == forwards
    assert drawn(changing(store, [31, 3])) == {3: forwards[3], 31: forwards[31]}
    shorter = store_of(store.images[:20])
    assert drawn(changing(shorter)).items() <= forwards.items()


def test_draws_depend_on_seed_epoch_and_row():
    same = store_of(np.repeat(noise(1), 60, axis=0))
    images = changing(same)
    first = drawn(images)
    assert len(set(first.values())) > 35  # of 60 drawn from 98
    assert drawn(changing(same, seed=8)) != first
    images.epoch = 1
    assert drawn(images) != first
    assert copy.deepcopy(images).epoch == 1
    images.epoch = 0
    assert drawn(images) == first


def test_draws_are_independent_of_the_global_generators():
    images = changing(store_of(noise(10)))
    first = drawn(images)
    state, numpys = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    images.epoch = 5  # nothing of it is drawn yet
    drawn(images)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numpys)  # noqa: NPY002
    torch.manual_seed(99)
    images.epoch = 0
    assert drawn(images) == first


@given(st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=1, max_size=5))
def test_a_shift_equals_that_of_scipy_with_repeated_edges(moves_px):
    images = noise(len(moves_px), 6)
    moved = shifted(images, np.array(moves_px), 4)
    for image, result, (down, right) in zip(images, moved, moves_px, strict=True):
        expected = ndimage.shift(image, (down, right, 0), order=0, mode="nearest")
        assert np.array_equal(result, expected)


def test_a_flip_equals_that_of_torchvision():
    images = noise(3)
    result = flipped(images, np.array([True, False, True]))
    mirrored = F.horizontal_flip(torch.from_numpy(images).movedim(-1, 1)).movedim(1, -1).numpy()
    assert np.array_equal(result, np.stack([mirrored[0], images[1], mirrored[2]]))


def test_flips_have_their_probability_and_all_shifts_are_equally_likely():
    n = 20_000
    images = np.zeros((n, 5, 5, 1), np.uint8)
    images[:, 2, 2] = 255  # one dot, which shows where the middle went
    dots = LabelledImages(store_of(images), np.arange(n), 0.0, 2, 3)
    where = dots.__getitems__(range(n))["image"].flatten(1).argmax(1).bincount(minlength=25)
    # Chi squared with 24 degrees of freedom: above 51.2 once in a thousand.
    assert float(((where - n / 25) ** 2 / (n / 25)).sum()) < 51.2
    left = store_of(np.tile(np.array([[[255], [0]]] * 2, np.uint8), (n, 1, 1, 1)))
    kept = LabelledImages(left, np.arange(n), 0.3, 0, 3).__getitems__(range(n))
    flips = int((kept["image"][:, 0, 0, 0] == 0).sum())
    assert abs(flips - 0.3 * n) < 4 * np.sqrt(0.21 * n)


def test_flip_and_shift_of_a_row_are_independent():
    n = 20_000
    images = np.zeros((n, 3, 6, 1), np.uint8)
    images[:, 1, 1] = 255  # in sight wherever it goes
    seen = LabelledImages(store_of(images), np.arange(n), 0.5, 1, 0).__getitems__(range(n))
    on_left = seen["image"][:, 0, :, :3].amax((1, 2)) > 0
    moved_down = seen["image"][:, 0, 2].amax(1) > 0
    together = float(np.corrcoef(on_left, moved_down)[0, 1])
    assert abs(together) < 4 / np.sqrt(n)


@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker:UserWarning")
def test_a_loader_gives_complete_batches_and_its_workers_see_the_epoch():
    images = changing(store_of(noise(10)))
    loader = DataLoader(
        images,
        batch_size=4,
        num_workers=2,
        persistent_workers=True,
        multiprocessing_context="fork",
        collate_fn=complete_batch,
    )
    for epoch in range(3):
        images.epoch = epoch
        batches = list(loader)
        assert [len(batch["label"]) for batch in batches] == [4, 4, 2]
        by_workers = torch.cat([batch["image"] for batch in batches])
        assert torch.equal(by_workers, images.__getitems__(range(10))["image"])


def test_a_shuffled_epoch_shows_every_row_once_with_its_label():
    images = LabelledImages(store_of(noise(30)), np.arange(3, 30), 0.0, 0, 0)
    loader = DataLoader(images, 8, shuffle=True, collate_fn=images.collate)
    rows = torch.cat([batch["index"] for batch in loader])
    labels = torch.cat([batch["label"] for batch in loader])
    assert sorted(rows.tolist()) == list(range(3, 30))
    assert rows.tolist() != list(range(3, 30))
    assert labels.bincount().tolist() == [9, 9, 9]


def test_a_memory_mapped_store_is_read_without_warnings(tmp_path):
    np.save(tmp_path / "images.npy", noise(6))
    mapped = store_of(np.load(tmp_path / "images.npy", mmap_mode="r"))
    assert drawn(changing(mapped)) == drawn(changing(store_of(noise(6))))
    assert drawn(LabelledImages(mapped, np.arange(6), 0.0, 0, 0)).keys() == set(range(6))


def test_a_loader_reads_complete_batches_only(monkeypatch):
    def one_by_one(self: LabelledImages, position: int) -> None:
        raise AssertionError("read image by image")

    monkeypatch.setattr(LabelledImages, "__getitem__", one_by_one)
    loader = DataLoader(changing(store_of(noise(9))), 4, shuffle=True, collate_fn=complete_batch)
    assert [len(batch["label"]) for batch in loader] == [4, 4, 1]


def test_changes_out_of_range_are_rejected():
    store = store_of(noise(2))
    with pytest.raises(UserError) as caught:
        LabelledImages(store, np.arange(2), 1.5, 0, 0)
    assert str(caught.value) == "flip = 1.5: a probability lies in [0, 1]; 0 is off"
    with pytest.raises(UserError) as caught:
        LabelledImages(store, np.arange(2), 0.0, -1, 0)
    assert str(caught.value) == "shift_px = -1: a shift is 0 or more; 0 is off"
