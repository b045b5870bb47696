"""Batches of images with masks: equal to torchvision, depending on (seed, epoch, row) only."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F  # noqa: N812

from isthmus.data.batches import (
    DRAWS,
    Augmentation,
    Batches,
    Change,
    as_float,
    coloured,
    masked_augmentation,
    warped,
)
from isthmus.data.store import MaskedStore
from isthmus.recipe.rules import IGNORE_INDEX

CPU = torch.device("cpu")
OPTIONS = {"flip": 0.5, "rotate_deg": 15.0, "scale": 0.2, "shift": 0.1, "colour": 0.3}
SIZES = pytest.mark.parametrize(("height", "width"), [(32, 32), (24, 40), (37, 21)])
GREY = 128 / 255


def change_of(**options: float) -> Change:
    change = masked_augmentation(**dict.fromkeys(OPTIONS, 0.0) | options)
    assert change is not None
    return change


ALL = change_of(**OPTIONS)
MOVES = change_of(flip=0.5, rotate_deg=25.0, scale=0.2, shift=0.1)


def store_of(images: np.ndarray, masks: np.ndarray) -> MaskedStore:
    n = len(images)
    return MaskedStore(
        images=images,
        masks=masks,
        names=tuple(f"p{i}" for i in range(n)),
        groups=("a",) * n,
        parts=("train",) * n,
        class_names=("a", "b"),
        label_scheme="noise",
        content="0",
    )


def noise_of(n: int, height: int = 32, width: int = 32) -> MaskedStore:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, height, width, 3), np.uint8)
    return store_of(images, rng.integers(0, 3, (n, height, width), np.uint8))


@pytest.fixture(scope="module")
def noise() -> MaskedStore:
    return noise_of(20)


def batches_of(
    store: MaskedStore, change: Change | None = ALL, rows: Any = None, seed: int = 7
) -> Batches:
    count = len(store.names)
    augmentation = change and Augmentation(seed, count, change)
    indices = np.arange(count) if rows is None else np.asarray(rows)
    return Batches(store.columns, indices, CPU, augmentation)


def drawn(
    batches: Batches, size: int = 8, order: Any = None, epoch: int = 0
) -> dict[int, tuple[bytes, bytes]]:
    """Image and mask of each row."""
    seen = {}
    for batch in batches(size, order, epoch):
        of_rows = zip(batch["index"].tolist(), batch["image"], batch["mask"], strict=True)
        for row, image, mask in of_rows:
            seen[row] = image.numpy().tobytes(), mask.numpy().tobytes()
    return seen


# Against torchvision


def affine(image: Tensor, is_flipped: bool, *how: Any, fill: float, mode: str) -> Tensor:
    """torchvision's flip, then its affine map."""
    flipped = F.horizontal_flip(image) if is_flipped else image
    angle, shift, scale = how
    return F.affine(flipped, angle, shift, scale, [0.0, 0.0], InterpolationMode(mode), [fill])


def affine_in_a_frame(image: Tensor, *how: Any, fill: float, mode: str) -> Tensor:
    """The same on a canvas of the fill value so large that no corner of the image leaves it.

    At the edge of an image torchvision mixes in the fill value twice: it weighs what it has read from
    beyond the edge, which are zeros, once more. Here there is no edge.
    """
    frame = max(image.shape[-2:]) * 2
    canvas = F.pad(image, [frame], fill=fill)
    moved = affine(canvas, *how, fill=fill, mode=mode)
    return moved[..., frame:-frame, frame:-frame]


def maps(n: int, height: int, width: int) -> dict[str, Tensor]:
    """Any angle, shifts of up to a third of a side, scales of .6 to 1.5."""
    draws = torch.Generator().manual_seed(3)
    shares = torch.rand(n, 4, generator=draws)
    return {
        "flipped": torch.arange(n) % 2 == 0,
        "angle_deg": 360 * shares[:, 0] - 180,
        "shift_px": (2 * shares[:, 1:3] - 1) * torch.tensor([width, height]) / 3,
        "scale": 0.6 + 0.9 * shares[:, 3],
    }


def each(how: dict[str, Tensor]) -> list[tuple[bool, float, list[float], float]]:
    return list(zip(*(of.tolist() for of in how.values()), strict=True))


