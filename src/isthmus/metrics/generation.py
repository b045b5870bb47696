"""Metrics of a VAE: likelihood, active units, label swaps, Fréchet distance.

Numpy and scipy on arrays, torch where a gradient may be needed. Likelihoods are in nats.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64, Integer
from scipy.special import logsumexp
from scipy.stats import binomtest
from torch import Tensor

from isthmus.errors import UserError


def kl_nats(
    mu_q: Float[Tensor, "*#batch latent"],
    log_sigma_q: Float[Tensor, "*#batch latent"],
    mu_p: Float[Tensor, "*#batch latent"],
    log_sigma_p: Float[Tensor, "*#batch latent"],
) -> Float[Tensor, "*batch latent"]:
    """KL divergence of N(mu_q, sigma_q) from N(mu_p, sigma_p) per latent unit; 0 or more.

    In float32 or better. The sum over units is the divergence of the diagonal Gaussians.

    Source: Kingma and Welling 2014, Auto-encoding variational Bayes (arXiv:1312.6114),
    appendix B, generalised to any two Gaussians.

    >>> zero = torch.zeros(1)
    >>> kl_nats(zero + 2, zero, zero, zero)
    tensor([2.])
    """
    dtype = torch.promote_types(mu_q.dtype, torch.float32)
    log_ratio = log_sigma_q.to(dtype) - log_sigma_p.to(dtype)
    distance = (mu_q.to(dtype) - mu_p.to(dtype)) * torch.exp(-log_sigma_p.to(dtype))
    return 0.5 * (torch.expm1(2 * log_ratio) + distance**2) - log_ratio


def gaussian_log_prob(
    z: Float[Tensor, "*#batch latent"],
    mu: Float[Tensor, "*#batch latent"],
    log_sigma: Float[Tensor, "*#batch latent"],
) -> Float[Tensor, "*batch"]:
    """Log density in nats of z under a diagonal Gaussian, summed over latent units.

    In float32 or better.

    >>> gaussian_log_prob(torch.zeros(2), torch.zeros(2), torch.zeros(2))  # -ln(2 pi)
    tensor(-1.8379)
    """
    dtype = torch.promote_types(z.dtype, torch.float32)
    deviation = (z.to(dtype) - mu.to(dtype)) * torch.exp(-log_sigma.to(dtype))
    return (-0.5 * deviation**2 - log_sigma.to(dtype) - 0.5 * math.log(2 * math.pi)).sum(-1)


def log_weights(
    log_prob: Float[Tensor, "*sample batch"],
    z: Float[Tensor, "*sample batch latent"],
    posterior: tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch latent"]],
    prior: tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch latent"]],
) -> Float[Tensor, "*sample batch"]:
    """Log importance weight of each z drawn from the posterior: log p(x, z) - log q(z | x), in nats.

    Args:
        log_prob: log p(x | z).
        z: The samples.
        posterior: Mean and log standard deviation of q(z | x).
        prior: Mean and log standard deviation of p(z).
    """
    return log_prob + gaussian_log_prob(z, *prior) - gaussian_log_prob(z, *posterior)


BOUND_SAMPLES = 16
"""Samples of z per test image for the bound, which the NLL of a subset corrects."""


@dataclass(frozen=True)
class NLL:
    """Negative log-likelihood in nats by importance sampling; an upper bound in expectation."""

    nats: float
    """Mean over images."""
    standard_error: float
    """Standard error of the mean from the spread over images; NaN for one image."""
    monte_carlo_error: float
    """Standard error of the mean from the spread over samples (delta method); NaN for k = 1, and too
    small where a few samples have most of an image's weight."""
    k: int
    """Samples per image."""
    n: int
    """Images."""
    per_image: Float64[np.ndarray, " image"]

    def of_all(self, chosen: Int64[np.ndarray, " image"], bound: NLL) -> NLL:
        """The NLL of a whole set of which these images are a random sample with equal probabilities.

        Images differ by tens of nats, but each differs from its own bound by only a few. So the mean
        bound of the whole set minus the mean difference in the sample is far more precise than the
        mean of the sample.

        Args:
            chosen: Positions of the sampled images in the whole set, each at most once.
            bound: The NLL of the whole set with few samples of z: correlated, and cheap.

        Source: Särndal, Swensson, Wretman 1992, Model Assisted Survey Sampling, section 6.3
        (difference estimator), with its variance plus that of the whole set as a sample of all
        images. The noise of the bounds cancels if all images were sampled; otherwise that of the
        sampled ones dominates.

        >>> bounds, weights = LogMeanExp(), LogMeanExp()
        >>> bounds.add(np.array([[-1.0, -2.0, -9.0, -4.0]]))
        >>> weights.add(np.log([[0.5, 0.25]]))
        >>> estimate = weights.nll().of_all(np.array([0, 1]), bounds.nll())
        >>> round(estimate.nats, 3)  # 4 minus the mean of 1 - ln 2 and 2 - ln 4
        3.54
        """
        n, whole = self.n, bound.n
        differences = self.per_image - bound.per_image[chosen]
        if n < 2:
            error = math.nan
        else:
            of_draw = differences.var(ddof=1) * (1 / n - 1 / whole)
            error = math.sqrt(of_draw + self.per_image.var(ddof=1) / whole)
        of_bound = bound.monte_carlo_error * math.sqrt(whole / n - 1)
        return replace(
            self,
            nats=float(bound.nats + differences.mean()),
            standard_error=error,
            monte_carlo_error=math.hypot(self.monte_carlo_error, of_bound),
        )


