"""Segmentation losses on logits and masks of class indices, by name.

Common to all losses:

- ``logits`` are unnormalised: the loss applies the softmax (``bce_loss``: the sigmoid), in float32
  even under autocast. There are at least two classes.
- ``target`` is one class index per pixel, 0 .. class-1, or ``ignore_index``. An ignored pixel changes
  neither the loss nor any gradient, and the gradient of its logits is exactly 0. If all pixels are
  ignored, the loss is 0.
- Logits and target that do not fit together, and options out of range, raise ``UserError``. Unknown
  classes are detected on the CPU only, and not during tracing.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import torch
import torch.nn.functional as F  # noqa: N812 (conventional name)
from jaxtyping import Float, Int
from torch import Tensor

from isthmus.errors import UserError, nearest_name
from isthmus.recipe import IGNORE_INDEX
from isthmus.recipe.registry import LOSS

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""(logits, target) -> loss."""
Named = TypeVar("Named", bound=Callable[..., Tensor])


def _at_least_float32(loss: Named) -> Named:
    """Decorator: computes the loss in float32, or in float64 for float64 logits, even under autocast."""

    @functools.wraps(loss)
    def precise(logits: Tensor, target: Tensor, **options: Any) -> Tensor:
        dtype = torch.promote_types(logits.dtype, torch.float32)
        with torch.autocast(logits.device.type, enabled=False):
            return loss(logits.to(dtype), target, **options)

    return cast(Named, precise)


@_at_least_float32
def bce_loss(
    logits: Float[Tensor, "batch class height width"],
    target: Int[Tensor, "batch height width"],
    *,
    ignore_index: int = IGNORE_INDEX,
) -> Float[Tensor, ""]:
    """Binary cross-entropy in nats of each class against the rest; lies in [0, inf).

    Each class channel has its own sigmoid; mean over pixels and channels.

    >>> bce_loss(torch.zeros(1, 2, 1, 1), torch.tensor([[[1]]]))  # ln 2
    tensor(0.6931)
    """
    seen = _seen(logits, target, ignore_index)
    per_channel = F.binary_cross_entropy_with_logits(seen.logits, seen.truth, reduction="none")
    return _mean_over_counted(per_channel.mean(dim=1, keepdim=True), seen.counts)


@_at_least_float32
def ce_loss(
    logits: Float[Tensor, "batch class height width"],
    target: Int[Tensor, "batch height width"],
    *,
    ignore_index: int = IGNORE_INDEX,
) -> Float[Tensor, ""]:
    """Cross-entropy in nats of the softmax over classes, mean over pixels; lies in [0, inf).

    >>> ce_loss(torch.zeros(1, 4, 1, 1), torch.tensor([[[1]]]))  # ln 4
    tensor(1.3863)
    """
    seen = _seen(logits, target, ignore_index)
    return _mean_over_counted(_cross_entropy_nats(seen), seen.counts)


@_at_least_float32
def focal_loss(
    logits: Float[Tensor, "batch class height width"],
    target: Int[Tensor, "batch height width"],
    *,
    gamma: float = 2.0,
    ignore_index: int = IGNORE_INDEX,
) -> Float[Tensor, ""]:
    """Cross-entropy of each pixel times (1 - p)**gamma, mean over pixels; lies in [0, inf).

    p is the softmax probability of the true class. ``gamma``, 0 or more, reduces the weight of easy
    pixels; 0 is cross-entropy. No class weights.

    Source: Lin et al. 2017, Focal Loss for Dense Object Detection, equation 4
    (arXiv:1708.02002), with a softmax instead of the sigmoid.

    >>> focal_loss(torch.zeros(1, 2, 1, 1), torch.tensor([[[1]]]))  # ln 2 / 4
    tensor(0.1733)
    """
    if not gamma >= 0:
        raise UserError(f"gamma = {gamma}: must be 0 or more; use 2")
    seen = _seen(logits, target, ignore_index)
    cross_entropy = _cross_entropy_nats(seen)
    # The clamp keeps the gradient of x**gamma finite for gamma < 1 if p rounds to 1.
    tiny = torch.finfo(cross_entropy.dtype).tiny
    one_minus_p = -torch.expm1(-cross_entropy.clamp(min=tiny))
    return _mean_over_counted(one_minus_p**gamma * cross_entropy, seen.counts)


