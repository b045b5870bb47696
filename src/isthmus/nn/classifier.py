"""The judge: a small image classifier that evaluates generated images."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812 (conventional name)
from jaxtyping import Float
from torch import Tensor, nn

from isthmus.errors import UserError

LEAST_SIZE_PX = 8
"""Smallest height and width of an image: the three poolings reduce 8 px to one pixel."""


class Judge(nn.Module):
    """A residual network of eight convolutions, for grey or colour images of 8 px or more.

    Image values lie in [0, 1]; the batch norm after the first convolution removes their mean and
    scale. Four levels have 1, 2, 4 and 4 times ``width`` channels; each level has half the height
    and width of the previous level, and the last two levels have a residual block. Features are
    averaged over positions, so their number does not depend on the size of the image.

    Args:
        channels_in: Channels of an image.
        num_labels: Number of labels.
        width: Channels of the first level: 16 is enough for digits, 64 for CIFAR-10.

    Source: similar to ResNet-9 (Page 2018, How to Train Your ResNet), but each pooling comes before
    the convolution, which then costs a quarter, and the network ends with global average pooling.

    >>> import torch
    >>> judge = Judge(channels_in=1, num_labels=10, width=4).eval()
    >>> judge(torch.rand(2, 1, 28, 28)).shape, judge.features(torch.rand(2, 1, 28, 28)).shape
    (torch.Size([2, 10]), torch.Size([2, 16]))
    """

    def __init__(self, channels_in: int, num_labels: int, width: int = 64) -> None:
        super().__init__()
        self.channels_in = channels_in
        self.levels = nn.Sequential(
            _conv(channels_in, width),
            nn.MaxPool2d(2),
            _conv(width, 2 * width),
            nn.MaxPool2d(2),
            _conv(2 * width, 4 * width),
            _Residual(4 * width),
            nn.MaxPool2d(2),
            _conv(4 * width, 4 * width),
            _Residual(4 * width),
        )
        self.head = nn.Linear(4 * width, num_labels)

    def features(
        self, image: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch feature"]:
        """Input of the last layer: 4 x width nonnegative features per image."""
        self._check_shapes(image)
        return F.adaptive_avg_pool2d(self.levels(image), 1).flatten(1)

    def forward(
        self, image: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch label"]:
        """Logits of the labels."""
        logits: Tensor = self.head(self.features(image))
        return logits

    def _check_shapes(self, image: Tensor) -> None:
        _, channels, height_px, width_px = image.shape
        if channels != self.channels_in or min(height_px, width_px) < LEAST_SIZE_PX:
            raise UserError(
                f"images of {channels} x {height_px} x {width_px} (channels, height, width) do "
                f"not fit this judge: it takes {self.channels_in} channel(s) of "
                f"{LEAST_SIZE_PX} px or more; convert and resize them"
            )


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(_conv(channels, channels), _conv(channels, channels))

    def forward(
        self, x: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch channel height width"]:
        total: Tensor = x + self.branch(x)
        return total


def _conv(channels_in: int, channels_out: int) -> nn.Sequential:
    """A 3x3 convolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )
