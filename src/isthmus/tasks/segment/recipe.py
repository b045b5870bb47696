"""The recipe of a segmentation run: images with masks, a U-Net and a loss."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from isthmus.recipe.registry import DOWN, LOSS, MASKED_DATASET, UP
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

if TYPE_CHECKING:
    DatasetName = str
    DownName = str
    UpName = str
    LossName = str
else:
    DatasetName = MASKED_DATASET.choices()
    DownName = DOWN.choices()
    UpName = UP.choices()
    LossName = LOSS.choices(*(f"{name}+dice" for name in LOSS.names if name != "dice"))


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Data:
    """The data set, the meaning of its masks, and how it is split."""

    name: DatasetName = "demo-scenes"
    """Data set."""
    folder: Path | None = None
    """For name = "folder": a folder with images/ and masks/, or with train/ and test/ that each have both."""
    classes: tuple[str, ...] = ()
    """For name = "folder": class names in the order of their mask values. If empty: class-0, class-1, ..."""
    mask_values: tuple[int, ...] = ()
    """For name = "folder": the mask value of each class. If empty: 0, 1, 2, ... or 0 and 255."""
    trimap: Literal["classes3", "pet+border", "pet", "ignore-border", "border"] = "classes3"
    """For name = "oxford-pets": the label scheme, printed on every table. "border" (border against the rest)
    repeats an error of another study and serves only for comparison with that study."""
    mask_resize: Literal["nearest", "bilinear"] = "nearest"
    """How masks are resized. "bilinear" repeats an error of the reference study and serves only for
    comparison with that study."""
    size_px: Side = 128
    """Height and width that every image is resized to, in pixels."""
    split: Literal["official", "reference", "sorted"] = "official"
    """For name = "oxford-pets". "reference": the official training split, divided 80/20 with seed 1234 as in
    the reference study; "sorted": the same without shuffling, so that the test set has the last breeds of the
    alphabet."""
    validation: Share = 0.15
    """Fraction of the training images that is held out to select the epoch, stratified."""
    test: Share = 0.2
    """For name = "folder" without train/ and test/: fraction of the images that is the test set."""
    limit: Positive | None = None
    """Largest number of training images, including validation. If left out, all training images are used."""
    count: Annotated[int, Field(ge=10)] = 400
    """For name = "demo-scenes": number of scenes; a quarter of the scenes is the test set."""

    @property
    def has_validation(self) -> bool:
        """Whether there is a validation set; without one, the epoch would be selected on the test set."""
        return self.split == "official"


_ONLY_FOR = {
    **dict.fromkeys(("folder", "classes", "mask_values", "test"), "folder"),
    **dict.fromkeys(("trimap", "split"), "oxford-pets"),
    "count": "demo-scenes",
}
"""Field -> the only data set that uses it."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Augment:
    """Random changes of training images; image and mask are transformed in the same way."""

    flip: Fraction = 0.5
    """Probability of a left-right flip."""
    rotate_deg: Annotated[float, Field(ge=0.0, le=180.0)] = 15.0
    """Largest rotation in degrees, in either direction."""
    scale: Fraction = 0.2
    """Largest relative change of size, in either direction."""
    shift: Fraction = 0.1
    """Largest shift, as a fraction of the height and width of the image."""
    colour: Fraction = 0.3
    """Largest relative change of brightness, contrast and saturation."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Model:
    """The network: a U-Net and its building blocks."""

    name: Literal["unet"] = "unet"
    """Network."""
    down: DownName = "max-pool"
    """Down-sampling between levels."""
    up: UpName = "transposed"
    """Up-sampling between levels; bilinear and nearest come after a 1x1 convolution."""
    width: Even = 32
    """Channels of the first level, an even number; each further level doubles the channels."""
    depth: Annotated[int, Field(ge=2, le=8)] = 5
    """Number of levels."""
    norm: Literal["batch", "group"] = "batch"
    """Normalisation after each convolution."""
    dropout: Literal["element", "channel", "none"] = "none"
    """What dropout sets to zero: single elements, whole channels, or nothing."""
    dropout_rate: Fraction = 0.1
    """Probability with which dropout sets an element or channel to zero."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Loss:
    """What training minimises. Variants with different losses are not ranked by their loss."""

    name: LossName = "ce+dice"
    """Loss on the logits; + is an unweighted sum."""
    smooth: AboveZero | None = None
    """For dice and tversky: pixels added to numerator and denominator. If left out: 1."""
    gamma: AtLeastZero | None = None
    """For focal: exponent that reduces the weight of easy pixels. If left out: 2."""
    alpha: AtLeastZero | None = None
    """For tversky: weight of false positives. If left out: 0.3."""
    beta: AtLeastZero | None = None
    """For tversky: weight of false negatives. If left out: 0.7."""
    softmax: bool | None = None
    """For dice: whether the softmax of the logits is taken. If left out: true. False repeats an error of
    another study and serves only for comparison with that study."""

    def __post_init__(self) -> None:
        """Reject a key that the loss does not use."""
        for key, losses in _LOSS_KEYS.items():
            if getattr(self, key) is not None and not set(losses) & set(self.name.split("+")):
                raise ValueError(
                    f"loss.{key} does nothing for {self.name}: only {' and '.join(losses)} "
                    "can use it; remove the key"
                )

    @property
    def options(self) -> dict[str, float | bool]:
        """The options that are set; for the other options the loss has defaults."""
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
    """All settings of a segmentation run except its seed.

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
        """Reject values of one table that contradict those of another."""
        check_unused_fields(self.data, _ONLY_FOR, MASKED_DATASET)
        if not self.data.has_validation and self.train.keep == "best":
            raise ValueError(
                f'train.keep = "best" with data.split = "{self.data.split}": that split has no validation '
                'set, so the epoch would be selected on the test set; set train.keep = "last"'
            )
