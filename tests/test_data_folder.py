"""Own folders: every kind of mask; for each kind of bad input one error, whose remedy works."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isthmus.data.folder import Folder, read_mask
from isthmus.errors import UserError
from isthmus.recipe.rules import IGNORE_INDEX

SIZE = (6, 8)


def folder_with(path: Path, masks: list[np.ndarray], under: str = "", start: int = 0) -> Path:
    """A folder of white images with these masks."""
    for part in ("images", "masks"):
        (path / under / part).mkdir(parents=True, exist_ok=True)
    for i, mask in enumerate(masks, start):
        Image.new("RGB", mask.shape[::-1], "white").save(path / under / f"images/p{i}.png")
        Image.fromarray(mask).save(path / under / f"masks/p{i}.png")
    return path


def mask_of(*values: int, dtype: type = np.uint8) -> np.ndarray:
    """A mask with each of these values."""
    return np.resize(np.array(values, dtype), SIZE)


def opened(path: Path, classes=(), mask_values=(), test_share=0.2) -> Folder:
    return Folder(path, classes, mask_values, test_share)


def error(path: Path, **options) -> str:
    with pytest.raises(UserError) as caught:
        list(opened(path, **options))
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert re.search(r"[:;]", sentence)
    return sentence.replace(str(path), "PATH")


def test_the_test_part_does_not_depend_on_the_names_of_classes(tmp_path):
    values = [(0, 1), (0, 2), (1, 2), (0, 1, 2), (0,), (1,)] * 5
    folder = folder_with(tmp_path / "pets", [mask_of(*of_mask) for of_mask in values])
    in_test = {
        names: [item.name for item in opened(folder, names) if item.part == "test"]
        for names in ((), ("background", "cat", "dog"), ("wall", "chat", "chien"))
    }
    unnamed, *named = in_test.values()
    assert len(unnamed) == 6
    assert named == [unnamed, unnamed]


def test_class_indices_are_kept(tmp_path):
    masks = [mask_of(0, 1, 2), mask_of(0, 1), mask_of(1, 2), mask_of(0, 255), mask_of(0, 2)]
    source = opened(folder_with(tmp_path / "coins", masks), ("table", "coin", "rim"))
    assert source.class_names == ("table", "coin", "rim")
    assert source.label_scheme == "folder coins, 0=table 1=coin 2=rim"
    items = list(source)
    assert len(source) == len(items) == 5
    for item, mask in zip(items, masks, strict=True):
        assert np.array_equal(item.mask, mask)
    assert [item.name for item in items] == ["p0", "p1", "p2", "p3", "p4"]
    assert items[0].group == "table+coin+rim"
    assert items[3].group == "table"
    assert (items[3].mask == IGNORE_INDEX).any()


def test_masks_of_0_and_255_have_two_classes(tmp_path):
    source = opened(folder_with(tmp_path, [mask_of(0, 255)] * 5))
    assert source.class_names == ("class-0", "class-1")
    assert set(np.unique(next(iter(source)).mask)) == {0, 1}


def test_mask_values_define_the_order_of_classes(tmp_path):
    path = folder_with(tmp_path, [mask_of(0, 128, 255)] * 5)
    source = opened(path, ("sky", "tree", "soil"), (255, 0, 128))
    item = next(iter(source))
    assert np.array_equal(item.mask, np.resize(np.array([1, 2, 0], np.uint8), SIZE))
    assert source.label_scheme.endswith("255=sky 0=tree 128=soil")


def test_sixteen_bit_values_above_255_can_be_classes(tmp_path):
    path = folder_with(tmp_path, [mask_of(0, 1000, dtype=np.uint16)] * 5)
    assert set(np.unique(next(iter(opened(path, (), (0, 1000)))).mask)) == {0, 1}


def test_every_kind_of_mask_file_gives_the_same_values(tmp_path):
    mask = mask_of(0, 1)
    palette = Image.fromarray(mask)
    palette.putpalette([10, 20, 30, 200, 100, 50])
    grey_alpha = Image.merge("LA", [Image.fromarray(mask), Image.new("L", SIZE[::-1], 255)])
    kinds = {
        "grey.png": Image.fromarray(mask),
        "palette.png": palette,
        "bit.png": Image.fromarray(mask.astype(bool)),
        "sixteen.png": Image.fromarray(mask.astype(np.uint16)),
        "sixteen.tif": Image.fromarray(mask.astype(np.uint16)),
        "rgb.bmp": Image.fromarray(np.stack([mask] * 3, axis=-1)),
        "la.png": grey_alpha,
        "rgba.png": Image.merge("RGBA", [Image.fromarray(mask)] * 3 + [grey_alpha.getchannel("A")]),
    }
    for name, image in kinds.items():
        image.save(tmp_path / name)
        assert np.array_equal(read_mask(tmp_path / name), mask), name


def test_train_and_test_folders_are_kept(tmp_path):
    folder_with(tmp_path, [mask_of(0, 1)] * 4, "train")
    folder_with(tmp_path, [mask_of(0, 1)] * 2, "test")
    items = list(opened(tmp_path))
    assert Counter(item.part for item in items) == {"train": 4, "test": 2}
    names = [item.name for item in items]
    assert names[0] == "train-p0"
    assert names[-1] == "test-p1"
    assert len(set(names)) == 6


def test_the_test_part_is_the_same_every_time_and_stratified(tmp_path):
    masks = [mask_of(0, 1)] * 10 + [mask_of(0)] * 10
    path = folder_with(tmp_path, masks)
    parts = [item.part for item in opened(path, test_share=0.3)]
    assert parts == [item.part for item in opened(path, test_share=0.3)]
    in_test = [item.group for item in opened(path, test_share=0.3) if item.part == "test"]
    assert Counter(in_test) == {"class-0+class-1": 3, "class-0": 3}


def test_images_and_masks_match_by_name_in_any_format(tmp_path):
    path = folder_with(tmp_path, [mask_of(0, 1)] * 5)
    Image.open(path / "images/p0.png").save(path / "images/p0.JPG", "JPEG")
    (path / "images/p0.png").unlink()
    Image.open(path / "masks/p1.png").save(path / "masks/p1.tif")
    (path / "masks/p1.png").unlink()
    (path / "images/Thumbs.db").write_text("not an image")
    (path / "images/.hidden.png").write_text("not an image")
    assert len(list(opened(path))) == 5


def test_the_fingerprint_depends_on_files_and_options_but_not_on_the_location(tmp_path):
    path = folder_with(tmp_path / "a" / "coins", [mask_of(0, 1)] * 5)
    before = opened(path).fingerprint()
    shutil.copytree(path, tmp_path / "b" / "coins")  # keeps modification times
    assert opened(tmp_path / "b" / "coins").fingerprint() == before
    assert opened(path, ("a", "b")).fingerprint() != before
    assert opened(path, test_share=0.5).fingerprint() != before
    Image.fromarray(mask_of(1, 0, 0)).save(path / "masks/p3.png")
    assert opened(path).fingerprint() != before


def test_an_image_with_exif_orientation_matches_an_upright_mask(tmp_path):
    path = folder_with(tmp_path, [mask_of(0, 1)] * 5)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", SIZE, "red").save(path / "images/p0.png", exif=exif)
    assert next(iter(opened(path))).image.shape == (*SIZE, 3)


def good(tmp_path: Path) -> Path:
    return folder_with(tmp_path / "data", [mask_of(0, 1)] * 5)


def is_accepted(path: Path, **options) -> bool:
    """Whether the folder can be read, after the remedy of an error."""
    return len(list(opened(path, **options))) >= 5


def test_missing_folders_are_rejected(tmp_path):
    assert error(tmp_path / "none") == (
        "PATH: no such folder: it must have images/ and masks/; set data.folder"
    )
    assert is_accepted(good(tmp_path / "elsewhere"))
    (tmp_path / "images").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "images/a.png")
    assert error(tmp_path) == (
        "PATH/masks: no such folder: a data folder has images/ and masks/, or train/ and test/, "
        "each with images/ and masks/; set data.folder"
    )
    shutil.rmtree(tmp_path / "images")
    (tmp_path / "train").mkdir()
    assert error(tmp_path).startswith("PATH/train/images: no such folder")


def test_an_empty_folder_is_rejected(tmp_path):
    path = folder_with(tmp_path, [])
    assert error(path) == (
        "PATH/images: contains no image: it must have .jpg, .jpeg, .png, .bmp, .tif, .tiff, .webp "
        "files; add some, or set data.folder"
    )
    assert is_accepted(folder_with(path, [mask_of(0, 1)] * 5))


def test_fewer_than_five_images_are_rejected(tmp_path):
    path = folder_with(tmp_path, [mask_of(0, 1)] * 4)
    assert error(path) == (
        "PATH: 4 images: training, validation and test sets need at least 5 images together; add images"
    )
    assert is_accepted(folder_with(path, [mask_of(0, 1)], start=4))


def test_an_image_without_mask_and_a_mask_without_image_are_named(tmp_path):
    path = good(tmp_path)
    (path / "masks/p2.png").rename(tmp_path / "p2.png")
    assert error(path) == (
        "PATH/images/p2.png: has no mask: expected one of the same name, such as "
        "PATH/masks/p2.png; add the mask or remove the file"
    )
    (tmp_path / "p2.png").rename(path / "masks/p2.png")
    assert is_accepted(path)
    folder_with(path, [mask_of(0, 1)], start=5)
    (path / "images/p3.png").unlink()
    assert error(path) == (
        "PATH/masks/p3.png: has no image: expected one of the same name, such as "
        "PATH/images/p3.png; add the image or remove the file"
    )
    (path / "masks/p3.png").unlink()
    assert is_accepted(path)


def test_two_images_of_one_name_are_rejected(tmp_path):
    path = good(tmp_path)
    Image.new("RGB", SIZE[::-1]).save(path / "images/p1.bmp")
    assert error(path) == (
        "PATH/images/p1.png: has the same name as p1.bmp except for the suffix: masks are matched by "
        "name without suffix; remove one of the two"
    )
    (path / "images/p1.bmp").unlink()
    assert is_accepted(path)


def test_an_image_and_a_mask_of_different_sizes_are_named(tmp_path):
    path = good(tmp_path)
    Image.new("RGB", (20, 10)).save(path / "images/p4.png")
    assert error(path) == (
        "PATH/images/p4.png: 20 x 10 px, but its mask p4.png is 8 x 6 px: both must have the same "
        "size after their EXIF orientation; export the mask again at the image's size"
    )
    Image.fromarray(np.resize(mask_of(0, 1), (10, 20))).save(path / "masks/p4.png")
    assert is_accepted(path)


def test_a_truncated_jpeg_is_named(tmp_path):
    path = good(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    Image.fromarray(noise).save(path / "images/p4.jpg")
    (path / "images/p4.png").unlink()
    whole = (path / "images/p4.jpg").read_bytes()
    (path / "images/p4.jpg").write_bytes(whole[:-40])
    assert error(path).startswith("PATH/images/p4.jpg: cannot be decoded (image file is trunc")
    assert error(path).endswith(
        ": every file must hold a complete image; get it again or remove it"
    )
    (path / "images/p4.jpg").write_bytes(whole)
    assert is_accepted(path)


def test_gaps_between_values_are_rejected_with_the_values(tmp_path):
    path = folder_with(tmp_path, [mask_of(0, 255)] * 4 + [mask_of(0, 128, 255)])
    rule = (
        "PATH/masks/p4.png: has the value 128: class indices run from 0 to 1 without a gap, "
        "and 255 is ignored, but the masks have 0, 128, 255; "
        "set data.mask_values = [0, 128, 255]"
    )
    assert error(path) == rule
    assert is_accepted(path, mask_values=(0, 128, 255))
    assert error(path, classes=("a", "b")) == f"{rule} and name 3 classes"
    assert is_accepted(path, mask_values=(0, 128, 255), classes=("a", "b", "c"))


def test_many_mask_values_are_rejected_with_other_remedies(tmp_path):
    path = folder_with(tmp_path, [mask_of(*range(0, 256, 6))] * 5)
    assert error(path).endswith(
        "but the masks have 0, 6, 12, 18, 24, 30, 36, 42 ... (43 values); "
        "save the masks without smoothing, or list all values in data.mask_values"
    )
    assert is_accepted(path, mask_values=tuple(range(0, 256, 6)))
    assert is_accepted(folder_with(path, [mask_of(0, 255)] * 5))
    contiguous = folder_with(
        tmp_path / "full", [np.arange(256, dtype=np.uint8).reshape(16, 16)] * 5
    )
    assert "has the value 50: class indices run from 0 to 49" in error(contiguous)
    assert error(contiguous).endswith(
        "save the masks without smoothing, or name all classes in data.classes"
    )
    assert is_accepted(contiguous, classes=tuple(map(str, range(255))))


def test_a_value_that_the_recipe_does_not_list_is_rejected(tmp_path):
    path = folder_with(tmp_path, [mask_of(0, 9)] * 4 + [mask_of(0, 9, 7)])
    assert error(path, mask_values=(0, 9)) == (
        "PATH/masks/p4.png: has the value 7: data.mask_values allows only 0, 9; "
        "add the value and its class there, or correct the mask"
    )
    assert is_accepted(path, mask_values=(0, 9, 7), classes=("a", "b", "c"))
    Image.fromarray(mask_of(0, 9)).save(path / "masks/p4.png")
    assert is_accepted(path, mask_values=(0, 9))


def test_masks_of_one_class_are_rejected(tmp_path):
    path = folder_with(tmp_path, [mask_of(0)] * 5)
    assert error(path) == (
        "PATH/masks/p0.png and all other masks have only 0: at least two classes are needed; "
        "check that the masks are not empty"
    )
    Image.fromarray(mask_of(0, 1)).save(path / "masks/p3.png")
    assert is_accepted(path)


def test_masks_without_class_indices_are_rejected(tmp_path):
    path = good(tmp_path)
    (path / "masks/p0.png").unlink()
    Image.fromarray(mask_of(0, 1)).save(path / "masks/p0.jpg")
    assert error(path) == (
        "PATH/masks/p0.jpg: is a JPEG file, whose compression changes values: masks need a lossless "
        "format; export them again as PNG"
    )
    (path / "masks/p0.jpg").unlink()
    Image.new("RGB", SIZE[::-1], (255, 0, 0)).save(path / "masks/p0.png")
    in_colours = (
        "PATH/masks/p0.png: has colours or transparency: a mask has one class index per pixel; save "
        "it as a palette PNG or a grey PNG with class indices"
    )
    assert error(path) == in_colours
    Image.new("RGBA", SIZE[::-1], (1, 1, 1, 7)).save(path / "masks/p0.png")
    assert error(path) == in_colours
    (path / "masks/p0.png").unlink()
    Image.fromarray(np.zeros(SIZE, np.float32)).save(path / "masks/p0.tif")
    assert error(path) == (
        "PATH/masks/p0.tif: has fractional values: a mask has one class index per pixel; save it as a grey "
        "PNG with class indices"
    )
    (path / "masks/p0.tif").unlink()
    palette = Image.fromarray(mask_of(0, 1))
    palette.putpalette([10, 20, 30, 200, 100, 50])
    for remedy in (palette, Image.fromarray(mask_of(0, 1))):
        remedy.save(path / "masks/p0.png")
        assert is_accepted(path)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"classes": ("a",)}, "data.classes has 1 entries: there must be 2 to 255 classes; list"),
        ({"mask_values": (3,)}, "data.mask_values has 1 entries: there must be 2 to 255 classes; "),
        ({"mask_values": tuple(range(256))}, "data.mask_values has 256 entries: there must be 2"),
        ({"classes": ("a", "b", "a")}, "data.classes has a twice: each entry must be unique; "),
        ({"mask_values": (0, 0)}, "data.mask_values has 0 twice: each entry must be unique; "),
        (
            {"classes": ("a", "b", "c"), "mask_values": (0, 1)},
            "data.classes has 3 entries but data.mask_values has 2: each class has one mask value",
        ),
    ],
)
def test_inconsistent_classes_are_rejected(tmp_path, options, sentence):
    assert error(tmp_path, **options).startswith(sentence)


def test_more_classes_than_named_are_rejected_but_fewer_are_not(tmp_path):
    path = folder_with(tmp_path, [mask_of(0, 2)] * 5)
    assert error(path, classes=("a", "b")).startswith("PATH/masks/p0.png: has the value 2: ")
    assert len(list(opened(path, ("a", "b", "c", "d")))) == 5
