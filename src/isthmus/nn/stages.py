"""Stages of an autoencoder's body: from feature maps, and what is told of the label, to maps.

Here are the plain ones, without normalisation. Batch norm would make the ELBO of an image
depend on the images beside it in training, and on running averages afterwards. Group norm
costs five times an activation on a CPU (27 against 5 ms, forward and backward, 256 x 32 x 14 x
14, bfloat16). What norms are for, keeping the variance through the depth, is left to He's
initialisation and to residual branches that start small (Child 2021, Very Deep VAEs, section
3.2, arXiv:2011.10650, which has no norms either).
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.ops import Permute

from isthmus.errors import UserError
from isthmus.nn.conditioning import Modulate

BRANCH_SCALE = 0.3
"""The last convolution of a residual branch starts with He's weights times this."""
Layer = TypeVar("Layer", nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


class Level(NamedTuple):
    """Feature maps of one size, or images."""

    channels: int
    size_px: int


class Convolved(nn.Module):
    """A convolution, the label's say, an activation."""

    def __init__(
        self, convolution: nn.Module, modulation: nn.Module, activation: nn.Module
    ) -> None:
        super().__init__()
        self.convolution = convolution
        self.modulation = modulation
        self.activation = activation

    def forward(
        self,
        x: Float[Tensor, "batch channel height width"],
        condition: Float[Tensor, "batch embedded"] | None,
    ) -> Float[Tensor, "batch channel_out height_out width_out"]:
        """The next feature maps."""
        activated: Tensor = self.activation(self.modulation(self.convolution(x), condition))
        return activated


class Residual(nn.Module):
    """after(shortcut(x) + second(modulation(first(x)))): two convolutions and a way around them.

    Source: He et al. 2016, Deep Residual Learning for Image Recognition, section 3.2
    (arXiv:1512.03385).
    """

    def __init__(
        self,
        first: nn.Module,
        modulation: nn.Module,
        second: nn.Module,
        shortcut: nn.Module,
        after: nn.Module,
    ) -> None:
        super().__init__()
        self.first = first
        self.modulation = modulation
        self.second = second
        self.shortcut = shortcut
        self.after = after

    def forward(
        self,
        x: Float[Tensor, "batch channel height width"],
        condition: Float[Tensor, "batch embedded"] | None,
    ) -> Float[Tensor, "batch channel_out height_out width_out"]:
        """The next feature maps."""
        branch = self.second(self.modulation(self.first(x), condition))
        total: Tensor = self.after(self.shortcut(x) + branch)
        return total


def he_start(layer: Layer, fan_in: int) -> Layer:
    """The layer, its weights such that a ReLU after it keeps the variance, its bias 0.

    Source: He et al. 2015, Delving Deep into Rectifiers, section 2.2 (arXiv:1502.01852).
    """
    nn.init.normal_(layer.weight, std=(2 / fan_in) ** 0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def dense(features_in: int, features_out: int) -> nn.Linear:
    """A linear layer."""
    return he_start(nn.Linear(features_in, features_out), features_in)


def conv(
    channels_in: int, channels_out: int, kernel_px: int = 3, stride: int = 1, *, bias: bool = True
) -> nn.Conv2d:
    """A convolution that keeps the size (3x3) or halves it (3x3 or 4x4, stride 2)."""
    padding = (kernel_px - 1) // 2
    layer = nn.Conv2d(channels_in, channels_out, kernel_px, stride, padding, bias=bias)
    return he_start(layer, fan_in=channels_in * kernel_px**2)


def doubling_conv(channels_in: int, channels_out: int) -> nn.ConvTranspose2d:
    """A 4x4 transposed convolution of stride 2; each pixel it gives sees 2x2 of those it takes.

    On a CPU it is as fast as nearest up-sampling with a 3x3 convolution, and 4 is a multiple
    of 2: every pixel gets equally many terms, so that no checkerboard is built in.
    """
    layer = nn.ConvTranspose2d(channels_in, channels_out, kernel_size=4, stride=2, padding=1)
    return he_start(layer, fan_in=channels_in * 4)


def maps_to_vector() -> tuple[nn.Module, nn.Module]:
    """Feature maps -> vector, pixel after pixel: as they lie in channels-last memory.

    So nothing is copied, and the gradient comes back in the layout that the activation before
    it has; in another one its gradient takes six times as long.
    """
    return Permute([0, 2, 3, 1]), nn.Flatten()


def vector_to_maps(level: Level) -> tuple[nn.Module, nn.Module]:
    """Vector -> feature maps of ``level``, in the order of ``maps_to_vector``."""
    channels, size_px = level
    return nn.Unflatten(1, (size_px, size_px, channels)), Permute([0, 3, 1, 2])


def halving_stage(larger: Level, level: Level, modulate: Modulate) -> nn.Module:
    """A 4x4 convolution of stride 2, the label's say, SiLU."""
    halving = conv(larger.channels, level.channels, kernel_px=4, stride=2)
    return Convolved(halving, modulate(level.channels), nn.SiLU())


def doubling_stage(level: Level, larger: Level, modulate: Modulate) -> nn.Module:
    """A 4x4 transposed convolution of stride 2, the label's say, SiLU."""
    doubling = doubling_conv(level.channels, larger.channels)
    return Convolved(doubling, modulate(larger.channels), nn.SiLU())


def conv_stage(level: Level, modulate: Modulate) -> nn.Module:
    """A 3x3 convolution, the label's say, SiLU."""
    return Convolved(conv(level.channels, level.channels), modulate(level.channels), nn.SiLU())


def residual_stage(level: Level, modulate: Modulate) -> nn.Module:
    """Around a branch of SiLU, 3x3 convolution, the label's say, SiLU, 3x3 convolution."""
    first, second = (conv(level.channels, level.channels) for _ in range(2))
    with torch.no_grad():
        second.weight *= BRANCH_SCALE
    return Residual(
        first=nn.Sequential(nn.SiLU(), first),
        modulation=modulate(level.channels),
        second=nn.Sequential(nn.SiLU(), second),
        shortcut=nn.Identity(),
        after=nn.Identity(),
    )


def halved_sizes_px(size_px: int) -> list[int]:
    """The size and its halves, down to 4 .. 7 px.

    Raises:
        UserError: If no halving leads there.

    >>> halved_sizes_px(28)
    [28, 14, 7]
    """
    sizes = [size_px]
    while sizes[-1] > 7 and sizes[-1] % 2 == 0:
        sizes.append(sizes[-1] // 2)
    if len(sizes) == 1 or sizes[-1] not in range(4, 8):
        raise UserError(
            f"images of {size_px} px do not fit the network: halving their size must lead to "
            "4, 5, 6 or 7 px without a remainder; resize them to 28, 32 or 64 px"
        )
    return sizes
