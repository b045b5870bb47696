"""Stages of VAE encoders and decoders: (feature maps, condition) -> feature maps.

The condition is the label embedding, or None if the stages are not conditioned.

The plain stages have no normalisation. Batch norm would make the ELBO of an image depend on the
other images of its batch during training, and on running averages after training. Group norm takes
five times as long as an activation on a CPU (27 ms and 5 ms, forward and backward, 256 x 32 x 14 x 14,
bfloat16). Instead, He's initialisation and residual branches with small initial weights preserve the
variance from layer to layer (Child 2021, Very Deep VAEs, section 3.2, arXiv:2011.10650, does without
normalisation too).

The ResNet-18 stages have batch norm after each convolution, as in the original paper, to repeat a
study that used ResNet-18.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.ops import Permute

from isthmus.errors import UserError
from isthmus.nn.conditioning import Modulate

BRANCH_SCALE = 0.3
"""Factor on He's initial weights in the last convolution of a residual branch."""
Layer = TypeVar("Layer", nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


class Level(NamedTuple):
    """Shape of feature maps or images, which are square."""

    channels: int
    size_px: int


class Convolved(nn.Module):
    """Conv -> modulation (FiLM or identity) -> activation."""

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
        """The feature maps of the next stage."""
        activated: Tensor = self.activation(self.modulation(self.convolution(x), condition))
        return activated


class Residual(nn.Module):
    """after(shortcut(x) + second(modulation(first(x)))).

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
        """The feature maps of the next stage."""
        branch = self.second(self.modulation(self.first(x), condition))
        total: Tensor = self.after(self.shortcut(x) + branch)
        return total


def dense(features_in: int, features_out: int) -> nn.Linear:
    """A linear layer with He's initialisation."""
    return _he_start(nn.Linear(features_in, features_out), features_in)


def conv(
    channels_in: int, channels_out: int, kernel_px: int = 3, stride: int = 1, *, bias: bool = True
) -> nn.Conv2d:
    """A convolution that keeps the size (3x3) or halves it (3x3 or 4x4, stride 2)."""
    padding = (kernel_px - 1) // 2
    layer = nn.Conv2d(channels_in, channels_out, kernel_px, stride, padding, bias=bias)
    return _he_start(layer, fan_in=channels_in * kernel_px**2)


def doubling_conv(channels_in: int, channels_out: int) -> nn.ConvTranspose2d:
    """A 4x4 transposed convolution of stride 2; each output pixel depends on 2x2 input pixels.

    On a CPU it is as fast as nearest up-sampling followed by a 3x3 convolution. The kernel size is a
    multiple of the stride, so every output pixel sums the same number of terms, which avoids
    checkerboard artefacts.
    """
    layer = nn.ConvTranspose2d(channels_in, channels_out, kernel_size=4, stride=2, padding=1)
    return _he_start(layer, fan_in=channels_in * 4)


def _he_start(layer: Layer, fan_in: int) -> Layer:
    """The layer with zero bias and weights that keep the variance through a ReLU.

    Source: He et al. 2015, Delving Deep into Rectifiers, section 2.2 (arXiv:1502.01852).
    """
    nn.init.normal_(layer.weight, std=(2 / fan_in) ** 0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def maps_to_vector() -> tuple[nn.Module, nn.Module]:
    """Feature maps -> vector in channels-last order, the order in memory.

    This order avoids a copy, and the gradient keeps the memory layout of the preceding activation; in
    another layout, the backward pass of the activation takes six times as long.
    """
    return Permute([0, 2, 3, 1]), nn.Flatten()


def vector_to_maps(level: Level) -> tuple[nn.Module, nn.Module]:
    """Vector -> feature maps of ``level``, in the order of ``maps_to_vector``."""
    channels, size_px = level
    return nn.Unflatten(1, (size_px, size_px, channels)), Permute([0, 3, 1, 2])


def halving_stage(larger: Level, level: Level, modulate: Modulate) -> nn.Module:
    """4x4 conv of stride 2 -> modulation -> SiLU."""
    halving = conv(larger.channels, level.channels, kernel_px=4, stride=2)
    return Convolved(halving, modulate(level.channels), nn.SiLU())


def doubling_stage(level: Level, larger: Level, modulate: Modulate) -> nn.Module:
    """4x4 transposed conv of stride 2 -> modulation -> SiLU."""
    doubling = doubling_conv(level.channels, larger.channels)
    return Convolved(doubling, modulate(larger.channels), nn.SiLU())


def conv_stage(level: Level, modulate: Modulate) -> nn.Module:
    """3x3 conv -> modulation -> SiLU."""
    return Convolved(conv(level.channels, level.channels), modulate(level.channels), nn.SiLU())


def residual_stage(level: Level, modulate: Modulate) -> nn.Module:
    """Identity + (SiLU -> 3x3 conv -> modulation -> SiLU -> 3x3 conv)."""
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
    """The size, its half, its quarter and so on, down to 4 .. 7 px.

    Raises:
        UserError: If halving does not lead to 4, 5, 6 or 7 px.

    >>> halved_sizes_px(28)
    [28, 14, 7]
    """
    sizes = [size_px]
    while sizes[-1] > 7 and sizes[-1] % 2 == 0:
        sizes.append(sizes[-1] // 2)
    if len(sizes) == 1 or sizes[-1] not in range(4, 8):
        raise UserError(
            f"images of {size_px} px do not fit the network: halving their size must lead to "
            "4, 5, 6 or 7 px without a remainder; set data.size_px to 28, 32 or 64"
        )
    return sizes


def resnet18_stem(image: Level, first: Level, modulate: Modulate) -> nn.Module:
    """3x3 conv of stride 1, then max-pooling down to the size of the first level.

    Source: He et al. 2016, section 4.2 (arXiv:1512.03385), for images of 32 px.
    """
    layers = _conv_norm(image.channels, first.channels)
    size_px = image.size_px
    while size_px > first.size_px:
        layers.append(nn.MaxPool2d(kernel_size=3, stride=2, padding=1))
        size_px //= 2
    return Convolved(nn.Sequential(*layers), modulate(first.channels), nn.ReLU(inplace=True))


def resnet18_keep(level: Level, modulate: Modulate) -> nn.Module:
    """A basic block that keeps the shape."""
    channels = level.channels
    return _basic_block(
        channels, _conv_norm(channels, channels), _conv_norm(channels, channels), [], modulate
    )


def resnet18_down(larger: Level, level: Level, modulate: Modulate) -> nn.Module:
    """A basic block of stride 2 with a 1x1 convolution as its shortcut."""
    return _basic_block(
        level.channels,
        _conv_norm(larger.channels, level.channels, stride=2),
        _conv_norm(level.channels, level.channels),
        _conv_norm(larger.channels, level.channels, kernel_px=1, stride=2),
        modulate,
    )


def resnet18_up(level: Level, larger: Level, modulate: Modulate) -> nn.Module:
    """A mirrored basic block: nearest up-sampling before the second convolution.

    The shortcut up-samples after its 1x1 convolution, which gives the same result at a lower cost.
    """
    upsample = nn.UpsamplingNearest2d(size=larger.size_px)
    return _basic_block(
        level.channels,
        _conv_norm(level.channels, level.channels),
        [upsample, *_conv_norm(level.channels, larger.channels)],
        [*_conv_norm(level.channels, larger.channels, kernel_px=1), upsample],
        modulate,
    )


def _basic_block(
    channels: int,
    first: Sequence[nn.Module],
    second: Sequence[nn.Module],
    shortcut: Sequence[nn.Module],
    modulate: Modulate,
) -> nn.Module:
    """ReLU(shortcut + (first -> modulation of ``channels`` -> ReLU -> second))."""
    return Residual(
        first=nn.Sequential(*first),
        modulation=modulate(channels),
        second=nn.Sequential(nn.ReLU(inplace=True), *second),
        shortcut=nn.Sequential(*shortcut),
        after=nn.ReLU(inplace=True),
    )


def _conv_norm(
    channels_in: int, channels_out: int, kernel_px: int = 3, stride: int = 1
) -> list[nn.Module]:
    layer = conv(channels_in, channels_out, kernel_px, stride, bias=False)
    return [layer, nn.BatchNorm2d(channels_out)]
