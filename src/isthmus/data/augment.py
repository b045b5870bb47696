"""Random changes to training images, the same for image and mask."""

from __future__ import annotations

from collections.abc import Callable

from torchvision.transforms import InterpolationMode, v2
from torchvision.tv_tensors import Image, Mask

from isthmus.recipe import IGNORE_INDEX

Augmentation = Callable[[Image, Mask], tuple[Image, Mask]]
"""Changes a uint8 image and its mask alike; draws from torch's global generator."""

_GREY = 128


def augmentation(
    flip: float, rotate_deg: float, scale: float, shift: float, colour: float
) -> Augmentation:
    """The chain of random changes: colour, then flip, then one affine map; identity if all are 0.

    The affine map reads images bilinearly and masks by nearest. Corners that it uncovers
    are grey in the image and ``IGNORE_INDEX`` in the mask, so no loss sees them.

    Args:
        flip: Probability of a left-right flip.
        rotate_deg: Turn by up to so many degrees either way.
        scale: Zoom by up to this share either way.
        shift: Move by up to this share of the side.
        colour: Change brightness, contrast and saturation by up to this share; never hue.
    """
    steps: list[v2.Transform] = []
    if colour:
        steps.append(v2.ColorJitter(brightness=colour, contrast=colour, saturation=colour))
    if flip:
        steps.append(v2.RandomHorizontalFlip(flip))
    if rotate_deg or scale or shift:
        steps.append(
            v2.RandomAffine(
                degrees=rotate_deg,
                translate=(shift, shift),
                scale=(1 - scale, 1 + scale),
                interpolation=InterpolationMode.BILINEAR,
                fill={Image: _GREY, Mask: IGNORE_INDEX},
            )
        )
    chain: Augmentation = v2.Compose(steps) if steps else v2.Identity()
    return chain
