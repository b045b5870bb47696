"""Penalties on label information in z: kernel measures of dependence, and an adversarial classifier.

Common to all penalties:

- ``labels`` are class indices, 0 .. num_labels-1; classes may be absent from a batch.
- ``weights`` are 1, or 0 for images that are left out; with fewer than two others the penalty is 0.
- Kernel penalties are biased, nonnegative estimates: even if z is independent of the label, they are
  of the order of 1 / batch size. They are computed in float32 or better, even under autocast.
- The kernel on z is Gaussian. Its bandwidth is the median distance within the batch (Gretton et
  al. 2012, section 8). No gradient flows through the bandwidth, because otherwise spreading z out
  would reduce the penalty.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (conventional name)
from jaxtyping import Float, Int
from torch import Tensor, nn

from isthmus.errors import UserError

Penalty = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(z, labels, weights) -> penalty of a batch, in nats per image."""


def penalty_named(name: str, weight: float | None, latent: int, num_labels: int) -> Penalty:
    """The penalty by its name in recipes, times ``weight``; the penalty "none" is always 0.

    An adversary is an ``nn.Module`` whose weights are trained together with those of the network;
    ``weight`` then multiplies the reversed gradient, not the value.

    >>> penalty = penalty_named("none", None, latent=2, num_labels=3)
    >>> penalty(torch.ones(4, 2), torch.arange(4) % 3, torch.ones(4))
    tensor(0.)
    """
    if name == "none" or weight is None:
        return _no_penalty
    if name == "adversary":
        return Adversary(latent, num_labels, weight)
    return functools.partial(_kernel_penalty, KERNEL_PENALTIES[name], weight, num_labels)


def hsic(
    z: Float[Tensor, "batch latent"],
    labels: Int[Tensor, " batch"],
    weights: Float[Tensor, " batch"],
    num_labels: int,
) -> Float[Tensor, ""]:
    """Hilbert-Schmidt independence criterion of z and label.

    The kernel on labels is 1 for equal labels and 0 otherwise.

    Source: Gretton et al. 2005, Measuring statistical dependence with Hilbert-Schmidt norms,
    definition 2.

    >>> hsic(torch.tensor([[0.0], [0.0], [1.0]]), torch.tensor([0, 1, 0]), torch.ones(3), 2) >= 0
    tensor(True)
    """
    _check_shapes(z, labels, num_labels)
    with torch.autocast(z.device.type, enabled=False):
        kernel = _gaussian_kernel(z, weights)
        one_hot, count = _counted(labels, weights, num_labels, kernel.dtype)
        centred = one_hot - weights[:, None] * one_hot.sum(dim=0) / count.clamp(min=1)
        return (centred * (kernel @ centred)).sum() / (count - 1).clamp(min=1) ** 2


def mmd(
    z: Float[Tensor, "batch latent"],
    labels: Int[Tensor, " batch"],
    weights: Float[Tensor, " batch"],
    num_labels: int,
) -> Float[Tensor, ""]:
    """Squared maximum mean discrepancy between the z of a class and all z, mean over classes.

    The mean is over the classes in the batch; rare classes count as much as frequent classes.

    Source: Gretton et al. 2012, A kernel two-sample test (JMLR 13), equation 5.

    >>> mmd(torch.tensor([[0.0], [1.0]]), torch.tensor([1, 1]), torch.ones(2), 3)  # only one class
    tensor(0.)
    """
    _check_shapes(z, labels, num_labels)
    with torch.autocast(z.device.type, enabled=False):
        kernel = _gaussian_kernel(z, weights)
        one_hot, count = _counted(labels, weights, num_labels, kernel.dtype)
        counts = one_hot.sum(dim=0)
        is_present = (counts > 0).to(kernel.dtype)
        of_all = weights[:, None] * is_present / count.clamp(min=1)
        contrast = one_hot / counts.clamp(min=1) - of_all
        return (contrast * (kernel @ contrast)).sum() / is_present.sum().clamp(min=1)


KERNEL_PENALTIES: dict[str, Callable[[Tensor, Tensor, Tensor, int], Tensor]] = {
    "hsic": hsic,
    "mmd": mmd,
}
"""``objective.invariance`` in a recipe -> kernel penalty."""