@SIZES
def test_a_map_of_images_equals_that_of_torchvision(height: int, width: int) -> None:
    """Values are in [0, 1] and differ by 0.3 from pixel to pixel; coordinates are float32."""
    store, how = noise_of(24, height, width), maps(24, height, width)
    images, masks = as_float(torch.from_numpy(store.images)), torch.from_numpy(store.masks)
    results, _ = warped(images, masks, **how)
    assert results.dtype == torch.float32
    whole = 0
    for image, result, of in zip(images, results, each(how), strict=True):
        bilinear = {"fill": GREY, "mode": "bilinear"}
        expected = affine_in_a_frame(image, *of, **bilinear)
        torch.testing.assert_close(result, expected, atol=3e-5, rtol=0)
        covered = affine(torch.ones_like(image), *of, fill=0.0, mode="bilinear")
        is_whole = ((covered < 1e-10) | (covered > 1 - 1e-6)).all(dim=0)  # 1e-5, squared
        whole += int(is_whole.sum())
        plain = affine(image, *of, **bilinear)
        torch.testing.assert_close(result[:, is_whole], plain[:, is_whole], atol=3e-5, rtol=0)
    assert whole > 0.85 * 24 * height * width, "all but the edges"


@SIZES
def test_a_map_of_masks_equals_that_of_torchvision(height: int, width: int) -> None:
    """A coordinate halfway between two pixels may be rounded to the other one."""
    store, how = noise_of(24, height, width), maps(24, height, width)
    images, masks = as_float(torch.from_numpy(store.images)), torch.from_numpy(store.masks)
    _, results = warped(images, masks, **how)
    assert results.dtype == torch.uint8
    expected = [
        affine(mask[None], *of, fill=float(IGNORE_INDEX), mode="nearest")[0]
        for mask, of in zip(masks, each(how), strict=True)
    ]
    assert (results == IGNORE_INDEX).any()
    assert int((results != torch.stack(expected)).sum()) <= 2  # of 18,000 to 25,000


@SIZES
def test_a_map_that_moves_nothing_or_by_whole_pixels_is_exact(height: int, width: int) -> None:
    store = noise_of(3, height, width)
    images, masks = as_float(torch.from_numpy(store.images)), torch.from_numpy(store.masks)
    still = {
        "flipped": torch.tensor([False, True, False]),
        "angle_deg": torch.zeros(3),
        "shift_px": torch.tensor([[0.0, 0.0], [0.0, 0.0], [3.0, -2.0]]),
        "scale": torch.ones(3),
    }
    moved_images, moved_masks = warped(images, masks, **still)
    shifted = torch.full_like(masks[2], IGNORE_INDEX)
    shifted[:-2, 3:] = masks[2, 2:, :-3]
    assert torch.equal(moved_masks, torch.stack([masks[0], masks[1].flip(-1), shifted]))
    grey = torch.full_like(images[2], GREY)
    grey[:, :-2, 3:] = images[2, :, 2:, :-3]
    expected = torch.stack([images[0], images[1].flip(-1), grey])
    torch.testing.assert_close(moved_images, expected, atol=1e-5, rtol=0)


