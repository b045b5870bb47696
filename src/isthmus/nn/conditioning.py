"""How a label enters a network: into a vector on its way, into every block of a body, or not at all.

A label is 0 .. num_labels-1, or num_labels: the unconditional label, "no label was told", which is
learned like the others. It takes the same path; only its row of the one-hot code is its own.
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
"""Features of an embedded label, where it is concatenated or modulates."""


class Conditioning(nn.Module, ABC):
    """A place where a label enters: what it does to a vector, what it gives to blocks."""

    @abstractmethod
    def condition(self, label: Int[Tensor, " batch"]) -> Float[Tensor, "batch embedded"] | None:
        """What the blocks of the body on this side are told; None: nothing."""

    @abstractmethod
    def forward(
        self, vector: Float[Tensor, "batch feature"], label: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch feature"]:
        """The vector after it has met the label."""


class Ignore(Conditioning):
    """No label enters here: the vector passes unchanged and the blocks are told nothing."""

    def condition(self, label: Int[Tensor, " batch"]) -> None:  # noqa: ARG002
        """Nothing."""
        return

    def forward(
        self,
        vector: Float[Tensor, "batch feature"],
        label: Int[Tensor, " batch"],  # noqa: ARG002
    ) -> Float[Tensor, "batch feature"]:
        """The vector as it came."""
        return vector


class Add(Conditioning):
    """One-hot -> 10 -> ReLU -> size -> ReLU, added to the vector; then size -> size/2 -> ReLU -> size.

    This is the conditioning of the reference study, whose labels were ten and its vectors 256 long.
    """

    def __init__(self, size: int, num_labels: int) -> None:
        super().__init__()
        self.num_labels = num_labels
        self.embedding = nn.Sequential(
            nn.Linear(num_labels + 1, 10), nn.ReLU(), nn.Linear(10, size), nn.ReLU()
        )
        narrow = max(1, size // 2)
        self.mixing = nn.Sequential(nn.Linear(size, narrow), nn.ReLU(), nn.Linear(narrow, size))

    def condition(self, label: Int[Tensor, " batch"]) -> None:  # noqa: ARG002
        """Nothing: the label is in the vector."""
        return

    def forward(
        self, vector: Float[Tensor, "batch feature"], label: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch feature"]:
        """The vector plus the embedded label, mixed."""
        one_hot = F.one_hot(label.long(), self.num_labels + 1).to(vector.dtype)
        mixed: Tensor = self.mixing(vector + self.embedding(one_hot))
        return mixed


class Concat(Conditioning):
    """The embedded label beside the vector, then a linear layer back to the vector's size.

    At first the layer leaves the vector as it is and adds a random image of the label, with
    unit variance: a random layer would shrink z, and the first epoch ends 7 nats worse on MNIST.
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

    def condition(self, label: Int[Tensor, " batch"]) -> None:  # noqa: ARG002
        """Nothing: the label is in the vector."""
        return

    def forward(
        self, vector: Float[Tensor, "batch feature"], label: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch feature"]:
        """A linear map of the vector and the embedded label."""
        embedded = self.embedding(label.long()).to(vector.dtype)
        joined: Tensor = self.linear(torch.cat([vector, embedded], dim=1))
        return joined


class Film(Conditioning):
    """The vector passes unchanged; the embedded label goes to the blocks, each with a ``FiLM``."""

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
        """The vector as it came."""
        return vector


class FiLM(nn.Module):
    """A scale and a shift for each channel, linear in the condition; near 1 and 0 at first.

    Source: Perez et al. 2018, FiLM: Visual Reasoning with a General Conditioning Layer,
    equation 2 (arXiv:1709.07871), the scale as a difference from 1.
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
                "a FiLM block was told no condition: blocks and conditioning of one side belong "
                "together; take both from the same entry of FUSIONS"
            )
        scale, shift = self.linear(condition).to(x.dtype)[..., None, None].chunk(2, dim=1)
        modulated: Tensor = torch.addcmul(x + shift, x, scale)
        return modulated


class Unmodulated(nn.Module):
    """What a block has in place of ``FiLM`` where no label reaches it."""

    def forward(
        self,
        x: Float[Tensor, "batch channel height width"],
        condition: Float[Tensor, "batch embedded"] | None,
    ) -> Float[Tensor, "batch channel height width"]:
        """What came."""
        if condition is not None:
            raise UserError(
                "a block without FiLM was told a condition, which it would ignore: blocks and "
                "conditioning of one side belong together; take both from the same entry of FUSIONS"
            )
        return x


Modulate = Callable[[int], nn.Module]
"""channels -> module of (feature maps, condition or None)."""


def unmodulated(channels: int) -> nn.Module:  # noqa: ARG001
    """No label reaches the block."""
    return Unmodulated()


@dataclass(frozen=True)
class ConditioningParts:
    """What one side of an autoencoder is built with, so that a label enters it in one way."""

    enter: Callable[[int, int], Conditioning]
    """(size of the vector, number of labels) -> where the label enters."""
    modulate: Modulate
    """What each block of the body owns."""


NOWHERE = ConditioningParts(lambda _size, _num_labels: Ignore(), unmodulated)
"""The parts of a side that no label enters."""

CONDITIONINGS: dict[str, ConditioningParts] = {
    "add": ConditioningParts(Add, unmodulated),
    "concat": ConditioningParts(Concat, unmodulated),
    "film": ConditioningParts(Film, FiLM),
}
"""The one place where a conditioning gets the name that recipes use."""

CONDITION_ON: dict[
    str, Callable[[ConditioningParts], tuple[ConditioningParts, ConditioningParts]]
] = {
    "none": lambda _parts: (NOWHERE, NOWHERE),
    "encoder": lambda parts: (parts, NOWHERE),
    "decoder": lambda parts: (NOWHERE, parts),
    "both": lambda parts: (parts, parts),
    "classifier": lambda parts: (parts, parts),
}
"""Where a label enters -> the parts of the encoder's and of the decoder's side.

For "classifier" the encoder's side is told what an auxiliary classifier reads from the image, not what is given.
"""
