"""Images that each have one label: the data table of generate and classify recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic.dataclasses import dataclass

from isthmus.recipe.rules import STRICT, Fraction, Positive, Share, Side, check_unused_fields


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LabelledData:
    """Which images with labels, at what size, and how they are split."""

    name: Literal["mnist", "fashion-mnist", "kmnist", "cifar10", "classes", "demo-digits"] = (
        "demo-digits"
    )
    """Data set; "classes" is your own folder."""
    folder: Path | None = None
    """For name = "classes": a folder with a folder a class, or with train/ and test/ that hold them."""
    size_px: Side = 28
    """Height and width that every image is resized to, in pixels."""
    colour: Literal["grey", "rgb"] = "grey"
    """Channels of the images: one or three."""
    validation: Share = 0.1
    """Share of the training images held out to choose the epoch, stratified by label."""
    test: Share = 0.2
    """For name = "classes" without train/ and test/: share of the images that is the test set."""
    limit: Positive | None = None
    """Use at most so many training images (before validation is cut)."""
    flip: Fraction = 0.0
    """Probability of a left-right flip of a training image."""
    shift_px: int = 0
    """Move training images by up to so many pixels, whole ones."""

    def __post_init__(self) -> None:
        """Reject classes without a folder, what this data set does not read, and a negative shift."""
        check_unused_fields(self, {"folder": "classes", "test": "classes"})
        if not 0 <= self.shift_px < self.size_px:
            raise ValueError(
                f"data.shift_px = {self.shift_px}: a shift lies between 0 and the side of the "
                "image; set it to a few pixels"
            )

    @property
    def has_validation(self) -> bool:
        """Whether a validation part is cut from training: always."""
        return True

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return 1 if self.colour == "grey" else 3
