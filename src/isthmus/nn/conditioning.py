"""Conditioning of an encoder or decoder on a label: through a vector, through FiLM, or not at all.

The vector is the output of the encoder (before the layer of mu and log sigma), or z, the input of the
decoder. A label is 0 .. num_labels-1, or num_labels: the null label (``unconditional_label`` of the
network), which stands for "no label" and has learned weights like the other labels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 (conventional name)
from jaxtyping import Float, Int
from torch import Tensor, nn

from isthmus.errors import UserError

EMBEDDING_DIM = 64
"""Size of the label embedding of ``Concat`` and ``Film``."""


class Conditioning(nn.Module, ABC):
    """Conditions the encoder or the decoder of a VAE on the label.

    ``forward`` conditions a vector: the output of the encoder, or z. ``condition`` computes the input
    of the FiLM layers in the stages of the encoder or decoder.
    """

    def condition(self, label: Int[Tensor, " batch"]) -> Float[Tensor, "batch embedded"] | None:  # noqa: ARG002
        """Input of the FiLM layers; None if the stages have no FiLM layers (default)."""
        return None

    @abstractmethod
    def forward(
        self, vector: Float[Tensor, "batch feature"], label: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch feature"]:
        """The conditioned vector."""


class Ignore(Conditioning):
    """No conditioning: the vector is unchanged and the stages have no FiLM layers."""

    def forward(
        self,
        vector: Float[Tensor, "batch feature"],
        label: Int[Tensor, " batch"],  # noqa: ARG002
    ) -> Float[Tensor, "batch feature"]:
        """The vector, unchanged."""
        return vector


class Add(Conditioning):
    """Adds an embedding of the label to the vector, then applies a multilayer perceptron.

    Embedding: one-hot -> linear (10) -> ReLU -> linear (size) -> ReLU. Perceptron: linear (size / 2)
    -> ReLU -> linear (size). The reference study used this conditioning, with 10 labels and vectors
    of size 256.
    """

    def __init__(self, size: int, num_labels: int) -> None:
        super().__init__()
        self.num_labels = num_labels
        self.embedding = nn.Sequential(
            nn.Linear(num_labels + 1, 10), nn.ReLU(), nn.Linear(10, size), nn.ReLU()
        )
        narrow = max(1, size // 2)
        self.mixing = nn.Sequential(nn.Linear(size, narrow), nn.ReLU(), nn.Linear(narrow, size))

    def forward(
        self, vector: Float[Tensor, "batch feature"], label: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch feature"]:
        """The perceptron's output for the sum of vector and label embedding."""
        one_hot = F.one_hot(label.long(), self.num_labels + 1).to(vector.dtype)
        mixed: Tensor = self.mixing(vector + self.embedding(one_hot))
        return mixed


