"""Encoder and decoder bodies of an autoencoder: an image to a vector, a vector to maps.

A body is a row of stages, each a module of (feature maps, condition): the condition is what a
conditioning tells the stages about the label, or None. ``BODIES`` holds the kinds of body as data;
``encoder_body`` and ``decoder_body`` lay out any of them for a size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from isthmus.errors import UserError
from isthmus.nn.conditioning import Modulate, unmodulated
from isthmus.nn.resnet18 import (
    resnet18_down,
    resnet18_gather,
    resnet18_head,
    resnet18_keep,
    resnet18_plan,
    resnet18_spread,
    resnet18_stem,
    resnet18_up,
)
from isthmus.nn.stages import (
    Level,
    conv_stage,
    dense,
    doubling_conv,
    doubling_stage,
    halved_sizes_px,
    halving_stage,
    maps_to_vector,
    residual_stage,
    vector_to_maps,
)

DENSE = 256
"""Features of the dense layer between maps and vector."""


class Encoder(nn.Module):
    """Stages, then a vector. Images of another size or channel count are rejected.

    Args:
        stages: Modules of (feature maps, condition).
        gather: Last feature maps -> vector.
        features: Size of the vector.
        image: Channels and size of the images it takes.
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
        """A vector for each image, to be activated."""
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
    """Images to logits of their labels: an encoder that is told nothing, and a linear layer.

    Args:
        encoder: image -> vector of ``encoder.features``.
        num_labels: How many labels it tells apart.
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
    """A vector spread over feature maps, stages, then the maps of a likelihood.

    Args:
        spread: Vector -> first feature maps.
        stages: Modules of (feature maps, condition).
        head: Last feature maps -> maps of a likelihood.
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
        """Maps for each vector, raw."""
        x = self.spread(vector)
        for stage in self.stages:
            x = stage(x, condition)
        maps: Tensor = self.head(x)
        return maps


@dataclass(frozen=True)
class Body:
    """A kind of body: what its stages are, and how many."""

    plan: Callable[[int, int], list[Level]]
    """(size of the image in px, width) -> levels, the largest first."""
    stem: Callable[[Level, Level, Modulate], nn.Module]
    """(image, first level) -> stage from the one to the other."""
    down: Callable[[Level, Level, Modulate], nn.Module]
    """(level, next smaller level) -> stage."""
    keep: Callable[[Level, Modulate], nn.Module]
    """level -> stage that keeps it."""
    up: Callable[[Level, Level, Modulate], nn.Module]
    """(level, next larger level) -> stage."""
    gather: Callable[[Level], tuple[nn.Module, int]]
    """smallest level -> module to a vector, and the size of that."""
    spread: Callable[[int, Level], nn.Module]
    """(size of the vector, smallest level) -> module to feature maps."""
    head: Callable[[Level, Level], nn.Module]
    """(first level, maps of the likelihood) -> module from the one to the other."""
    kept_in: tuple[int, int]
    """Stages of the encoder that keep a level: the first, each later one."""
    kept_out: tuple[int, int, int]
    """Stages of the decoder that keep a level: the smallest, each between, the first."""


def encoder_body(
    channels_in: int, size_px: int, width: int, body: Body, modulate: Modulate = unmodulated
) -> Encoder:
    """Images to vectors.

    Args:
        channels_in: Channels of an image.
        size_px: Height and width of an image: 4, 5, 6 or 7, doubled at least once.
        width: Channels of the first level.
        body: The kind of body, a value of ``BODIES``.
        modulate: What each stage owns for the label, of the side's ``ConditioningParts``.

    Raises:
        UserError: If halving ``size_px`` does not lead to 4 .. 7.
    """
    image, levels = Level(channels_in, size_px), body.plan(size_px, width)
    at_first, at_later = body.kept_in
    stages = [body.stem(image, levels[0], modulate)]
    stages += [body.keep(levels[0], modulate) for _ in range(at_first)]
    for larger, level in pairwise(levels):
        stages.append(body.down(larger, level, modulate))
        stages += [body.keep(level, modulate) for _ in range(at_later)]
    gather, features = body.gather(levels[-1])
    return Encoder(stages, gather, features, image)


def decoder_body(
    latent: int,
    maps_out: int,
    size_px: int,
    width: int,
    body: Body,
    modulate: Modulate = unmodulated,
) -> Decoder:
    """Vectors of ``latent`` numbers to ``maps_out`` maps; all else as for ``encoder_body``."""
    levels = body.plan(size_px, width)
    at_smallest, at_between, at_first = body.kept_out
    stages = [body.keep(levels[-1], modulate) for _ in range(at_smallest)]
    for level, larger in pairwise(reversed(levels)):
        stages.append(body.up(level, larger, modulate))
        kept = at_first if larger is levels[0] else at_between
        stages += [body.keep(larger, modulate) for _ in range(kept)]
    spread, head = body.spread(latent, levels[-1]), body.head(levels[0], Level(maps_out, size_px))
    return Decoder(spread, stages, head)


def _half_size_plan(size_px: int, width: int) -> list[Level]:
    """From half the image's size on; channels double, up to four times the width."""
    halves = halved_sizes_px(size_px)[1:]
    return [Level(width * min(2**depth, 4), half_px) for depth, half_px in enumerate(halves)]


def _dense_gather(level: Level) -> tuple[nn.Module, int]:
    channels, size_px = level
    return nn.Sequential(*maps_to_vector(), dense(channels * size_px**2, DENSE)), DENSE


def _activated_gather(level: Level) -> tuple[nn.Module, int]:
    gather, features = _dense_gather(level)
    return nn.Sequential(nn.SiLU(), gather), features


def _dense_spread(latent: int, level: Level) -> nn.Module:
    channels, size_px = level
    return nn.Sequential(
        dense(latent, DENSE),
        nn.SiLU(),
        dense(DENSE, channels * size_px**2),
        *vector_to_maps(level),
    )


def _activated_spread(latent: int, level: Level) -> nn.Module:
    return nn.Sequential(_dense_spread(latent, level), nn.SiLU())


def _doubling_head(first: Level, maps: Level) -> nn.Module:
    return doubling_conv(first.channels, maps.channels)


def _activated_head(first: Level, maps: Level) -> nn.Module:
    return nn.Sequential(nn.SiLU(), _doubling_head(first, maps))


BODIES: dict[str, Body] = {
    "conv": Body(
        plan=_half_size_plan,
        stem=halving_stage,
        down=halving_stage,
        keep=conv_stage,
        up=doubling_stage,
        gather=_dense_gather,
        spread=_activated_spread,
        head=_doubling_head,
        kept_in=(0, 0),
        kept_out=(0, 0, 1),
    ),
    "residual": Body(
        plan=_half_size_plan,
        stem=halving_stage,
        down=halving_stage,
        keep=residual_stage,
        up=doubling_stage,
        gather=_activated_gather,
        spread=_dense_spread,
        head=_activated_head,
        kept_in=(2, 2),
        kept_out=(2, 2, 2),
    ),
    "resnet18": Body(
        plan=resnet18_plan,
        stem=resnet18_stem,
        down=resnet18_down,
        keep=resnet18_keep,
        up=resnet18_up,
        gather=resnet18_gather,
        spread=resnet18_spread,
        head=resnet18_head,
        kept_in=(2, 1),
        kept_out=(0, 1, 3),
    ),
}
"""The one place where a kind of body gets the name that recipes use.

"conv": one convolution a level, and one more before the decoder's head; fast. "residual": two
residual blocks a level and side; likelier images. "resnet18": ResNet-18 both ways at width 64.
"""
