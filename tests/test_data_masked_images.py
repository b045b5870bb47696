"""Augmentation of images with masks: both change together, depending on (seed, epoch, row) only."""

from __future__ import annotations

import copy
import inspect

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torchvision.transforms import v2
from torchvision.tv_tensors import Image, Mask

from isthmus.data.batches import MaskedImages, as_float, augmentation
from isthmus.data.store import MaskedStore
from isthmus.recipe.rules import IGNORE_INDEX

ALL = augmentation(0.5, 15.0, 0.2, 0.1, 0.3)
MOVES = augmentation(0.5, 25.0, 0.2, 0.1, 0.0)


def store_of(images: np.ndarray, masks: np.ndarray) -> MaskedStore:
    n = len(images)
    names = tuple(f"p{i}" for i in range(n))
    return MaskedStore(
        images=images,
        masks=masks,
        names=names,
        groups=("a",) * n,
        parts=("train",) * n,
        class_names=("a", "b"),
        label_scheme="noise",
        content="0",
    )


@pytest.fixture(scope="module")
def noise() -> MaskedStore:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 32, 32, 3), np.uint8)
    return store_of(images, rng.integers(0, 2, (6, 32, 32), np.uint8))


def drawn(masked: MaskedImages) -> dict[int, bytes]:
    items = [masked[position] for position in range(len(masked))]
    return {item["index"]: item["image"].numpy().tobytes() for item in items}


def test_without_augmentation_an_item_equals_the_store(noise):
    item = MaskedImages(noise, np.array([4, 2]), None, 0)[1]
    assert item["index"] == 2
    assert torch.equal(item["image"], as_float(torch.from_numpy(noise.images[2])))
    assert item["mask"].dtype == torch.int64
    assert np.array_equal(item["mask"], noise.masks[2])


def test_a_memory_mapped_store_is_read_without_warnings(noise, tmp_path):
    np.save(tmp_path / "images.npy", noise.images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    assert len(drawn(MaskedImages(store_of(mapped, noise.masks), np.arange(6), ALL, 0))) == 6


def test_draws_do_not_depend_on_order_or_subset(noise):
    forwards = drawn(MaskedImages(noise, np.arange(6), ALL, 7))
    backwards = drawn(MaskedImages(noise, np.arange(6)[::-1].copy(), ALL, 7))
    assert forwards == backwards
    assert drawn(MaskedImages(noise, np.array([3]), ALL, 7)) == {3: forwards[3]}


def test_draws_are_independent_of_the_global_generator(noise):
    masked = MaskedImages(noise, np.arange(6), ALL, 7)
    torch.manual_seed(1)
    first = drawn(masked)
    after_first = torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(3), after_first)
    assert drawn(masked) == first


def test_draws_depend_on_seed_epoch_and_row(noise):
    same = store_of(noise.images[[0] * 6].copy(), noise.masks)
    masked = MaskedImages(same, np.arange(6), ALL, 7)
    first = drawn(masked)
    assert len(set(first.values())) == 6
    assert drawn(MaskedImages(same, np.arange(6), ALL, 8))[0] != first[0]
    masked.epoch = 1
    assert masked.epoch == 1
    assert drawn(masked)[0] != first[0]
    masked.epoch = 0
    assert drawn(masked) == first


@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker:UserWarning")
def test_persistent_workers_see_the_new_epoch(noise):
    masked = MaskedImages(noise, np.arange(6), ALL, 7)
    loader = DataLoader(
        masked,
        batch_size=2,
        num_workers=2,
        persistent_workers=True,
        multiprocessing_context="fork",
    )
    for epoch in range(2):
        masked.epoch = epoch
        by_workers = torch.cat([batch["image"] for batch in loader])
        here = torch.stack([masked[position]["image"] for position in range(6)])
        assert torch.equal(by_workers, here)


