"""Three kinds of VAE encoders (image -> vector) and decoders (vector -> parameter maps).

Encoders and decoders are sequences of stages (``isthmus.nn.stages``); each stage is a module of
(feature maps, condition).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from isthmus.errors import UserError
from isthmus.nn.conditioning import Modulate, unmodulated
from isthmus.nn.stages import (
    Level,
    conv,
    conv_stage,
    dense,
    doubling_conv,
    doubling_stage,
    halved_sizes_px,
    halving_stage,
    maps_to_vector,
    residual_stage,
    resnet18_down,
    resnet18_keep,
    resnet18_stem,
    resnet18_up,
    vector_to_maps,
)

DENSE = 256
"""Features of the dense layer between feature maps and vector."""


class Encoder(nn.Module):
    """Image -> stages -> vector.

    Args:
        stages: Modules of (feature maps, condition).
        gather: Last feature maps -> vector.
        features: Size of the vector.
        image: Channels and size of the images; images of another shape raise ``UserError``.
    """

    def __init__(
        self, stages: Iterable[nn.Module], gather: nn.Module, features: int, image: Level
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.gather = gather
        self.features = features
        self.image = image

    def forward(
        self,
        image: Float[Tensor, "batch channel height width"],
        condition: Float[Tensor, "batch embedded"] | None = None,
    ) -> Float[Tensor, "batch feature"]:
        """One vector per image; no activation is applied to it yet."""
        self._check_shapes(image)
        x = image
        for stage in self.stages:
            x = stage(x, condition)
        vector: Tensor = self.gather(x)
        return vector

    def _check_shapes(self, image: Tensor) -> None:
        _, channels, height_px, width_px = image.shape
        if (channels, height_px, width_px) != (*self.image, self.image.size_px):
            takes = f"{self.image.channels} x {self.image.size_px} x {self.image.size_px}"
            raise UserError(
                f"images of {channels} x {height_px} x {width_px} (channels, height, width) do "
                f"not fit this network: it takes {takes} only; convert and resize them"
            )


class AuxiliaryClassifier(nn.Module):
    """Predicts the label of an image: an encoder that is not conditioned, ReLU, and a linear layer.

    Args:
        encoder: image -> vector of ``encoder.features``.
        num_labels: Number of labels.
    """

    def __init__(self, encoder: Encoder, num_labels: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(encoder.features, num_labels))

    def forward(
        self, image: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch label"]:
        """Logits of the labels."""
        logits: Tensor = self.head(self.encoder(image))
        return logits


class Decoder(nn.Module):
    """Vector -> first feature maps -> stages -> parameter maps of a likelihood.

    Args:
        spread: Vector -> first feature maps.
        stages: Modules of (feature maps, condition).
        head: Last feature maps -> parameter maps.
    """

    def __init__(self, spread: nn.Module, stages: Iterable[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.spread = spread
        self.stages = nn.ModuleList(stages)
        self.head = head

    def forward(
        self,
        vector: Float[Tensor, "batch feature"],
        condition: Float[Tensor, "batch embedded"] | None = None,
    ) -> Float[Tensor, "batch maps height width"]:
        """Raw parameter maps of each vector."""
        x = self.spread(vector)
        for stage in self.stages:
            x = stage(x, condition)
        maps: Tensor = self.head(x)
        return maps


class Body(NamedTuple):
    """Factories of the encoder and the decoder of one kind."""

    encoder: Callable[[Level, int, Modulate], Encoder]
    """(shape of the image, width, modulate) -> encoder."""
    decoder: Callable[[int, Level, int, Modulate], Decoder]
    """(size of the vector, shape of the parameter maps, width, modulate) -> decoder."""


def encoder_body(
    channels_in: int, size_px: int, width: int, body: Body, modulate: Modulate = unmodulated
) -> Encoder:
    """An encoder from images to vectors.

    Args:
        channels_in: Channels of an image.
        size_px: Height and width of an image: 4, 5, 6 or 7 px, doubled at least once.
        width: Channels of the first level.
        body: A value of ``BODIES``.
        modulate: Creates the modulation of each stage: ``modulate`` of the encoder's
            ``ConditioningParts``.

    Raises:
        UserError: If halving ``size_px`` does not lead to 4, 5, 6 or 7 px.
    """
    return body.encoder(Level(channels_in, size_px), width, modulate)


def decoder_body(
    latent: int,
    maps_out: int,
    size_px: int,
    width: int,
    body: Body,
    modulate: Modulate = unmodulated,
) -> Decoder:
    """A decoder from vectors of size ``latent`` to ``maps_out`` parameter maps.

    The other arguments are those of ``encoder_body``.
    """
    return body.decoder(latent, Level(maps_out, size_px), width, modulate)


def _conv_encoder(image: Level, width: int, modulate: Modulate) -> Encoder:
    levels = _half_size_levels(image.size_px, width)
    stages = [halving_stage(*pair, modulate) for pair in pairwise([image, *levels])]
    return Encoder(stages, _dense_gather(levels[-1]), DENSE, image)


def _conv_decoder(latent: int, maps: Level, width: int, modulate: Modulate) -> Decoder:
    levels = _half_size_levels(maps.size_px, width)
    stages = [doubling_stage(*pair, modulate) for pair in pairwise(reversed(levels))]
    if stages:
        stages.append(conv_stage(levels[0], modulate))
    spread = nn.Sequential(_dense_spread(latent, levels[-1]), nn.SiLU())
    return Decoder(spread, stages, doubling_conv(levels[0].channels, maps.channels))


def _residual_encoder(image: Level, width: int, modulate: Modulate) -> Encoder:
    levels = _half_size_levels(image.size_px, width)
    stages = []
    for larger, level in pairwise([image, *levels]):
        stages.append(halving_stage(larger, level, modulate))
        stages += [residual_stage(level, modulate) for _ in range(2)]
    return Encoder(stages, nn.Sequential(nn.SiLU(), _dense_gather(levels[-1])), DENSE, image)


def _residual_decoder(latent: int, maps: Level, width: int, modulate: Modulate) -> Decoder:
    levels = _half_size_levels(maps.size_px, width)
    stages = [residual_stage(levels[-1], modulate) for _ in range(2)]
    for level, larger in pairwise(reversed(levels)):
        stages.append(doubling_stage(level, larger, modulate))
        stages += [residual_stage(larger, modulate) for _ in range(2)]
    spread = _dense_spread(latent, levels[-1])
    head = nn.Sequential(nn.SiLU(), doubling_conv(levels[0].channels, maps.channels))
    return Decoder(spread, stages, head)


def _resnet18_encoder(image: Level, width: int, modulate: Modulate) -> Encoder:
    levels = resnet18_levels(image.size_px, width)
    stages = [resnet18_stem(image, levels[0], modulate)]
    stages += [resnet18_keep(levels[0], modulate) for _ in range(2)]
    for larger, level in pairwise(levels):
        stages += [resnet18_down(larger, level, modulate), resnet18_keep(level, modulate)]
    gather = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Encoder(stages, gather, levels[-1].channels, image)


def _resnet18_decoder(latent: int, maps: Level, width: int, modulate: Modulate) -> Decoder:
    """The mirrored encoder; max pooling becomes nearest up-sampling before the last convolution."""
    levels = resnet18_levels(maps.size_px, width)
    stages = []
    for level, larger in pairwise(reversed(levels)):
        stages += [resnet18_up(level, larger, modulate), resnet18_keep(larger, modulate)]
    stages += [resnet18_keep(levels[0], modulate) for _ in range(2)]
    channels, size_px = levels[-1]
    spread = nn.Sequential(
        nn.Linear(latent, channels * size_px**2), nn.Unflatten(1, (channels, size_px, size_px))
    )
    head = nn.Sequential(
        nn.UpsamplingNearest2d(size=maps.size_px)
        if maps.size_px > levels[0].size_px
        else nn.Identity(),
        conv(levels[0].channels, maps.channels),
    )
    return Decoder(spread, stages, head)


BODIES = {
    "conv": Body(_conv_encoder, _conv_decoder),
    "residual": Body(_residual_encoder, _residual_decoder),
    "resnet18": Body(_resnet18_encoder, _resnet18_decoder),
}
"""``model.body`` in a recipe -> factories.

