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

    Computed in float32 or better. The sum over units is the divergence of the diagonal Gaussians.

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

    Computed in float32 or better.

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
"""Samples of z per image for the bound on all test images, which ``NLL.of_all`` corrects."""


@dataclass(frozen=True)
class NLL:
    """Negative log-likelihood in nats by importance sampling (IWAE); in expectation an upper bound."""

    nats: float
    """Mean over images."""
    standard_error: float
    """Standard error of the mean from the spread over images; NaN for one image."""
    monte_carlo_error: float
    """Standard error of the mean from the spread over samples (delta method); NaN for k = 1, and too
    small if a few samples have most of the weight of an image."""
    k: int
    """Number of samples per image."""
    n: int
    """Number of images."""
    per_image: Float64[np.ndarray, " image"]
    """Estimate for each image."""

    def of_all(self, chosen: Int64[np.ndarray, " image"], bound: NLL) -> NLL:
        """Estimate the NLL of a whole set, of which these images are a random subset.

        The NLL varies by tens of nats between images, but for each image, NLL and bound differ by only
        a few nats. The estimate is therefore the mean bound over the whole set plus the mean of NLL
        minus bound over the subset, which is far more precise than the mean NLL over the subset.

        Args:
            chosen: Positions of the subset in the whole set, each at most once; all images of the
                whole set must have been equally likely to be chosen.
            bound: NLL of the whole set with few samples of z per image, which is cheap to compute.

        Source: Särndal, Swensson, Wretman 1992, Model Assisted Survey Sampling, section 6.3
        (difference estimator). The squared standard error is the variance of that estimator plus the
        variance of the whole set as a sample from the population of images. The Monte Carlo error of
        the bounds cancels if all images are chosen; otherwise it comes mainly from the bounds of the
        chosen images.

        >>> bounds, weights = LogMeanExp(), LogMeanExp()
        >>> bounds.add(np.array([[-1.0, -2.0, -9.0, -4.0]]))
        >>> weights.add(np.log([[0.5, 0.25]]))
        >>> estimate = weights.nll().of_all(np.array([0, 1]), bounds.nll())
        >>> round(estimate.nats, 3)  # 4 plus the mean of ln 2 - 1 and ln 4 - 2
        3.54
        """
        n, whole = self.n, bound.n
        differences = self.per_image - bound.per_image[chosen]
        if n < 2:
            error = math.nan
        else:
            subset_variance = differences.var(ddof=1) * (1 / n - 1 / whole)
            error = math.sqrt(subset_variance + self.per_image.var(ddof=1) / whole)
        bound_error = bound.monte_carlo_error * math.sqrt(whole / n - 1)
        return replace(
            self,
            nats=float(bound.nats + differences.mean()),
            standard_error=error,
            monte_carlo_error=math.hypot(self.monte_carlo_error, bound_error),
        )