def test_image_and_mask_change_together():
    # An image that shows its own mask, large and plain enough for bilinear and nearest to agree.
    mask = np.zeros((1, 64, 64), np.uint8)
    mask[0, 20:44, 12:40] = 1
    image = np.repeat(mask[..., None] * np.uint8(255), 3, axis=-1)
    masked = MaskedImages(store_of(image, mask), np.arange(1), MOVES, 0)
    moved = 0
    for masked.epoch in range(20):
        item = masked[0]
        seen = item["mask"] != IGNORE_INDEX
        disagree = ((item["image"][0] > 0.5) != (item["mask"] == 1)) & seen
        assert disagree.sum() < 40  # of 4096: along an outline of 104 px at most
        moved += not np.array_equal(item["mask"], mask[0])
    assert moved == 20


def test_corners_without_content_are_grey_and_ignored_and_no_class_is_invented():
    masks = np.full((1, 64, 64), 2, np.uint8)
    images = np.full((1, 64, 64, 3), 255, np.uint8)
    masked = MaskedImages(
        store_of(images, masks), np.arange(1), augmentation(0.0, 45.0, 0.0, 0.0, 0.0), 0
    )
    uncovered = 0
    for masked.epoch in range(10):
        item = masked[0]
        assert set(item["mask"].unique().tolist()) <= {2, IGNORE_INDEX}
        corners = item["mask"] == IGNORE_INDEX
        uncovered += int(corners.sum())
        assert (item["image"][:, ~corners] > 0.45).all()
        deep = torch.nn.functional.max_pool2d((~corners)[None].float(), 5, 1, 2)[0] == 0
        assert torch.allclose(item["image"][:, deep], torch.tensor(128 / 255))
    assert uncovered > 0


def test_colour_changes_neither_mask_nor_hue():
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 2, (1, 16, 16), np.uint8)
    grey = np.repeat(rng.integers(60, 180, (1, 16, 16, 1), np.uint8), 3, axis=-1)
    item = MaskedImages(
        store_of(grey, masks), np.arange(1), augmentation(0.0, 0.0, 0.0, 0.0, 0.5), 0
    )[0]
    assert np.array_equal(item["mask"], masks[0])
    assert not torch.equal(item["image"], as_float(torch.from_numpy(grey[0])))
    assert (item["image"].amax(0) - item["image"].amin(0)).max() < 2.5 / 255  # grey stays grey


def test_a_flip_probability_of_one_half_flips_half():
    image, mask = Image(torch.zeros(3, 2, 2, dtype=torch.uint8)), Mask(torch.tensor([[0, 1]] * 2))
    flip = augmentation(0.5, 0.0, 0.0, 0.0, 0.0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        flips = sum(int(flip(image, mask)[1][0, 0]) for _ in range(400))
    assert abs(flips - 200) < 4 * 10


def test_augmentation_with_all_changes_off_is_the_identity():
    off = augmentation(0.0, 0.0, 0.0, 0.0, 0.0)
    image = Image(torch.randint(256, (3, 4, 4), dtype=torch.uint8))
    mask = Mask(torch.ones(4, 4, dtype=torch.uint8))
    assert isinstance(off, v2.Identity)
    assert all(torch.equal(a, b) for a, b in zip(off(image, mask), (image, mask), strict=True))


def test_a_loader_collates_items_into_one_dict(noise):
    masked = MaskedImages(noise, np.arange(6), None, 0)
    batch = next(iter(DataLoader(masked, 4, collate_fn=masked.collate)))
    assert batch["index"].tolist() == [0, 1, 2, 3]
    assert torch.equal(batch["image"][2], masked[2]["image"])


def test_images_can_be_copied_with_their_epoch(noise):
    masked = MaskedImages(noise, np.arange(6), ALL, 7)
    masked.epoch = 3
    assert copy.deepcopy(masked).epoch == 3
    assert list(inspect.signature(MaskedImages).parameters) == [
        "store",
        "indices",
        "augmentation",
        "seed",
    ]
