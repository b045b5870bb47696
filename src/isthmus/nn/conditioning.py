"""Conditioning: how a label enters a network, in a vector, in every stage (FiLM), or not at all.

A label is 0 .. num_labels-1, or num_labels: the unconditional label, which stands for "no label" and
has learned weights like the others.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 (its name everywhere)
from jaxtyping import Float, Int
from torch import Tensor, nn

from isthmus.errors import UserError

EMBEDDED = 64
"""Features of an embedded label, for "concat" and "film"."""


class Conditioning(nn.Module, ABC):
    """Conditions one side of a VAE: changes its vector and gives its stages a condition."""

    def condition(self, label: Int[Tensor, " batch"]) -> Float[Tensor, "batch embedded"] | None:  # noqa: ARG002
        """The condition of the stages on this side; None, unless a subclass conditions them."""
        return None

    @abstractmethod
    def forward(
        self, vector: Float[Tensor, "batch feature"], label: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch feature"]:
        """The conditioned vector."""


class Ignore(Conditioning):
    """No conditioning: the vector is unchanged and the stages have no condition."""

    def forward(
        self,
        vector: Float[Tensor, "batch feature"],
        label: Int[Tensor, " batch"],  # noqa: ARG002
    ) -> Float[Tensor, "batch feature"]:
        """The vector, unchanged."""
        return vector


class Add(Conditioning):
    """One-hot -> 10 -> ReLU -> size -> ReLU, added to the vector; then size -> size/2 -> ReLU -> size.

    The conditioning of the reference study, which had 10 labels and vectors of 256.
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
        """A multilayer perceptron of the vector plus the embedded label."""
        one_hot = F.one_hot(label.long(), self.num_labels + 1).to(vector.dtype)
        mixed: Tensor = self.mixing(vector + self.embedding(one_hot))
        return mixed


class Concat(Conditioning):
    """A linear layer of the concatenated vector and embedded label, back to the vector's size.

    Initially the layer adds a random projection of the label, with unit variance, to the unchanged
    vector. A random layer would shrink z: the first epoch on MNIST ends 7 nats worse.
    """

    def __init__(self, size: int, num_labels: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_labels + 1, EMBEDDED)
        self.linear = nn.Linear(size + EMBEDDED, size)
        nn.init.zeros_(self.linear.bias)
        with torch.no_grad():
            of_vector, of_label = self.linear.weight.split([size, EMBEDDED], dim=1)
            nn.init.eye_(of_vector)
            nn.init.normal_(of_label, std=EMBEDDED**-0.5)

    def forward(
        self, vector: Float[Tensor, "batch feature"], label: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch feature"]:
        """A linear map of the vector and the embedded label."""
        embedded = self.embedding(label.long()).to(vector.dtype)
        joined: Tensor = self.linear(torch.cat([vector, embedded], dim=1))
        return joined


class Film(Conditioning):
    """The vector is unchanged; the embedded label conditions the stages, each through a ``FiLM``."""

    def __init__(self, size: int, num_labels: int) -> None:  # noqa: ARG002 (like its siblings)
        super().__init__()
        self.embedding = nn.Embedding(num_labels + 1, EMBEDDED)

    def condition(self, label: Int[Tensor, " batch"]) -> Float[Tensor, "batch embedded"]:
        """The embedded label."""
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
    """A scale and a shift per channel, linear in the condition; initially near 1 and 0.

    Source: Perez et al. 2018, FiLM: Visual Reasoning with a General Conditioning Layer,
    equation 2 (arXiv:1709.07871), with the scale as a difference from 1.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(EMBEDDED, 2 * channels)
        nn.init.normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)

    def forward(
        self,
        x: Float[Tensor, "batch channel height width"],
        condition: Float[Tensor, "batch embedded"] | None,
    ) -> Float[Tensor, "batch channel height width"]:
        """Each channel scaled and shifted."""
        if condition is None:
            raise UserError(
                "a stage with FiLM got no condition: stages and conditioning of one side belong "
                "together; take both from the same entry of CONDITIONINGS"
            )
        scale, shift = self.linear(condition).to(x.dtype)[..., None, None].chunk(2, dim=1)
        modulated: Tensor = torch.addcmul(x + shift, x, scale)
        return modulated


class Unmodulated(nn.Module):
    """The identity, in place of ``FiLM`` in stages without a condition."""

    def forward(
        self,
        x: Float[Tensor, "batch channel height width"],
        condition: Float[Tensor, "batch embedded"] | None,
    ) -> Float[Tensor, "batch channel height width"]:
        """The feature maps, unchanged."""
        if condition is not None:
            raise UserError(
                "a stage without FiLM got a condition, which it would ignore: stages and conditioning of "
                "one side belong together; take both from the same entry of CONDITIONINGS"
            )
        return x


Modulate = Callable[[int], nn.Module]
"""channels -> module of (feature maps, condition or None)."""


def unmodulated(channels: int) -> nn.Module:  # noqa: ARG001
    """The modulation of a stage without a condition."""
    return Unmodulated()


@dataclass(frozen=True)
class ConditioningParts:
    """The matching parts of one conditioning for one side of a VAE."""

    enter: Callable[[int, int], Conditioning]
    """(size of the vector, number of labels) -> module that conditions the vector."""
    modulate: Modulate
    """Makes the modulation of each stage."""


NOWHERE = ConditioningParts(lambda _size, _num_labels: Ignore(), unmodulated)
"""The parts of a side without conditioning."""

CONDITIONINGS: dict[str, ConditioningParts] = {
    "add": ConditioningParts(Add, unmodulated),
    "concat": ConditioningParts(Concat, unmodulated),
    "film": ConditioningParts(Film, FiLM),
}
"""Conditionings by their names in recipes."""

CONDITION_ON: dict[
    str, Callable[[ConditioningParts], tuple[ConditioningParts, ConditioningParts]]
] = {
    "none": lambda _parts: (NOWHERE, NOWHERE),
    "encoder": lambda parts: (parts, NOWHERE),
    "decoder": lambda parts: (NOWHERE, parts),
    "both": lambda parts: (parts, parts),
    "classifier": lambda parts: (parts, parts),
}
"""Conditioned side -> the parts of the encoder's and of the decoder's side, by name in recipes.

For "classifier" the encoder is conditioned on the label that an auxiliary classifier predicts.
"""
