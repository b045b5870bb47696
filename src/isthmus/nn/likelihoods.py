"""Likelihoods: distributions of an image, parametrised by the output maps of a decoder.

Common to all likelihoods:

- ``image`` lies in [0, 1]. ``target(image)`` is the image whose likelihood is evaluated, for example
  after binarisation.
- A decoder outputs ``params_per_channel`` maps per channel: the first parameter of all channels,
  then the second parameter of all channels.
- ``log_prob`` is in nats per image, summed over channels, height and width, and computed in
  float32 for parameters of any type. Maps that do not fit the target raise ``UserError``.
- ``mean`` is the expected image and ``sample`` a random image; both lie in [0, 1].
- If ``generator`` is None, random numbers come from torch's global generator.
"""

from __future__ import annotations

import abc
import functools
import math
from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F  # noqa: N812 (conventional name)
from jaxtyping import Float
from torch import Generator, Tensor, nn

from isthmus.errors import UserError
from isthmus.recipe.registry import LIKELIHOOD

Images = Float[Tensor, "batch channel height width"]
Maps = Float[Tensor, "*sample batch maps height width"]
"""The size of ``maps`` is ``params_per_channel`` times the number of channels."""
ImageSamples = Float[Tensor, "*sample batch channel height width"]
Binarisation = Callable[[Tensor, Generator | None], Tensor]
"""(image, generator) -> image of zeros and ones."""

LOG_256 = math.log(256)
"""Nats by which -log(probability of one of 256 values) exceeds -log(density on [0, 1])."""
NEAR = 0.5
"""For logits of smaller absolute value, the continuous Bernoulli is computed by a series expansion."""


class Likelihood(nn.Module, abc.ABC):
    """A distribution of images with independent dimensions, parametrised by a decoder.

    A dimension is one channel of one pixel.
    """

    params_per_channel: ClassVar[int]
    """Maps of the decoder for each channel of the image."""
    dims_offset_nats_per_dim: ClassVar[float]
    """Offset in bits/dim = (-``log_prob`` / dims + offset) / ln 2.

    ln 256 if ``log_prob`` is a log density on [0, 1], to convert it to the probability of one of 256
    values; 0 if ``log_prob`` is a log probability.
    """

    @abc.abstractmethod
    def target(self, image: Images, generator: Generator | None) -> Images:
        """The image whose likelihood is evaluated; if it is random, it is drawn anew at every call."""

    @abc.abstractmethod
    def mean(self, params: Maps) -> ImageSamples:
        """The expected image."""

    @abc.abstractmethod
    def sample(self, params: Maps, generator: Generator | None) -> ImageSamples:
        """A random image."""

    @abc.abstractmethod
    def _log_prob_per_dim(self, params: tuple[Tensor, ...], target: Tensor) -> Tensor: ...

    def log_prob(self, params: Maps, target: Images) -> Float[Tensor, "*sample batch"]:
        """Log probability, or log density, of each image in nats."""
        split = self._split(params)
        if split[0].shape[-4:] != target.shape:
            raise UserError(
                f"params have shape {tuple(params.shape)} but the target {tuple(target.shape)}: "
                f"batch, height and width must agree, with {self.params_per_channel} maps per channel; "
                f"let the decoder give {self.params_per_channel * target.shape[1]} maps at the image's size"
            )
        return self._log_prob_per_dim(split, target.float()).sum(dim=(-3, -2, -1))

    def _split(self, params: Tensor) -> tuple[Tensor, ...]:
        """Each parameter in float32, with one map per channel."""
        if params.shape[-3] % self.params_per_channel:
            raise UserError(
                f"params have {params.shape[-3]} maps: this likelihood takes {self.params_per_channel} "
                "per channel; let the decoder give a multiple of that"
            )
        return params.float().chunk(self.params_per_channel, dim=-3)


def dynamic_binarisation(image: Images, generator: Generator | None) -> Images:
    """Each dimension is 1 with a probability equal to its brightness, drawn anew at every call.

    Source: Salakhutdinov and Murray 2008, On the quantitative analysis of deep belief networks;
    used by Burda et al. 2016, Importance weighted autoencoders (arXiv:1509.00519).
    """
    return torch.bernoulli(image, generator=generator)


