"""Stages of ResNet-18 as an encoder, and of the same network turned round as a decoder.

Batch norm after each convolution, as published: it is here to repeat a study that used it.
"""

from __future__ import annotations

from torch import nn

from isthmus.nn.conditioning import Modulate
from isthmus.nn.stages import Convolved, Level, Residual, conv, halved_sizes_px


def resnet18_plan(size_px: int, width: int) -> list[Level]:
    """Four levels, each with twice the channels and half the size (rounded up) of the one before.

    The first is as large as the image, if that is halved three times at most on the way to
    4 .. 7 px (28 and 32 px are); a larger image is max-pooled until it is.

    >>> [level.size_px for level in resnet18_plan(28, 64)]
    [28, 14, 7, 4]
    >>> [level.size_px for level in resnet18_plan(64, 64)]
    [32, 16, 8, 4]
    """
    halvings = len(halved_sizes_px(size_px)) - 1
    first_px = size_px // 2 ** max(0, halvings - 3)
    return [Level(width * 2**depth, -(-first_px // 2**depth)) for depth in range(4)]


def resnet18_stem(image: Level, first: Level, modulate: Modulate) -> nn.Module:
    """A 3x3 convolution of stride 1 and what max-pooling the plan asks for.

    Source: He et al. 2016, section 4.2 (arXiv:1512.03385), for images of 32 px.
    """
    layers = _conv_norm(image.channels, first.channels)
    size_px = image.size_px
    while size_px > first.size_px:
        layers.append(nn.MaxPool2d(kernel_size=3, stride=2, padding=1))
        size_px //= 2
    return Convolved(layers, modulate(first.channels), nn.ReLU(inplace=True))


def resnet18_keep(level: Level, modulate: Modulate) -> nn.Module:
    """A basic block."""
    channels = level.channels
    return _basic_block(
        _conv_norm(channels, channels), _conv_norm(channels, channels), nn.Identity(), modulate
    )


def resnet18_down(larger: Level, level: Level, modulate: Modulate) -> nn.Module:
    """A basic block of stride 2, with a 1x1 convolution as its shortcut."""
    return _basic_block(
        _conv_norm(larger.channels, level.channels, stride=2),
        _conv_norm(level.channels, level.channels),
        _conv_norm(larger.channels, level.channels, kernel_px=1, stride=2),
        modulate,
    )


def resnet18_up(level: Level, larger: Level, modulate: Modulate) -> nn.Module:
    """A basic block turned round: nearest up-sampling before its second convolution.

    In the shortcut it comes after the 1x1 convolution, where it costs less and gives the same.
    """
    upsample = nn.UpsamplingNearest2d(size=larger.size_px)
    return _basic_block(
        _conv_norm(level.channels, level.channels),
        _conv_norm(level.channels, larger.channels).insert(0, upsample),
        _conv_norm(level.channels, larger.channels, kernel_px=1).append(upsample),
        modulate,
    )


def resnet18_gather(level: Level) -> tuple[nn.Module, int]:
    """The mean over place: one feature a channel, none below 0."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), level.channels


def resnet18_spread(latent: int, level: Level) -> nn.Module:
    """One linear layer."""
    channels, size_px = level
    return nn.Sequential(
        nn.Linear(latent, channels * size_px**2), nn.Unflatten(1, (channels, size_px, size_px))
    )


def resnet18_head(first: Level, maps: Level) -> nn.Module:
    """Nearest up-sampling, where the stem pooled, and a 3x3 convolution."""
    return nn.Sequential(
        nn.UpsamplingNearest2d(size=maps.size_px)
        if maps.size_px > first.size_px
        else nn.Identity(),
        conv(first.channels, maps.channels),
    )


def _basic_block(
    first: nn.Sequential, second: nn.Sequential, shortcut: nn.Module, modulate: Modulate
) -> nn.Module:
    channels = next(layer.num_features for layer in first if isinstance(layer, nn.BatchNorm2d))
    return Residual(
        first=first,
        modulation=modulate(channels),
        second=second.insert(0, nn.ReLU(inplace=True)),
        shortcut=shortcut,
        after=nn.ReLU(inplace=True),
    )


def _conv_norm(
    channels_in: int, channels_out: int, kernel_px: int = 3, stride: int = 1
) -> nn.Sequential:
    layer = conv(channels_in, channels_out, kernel_px, stride, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(channels_out))
