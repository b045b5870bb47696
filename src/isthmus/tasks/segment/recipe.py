"""The recipe of a segmentation run: a U-Net, its loss and its images with masks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from isthmus.recipe.rules import (
    STRICT,
    AboveZero,
    AtLeastZero,
    Even,
    Fraction,
    Positive,
    Share,
    Side,
    check_unused_fields,
)
from isthmus.recipe.tables import Recipe, Train


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Data:
    """Which images, what their masks mean, and how they are split."""

    name: Literal["demo-scenes", "folder", "oxford-pets"] = "demo-scenes"
    """Data set."""
    folder: Path | None = None
    """For name = "folder": a folder with images/ and masks/, or with train/ and test/ that hold both."""
    classes: tuple[str, ...] = ()
    """For name = "folder": class names in the order of their mask values; empty: class-0, class-1, ..."""
    mask_values: tuple[int, ...] = ()
    """For name = "folder": the mask value of each class; empty: 0, 1, 2, ... or 0 and 255."""
    trimap: Literal["classes3", "pet+border", "pet", "ignore-border", "border"] = "classes3"
    """For name = "oxford-pets": the label scheme, printed on every table. "border", where all else is one
    class, is a mistake of others and only there to repeat it."""
    mask_resize: Literal["nearest", "bilinear"] = "nearest"
    """How masks reach their size. "bilinear" repeats a fault of the reference study and is only for that."""
    size_px: Side = 128
    """Height and width that every image is resized to, in pixels."""
    split: Literal["official", "reference", "sorted"] = "official"
    """For name = "oxford-pets"; "reference": the training part cut 80/20 with seed 1234, as the reference
    study did; "sorted": cut so without shuffling, which tests on the last breeds of the alphabet."""
    validation: Share = 0.15
    """Share of the training images held out to choose the epoch, stratified."""
    test: Share = 0.2
    """For name = "folder" without train/ and test/: share of the images that is the test set."""
    limit: Positive | None = None
    """Use at most so many training images (before validation is cut)."""
    count: Annotated[int, Field(ge=10)] = 400
    """For name = "demo-scenes": how many scenes are drawn; a quarter of them is the test set."""

    @property
    def has_validation(self) -> bool:
        """Whether a validation part is cut from training, so that the test set need not choose."""
        return self.split == "official"


_READERS = {
    **dict.fromkeys(("folder", "classes", "mask_values", "test"), "folder"),
    **dict.fromkeys(("trimap", "split"), "oxford-pets"),
    "count": "demo-scenes",
}
"""Which data set alone reads a field."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Augment:
    """Random changes to training images, the same for image and mask."""

    flip: Fraction = 0.5
    """Probability of a left-right flip."""
    rotate_deg: Annotated[float, Field(ge=0.0, le=180.0)] = 15.0
    """Turn by up to so many degrees either way."""
    scale: Fraction = 0.2
    """Zoom by up to this share either way."""
    shift: Fraction = 0.1
    """Move by up to this share of the side."""
    colour: Fraction = 0.3
    """Change brightness, contrast and saturation by up to this share."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Model:
    """The network: a U-Net as topology, and the parts that are put into it."""

    name: Literal["unet"] = "unet"
    """Network."""
    down: Literal["max-pool", "strided", "average-pool", "blur-pool"] = "max-pool"
    """Down-sampling between two levels."""
    up: Literal["transposed", "bilinear", "nearest", "pixel-shuffle"] = "transposed"
    """Up-sampling between two levels; bilinear and nearest follow a 1x1 convolution."""
    width: Even = 32
    """Channels of the first level; each level doubles them. Even, for up-sampling halves them."""
    depth: Annotated[int, Field(ge=2, le=8)] = 5
    """Number of levels."""
    norm: Literal["batch", "group"] = "batch"
    """Normalisation after each convolution."""
    dropout: Literal["element", "channel", "none"] = "none"
    """What one draw of dropout removes: an element, a whole channel, nothing."""
    dropout_rate: Fraction = 0.1
    """Probability that dropout removes it."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Loss:
    """What training minimises. Losses of different names cannot rank variants."""

    name: Literal["bce", "ce", "dice", "bce+dice", "ce+dice", "focal", "tversky"] = "ce+dice"
    """Loss on logits; + is the plain sum."""
    smooth: AboveZero | None = None
    """Pixels added to both sides of the ratio in dice and tversky; none: 1."""
    gamma: AtLeastZero | None = None
    """How much focal turns away from easy pixels; none: 2."""
    alpha: AtLeastZero | None = None
    """Weight of false positives in tversky; none: 0.3."""
    beta: AtLeastZero | None = None
    """Weight of false negatives in tversky; none: 0.7."""
    softmax: bool | None = None
    """Whether dice takes the softmax of the logits; none: true. False repeats a fault of others and is only
    for that."""

    def __post_init__(self) -> None:
        """Reject a key that the chosen loss would not read."""
        for key, readers in _LOSS_KEYS.items():
            if getattr(self, key) is not None and not set(readers) & set(self.name.split("+")):
                raise ValueError(
                    f"loss.{key} does nothing for {self.name}: only {' and '.join(readers)} "
                    "can read it; take the key out"
                )

    @property
    def options(self) -> dict[str, float | bool]:
        """The keys that were set; the others keep the loss's own default."""
        return {key: value for key in _LOSS_KEYS if (value := getattr(self, key)) is not None}


_LOSS_KEYS = {
    "smooth": ("dice", "tversky"),
    "gamma": ("focal",),
    "alpha": ("tversky",),
    "beta": ("tversky",),
    "softmax": ("dice",),
}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SegmentRecipe(Recipe):
    """All that decides a segmentation run except its seed.

    >>> SegmentRecipe(model=Model(width=8)).model.width
    8
    """

    task: Literal["segment"] = "segment"
    """What the network learns."""
    data: Data = Data()
    augment: Augment = Augment()
    model: Model = Model()
    loss: Loss = Loss()
    train: Train = Train()

    def __post_init__(self) -> None:
        """Reject combinations that no single table can judge."""
        check_unused_fields(self.data, _READERS)
        if not self.data.has_validation and self.train.keep == "best":
            raise ValueError(
                f'train.keep = "best" with data.split = "{self.data.split}": that split has no validation '
                'part of its own, so the epoch would be chosen on the test set; set train.keep = "last"'
            )