class LogMeanExp:
    """Log of the mean importance weight of each image, accumulated over chunks of samples.

    ``add`` takes results of ``log_weights``. Non-finite log weights make the image's estimate NaN or
    infinite.

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

    def add(self, chunk: Float[np.ndarray, "sample image"]) -> None:
        """Add the log weights of more samples of the same images."""
        samples, images = chunk.shape
        if self.k and self._log_sum.shape != (images,):
            raise UserError(
                f"log weights of {images} images after those of {len(self._log_sum)}: all chunks must "
                "be of the same images; use one LogMeanExp per set of images"
            )
        chunk = chunk.astype(np.float64)
        with np.errstate(invalid="ignore"):
            self._log_sum = np.logaddexp(self._log_sum, logsumexp(chunk, axis=0))
            self._log_sum_of_squares = np.logaddexp(
                self._log_sum_of_squares, logsumexp(2 * chunk, axis=0)
            )
        self.k += samples

    def value(self) -> Float64[np.ndarray, " image"]:
        """Estimate of log p(x) of each image."""
        if not self.k:
            raise UserError("no log weights: a mean needs at least one sample; add some first")
        return self._log_sum - math.log(self.k)

    def nll(self) -> NLL:
        """Mean NLL over images, with standard errors."""
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
    """Bits per dimension of an image.

    Args:
        nats: Negative log-likelihood, or negative ELBO, of an image.
        dims: Number of dimensions of an image: channels times height times width.
        offset: ``dims_offset_nats_per_dim`` of the likelihood: ln 256 if ``nats`` is of a density on
            [0, 1], to convert it to the probability of 256 discrete values; else 0.

    >>> bits_per_dim(0.0, 784, math.log(256))  # the uniform density on [0, 1]
    8.0
    """
    return (nats / dims + offset) / math.log(2)


@dataclass(frozen=True)
class ActiveUnits:
    """Latent units whose posterior mean depends on the image."""

    count: int
    """Number of active units."""
    variances: Float[np.ndarray, " latent"]
    """Variance over images of the posterior mean of each unit."""


def active_units(mu: Float[np.ndarray, "image latent"], threshold: float = 0.01) -> ActiveUnits:
    """Units whose posterior mean has a variance over images above ``threshold``.

    Source: Burda et al. 2016 (arXiv:1509.00519), section 5.2.

    >>> active_units(np.array([[0.0, 5.0], [1.0, 5.0]])).count
    1
    """
    if len(mu) < 2:
        raise UserError(f"{len(mu)} image: a variance needs at least 2; pass more images")
    variances = mu.var(axis=0, dtype=np.float64)
    return ActiveUnits(int((variances > threshold).sum()), variances)


@dataclass(frozen=True)
class Proportion:
    """A proportion of n cases with its confidence interval."""

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
        """The proportion as ``name``, the ends of its interval as ``name_low`` and ``name_high``.

        >>> list(Proportion(1, 2).named("cas"))
        ['cas', 'cas_low', 'cas_high']
        """
        low, high = self.interval
        return {name: self.value, f"{name}_low": low, f"{name}_high": high}


def wrong_labels(
    labels: Integer[np.ndarray, " n"], num_labels: int, rng: np.random.Generator
) -> Int64[np.ndarray, " n"]:
    """A random wrong label for each label, uniform over all other labels.

    >>> wrong_labels(np.array([0, 1, 1]), 2, np.random.default_rng(0))
    array([1, 0, 0])
    """
    if num_labels < 2:
        raise UserError(
            f"{num_labels} label: a label swap needs at least 2; add images with another label"
        )
    if labels.size and not 0 <= labels.min() <= labels.max() < num_labels:
        raise UserError(
            f"labels are {labels.min()} .. {labels.max()} but there are {num_labels} classes: a label "
            f"is 0 .. {num_labels - 1}; correct the labels or the number"
        )
    return (labels.astype(np.int64) + rng.integers(1, num_labels, labels.shape)) % num_labels


@dataclass(frozen=True)
class SwapMetrics:
    """How the judge classifies images that were decoded with a wrong label, the given label."""

    success: Proportion
    """Images classified as the given label."""
    leakage: Proportion
    """Images classified as the true label of the source image."""
    other: Proportion
    """Images classified as any other label."""
    success_by_given: dict[int, Proportion]
    """Given label -> success for the images with that given label."""


def swap_metrics(
    true: Integer[np.ndarray, " n"],
    given: Integer[np.ndarray, " n"],
    judged: Integer[np.ndarray, " n"],
) -> SwapMetrics:
    """Proportions of images that the judge classifies as the given, the true, or another label.

    Args:
        true: Label of each source image.
        given: Label that the image was decoded with.
        judged: Label that the judge assigns to the decoded image.

    Raises:
        UserError: If a given label equals the true label, or the lengths differ.

    >>> metrics = swap_metrics(np.array([0, 0]), np.array([1, 2]), np.array([1, 0]))
    >>> metrics.success.value, metrics.leakage.value
    (0.5, 0.5)
    """
    check_shapes(true, given, judged)
    if (same := np.flatnonzero(true == given)).size:
        raise UserError(
            f"image {same[0]} is given its true label {true[same[0]]}: a swap needs a wrong label; "
            "draw the given labels with wrong_labels"
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

    With means m and covariances S, the distance is |ma - mb|^2 + tr(Sa) + tr(Sb) - 2 tr((Sa Sb)^1/2).
    The last trace is computed as the sum of the singular values of Sa^1/2 Sb^1/2, which stays real
    under rounding.

    The distance is biased upwards for small sets: compare only distances of sets of the same size,
    together with the distance between two sets of real images of that size.

    Source: Heusel et al. 2017, GANs trained by a two time-scale update rule
    (arXiv:1706.08500), equation 6, with the features of any network.
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


def check_shapes(*arrays: np.ndarray) -> None:
    """Raise ``UserError`` if the arrays differ in length."""
    lengths = [len(array) for array in arrays]
    if len(set(lengths)) > 1:
        raise UserError(
            f"lengths {lengths} differ: all must be of the same images; pass one row per image"
        )


def _symmetric_root(
    covariance: Float64[np.ndarray, "feature feature"],
) -> Float64[np.ndarray, "feature feature"]:
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(values.clip(min=0))) @ vectors.T)