@_at_least_float32
def dice_loss(
    logits: Float[Tensor, "batch class height width"],
    target: Int[Tensor, "batch height width"],
    *,
    smooth: float = 1.0,
    softmax: bool = True,
    ignore_index: int = IGNORE_INDEX,
) -> Float[Tensor, ""]:
    """One minus the soft Dice overlap, averaged over classes; lies in [0, 1].

    Sums run over batch, height and width together: a batch counts as one large image. A class
    absent from ``target`` has the overlap ``smooth / (predicted pixels + smooth)``, so every pixel
    predicted as this class increases the loss. ``smooth`` is in pixels and above 0. If ``softmax`` is
    False, the logits are used as probabilities and the loss is unbounded; this is a known mistake,
    which is provided to measure its effect.

    Source: Milletari et al. 2016, V-Net, section 3 (arXiv:1606.04797), without the
    squares in the denominator and with ``smooth`` added.

    >>> target = torch.tensor([[[0, 1]]])
    >>> dice_loss(50.0 * F.one_hot(target, 2).movedim(-1, 1), target)
    tensor(0.)
    """
    _check_smooth(smooth)
    seen = _seen(logits, target, ignore_index)
    both, only_predicted, only_true = _soft_areas_px(seen, softmax=softmax)
    area = 2 * both + only_predicted + only_true
    return (1 - (2 * both + smooth) / (area + smooth)).mean()


@_at_least_float32
def tversky_loss(
    logits: Float[Tensor, "batch class height width"],
    target: Int[Tensor, "batch height width"],
    *,
    alpha: float = 0.3,
    beta: float = 0.7,
    smooth: float = 1.0,
    ignore_index: int = IGNORE_INDEX,
) -> Float[Tensor, ""]:
    """One minus the soft Tversky index, averaged over classes; lies in [0, 1].

    Sums run over batch, height and width together. ``alpha`` weights false positives, ``beta``
    false negatives, both 0 or more: 0.5 and 0.5 give ``dice_loss`` with twice the ``smooth``,
    1 and 1 give one minus the soft IoU. ``smooth`` is in pixels and above 0.

    Source: Salehi et al. 2017, Tversky loss function for image segmentation, equations 3
    and 4 (arXiv:1706.05721), with ``smooth`` added.

    >>> target = torch.tensor([[[0, 1]]])
    >>> tversky_loss(50.0 * F.one_hot(target, 2).movedim(-1, 1), target)
    tensor(0.)
    """
    _check_smooth(smooth)
    if not (alpha >= 0 and beta >= 0):
        raise UserError(f"alpha = {alpha}, beta = {beta}: must be 0 or more; use 0.3 and 0.7")
    both, only_predicted, only_true = _soft_areas_px(_seen(logits, target, ignore_index))
    area = both + alpha * only_predicted + beta * only_true
    return (1 - (both + smooth) / (area + smooth)).mean()


_LARGEST = {"dice": 1.0, "tversky": 1.0}  # other losses of ours have no upper bound


def loss_named(name: str, **options: float | int) -> LossFunction:
    """The loss with this name in recipes; a ``+`` in the name stands for a sum of losses.

    Each option is passed to the terms of the sum that accept it; a loss from outside isthmus accepts
    none. An unknown term, and an option that no term accepts, raise ``UserError``.

    >>> loss = loss_named("ce+dice", smooth=1.0)
    >>> loss(torch.zeros(1, 2, 1, 1), torch.tensor([[[1]]]))  # ln 2 + 4/15
    tensor(0.9598)
    """
    takes = [(term, _options_of(term)) for term in name.split("+")]
    known = set().union(*(taken for _, taken in takes))
    for key in options:
        if key not in known:
            raise UserError(f"{key}: loss {name} has no such option; {nearest_name(key, known)}")
    terms = [
        functools.partial(LOSS.load(term), **{key: options[key] for key in taken & options.keys()})
        for term, taken in takes
    ]
    return functools.partial(_sum_of_losses, terms)