class LogMeanExp:
    """Log of each image's mean weight, accumulated over portions of samples.

    Takes the values of ``log_weights``. Non-finite ones make the image's value NaN or infinite.

    Source: Burda et al. 2016, Importance weighted autoencoders (arXiv:1509.00519), equation 8.

    >>> weights = LogMeanExp()
    >>> weights.add(np.log([[1.0], [2.0]]))
    >>> weights.add(np.log([[6.0]]))
    >>> weights.k, np.exp(weights.value())
    (3, array([3.]))
    """

    def __init__(self) -> None:
        self.k = 0
        """Samples so far."""
        self._log_sum: Float64[np.ndarray, ...] = np.array(-np.inf)
        self._log_sum_of_squares: Float64[np.ndarray, ...] = np.array(-np.inf)

    def add(self, portion: Float[np.ndarray, "sample image"]) -> None:
        """Add more samples of the same images."""
        samples, images = portion.shape
        if self.k and self._log_sum.shape != (images,):
            raise UserError(
                f"log weights of {images} images after those of {len(self._log_sum)}: all portions must "
                "be of the same images; use one LogMeanExp per set of images"
            )
        portion = portion.astype(np.float64)
        with np.errstate(invalid="ignore"):
            self._log_sum = np.logaddexp(self._log_sum, logsumexp(portion, axis=0))
            self._log_sum_of_squares = np.logaddexp(
                self._log_sum_of_squares, logsumexp(2 * portion, axis=0)
            )
        self.k += samples

    def value(self) -> Float64[np.ndarray, " image"]:
        """Estimate of log p(x) of each image."""
        if not self.k:
            raise UserError("no log weights: a mean needs at least one sample; add some first")
        return self._log_sum - math.log(self.k)

    def nll(self) -> NLL:
        """The estimate for the set of images, with its errors."""
        per_image = -self.value()
        n = len(per_image)
        with np.errstate(invalid="ignore"):
            relative = self.k * np.exp(self._log_sum_of_squares - 2 * self._log_sum) - 1
            spread = per_image.std(ddof=1) if n > 1 else math.nan
        variances = relative.clip(min=0) / (self.k - 1) if self.k > 1 else np.full(n, np.nan)
        return NLL(
            nats=float(per_image.mean()),
            standard_error=float(spread / math.sqrt(n)),
            monte_carlo_error=float(np.sqrt(variances.sum()) / n),
            k=self.k,
            n=n,
            per_image=per_image,
        )


def bits_per_dim(nats: float, dims: int, offset: float) -> float:
    """Bits per value of an image.

    Args:
        nats: Negative log-likelihood, or negative ELBO, of an image.
        dims: Values of an image: channels times height times width.
        offset: The likelihood's ``dims_offset_nats_per_dim``.

    >>> bits_per_dim(0.0, 784, math.log(256))  # the uniform density on [0, 1]
    8.0
    """
    return (nats / dims + offset) / math.log(2)


@dataclass(frozen=True)
class ActiveUnits:
    """Latent units whose posterior mean changes with the image."""

    count: int
    variances: Float[np.ndarray, " latent"]
    """Variance over images of the posterior mean of each unit."""


def active_units(mu: Float[np.ndarray, "image latent"], threshold: float = 0.01) -> ActiveUnits:
    """Units whose posterior mean has a variance over images above ``threshold``.

    Source: Burda et al. 2016 (arXiv:1509.00519), section 5.2.

    >>> active_units(np.array([[0.0, 5.0], [1.0, 5.0]])).count
    1
    """
    if len(mu) < 2:
        raise UserError(f"{len(mu)} image: a variance needs at least 2; pass more")
    variances = mu.var(axis=0, dtype=np.float64)
    return ActiveUnits(int((variances > threshold).sum()), variances)


