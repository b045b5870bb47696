"""Batches with labels: equal to scipy and numpy, depending on (seed, epoch, row) only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor

from conftest import error_of
from isthmus.data.batches import Augmentation, Batches, as_float, labelled_augmentation, moved
from isthmus.data.store import LabelledStore

CPU = torch.device("cpu")


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


def batches_of(
    store: LabelledStore, flip: float = 0.5, shift_px: int = 3, rows: Any = None, seed: int = 7
) -> Batches:
    count, change = len(store.names), labelled_augmentation(flip, shift_px)
    augmentation = change and Augmentation(seed, count, change)
    indices = np.arange(count) if rows is None else np.asarray(rows)
    return Batches(store.columns, indices, CPU, augmentation)


def drawn(batches: Batches, size: int = 8, order: Any = None, epoch: int = 0) -> dict[int, bytes]:
    """The changed image of each row."""
    seen = {}
    for batch in batches(size, order, epoch):
        for row, image in zip(batch["index"].tolist(), batch["image"], strict=True):
            seen[row] = image.numpy().tobytes()
    return seen


def all_of(batches: Batches) -> Tensor:
    """The changed images of all rows, in one batch."""
    (batch,) = batches(len(batches.rows))
    return batch["image"]


MOVES = st.lists(
    st.tuples(st.booleans(), st.integers(-9, 9), st.integers(-9, 9)), min_size=1, max_size=5
)


@given(MOVES, st.sampled_from([(6, 6), (5, 8), (7, 4)]), st.sampled_from([1, 3]))
def test_a_flip_and_a_shift_equal_those_of_numpy_and_scipy(moves, size, channels):
    """Also by more than a side, which leaves nothing but a repeated corner."""
    rng = np.random.default_rng(len(moves))
    images = rng.integers(0, 256, (len(moves), *size, channels), np.uint8)
    flips, *moves_px = (torch.tensor(of) for of in zip(*moves, strict=True))
    results = moved(as_float(torch.from_numpy(images)), flips, torch.stack(moves_px, dim=1))
    for image, result, (is_flipped, down, right) in zip(images, results, moves, strict=True):
        mirrored = np.flip(image, axis=1) if is_flipped else image
        expected = ndimage.shift(mirrored, (down, right, 0), order=0, mode="nearest")
        assert np.array_equal(result, np.moveaxis(expected, -1, 0) / np.float32(255))


def test_each_uniform_number_decides_one_change():
    """The flip, the shift down and the shift right, again from the numbers of an epoch."""
    store = store_of(noise(60))
    uniforms = Augmentation(7, 60, lambda batch, _: batch).uniforms(2).double().numpy()
    (batch,) = batches_of(store)(60, epoch=2)
    for image, result, numbers in zip(store.images, batch["image"], uniforms, strict=True):
        mirrored = np.flip(image, axis=1) if numbers[0] < 0.5 else image
        down, right = np.floor(7 * numbers[1:3]) - 3
        expected = ndimage.shift(mirrored, (down, right, 0), order=0, mode="nearest")
        assert np.array_equal(result, np.moveaxis(expected, -1, 0) / np.float32(255))


@pytest.mark.parametrize("channels", [1, 3])
def test_without_changes_a_batch_equals_the_store(channels):
    assert labelled_augmentation(0.0, 0) is None
    store = store_of(noise(9, 8, channels))
    (batch,) = batches_of(store, 0.0, 0, rows=[8, 2, 5])(4, np.array([2, 0]))
    assert set(batch) == {"image", "label", "index"}
    assert batch["index"].tolist() == [5, 8]
    assert batch["label"].tolist() == [2, 2]
    assert torch.equal(batch["image"], as_float(torch.from_numpy(store.images[[5, 8]])))
    assert batch["image"].shape == (2, channels, 8, 8)
    assert batch["label"].dtype == batch["index"].dtype == torch.int64


def test_draws_do_not_depend_on_order_batch_or_subset():
    store = store_of(noise(320))
    of_8 = drawn(batches_of(store))
    assert drawn(batches_of(store), 32) == of_8
    assert drawn(batches_of(store), 320) == of_8
    assert drawn(batches_of(store), 32, np.random.default_rng(1).permutation(320)) == of_8
    assert drawn(batches_of(store, rows=np.arange(320)[::-1].copy()), 7) == of_8
    assert drawn(batches_of(store, rows=[31, 3])) == {3: of_8[3], 31: of_8[31]}
    shorter = store_of(store.images[:20])
    assert drawn(batches_of(shorter)).items() <= of_8.items()


def test_draws_depend_on_seed_epoch_and_row():
    same = store_of(np.repeat(noise(1), 60, axis=0))
    batches = batches_of(same)
    first = drawn(batches)
    assert len(set(first.values())) > 35  # of 60 drawn from 98
    assert drawn(batches_of(same, seed=8)) != first
    assert drawn(batches, epoch=1) != first
    assert drawn(batches) == first


def test_draws_are_independent_of_the_global_generators():
    batches = batches_of(store_of(noise(10)))
    first = drawn(batches)
    state, numpys = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    drawn(batches, epoch=5)  # nothing of it is drawn yet
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numpys)  # noqa: NPY002
    torch.manual_seed(99)
    assert drawn(batches) == first


def test_flips_have_their_probability_and_all_shifts_are_equally_likely():
    n = 20_000
    images = np.zeros((n, 5, 5, 1), np.uint8)
    images[:, 2, 2] = 255  # one dot, which shows where the middle went
    dots = all_of(batches_of(store_of(images), 0.0, 2, seed=3))
    where = dots.flatten(1).argmax(1).bincount(minlength=25)
    # Chi squared with 24 degrees of freedom: above 51.2 once in a thousand.
    assert float(((where - n / 25) ** 2 / (n / 25)).sum()) < 51.2
    left = store_of(np.tile(np.array([[[255], [0]]] * 2, np.uint8), (n, 1, 1, 1)))
    kept = all_of(batches_of(left, 0.3, 0, seed=3))
    flips = int((kept[:, 0, 0, 0] == 0).sum())
    assert abs(flips - 0.3 * n) < 4 * np.sqrt(0.21 * n)
    assert (all_of(batches_of(left, 1.0, 0))[:, 0, 0, 0] == 0).all(), "always"


def test_flip_and_shift_of_a_row_are_independent():
    n = 20_000
    images = np.zeros((n, 3, 6, 1), np.uint8)
    images[:, 1, 1] = 255  # in sight wherever it goes
    seen = all_of(batches_of(store_of(images), 0.5, 1, seed=0))
    on_left = seen[:, 0, :, :3].amax((1, 2)) > 0
    moved_down = seen[:, 0, 2].amax(1) > 0
    together = float(np.corrcoef(on_left, moved_down)[0, 1])
    assert abs(together) < 4 / np.sqrt(n)


def test_a_shuffled_epoch_shows_every_row_once_with_its_label():
    batches = batches_of(store_of(noise(30)), rows=np.arange(3, 30))
    found = list(batches(8, np.random.default_rng(0).permutation(27)))
    assert [len(batch["label"]) for batch in found] == [8, 8, 8, 3]
    rows = torch.cat([batch["index"] for batch in found])
    labels = torch.cat([batch["label"] for batch in found])
    assert sorted(rows.tolist()) == list(range(3, 30))
    assert rows.tolist() != list(range(3, 30))
    assert torch.equal(labels, rows % 3)


def test_a_memory_mapped_store_is_read_without_warnings(tmp_path):
    np.save(tmp_path / "images.npy", noise(6))
    mapped = store_of(np.load(tmp_path / "images.npy", mmap_mode="r"))
    assert drawn(batches_of(mapped)) == drawn(batches_of(store_of(noise(6))))
    assert drawn(batches_of(mapped, 0.0, 0)).keys() == set(range(6))


def test_batches_that_a_thread_reads_ahead_are_the_same(monkeypatch):
    """As on a GPU whose memory the rows do not fit into; there is no pinned memory without one."""
    store, order = store_of(noise(30)), np.random.default_rng(0).permutation(30)
    plain = list(batches_of(store)(4, order))
    monkeypatch.setattr(Tensor, "pin_memory", lambda of: of)
    monkeypatch.setattr(Batches, "_read", Batches._prefetched)
    for batch, ahead in zip(plain, batches_of(store)(4, order), strict=True):
        assert all(torch.equal(batch[name], ahead[name]) for name in batch | ahead)


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (
            lambda: labelled_augmentation(1.5, 0),
            "flip = 1.5: a probability lies in [0, 1]; 0 is off",
        ),
        (
            lambda: labelled_augmentation(-0.1, 2),
            "flip = -0.1: a probability lies in [0, 1]; 0 is off",
        ),
        (
            lambda: labelled_augmentation(0.0, -1),
            "shift_px = -1: a shift is 0 or more; 0 is off",
        ),
    ],
)
def test_changes_out_of_range_are_rejected(act: Callable[[], object], sentence: str) -> None:
    assert error_of(act) == sentence