def threshold_binarisation(image: Images, generator: Generator | None) -> Images:  # noqa: ARG001
    """Each dimension is 1 if its brightness is 0.5 or more; deterministic.

    Results are not comparable with those on the fixed binarised MNIST of Larochelle and Murray 2011,
    whose images were drawn at random once.
    """
    return (image >= 0.5).to(image.dtype)


class Bernoulli(Likelihood):
    """Bernoulli distribution of binarised grey images; the maps are logits.

    Args:
        binarisation: Turns an image into zeros and ones.
    """

    params_per_channel = 1
    dims_offset_nats_per_dim = 0.0

    def __init__(self, binarisation: Binarisation) -> None:
        super().__init__()
        self.binarisation = binarisation

    def target(self, image: Images, generator: Generator | None) -> Images:
        """The binarised image.

        Raises:
            UserError: If the images have more than one channel.
        """
        if image.shape[1] != 1:
            raise UserError(
                f"images have {image.shape[1]} channels: a binarised likelihood needs grey images; set "
                'objective.likelihood = "discretised-logistic"'
            )
        return self.binarisation(image, generator)

    def mean(self, params: Maps) -> ImageSamples:
        """The probability of a 1."""
        return self._split(params)[0].sigmoid()

    def sample(self, params: Maps, generator: Generator | None) -> ImageSamples:
        """Zeros and ones."""
        return torch.bernoulli(self.mean(params), generator=generator)

    def _log_prob_per_dim(self, params: tuple[Tensor, ...], target: Tensor) -> Tensor:
        (logits,) = params
        return -F.binary_cross_entropy_with_logits(
            logits, target.expand_as(logits), reduction="none"
        )


class ContinuousBernoulli(Likelihood):
    """Density on [0, 1] proportional to exp(logit * x); the maps are logits.

    Images are not dequantised, so bits/dim are not a bound on the bits of the 256 discrete values.
    ``mean`` is the mean of the distribution (mu(lambda) in the paper), not the sigmoid of the logit
    (lambda in the paper); mu(lambda) is nearer to 1/2 than lambda.

    Source: Loaiza-Ganem and Cunningham 2019, The continuous Bernoulli (arXiv:1907.06845),
    section 3. For a logit l, the density is exp(l (x - 1/2)) divided by sinh(l/2) / (l/2); the log of
    this divisor is computed by a series expansion for l near 0.
    """

    params_per_channel = 1
    dims_offset_nats_per_dim = LOG_256

    def target(self, image: Images, generator: Generator | None) -> Images:  # noqa: ARG002
        """The image, unchanged."""
        return image

    def mean(self, params: Maps) -> ImageSamples:
        """The mean of the density: coth(l/2) / 2 - 1/l + 1/2."""
        (logits,) = self._split(params)
        is_near, near, far = _near_and_far(logits)
        square = near * near
        series = 0.5 + near * (1 / 12 - square * (1 / 720 - square / 30240))
        bright = -1 / torch.expm1(-far) - 1 / far
        exact = torch.where(logits > 0, bright, 1 - bright)
        return torch.where(is_near, series, exact)

    def sample(self, params: Maps, generator: Generator | None) -> ImageSamples:
        """A random image by inverse transform sampling; positive logits are mirrored negative logits."""
        (logits,) = self._split(params)
        u = torch.rand(logits.shape, generator=generator, device=logits.device)
        steepness = logits.abs().clamp(min=1e-6)  # uniform for smaller logits
        dark = (-torch.log1p(u * torch.expm1(-steepness)) / steepness).clamp(0, 1)
        return torch.where(logits > 0, 1 - dark, dark)

    def _log_prob_per_dim(self, params: tuple[Tensor, ...], target: Tensor) -> Tensor:
        (logits,) = params
        is_near, near, far = _near_and_far(logits)
        square = near * near
        series = square * (1 / 24 - square * (1 / 2880 - square / 181440))
        exact = far / 2 + torch.log(-torch.expm1(-far)) - far.log()
        return logits * (target - 0.5) - torch.where(is_near, series, exact)


