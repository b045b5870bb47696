"""The store: equal to PIL, built once, built again whenever its key changes; image files."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from isthmus.data.batches import as_float
from isthmus.data.images import decoded, file_stamps, read_image, resized_image, resized_mask
from isthmus.data.store import MaskedItem, open_store
from isthmus.errors import UserError
from isthmus.recipe.rules import IGNORE_INDEX

CHANNELS = st.sampled_from([1, 3])


@dataclass
class Noise:
    """A source of random images of different sizes that counts how often it is read."""

    count: int = 4
    ignored: bool = False
    times_read: int = field(default=0, init=False)

    class_names = ("background", "coin")
    label_scheme = "noise"

    def fingerprint(self) -> dict[str, Any]:
        return {"source": "noise", "count": self.count, "ignored": self.ignored}

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[MaskedItem]:
        self.times_read += 1
        for i in range(self.count):
            rng = np.random.default_rng(i)
            size = (20 + i, 30 - i)
            mask = rng.integers(0, 2, size, np.uint8)
            mask[0, 0] = IGNORE_INDEX if self.ignored else 0
            image = rng.integers(0, 256, (*size, 3), np.uint8)
            yield MaskedItem(f"n{i}", "ab"[i % 2], "test" if i == 0 else "train", image, mask)


def test_a_store_has_the_resized_items_of_its_source(tmp_path):
    store = open_store(Noise(), 16, "nearest", tmp_path)
    assert store.images.shape == (4, 16, 16, 3)
    assert isinstance(store.images, np.memmap)
    for row, item in enumerate(Noise()):
        expected = Image.fromarray(item.image).resize((16, 16), Image.Resampling.BILINEAR)
        assert np.array_equal(store.images[row], np.asarray(expected))
        assert np.array_equal(store.masks[row], resized_mask(item.mask, 16, "nearest"))
    assert store.names == ("n0", "n1", "n2", "n3")
    assert store.groups == ("a", "b", "a", "b")
    assert store.parts == ("test", "train", "train", "train")
    assert store.class_names == ("background", "coin")
    assert store.label_scheme == "noise, 16 px, nearest masks"


def test_a_store_is_built_once_and_reports_its_progress(tmp_path):
    source, progress = Noise(), []
    first = open_store(source, 16, "nearest", tmp_path, lambda *done: progress.append(done))
    again = open_store(source, 16, "nearest", tmp_path, lambda *done: progress.append(done))
    assert source.times_read == 1
    assert progress == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert first.content == again.content
    (store,) = (tmp_path / "stores").iterdir()
    assert store.stat().st_mode & 0o555 == 0o555, "readable by others who share the cache"


def test_source_size_and_mask_resize_each_make_another_store(tmp_path):
    contents = {
        open_store(Noise(), 16, "nearest", tmp_path).content,
        open_store(Noise(5), 16, "nearest", tmp_path).content,
        open_store(Noise(), 17, "nearest", tmp_path).content,
        open_store(Noise(), 16, "bilinear", tmp_path).content,
    }
    assert len(contents) == len(list((tmp_path / "stores").iterdir())) == 4


def test_another_copy_of_the_same_files_has_the_same_content(tmp_path):
    class Copied(Noise):
        def fingerprint(self) -> dict[str, Any]:
            return {**super().fingerprint(), "copied": "later"}

    ours, theirs = (open_store(s, 16, "nearest", tmp_path) for s in (Noise(), Copied()))
    assert ours.content == theirs.content
    assert len(list((tmp_path / "stores").iterdir())) == 2, "read again, for it may have changed"


def test_the_key_of_a_store_is_that_of_earlier_versions(tmp_path):
    decides = [3, Noise().fingerprint(), 16, "nearest"]
    text = json.dumps(decides, sort_keys=True).encode()
    open_store(Noise(), 16, "nearest", tmp_path)
    assert (tmp_path / "stores" / hashlib.sha256(text).hexdigest()[:16]).is_dir()


def test_two_simultaneous_builds_give_one_complete_store(tmp_path):
    meet = threading.Barrier(2)

    class Slow(Noise):
        def __iter__(self) -> Iterator[MaskedItem]:
            meet.wait(timeout=10)
            yield from super().__iter__()

    stores, errors = [], []

    def build() -> None:
        try:
            stores.append(open_store(Slow(), 16, "nearest", tmp_path))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=build) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert np.array_equal(stores[0].images, stores[1].images)
    assert len(list((tmp_path / "stores").iterdir())) == 1


def test_a_failed_build_leaves_nothing(tmp_path):
    class Broken(Noise):
        def __iter__(self) -> Iterator[MaskedItem]:
            yield from list(super().__iter__())[:2]
            raise UserError("image 3 is broken")

    with pytest.raises(UserError, match="image 3 is broken"):
        open_store(Broken(), 16, "nearest", tmp_path)
    assert list((tmp_path / "stores").iterdir()) == []
    assert len(open_store(Noise(), 16, "nearest", tmp_path).names) == 4


@given(arrays(np.uint8, (7, 11), elements=st.sampled_from([0, 1, 2, IGNORE_INDEX])))
def test_nearest_resizing_invents_no_class(mask):
    resized = resized_mask(mask, 5, "nearest")
    assert set(np.unique(resized)) <= set(np.unique(mask))


@given(arrays(np.uint8, (9, 9), elements=st.integers(0, 2)), st.integers(3, 20))
def test_bilinear_resizing_of_indices_equals_that_of_trimap_values(indices, size_px):
    raw = Image.fromarray(indices + 1).resize((size_px, size_px), Image.Resampling.BILINEAR)
    assert np.array_equal(resized_mask(indices, size_px, "bilinear") + 1, np.asarray(raw))


def test_bilinear_resizing_invents_background_between_pet_and_border():
    pet_then_border = np.repeat(np.array([[0, 2]], np.uint8), 8, axis=1).repeat(16, axis=0)
    assert 1 not in pet_then_border
    assert 1 in resized_mask(pet_then_border, 11, "bilinear")
    assert 1 not in resized_mask(pet_then_border, 11, "nearest")


def test_bilinear_masks_are_in_the_label_scheme_and_rejected_with_ignored_pixels(tmp_path):
    store = open_store(Noise(), 16, "bilinear", tmp_path)
    assert (
        store.label_scheme
        == "noise, 16 px, bilinear masks (a flaw of the reference study, reproduced)"
    )
    with pytest.raises(
        UserError, match=r'^data\.mask_resize = "bilinear" cannot average .* "nearest"'
    ):
        open_store(Noise(ignored=True), 16, "bilinear", tmp_path)


def test_shrinking_an_image_averages_the_area_of_each_pixel():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 254
    assert np.abs(resized_image(stripes, 8).astype(int) - 127).max() <= 8


@given(arrays(np.uint8, st.tuples(st.integers(0, 2), st.integers(1, 4), st.just(5), CHANNELS)))
def test_as_float_keeps_values_and_moves_channels_first(images_u8):
    images = as_float(torch.from_numpy(images_u8))
    assert images.dtype == torch.float32
    assert images.movedim(1, -1).is_contiguous(), "in the order of the bytes"
    assert np.array_equal(images.numpy(), images_u8.transpose(0, 3, 1, 2) / np.float32(255))


def test_as_float_needs_bytes():
    with pytest.raises(TypeError):
        as_float(torch.zeros(4, 4, 3))


def save(image: Image.Image, path: Path, **options: Any) -> Path:
    image.save(path, **options)
    return path


def test_every_kind_of_image_is_converted_to_rgb(tmp_path):
    ramp = np.arange(12 * 10, dtype=np.uint8).reshape(12, 10)
    grey = Image.fromarray(ramp)
    as_rgb = np.stack([ramp] * 3, axis=-1)
    assert np.array_equal(read_image(save(grey, tmp_path / "grey.png")), as_rgb)
    assert np.array_equal(read_image(save(grey, tmp_path / "grey.bmp")), as_rgb)
    sixteen = Image.fromarray(ramp.astype(np.uint16) * 257)
    assert np.array_equal(read_image(save(sixteen, tmp_path / "16.png")), as_rgb)
    assert np.array_equal(read_image(save(sixteen, tmp_path / "16.tif")), as_rgb)
    palette = grey.convert("RGB").quantize(256)
    expected = np.asarray(palette.convert("RGB"))
    assert np.array_equal(read_image(save(palette, tmp_path / "palette.png")), expected)
    one_bit = read_image(save(grey.point(lambda v: 255 * (v > 50), "1"), tmp_path / "bit.png"))
    assert set(np.unique(one_bit)) == {0, 255}
    lossless = save(grey.convert("RGB"), tmp_path / "rgb.webp", lossless=True)
    assert np.array_equal(read_image(lossless), as_rgb)


def test_transparency_is_shown_on_white(tmp_path):
    pixels = np.zeros((1, 3, 4), np.uint8)
    pixels[0, :, 0] = 200
    pixels[0, :, 3] = (0, 255, 51)
    image = read_image(save(Image.fromarray(pixels), tmp_path / "rgba.png"))
    assert image[0, :2].tolist() == [[255, 255, 255], [200, 0, 0]]
    assert np.abs(image[0, 2].astype(int) - [244, 204, 204]).max() <= 1


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_exif_orientation_is_applied(tmp_path, suffix):
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned a quarter clockwise
    path = save(Image.fromarray(pixels), tmp_path / f"turned.{suffix}", exif=exif)
    assert np.array_equal(read_image(path), np.rot90(pixels, -1))


def test_a_rotated_grey_tiff_is_not_scrambled(tmp_path):
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(Image.fromarray(pixels), tmp_path / "turned.tif", exif=exif)
    assert np.array_equal(read_image(path)[..., 0], np.rot90(pixels, -1))


def test_a_file_that_cannot_be_decoded_is_named(tmp_path):
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8))
    whole = save(noise, tmp_path / "whole.jpg").read_bytes()
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"cut\.jpg: cannot be decoded .*truncated.* get it again"):
        decoded(cut)
    words = tmp_path / "words.png"
    words.write_text("no image")
    with pytest.raises(UserError, match=r"words\.png: cannot be decoded"):
        decoded(words)
    with pytest.raises(UserError, match=r"none\.png: cannot be decoded"):
        decoded(tmp_path / "none.png")
    fractions = save(Image.fromarray(np.zeros((2, 2), np.float32)), tmp_path / "f.tif")
    with pytest.raises(UserError, match=r"f\.tif: has 32-bit values"):
        read_image(fractions)


def test_a_stamp_depends_on_the_file_but_not_on_its_location(tmp_path):
    path = tmp_path / "a" / "x.png"
    path.parent.mkdir()
    path.write_text("1")
    before = file_stamps([path], tmp_path)
    assert before[0][:2] == ("a/x.png", 1)
    path.write_text("22")
    assert file_stamps([path], tmp_path) != before
