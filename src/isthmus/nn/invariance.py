"""What keeps the label out of z: penalties to add to the objective, times a weight.

What holds for every penalty here is said once, and only here:

- ``labels`` are class indices, 0 .. num_labels-1; classes may be absent from a batch.
- Penalties of samples are biased estimates, 0 or more: z that knows nothing of the label still
  costs something of the order of 1 / batch. They are computed in float32 at least, whatever autocast says.
- Their kernel on z is Gaussian. Its bandwidth is the median distance between the batch's z
  (Gretton et al. 2012, section 8) and takes no gradient: else spreading z out would do.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (its name everywhere)
from jaxtyping import Float, Int
from torch import Tensor, nn

from isthmus.errors import UserError


def hsic(
    z: Float[Tensor, "batch latent"], labels: Int[Tensor, " batch"], num_labels: int
) -> Float[Tensor, ""]:
    """Hilbert-Schmidt independence criterion of z and label; the label's kernel is equality.

    Source: Gretton et al. 2005, Measuring statistical dependence with Hilbert-Schmidt norms,
    definition 2.

    >>> hsic(torch.tensor([[0.0], [0.0], [1.0]]), torch.tensor([0, 1, 0]), 2) >= 0
    tensor(True)
    """
    _check_shapes(z, labels, num_labels)
    with torch.autocast(z.device.type, enabled=False):
        kernel = _gaussian_kernel(z)
        one_hot = F.one_hot(labels.long(), num_labels).to(kernel.dtype)
        centred = one_hot - one_hot.mean(dim=0)
        return (centred * (kernel @ centred)).sum() / (len(z) - 1) ** 2


def mmd(
    z: Float[Tensor, "batch latent"], labels: Int[Tensor, " batch"], num_labels: int
) -> Float[Tensor, ""]:
    """Squared maximum mean discrepancy of a class's z from all z, mean over classes present.

    Rare classes weigh as much as frequent ones.

    Source: Gretton et al. 2012, A kernel two-sample test (JMLR 13), equation 5.

    >>> mmd(torch.tensor([[0.0], [1.0]]), torch.tensor([1, 1]), 3)  # one class is all z
    tensor(0.)
    """
    _check_shapes(z, labels, num_labels)
    with torch.autocast(z.device.type, enabled=False):
        kernel = _gaussian_kernel(z)
        one_hot = F.one_hot(labels.long(), num_labels).to(kernel.dtype)
        counts = one_hot.sum(dim=0)
        is_present = (counts > 0).to(kernel.dtype)
        contrast = one_hot / counts.clamp(min=1) - is_present / len(z)
        return (contrast * (kernel @ contrast)).sum() / is_present.sum()


class GradientReversal(torch.autograd.Function):
    """The identity, whose gradient is turned round and weighted.

    Source: Ganin et al. 2016, Domain-adversarial training of neural networks
    (arXiv:1505.07818), section 4.2.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: float) -> Tensor:
        """The same values."""
        ctx.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Minus weight times the gradient; none for the weight."""
        return -ctx.weight * gradients[0], None


def reverse_gradient(x: Float[Tensor, "*shape"], weight: float) -> Float[Tensor, "*shape"]:
    """``x`` itself; its gradient comes back times -``weight``.

    >>> x = torch.ones(1, requires_grad=True)
    >>> reverse_gradient(x, 0.5).backward()
    >>> x.grad
    tensor([-0.5000])
    """
    reversed_: Tensor = GradientReversal.apply(x, weight)
    return reversed_


class Adversary(nn.Module):
    """A classifier of z that learns to tell the label while z learns that it cannot.

    Its cross-entropy is minimised together with the objective: the classifier takes the
    gradient as it is, what made z takes it turned round and weighted. The value says how much
    is hidden: ln(num_labels) where nothing of balanced labels is left, 0 where all is.

    Source: the aim and the training are of Lample et al. 2017, Fader networks
    (arXiv:1706.00409), section 3; reversal in one step in place of alternating ones is of Ganin
    et al. 2016.

    Args:
        latent: Units of z.
        num_labels: Number of classes.
        hidden: Units of the one hidden layer.
    """

    def __init__(self, latent: int, num_labels: int, hidden: int = 256) -> None:
        super().__init__()
        self.num_labels = num_labels
        self.classifier = nn.Sequential(
            nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, num_labels)
        )

    def forward(
        self, z: Float[Tensor, "batch latent"], labels: Int[Tensor, " batch"], weight: float
    ) -> Float[Tensor, ""]:
        """Cross-entropy in nats of the classifier, in float32 at least, mean over the batch."""
        _check_shapes(z, labels, self.num_labels)
        logits = self.classifier(reverse_gradient(z, weight))
        dtype = torch.promote_types(logits.dtype, torch.float32)
        return F.cross_entropy(logits.to(dtype), labels.long())


def _gaussian_kernel(z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch batch"]:
    """exp(-distance**2 / (2 median**2)) of all pairs; the median is of those of two."""
    if len(z) < 2:
        raise UserError(f"{len(z)} z: a kernel compares 2 or more; drop a last batch of one")
    precise = z.to(torch.promote_types(z.dtype, torch.float32))
    centred = precise - precise.detach().mean(dim=0)  # loses fewer digits below
    squares = centred.square().sum(dim=1)
    squared = (squares[:, None] + squares - 2 * centred @ centred.T).clamp(min=0)
    apart = torch.triu_indices(len(z), len(z), offset=1, device=z.device)
    median = squared.detach()[apart[0], apart[1]].median()
    return torch.exp(-squared / (2 * median.clamp(min=torch.finfo(squared.dtype).eps)))


def _check_shapes(z: Tensor, labels: Tensor, num_labels: int) -> None:
    if len(z) != len(labels):
        raise UserError(
            f"{len(z)} z but {len(labels)} labels: each z has one; give those of the same batch"
        )
    # Only where it costs nothing: it would make an accelerator wait, and cannot be traced.
    if labels.device.type == "cpu" and not torch.compiler.is_compiling():
        unknown = labels[(labels < 0) | (labels >= num_labels)]
        if len(unknown):
            raise UserError(
                f"labels hold {int(unknown[0])} but there are {num_labels} classes: a label is "
                f"0 .. {num_labels - 1}; leave images without a label out"
            )