class Gaussian(Likelihood):
    """Normal density whose mean is the sigmoid of the map, with one learned scale for all dimensions.

    Images are dequantised to (255 x + u) / 256 with u uniform in [0, 1), so bits/dim are an upper
    bound on those of the 256 discrete values (Theis et al. 2016, arXiv:1511.01844, section 3.1).

    Args:
        log_sigma: Initial log of the standard deviation, for images in [0, 1].
    """

    params_per_channel = 1
    dims_offset_nats_per_dim = LOG_256

    def __init__(self, log_sigma: float = 0.0) -> None:
        super().__init__()
        self.log_sigma = nn.Parameter(torch.tensor(log_sigma))

    def target(self, image: Images, generator: Generator | None) -> Images:
        """The dequantised image."""
        noise = torch.rand(image.shape, generator=generator, device=image.device)
        return (255 * image + noise) / 256

    def mean(self, params: Maps) -> ImageSamples:
        """The mean of the density; dequantisation shifts it by at most 1/512 from the expected image."""
        return self._split(params)[0].sigmoid()

    def sample(self, params: Maps, generator: Generator | None) -> ImageSamples:
        """The mean plus normal noise of the learned scale, clipped to [0, 1]."""
        centre = self.mean(params)
        noise = torch.randn(centre.shape, generator=generator, device=centre.device)
        return (centre + self.log_sigma.float().exp() * noise).clamp(0, 1)

    def _log_prob_per_dim(self, params: tuple[Tensor, ...], target: Tensor) -> Tensor:
        log_sigma = self.log_sigma.float()
        deviation = (target - params[0].sigmoid()) * torch.exp(-log_sigma)
        return -0.5 * deviation**2 - log_sigma - 0.5 * math.log(2 * math.pi)


class DiscretisedLogistic(Likelihood):
    """Probability of each of 256 values under a logistic density; the outer bins extend to infinity.

    The first map is the location and the second map the log of the scale, in units where black is -1
    and white is 1; the scale is clipped to [exp(-7), exp(7)]. Images have values k / 255.

    Source: Salimans et al. 2017, PixelCNN++ (arXiv:1701.05517), equation 2 with one component; the
    smallest scale is that of the authors' code. The log of the difference of two sigmoids is computed
    exactly, as log s(a) + log s(-b) + log(1 - exp(b - a)).
    """

    params_per_channel = 2
    dims_offset_nats_per_dim = 0.0

    def target(self, image: Images, generator: Generator | None) -> Images:  # noqa: ARG002
        """The image, unchanged."""
        return image

    def mean(self, params: Maps) -> ImageSamples:
        """Mean of the density clipped to [0, 1]; differs by at most 1/510 from that of the 256 values."""
        centre, log_scale = self._split(params)
        scale, size = log_scale.clamp(-7, 7).exp(), centre.abs()
        missing = F.softplus((1 - size) / scale) - F.softplus((-1 - size) / scale)
        bright = (1 - scale * missing / 2).clamp(0, 1)
        return torch.where(centre > 0, bright, 1 - bright)

    def sample(self, params: Maps, generator: Generator | None) -> ImageSamples:
        """A random image; each dimension is one of the 256 values."""
        centre, log_scale = self._split(params)
        u = torch.rand(centre.shape, generator=generator, device=centre.device)
        drawn = centre + log_scale.clamp(-7, 7).exp() * u.logit()
        return ((drawn + 1) * 127.5).round().clamp(0, 255) / 255

    def _log_prob_per_dim(self, params: tuple[Tensor, ...], target: Tensor) -> Tensor:
        centre, log_scale = params
        sharpness = torch.exp(-log_scale.clamp(-7, 7))
        deviation = 2 * target - 1 - centre
        below_top = F.logsigmoid((deviation + 1 / 255) * sharpness)
        above_bottom = F.logsigmoid((1 / 255 - deviation) * sharpness)
        both = below_top + above_bottom + torch.log(-torch.expm1(-2 / 255 * sharpness))
        is_black, is_white = target < 0.5 / 255, target > 254.5 / 255
        return torch.where(is_black, below_top, torch.where(is_white, above_bottom, both))


def _near_and_far(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Whether the series is used; the logits where it is used (else 0); |logits| elsewhere (else 1)."""
    is_near = logits.abs() < NEAR
    return is_near, torch.where(is_near, logits, 0), torch.where(is_near, 1, logits.abs())


bernoulli_dynamic = functools.partial(Bernoulli, dynamic_binarisation)
bernoulli_threshold = functools.partial(Bernoulli, threshold_binarisation)


def likelihood_named(name: str) -> Likelihood:
    """A new likelihood by its name in recipes; an unknown name raises ``UserError``.

    >>> likelihood_named("discretised-logistic").params_per_channel
    2
    """
    likelihood: Likelihood = LIKELIHOOD.load(name)()
    return likelihood