def test_changed_colours_equal_those_of_torchvision() -> None:
    """Brightness, contrast and saturation in this order, each clipped; another order differs."""
    store = noise_of(30, 9, 14)
    images = as_float(torch.from_numpy(store.images))
    factors = 2 * torch.rand(30, 3, generator=torch.Generator().manual_seed(1))
    factors[0] = 1
    results = coloured(images, factors)

    def by_torchvision(*order: int) -> Tensor:
        steps = [F.adjust_brightness, F.adjust_contrast, F.adjust_saturation]
        expected = []
        for image, of in zip(images, factors.tolist(), strict=True):
            for place in order:
                image = steps[place](image, of[place])
            expected.append(image)
        return torch.stack(expected)

    torch.testing.assert_close(results, by_torchvision(0, 1, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(results[0], images[0], atol=1e-6, rtol=0)
    for other in ((1, 0, 2), (0, 2, 1)):
        assert (results - by_torchvision(*other)).abs().max() > 0.05


@SIZES
def test_each_uniform_number_decides_one_change(height: int, width: int) -> None:
    """The whole chain again, by torchvision, from the numbers of an epoch."""
    store = noise_of(24, height, width)
    uniforms = Augmentation(5, 24, ALL).uniforms(2)
    assert uniforms.shape == (24, DRAWS)
    (batch,) = batches_of(store, seed=5)(24, epoch=2)
    differing = 0
    for row, numbers in enumerate(uniforms.double().tolist()):
        signed = [2 * number - 1 for number in numbers]
        image = as_float(torch.from_numpy(store.images[row]))
        image = F.adjust_brightness(image, 1 + 0.3 * signed[0])
        image = F.adjust_contrast(image, 1 + 0.3 * signed[1])
        image = F.adjust_saturation(image, 1 + 0.3 * signed[2])
        of = (
            numbers[3] < 0.5,
            15 * signed[4],
            [0.1 * width * signed[5], 0.1 * height * signed[6]],
            1 + 0.2 * signed[7],
        )
        expected = affine_in_a_frame(image, *of, fill=GREY, mode="bilinear")
        torch.testing.assert_close(batch["image"][row], expected, atol=3e-5, rtol=0)
        mask = torch.from_numpy(store.masks[row])[None]
        mask = affine(mask, *of, fill=float(IGNORE_INDEX), mode="nearest")[0]
        differing += int((batch["mask"][row] != mask).sum())
    assert differing <= 2  # of 18,000 to 25,000


# What an augmentation changes, and what it leaves


def test_image_and_mask_change_together() -> None:
    # An image that shows its own mask, large and plain enough for bilinear and nearest to agree.
    mask = np.zeros((1, 64, 64), np.uint8)
    mask[0, 20:44, 12:40] = 1
    image = np.repeat(mask[..., None] * np.uint8(255), 3, axis=-1)
    masked = batches_of(store_of(image, mask), MOVES, seed=0)
    moved = 0
    for epoch in range(20):
        (batch,) = masked(1, epoch=epoch)
        changed = batch["mask"][0]
        seen = changed != IGNORE_INDEX
        disagree = ((batch["image"][0, 0] > 0.5) != (changed == 1)) & seen
        assert disagree.sum() < 40  # of 4096: along an outline of 104 px at most
        moved += not np.array_equal(changed, mask[0])
    assert moved == 20


def test_corners_without_content_are_grey_and_ignored_and_no_class_is_invented() -> None:
    masks = np.full((1, 64, 64), 2, np.uint8)
    images = np.full((1, 64, 64, 3), 255, np.uint8)
    masked = batches_of(store_of(images, masks), change_of(rotate_deg=45.0), seed=0)
    uncovered = 0
    for epoch in range(10):
        (batch,) = masked(1, epoch=epoch)
        image, mask = batch["image"][0], batch["mask"][0]
        assert set(mask.unique().tolist()) <= {2, IGNORE_INDEX}
        corners = mask == IGNORE_INDEX
        uncovered += int(corners.sum())
        assert (image[:, ~corners] > GREY + 0.1).all(), "at least a quarter of a pixel is seen"
        deep = torch.nn.functional.max_pool2d((~corners)[None].float(), 5, 1, 2)[0] == 0
        assert torch.allclose(image[:, deep], torch.tensor(GREY))
    assert uncovered > 0


def test_an_ignored_pixel_stays_ignored() -> None:
    masks = np.full((8, 32, 32), IGNORE_INDEX, np.uint8)
    masked = batches_of(store_of(np.zeros((8, 32, 32, 3), np.uint8), masks))
    assert all((batch["mask"] == IGNORE_INDEX).all() for batch in masked(8))


def test_colour_changes_neither_mask_nor_hue() -> None:
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 2, (1, 16, 16), np.uint8)
    grey = np.repeat(rng.integers(60, 180, (1, 16, 16, 1), np.uint8), 3, axis=-1)
    (batch,) = batches_of(store_of(grey, masks), change_of(colour=0.5), seed=0)(1)
    assert np.array_equal(batch["mask"], masks)
    image = batch["image"][0]
    assert (image - as_float(torch.from_numpy(grey[0]))).abs().max() > 0.02
    assert (image.amax(0) - image.amin(0)).max() < 0.5 / 255  # grey stays grey
    assert 0 <= image.min() <= image.max() <= 1


@pytest.mark.parametrize("flip", [0.5, 0.1])
def test_flips_have_their_probability(flip: float) -> None:
    n = 4000
    masks = np.tile(np.array([[[0, 1]] * 2], np.uint8), (n, 1, 1))
    store = store_of(np.zeros((n, 2, 2, 3), np.uint8), masks)
    (batch,) = batches_of(store, change_of(flip=flip))(n)
    flips = int(batch["mask"][:, 0, 0].sum())
    assert abs(flips - flip * n) < 4 * math.sqrt(flip * (1 - flip) * n)


def test_changes_are_equally_likely_in_their_range() -> None:
    """Chi squared with 9 degrees of freedom: above 27.9 once in a thousand."""
    uniforms = Augmentation(0, 20_000, ALL).uniforms(3).numpy()
    assert uniforms.dtype == np.float32
    for column in uniforms.T:
        counts = np.histogram(column, 10, (0, 1))[0]
        assert ((counts - 2000) ** 2 / 2000).sum() < 27.9
    correlations = np.corrcoef(uniforms.T) - np.eye(DRAWS)
    assert np.abs(correlations).max() < 4.5 / math.sqrt(20_000)


def test_no_uniform_number_is_rounded_to_one() -> None:
    """Of these a float64 was 1 - 5e-9, which is 1 in float32: a shift by a pixel too many."""
    assert float(Augmentation(24, 2**17, ALL).uniforms(0).max()) < 1


def test_with_all_changes_off_there_is_no_augmentation() -> None:
    assert masked_augmentation(0.0, 0.0, 0.0, 0.0, 0.0) is None


@pytest.mark.parametrize("option", OPTIONS)
def test_any_change_alone_is_an_augmentation(option: str, noise: MaskedStore) -> None:
    changed = drawn(batches_of(noise, change_of(**{option: OPTIONS[option]})))
    plain = drawn(batches_of(noise, None))
    differs = [changed[row][0] != plain[row][0] for row in range(20)]
    assert any(differs)
    masks_differ = [changed[row][1] != plain[row][1] for row in range(20)]
    assert any(masks_differ) == (option != "colour")


# Draws


def test_the_augmented_image_of_a_row_is_the_same_in_any_batch_and_order() -> None:
    store = noise_of(320)
    of_8 = drawn(batches_of(store), 8)
    assert len(of_8) == len(set(of_8.values())) == 320
    assert drawn(batches_of(store), 32) == of_8
    assert drawn(batches_of(store), 320) == of_8
    order = np.random.default_rng(2).permutation(320)
    assert drawn(batches_of(store), 32, order) == of_8
    assert drawn(batches_of(store, rows=np.arange(320)[::-1].copy()), 7) == of_8
    assert drawn(batches_of(store, rows=[3, 200])) == {row: of_8[row] for row in (3, 200)}
    assert drawn(batches_of(store, rows=[3, 200]), 1, np.array([1])) == {200: of_8[200]}
    fewer = store_of(store.images[:100], store.masks[:100])
    assert drawn(batches_of(fewer)).items() <= of_8.items()


def test_draws_depend_on_seed_epoch_and_row(noise: MaskedStore) -> None:
    same = store_of(noise.images[[0] * 20].copy(), noise.masks[[0] * 20].copy())
    first = drawn(batches_of(same))
    assert len({image for image, _ in first.values()}) == 20
    by_seed = drawn(batches_of(same, seed=8))
    by_epoch = drawn(batches_of(same), epoch=1)
    for other in (by_seed, by_epoch):
        assert {image for image, _ in other.values()}.isdisjoint({of for of, _ in first.values()})
    assert drawn(batches_of(same), epoch=1) == by_epoch
    batches = batches_of(same)
    assert drawn(batches, epoch=1) == by_epoch
    assert drawn(batches) == first, "whatever epoch it was asked for before"


def test_draws_are_independent_of_the_global_generators(noise: MaskedStore) -> None:
    first = drawn(batches_of(noise))
    torch.manual_seed(1)
    state, numpys = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    assert drawn(batches_of(noise)) == first
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numpys)  # noqa: NPY002