"conv": one convolution per level, and one more before the decoder's head; fast. "residual": two
residual blocks per level, in encoder and decoder; higher likelihoods. "resnet18": with width 64,
ResNet-18 and its mirror image.
"""


def _half_size_levels(size_px: int, width: int) -> list[Level]:
    """Levels of 1/2, 1/4, ... of the image's size; channels double, up to four times ``width``."""
    halves = halved_sizes_px(size_px)[1:]
    return [Level(width * min(2**depth, 4), half_px) for depth, half_px in enumerate(halves)]


def resnet18_levels(size_px: int, width: int) -> list[Level]:
    """Four levels, each with twice the channels and half the size (rounded up) of the previous level.

    The first level has the size of the image if at most three halvings of that size lead to 4 .. 7 px
    (as for 28 and 32 px); a larger image is max-pooled to a size for which this holds.

    >>> [level.size_px for level in resnet18_levels(28, 64)]
    [28, 14, 7, 4]
    >>> [level.size_px for level in resnet18_levels(64, 64)]
    [32, 16, 8, 4]
    """
    halvings = len(halved_sizes_px(size_px)) - 1
    first_px = size_px // 2 ** max(0, halvings - 3)
    return [Level(width * 2**depth, -(-first_px // 2**depth)) for depth in range(4)]


def _dense_gather(level: Level) -> nn.Module:
    channels, size_px = level
    return nn.Sequential(*maps_to_vector(), dense(channels * size_px**2, DENSE))


def _dense_spread(latent: int, level: Level) -> nn.Module:
    channels, size_px = level
    return nn.Sequential(
        dense(latent, DENSE),
        nn.SiLU(),
        dense(DENSE, channels * size_px**2),
        *vector_to_maps(level),
    )