class Concat(Conditioning):
    """Concatenates vector and label embedding; a linear layer maps them to the size of the vector.

    Initially the layer adds a random projection of the label embedding, with unit variance, to the
    unchanged vector. With the default initialisation the layer would shrink z, and the ELBO on MNIST
    would be 7 nats worse after the first epoch.
    """

    def __init__(self, size: int, num_labels: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_labels + 1, EMBEDDING_DIM)
        self.linear = nn.Linear(size + EMBEDDING_DIM, size)
        nn.init.zeros_(self.linear.bias)
        with torch.no_grad():
            vector_weight, label_weight = self.linear.weight.split([size, EMBEDDING_DIM], dim=1)
            nn.init.eye_(vector_weight)
            nn.init.normal_(label_weight, std=EMBEDDING_DIM**-0.5)

    def forward(
        self, vector: Float[Tensor, "batch feature"], label: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch feature"]:
        """The linear layer's output for the concatenated vector and label embedding."""
        embedded = self.embedding(label.long()).to(vector.dtype)
        joined: Tensor = self.linear(torch.cat([vector, embedded], dim=1))
        return joined


class Film(Conditioning):
    """Leaves the vector unchanged; the label embedding conditions each stage through a ``FiLM`` layer."""

    def __init__(self, size: int, num_labels: int) -> None:  # noqa: ARG002 (same signature as Concat)
        super().__init__()
        self.embedding = nn.Embedding(num_labels + 1, EMBEDDING_DIM)

    def condition(self, label: Int[Tensor, " batch"]) -> Float[Tensor, "batch embedded"]:
        """The label embedding."""
        embedded: Tensor = self.embedding(label.long())
        return embedded

    def forward(
        self,
        vector: Float[Tensor, "batch feature"],
        label: Int[Tensor, " batch"],  # noqa: ARG002
    ) -> Float[Tensor, "batch feature"]:
        """The vector, unchanged."""
        return vector


class FiLM(nn.Module):
    """Feature-wise linear modulation: scales and shifts each channel.

    Scale and shift are linear functions of the condition, initially close to 1 and 0.

    Source: Perez et al. 2018, FiLM: Visual Reasoning with a General Conditioning Layer,
    equation 2 (arXiv:1709.07871), with the scale parametrised as 1 + a linear function.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(EMBEDDING_DIM, 2 * channels)
        nn.init.normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)

    def forward(
        self,
        x: Float[Tensor, "batch channel height width"],
        condition: Float[Tensor, "batch embedded"] | None,
    ) -> Float[Tensor, "batch channel height width"]:
        """The feature maps, each channel scaled and shifted."""
        if condition is None:
            raise UserError(
                "a stage with FiLM received no condition: the stages and the conditioning of an encoder "
                "or decoder must match; take both from the same entry of CONDITIONINGS"
            )
        scale, shift = self.linear(condition).to(x.dtype)[..., None, None].chunk(2, dim=1)
        modulated: Tensor = torch.addcmul(x + shift, x, scale)
        return modulated


class Unmodulated(nn.Module):
    """The identity, in place of ``FiLM`` in stages that are not conditioned."""

    def forward(
        self,
        x: Float[Tensor, "batch channel height width"],
        condition: Float[Tensor, "batch embedded"] | None,
    ) -> Float[Tensor, "batch channel height width"]:
        """The feature maps, unchanged."""
        if condition is not None:
            raise UserError(
                "a stage without FiLM received a condition, which it would ignore: the stages and the "
                "conditioning of an encoder or decoder must match; take both from the same entry of "
                "CONDITIONINGS"
            )
        return x


Modulate = Callable[[int], nn.Module]
"""Factory: channels -> module of (feature maps, condition or None)."""


def unmodulated(channels: int) -> nn.Module:  # noqa: ARG001
    """The modulation of a stage that is not conditioned."""
    return Unmodulated()


@dataclass(frozen=True)
class ConditioningParts:
    """Factories of the matching modules that condition one encoder or decoder."""

    enter: Callable[[int, int], Conditioning]
    """(size of the vector, number of labels) -> module that conditions the vector."""
    modulate: Modulate
    """channels -> modulation of one stage: ``FiLM`` or the identity."""


NOWHERE = ConditioningParts(lambda _size, _num_labels: Ignore(), unmodulated)
"""For an encoder or decoder that is not conditioned."""

CONDITIONINGS: dict[str, ConditioningParts] = {
    "add": ConditioningParts(Add, unmodulated),
    "concat": ConditioningParts(Concat, unmodulated),
    "film": ConditioningParts(Film, FiLM),
}
"""``model.conditioning`` in a recipe -> factories."""

CONDITION_ON: dict[
    str, Callable[[ConditioningParts], tuple[ConditioningParts, ConditioningParts]]
] = {
    "none": lambda _parts: (NOWHERE, NOWHERE),
    "encoder": lambda parts: (parts, NOWHERE),
    "decoder": lambda parts: (NOWHERE, parts),
    "both": lambda parts: (parts, parts),
    "classifier": lambda parts: (parts, parts),
}
"""``model.condition_on`` in a recipe -> function that returns the factories for encoder and decoder.

For "classifier", the encoder is conditioned on the label that an auxiliary classifier predicts.
"""
