"""Penalties on z as modules of one signature: (z, labels) -> nats an image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from jaxtyping import Float, Int
from torch import Tensor, nn

from isthmus.nn.invariance import Adversary, hsic, mmd

KERNEL_PENALTIES: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {"hsic": hsic, "mmd": mmd}
"""The one place where a kernel penalty gets the name that recipes use."""


class Penalty(nn.Module, ABC):
    """What an objective adds so that z says nothing of the label."""

    @abstractmethod
    def forward(
        self, z: Float[Tensor, "batch latent"], labels: Int[Tensor, " batch"]
    ) -> Float[Tensor, ""]:
        """What this batch costs."""


class NoPenalty(Penalty):
    """Nothing keeps the label out of z."""

    def forward(
        self,
        z: Float[Tensor, "batch latent"],
        labels: Int[Tensor, " batch"],  # noqa: ARG002
    ) -> Float[Tensor, ""]:
        """Zero."""
        return z.new_zeros(())


class KernelPenalty(Penalty):
    """A measure of dependence, times its weight."""

    def __init__(
        self, measure: Callable[[Tensor, Tensor, int], Tensor], weight: float, num_labels: int
    ) -> None:
        super().__init__()
        self.measure = measure
        self.weight = weight
        self.num_labels = num_labels

    def forward(
        self, z: Float[Tensor, "batch latent"], labels: Int[Tensor, " batch"]
    ) -> Float[Tensor, ""]:
        """The weighted dependence of z and label in this batch."""
        return self.weight * self.measure(z, labels, self.num_labels)


class AdversaryPenalty(Penalty):
    """An adversary that is trained along; its gradient reaches z reversed, times the weight."""

    def __init__(self, adversary: Adversary, weight: float) -> None:
        super().__init__()
        self.adversary = adversary
        self.weight = weight

    def forward(
        self, z: Float[Tensor, "batch latent"], labels: Int[Tensor, " batch"]
    ) -> Float[Tensor, ""]:
        """The adversary's cross-entropy, which it lowers and the encoder raises."""
        cross_entropy: Tensor = self.adversary(z, labels, self.weight)
        return cross_entropy