def loss_range(name: str) -> tuple[float, float]:
    """Smallest and largest possible value of the loss with this name; infinite for a loss from outside.

    >>> loss_range("dice"), loss_range("ce+dice")
    ((0.0, 1.0), (0.0, inf))
    """
    terms = name.split("+")
    smallest = -math.inf if any(map(LOSS.is_outside, terms)) else 0.0
    return smallest, sum(_LARGEST.get(term, math.inf) for term in terms)


class _Seen(NamedTuple):
    """The inputs of a loss, which are 0 at ignored pixels."""

    logits: Float[Tensor, "batch class height width"]
    truth: Float[Tensor, "batch class height width"]  # one-hot
    counts: Float[Tensor, "batch 1 height width"]  # 1, or 0 where the pixel is ignored


def _seen(
    logits: Float[Tensor, "batch class height width"],
    target: Int[Tensor, "batch height width"],
    ignore_index: int,
) -> _Seen:
    _check_shapes(logits, target, ignore_index)
    is_counted = target != ignore_index
    counts = is_counted.unsqueeze(1)
    classes = torch.where(is_counted, target, 0).long()
    truth = F.one_hot(classes, logits.shape[1]).movedim(-1, 1) * counts
    # torch.where instead of a product, so that the logits of an ignored pixel may be infinite.
    return _Seen(torch.where(counts, logits, 0), truth.to(logits.dtype), counts.to(logits.dtype))


def _check_shapes(logits: Tensor, target: Tensor, ignore_index: int) -> None:
    batch, num_classes, *size = logits.shape
    if target.shape != (batch, *size):
        raise UserError(
            f"target has shape {tuple(target.shape)} but logits {tuple(logits.shape)}: "
            "batch, height and width must agree; pass one mask per image, at the size of the logits"
        )
    if num_classes < 2:
        raise UserError(
            "logits have 1 class: a loss needs at least 2, one of them the background; "
            "give the network one output channel per class"
        )
    # Checked on the CPU only: on a GPU the check would synchronise, and it cannot be traced.
    if target.device.type == "cpu" and not torch.compiler.is_compiling():
        unknown = (target != ignore_index) & ((target < 0) | (target >= num_classes))
        if unknown.any():
            raise UserError(
                f"target has class {int(target[unknown][0])} but logits have {num_classes} "
                f"classes: a pixel is 0 .. {num_classes - 1} or {ignore_index} (ignored); "
                "correct the masks or the number of classes"
            )


def _cross_entropy_nats(seen: _Seen) -> Float[Tensor, "batch 1 height width"]:
    """-log p of the true class of each pixel; an arbitrary finite number for an ignored pixel."""
    true_class = seen.truth.argmax(dim=1, keepdim=True)
    return -F.log_softmax(seen.logits, dim=1).gather(1, true_class)


def _soft_areas_px(
    seen: _Seen, *, softmax: bool = True
) -> tuple[Float[Tensor, " class"], Float[Tensor, " class"], Float[Tensor, " class"]]:
    """Soft true positives, false positives and false negatives of each class."""
    probs = (F.softmax(seen.logits, dim=1) if softmax else seen.logits) * seen.counts
    pixels = (0, 2, 3)
    both = (probs * seen.truth).sum(pixels)
    return both, probs.sum(pixels) - both, seen.truth.sum(pixels) - both


def _mean_over_counted(
    per_pixel: Float[Tensor, "batch 1 height width"], counts: Float[Tensor, "batch 1 height width"]
) -> Float[Tensor, ""]:
    return (per_pixel * counts).sum() / counts.sum().clamp(min=1)


def _sum_of_losses(terms: Sequence[LossFunction], logits: Tensor, target: Tensor) -> Tensor:
    return torch.stack([term(logits, target) for term in terms]).sum()


def _options_of(name: str) -> set[str]:
    if LOSS.is_outside(name):
        return set()
    parameters = inspect.signature(LOSS.load(name)).parameters.values()
    return {p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def _check_smooth(smooth: float) -> None:
    if not smooth > 0:
        raise UserError(
            f"smooth = {smooth}: must be above 0, or an absent class would be 0/0; use 1"
        )
