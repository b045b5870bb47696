"""Building blocks of a U-Net: convolution blocks, down-samplers, up-samplers, normalisations, dropouts.

Each building block is created by a factory function of channel counts; a network receives these
functions as arguments; ``recipe.registry`` and the dictionaries at the end name them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 (conventional name)
from jaxtyping import Float
from torch import Tensor, nn

Norm = Callable[[int], nn.Module]
"""Factory: channels -> normalisation."""
Dropout = Callable[[], nn.Module]
"""Factory without arguments -> dropout."""


def batch_norm(channels: int) -> nn.Module:
    """Batch normalisation (Ioffe and Szegedy 2015, arXiv:1502.03167)."""
    return nn.BatchNorm2d(channels)


def group_norm(channels: int) -> nn.Module:
    """Group normalisation (Wu and He 2018, arXiv:1803.08494): at most 8 groups of equal size."""
    groups = next(count for count in range(min(8, channels), 0, -1) if channels % count == 0)
    return nn.GroupNorm(groups, channels)


def no_dropout() -> nn.Module:
    """No dropout."""
    return nn.Identity()


class PartMaker:
    """Creates convolution blocks with the normalisation and dropout of one network.

    Args:
        norm: Normalisation after a convolution.
        dropout: Dropout after the activation.
    """

    def __init__(self, norm: Norm = batch_norm, dropout: Dropout = no_dropout) -> None:
        self.norm = norm
        self.dropout = dropout

    def activated(self, channels: int) -> nn.Sequential:
        """Normalisation -> ReLU -> dropout; follows each convolution."""
        return nn.Sequential(self.norm(channels), nn.ReLU(inplace=True), self.dropout())

    def double_conv(self, channels_in: int, channels_out: int) -> nn.Sequential:
        """Two repetitions of 3x3 conv -> normalisation -> ReLU -> dropout."""
        return nn.Sequential(
            nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1),
            self.activated(channels_out),
            nn.Conv2d(channels_out, channels_out, kernel_size=3, padding=1),
            self.activated(channels_out),
        )


DownSampler = Callable[[PartMaker, int], nn.Module]
"""(make, channels) -> module that halves height and width and keeps the channels."""
UpSampler = Callable[[PartMaker, int], nn.Module]
"""(make, channels) -> module that doubles height and width and halves the channels."""


def max_pool(make: PartMaker, channels: int) -> nn.Module:  # noqa: ARG001
    """2x2 max pooling."""
    return nn.MaxPool2d(2)


def average_pool(make: PartMaker, channels: int) -> nn.Module:  # noqa: ARG001
    """2x2 average pooling."""
    return nn.AvgPool2d(2)


def strided_conv(make: PartMaker, channels: int) -> nn.Module:
    """2x2 conv of stride 2 -> normalisation -> ReLU -> dropout."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, kernel_size=2, stride=2), make.activated(channels)
    )


class BlurPool(nn.Module):
    """2x2 max pooling of stride 1 -> binomial low-pass filter of stride 2.

    Source: Zhang 2019, Making Convolutional Networks Shift-Invariant Again
    (arXiv:1904.11486), section 3.2, with the 3x3 filter [1, 2, 1] x [1, 2, 1] / 16.
    """

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("kernel", (row[:, None] * row).expand(channels, 1, 3, 3).clone())

    def forward(
        self, x: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch channel half_height half_width"]:
        """The pooled and filtered maps at half the size; edges are padded by replication."""
        dense_max = F.max_pool2d(F.pad(x, (0, 1, 0, 1), mode="replicate"), kernel_size=2, stride=1)
        padded = F.pad(dense_max, (1, 1, 1, 1), mode="replicate")
        return F.conv2d(padded, self.kernel.to(padded.dtype), stride=2, groups=x.shape[1])


def blur_pool(make: PartMaker, channels: int) -> nn.Module:  # noqa: ARG001
    """Anti-aliased max pooling."""
    return BlurPool(channels)


def transposed_conv(make: PartMaker, channels: int) -> nn.Module:  # noqa: ARG001
    """A 2x2 transposed convolution of stride 2 (Ronneberger et al. 2015, arXiv:1505.04597)."""
    return nn.ConvTranspose2d(channels, channels // 2, kernel_size=2, stride=2)


def bilinear_upsample(make: PartMaker, channels: int) -> nn.Module:
    """1x1 conv -> bilinear up-sampling with aligned corners -> normalisation -> ReLU -> dropout.

    The convolution comes before the up-sampling, where it costs a quarter. The order does not change
    the result: the two linear maps commute, because the interpolation weights sum to one.
    """
    return nn.Sequential(
        nn.Conv2d(channels, channels // 2, kernel_size=1),
        nn.UpsamplingBilinear2d(scale_factor=2),
        make.activated(channels // 2),
    )


def nearest_upsample(make: PartMaker, channels: int) -> nn.Module:
    """1x1 conv -> nearest up-sampling -> normalisation -> ReLU -> dropout."""
    return nn.Sequential(
        nn.Conv2d(channels, channels // 2, kernel_size=1),
        nn.UpsamplingNearest2d(scale_factor=2),
        make.activated(channels // 2),
    )


def pixel_shuffle(make: PartMaker, channels: int) -> nn.Module:
    """Sub-pixel conv (Shi et al. 2016, arXiv:1609.05158) -> normalisation -> ReLU -> dropout."""
    return nn.Sequential(
        nn.Conv2d(channels, 2 * channels, kernel_size=1),
        nn.PixelShuffle(2),
        make.activated(channels // 2),
    )


NORMS: dict[str, Norm] = {"batch": batch_norm, "group": group_norm}
DROPOUTS: dict[str, Callable[[float], nn.Module]] = {
    "element": nn.Dropout,
    "channel": nn.Dropout2d,
    "none": lambda _rate: nn.Identity(),
}