# Batches


@pytest.mark.parametrize("changes", [False, True])
def test_batches_give_every_row_once_and_the_last_may_be_smaller(
    changes: bool, noise: MaskedStore
) -> None:
    batches = batches_of(noise, ALL if changes else None, rows=np.arange(3, 20))
    found = list(batches(5))
    assert [len(batch["index"]) for batch in found] == [5, 5, 5, 2]
    assert torch.cat([batch["index"] for batch in found]).tolist() == list(range(3, 20))
    for batch in found:
        assert set(batch) == {"image", "mask", "index"}
        assert batch["image"].shape == (len(batch["index"]), 3, 32, 32)
        assert batch["mask"].shape == (len(batch["index"]), 32, 32)
        kinds = {name: of.dtype for name, of in batch.items()}
        assert kinds == {"image": torch.float32, "mask": torch.uint8, "index": torch.int64}
    assert list(batches(5, np.array([], np.int64))) == []


def test_without_augmentation_a_batch_equals_the_store(noise: MaskedStore) -> None:
    (batch,) = batches_of(noise, None, rows=[4, 2, 9])(8, np.array([1, 2]))
    assert batch["index"].tolist() == [2, 9]
    assert torch.equal(batch["image"], as_float(torch.from_numpy(noise.images[[2, 9]])))
    assert np.array_equal(batch["mask"], noise.masks[[2, 9]])


def test_a_memory_mapped_store_is_read_batch_by_batch(noise: MaskedStore, tmp_path: Any) -> None:
    """Warnings, such as that of torch about read-only arrays, are errors in this suite."""
    for name, of in (("images", noise.images), ("masks", noise.masks)):
        np.save(tmp_path / f"{name}.npy", of)
    images, masks = (np.load(tmp_path / f"{of}.npy", mmap_mode="r") for of in ("images", "masks"))
    mapped = store_of(images, masks)
    assert isinstance(mapped.columns["image"], np.memmap)
    for change in (None, ALL):
        assert drawn(batches_of(mapped, change)) == drawn(batches_of(noise, change))


PARTS = pytest.mark.parametrize("size", [1, 3, 7, 10, 20, 50])
"""Rows per batch of 20 rows: 20, 7, 3, 2, 1 and 1 batches."""


@PARTS
@pytest.mark.parametrize("changes", [False, True])
def test_batches_that_a_thread_reads_ahead_are_the_same(
    size: int, changes: bool, noise: MaskedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU whose memory the rows do not fit into; there is no pinned memory without one."""
    pinned: list[int] = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda of: pinned.append(len(of)) or of)
    order = np.random.default_rng(4).permutation(20)
    change = ALL if changes else None
    plain = list(batches_of(noise, change)(size, order, 1))
    assert not pinned
    monkeypatch.setattr(Batches, "_read", Batches._prefetched)
    ahead = list(batches_of(noise, change)(size, order, 1))
    assert sum(pinned) == 3 * 20, "image, mask and index"
    assert_same_batches(plain, ahead)
    assert list(batches_of(noise, change)(size, order[:0])) == []


@PARTS
def test_batches_of_rows_that_were_copied_once_are_the_same(size: int, noise: MaskedStore) -> None:
    """As on a GPU whose memory the rows fit into."""
    order, rows = np.random.default_rng(4).permutation(16), np.arange(2, 18)
    batches = batches_of(noise, rows=rows)
    batches._resident = batches._copied()
    assert_same_batches(list(batches_of(noise, rows=rows)(size, order)), list(batches(size, order)))


def assert_same_batches(plain: list[dict[str, Tensor]], others: list[dict[str, Tensor]]) -> None:
    for batch, other in zip(plain, others, strict=True):
        assert set(batch) == set(other)
        assert all(torch.equal(batch[name], other[name]) for name in batch)


def test_an_error_of_the_reading_thread_is_raised(
    noise: MaskedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tensor, "pin_memory", lambda of: of)
    monkeypatch.setattr(Batches, "_read", Batches._prefetched)
    with pytest.raises(IndexError):
        list(batches_of(noise, rows=[1, 2, 99])(1))


@pytest.mark.parametrize(("free", "fits"), [(2 * 5 * 4096, True), (2 * 5 * 4096 - 1, False)])
def test_rows_are_copied_once_if_they_take_half_of_the_free_memory(
    free: int, fits: bool, noise: MaskedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image takes 3 x 32 x 32 bytes and its mask 32 x 32."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (free, 10 * free))
    batches = batches_of(noise, rows=np.arange(5))
    batches.device = torch.device("cuda")
    assert batches._fits() is fits