class Adversary(nn.Module):
    """A classifier that predicts the label from z, while the encoder is trained to prevent that.

    The classifier's cross-entropy is minimised together with the objective. The classifier receives
    the unchanged gradient; the encoder receives the gradient times -``weight``. For balanced labels,
    the cross-entropy of an optimal classifier is ln(num_labels) if z contains no information about
    the label, and 0 if z determines the label.

    Source: Lample et al. 2017, Fader networks (arXiv:1706.00409), section 3, with gradient reversal
    (Ganin et al. 2016) instead of alternating steps.

    Args:
        latent: Size of z.
        num_labels: Number of classes.
        weight: Factor of the reversed gradient.
        hidden: Units of the hidden layer.
    """

    def __init__(self, latent: int, num_labels: int, weight: float, hidden: int = 256) -> None:
        super().__init__()
        self.num_labels = num_labels
        self.weight = weight
        self.classifier = nn.Sequential(
            nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, num_labels)
        )

    def forward(
        self,
        z: Float[Tensor, "batch latent"],
        labels: Int[Tensor, " batch"],
        weights: Float[Tensor, " batch"],
    ) -> Float[Tensor, ""]:
        """Weighted mean cross-entropy of the classifier in nats, in float32 or better."""
        _check_shapes(z, labels, self.num_labels)
        logits = self.classifier(reverse_gradient(z, self.weight))
        dtype = torch.promote_types(logits.dtype, torch.float32)
        each = F.cross_entropy(logits.to(dtype), labels.long(), reduction="none")
        count = weights.sum()
        return (weights * each).sum() * (count > 1) / count.clamp(min=1)


class _GradientReversal(torch.autograd.Function):
    """Identity with a reversed, weighted gradient (Ganin et al. 2016, arXiv:1505.07818, section 4.2)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: float) -> Tensor:
        ctx.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.weight * gradients[0], None


def reverse_gradient(x: Float[Tensor, "*shape"], weight: float) -> Float[Tensor, "*shape"]:
    """Return ``x`` unchanged; its gradient is multiplied by -``weight``.

    >>> x = torch.ones(1, requires_grad=True)
    >>> reverse_gradient(x, 0.5).backward()
    >>> x.grad
    tensor([-0.5000])
    """
    reversed_: Tensor = _GradientReversal.apply(x, weight)
    return reversed_


def _no_penalty(z: Tensor, labels: Tensor, weights: Tensor) -> Tensor:  # noqa: ARG001
    return z.new_zeros(())


def _kernel_penalty(
    measure: Callable[[Tensor, Tensor, Tensor, int], Tensor],
    weight: float,
    num_labels: int,
    z: Tensor,
    labels: Tensor,
    weights: Tensor,
) -> Tensor:
    return weight * measure(z, labels, weights, num_labels)


def _counted(
    labels: Int[Tensor, " batch"],
    weights: Float[Tensor, " batch"],
    num_labels: int,
    dtype: torch.dtype,
) -> tuple[Float[Tensor, "batch label"], Float[Tensor, ""]]:
    """One-hot rows of the labels, zero for images of weight 0; and the number of images of weight 1."""
    one_hot = F.one_hot(labels.long(), num_labels).to(dtype) * weights[:, None]
    return one_hot, weights.sum()


def _gaussian_kernel(
    z: Float[Tensor, "batch latent"], weights: Float[Tensor, " batch"]
) -> Float[Tensor, "batch batch"]:
    """exp(-distance**2 / (2 median**2)) of all pairs; the median is over pairs of two images of weight 1."""
    if len(z) < 2:
        raise UserError(
            f"{len(z)} z: a kernel penalty needs at least 2; drop a last batch of one image"
        )
    precise = z.to(torch.promote_types(z.dtype, torch.float32))
    centred = precise - precise.detach().mean(dim=0)  # reduces rounding errors below
    squares = centred.square().sum(dim=1)
    squared = (squares[:, None] + squares - 2 * centred @ centred.T).clamp(min=0)
    apart = torch.triu_indices(len(z), len(z), offset=1, device=z.device)
    counted = (weights[apart[0]] * weights[apart[1]]) > 0
    pairs = squared.detach()[apart[0], apart[1]].where(counted, torch.nan)
    median = pairs.nanmedian().nan_to_num(nan=1.0)  # no pair counts: the kernel is not used
    return torch.exp(-squared / (2 * median.clamp(min=torch.finfo(squared.dtype).eps)))


def _check_shapes(z: Tensor, labels: Tensor, num_labels: int) -> None:
    if len(z) != len(labels):
        raise UserError(
            f"{len(z)} z but {len(labels)} labels: each z has one label; pass z and labels of one batch"
        )
    # Checked on the CPU only: on a GPU the check would synchronise, and it cannot be traced.
    if labels.device.type == "cpu" and not torch.compiler.is_compiling():
        unknown = labels[(labels < 0) | (labels >= num_labels)]
        if len(unknown):
            raise UserError(
                f"labels contain {int(unknown[0])} but there are {num_labels} classes: a label is "
                f"0 .. {num_labels - 1}; leave out images without a label"
            )