@dataclass(frozen=True)
class Proportion:
    """A share of n cases, with its interval."""

    successes: int
    n: int

    def __post_init__(self) -> None:
        if not 0 <= self.successes <= self.n:
            raise UserError(
                f"{self.successes} successes of {self.n}: must be 0 .. n; check the counts"
            )

    @property
    def value(self) -> float:
        """Successes over n; NaN for n = 0."""
        return self.successes / self.n if self.n else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval (Wilson 1927, Probable inference); (0, 1) for n = 0.

        >>> low, high = Proportion(98, 100).interval
        >>> round(low, 3), round(high, 3)
        (0.93, 0.994)
        """
        if not self.n:
            return 0.0, 1.0
        interval = binomtest(self.successes, self.n).proportion_ci(method="wilson")
        return float(interval.low), float(interval.high)

    def named(self, name: str) -> dict[str, float]:
        """The share under this name, and the ends of its interval.

        >>> list(Proportion(1, 2).named("cas"))
        ['cas', 'cas_low', 'cas_high']
        """
        low, high = self.interval
        return {name: self.value, f"{name}_low": low, f"{name}_high": high}


def wrong_labels(
    labels: Integer[np.ndarray, " n"], num_labels: int, rng: np.random.Generator
) -> Int64[np.ndarray, " n"]:
    """For each label a different one, uniform over the others.

    >>> wrong_labels(np.array([0, 1, 1]), 2, np.random.default_rng(0))
    array([1, 0, 0])
    """
    if num_labels < 2:
        raise UserError(f"{num_labels} label: a wrong one needs at least 2; add images of another")
    if labels.size and not 0 <= labels.min() <= labels.max() < num_labels:
        raise UserError(
            f"labels are {labels.min()} .. {labels.max()} but there are {num_labels} classes: a label "
            f"is 0 .. {num_labels - 1}; correct the labels or the number"
        )
    return (labels.astype(np.int64) + rng.integers(1, num_labels, labels.shape)) % num_labels


@dataclass(frozen=True)
class SwapMetrics:
    """How often the judge finds which label in images generated under a wrong label."""

    success: Proportion
    """The given label."""
    leakage: Proportion
    """The true label."""
    other: Proportion
    """Any other label."""
    success_by_given: dict[int, Proportion]
    """Success for each given label."""


def swap_metrics(
    true: Integer[np.ndarray, " n"],
    given: Integer[np.ndarray, " n"],
    judged: Integer[np.ndarray, " n"],
) -> SwapMetrics:
    """Shares of images in which the judge finds the given label, the true one, or another.

    Raises:
        UserError: If a given label is the true one, or the lengths differ.

    >>> metrics = swap_metrics(np.array([0, 0]), np.array([1, 2]), np.array([1, 0]))
    >>> metrics.success.value, metrics.leakage.value
    (0.5, 0.5)
    """
    check_shapes(true, given, judged)
    if (same := np.flatnonzero(true == given)).size:
        raise UserError(
            f"image {same[0]} is given its true label {true[same[0]]}: a swap needs a wrong one; "
            "draw them with wrong_labels"
        )
    is_given, is_true = judged == given, judged == true
    return SwapMetrics(
        success=_share(is_given),
        leakage=_share(is_true),
        other=_share(~is_given & ~is_true),
        success_by_given={
            int(label): _share(is_given[given == label]) for label in np.unique(given)
        },
    )


def frechet_distance(a: Float[np.ndarray, "n feature"], b: Float[np.ndarray, "m feature"]) -> float:
    """Squared Fréchet distance of the Gaussians fitted to two sets of features; 0 or more.

    Small sets bias it upwards: compare only at one size, next to the distance of two real sets of
    that size. The trace of the root of the product of the covariances is computed as the sum of
    singular values of the product of their roots, which rounding cannot make complex.

    Source: Heusel et al. 2017, GANs trained by a two time-scale update rule
    (arXiv:1706.08500), equation 6, for any features.
    """
    if min(len(a), len(b)) < 2 or a.shape[1] != b.shape[1]:
        raise UserError(
            f"features have shapes {a.shape} and {b.shape}: each set needs at least 2 images, and both "
            "the same features; compute both with one network"
        )
    means = [x.mean(axis=0, dtype=np.float64) for x in (a, b)]
    covariances = [np.atleast_2d(np.cov(x, rowvar=False, dtype=np.float64)) for x in (a, b)]
    roots = [_symmetric_root(covariance) for covariance in covariances]
    overlap = np.linalg.svd(roots[0] @ roots[1], compute_uv=False).sum()
    spread = sum(np.trace(covariance) for covariance in covariances) - 2 * overlap
    return max(0.0, float(((means[0] - means[1]) ** 2).sum() + spread))


def _share(holds: Bool[np.ndarray, " n"]) -> Proportion:
    return Proportion(int(holds.sum()), len(holds))


def check_shapes(*parts: np.ndarray) -> None:
    """Reject arrays of different numbers of images."""
    lengths = [len(part) for part in parts]
    if len(set(lengths)) > 1:
        raise UserError(
            f"lengths {lengths} differ: all must be of the same images; pass one row per image"
        )


def _symmetric_root(
    covariance: Float64[np.ndarray, "feature feature"],
) -> Float64[np.ndarray, "feature feature"]:
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(values.clip(min=0))) @ vectors.T)
