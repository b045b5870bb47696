"""A trained VAE with numpy arrays in and out, in batches, in the precision it trained with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from isthmus.engine.device import Precision, autocast
from isthmus.metrics.generation import NLL, LogMeanExp, kl_nats, log_weights
from isthmus.nn.cvae import ConditionalVAE, Normal

Images = Float[np.ndarray, "n channel height width"]
Labels = Int[np.ndarray, " n"]
Latents = Float[np.ndarray, "n latent"]
Posterior = tuple[Latents, Latents]
"""Mean and log standard deviation of q(z | x, y) of each image."""

_VALUES_AT_ONCE = 2**19
"""Of images that importance sampling decodes together: 668 of 28 px and grey.

More is no faster on a processor, and a wide network's maps of eight times as many take gigabytes.
"""


@dataclass(frozen=True)
class VAEOnArrays:
    """Encode, decode and measure whole test sets.

    Images are float32 in [0, 1]. Every label may be the network's unconditional label.
    """

    network: ConditionalVAE
    precision: Precision
    batch: int = 256

    def target(self, images: Images, generator: torch.Generator) -> Images:
        """What the likelihood metrics and the encoder reads: for Bernoulli, one binarisation."""
        whole = torch.from_numpy(np.ascontiguousarray(images))
        target: Tensor = self.network.likelihood.target(whole, generator)
        return target.numpy()

    def encoded(self, target: Images, labels: Labels) -> Posterior:
        """The posterior of each image."""
        encode = self.network.encode
        parts = [self._posterior(x, y, encode) for x, y in self._batches(target, labels)]
        mu, log_sigma = (torch.cat(of).numpy() for of in zip(*parts, strict=True))
        return mu, log_sigma

    def images(self, z: Latents, labels: Labels) -> Images:
        """The expected image of p(x | z, y)."""
        return np.concatenate(
            [
                self.network.likelihood.mean(self._params(z_part, y)).float().numpy()
                for z_part, y in self._batches(z, labels)
            ]
        )

    def prior_draws(self, labels: Labels, generator: torch.Generator) -> Latents:
        """One z for each label from p(z | y)."""
        return self.from_prior(self.noise(len(labels), generator), labels)

    def noise(self, count: int, generator: torch.Generator) -> Latents:
        """So many z of the standard normal; those that come first do not depend on how many."""
        size = self.network.latent
        rows = [torch.randn(size, generator=generator) for _ in range(count)]
        return torch.stack(rows).numpy()

    def from_prior(self, noise: Latents, labels: Labels) -> Latents:
        """The z that standard normal noise becomes under the prior of each label."""
        mu, sigma = self._prior(labels)
        return np.asarray(mu + sigma * noise)

    def beside_prior(self, mu: Latents, labels: Labels) -> Latents:
        """Posterior means as the prior of their label sees them: 0 is its mean, 1 its sigma."""
        centre, sigma = self._prior(labels)
        return np.asarray((mu - centre) / sigma)

    def _prior(self, labels: Labels) -> tuple[Latents, Latents]:
        """Mean and sigma of p(z | y) for each label."""
        with torch.inference_mode():
            mu, log_sigma = self.network.prior(torch.from_numpy(labels))
        return mu.numpy(), log_sigma.exp().numpy()

    def elbo_nats(
        self, target: Images, posterior: Posterior, labels: Labels, noise: Latents
    ) -> Float[np.ndarray, " n"]:
        """The ELBO of each image with one sample of z: weight 1, no free bits, no penalty."""
        elbos = []
        for x, mu, log_sigma, noise_part, y in self._batches(target, *posterior, noise, labels):
            params = self._params(mu + log_sigma.exp() * noise_part, y)
            with torch.inference_mode():
                log_prob = self.network.likelihood.log_prob(params, x)
                kl = kl_nats(mu, log_sigma, *self.network.prior(y)).sum(dim=-1)
                elbos.append((log_prob - kl).numpy())
        return np.concatenate(elbos)

    def nll(self, target: Images, labels: Labels, k: int, generator: torch.Generator) -> NLL:
        """Importance-sampled -log p(x | y) with k samples of z from q(z | x, y) an image.

        The encoder is told y itself, even one that reads it: p(x | y) is the decoder's, whatever z
        are drawn from, and those drawn by a misreading hardly find it.

        Source: Burda et al. 2016, Importance weighted autoencoders (arXiv:1509.00519), eq. 8.
        """
        images = min(self.batch, len(target))
        at_once = max(1, _VALUES_AT_ONCE // (images * target[0].size))
        condition = self.network.encode_with_label
        batches = [
            (x, y, *self._posterior(x, y, condition)) for x, y in self._batches(target, labels)
        ]
        total = LogMeanExp()
        for first in range(0, k, at_once):
            count = min(at_once, k - first)
            parts = [self._log_weights(*batch, count, generator).numpy() for batch in batches]
            total.add(np.concatenate(parts, axis=1))
        return total.nll()

    def _log_weights(
        self,
        x: Float[Tensor, "batch channel height width"],
        y: Int[Tensor, " batch"],
        mu: Float[Tensor, "batch latent"],
        log_sigma: Float[Tensor, "batch latent"],
        count: int,
        generator: torch.Generator,
    ) -> Float[Tensor, "count batch"]:
        with torch.inference_mode():
            prior = self.network.prior(y)
            z = mu + log_sigma.exp() * torch.randn(count, *mu.shape, generator=generator)
            log_prob = self.network.likelihood.log_prob(self._params(z, y), x)
            return log_weights(log_prob, z, (mu, log_sigma), prior)

    def _posterior(
        self, x: Tensor, y: Tensor, encode: Callable[[Tensor, Tensor], Normal]
    ) -> tuple[Tensor, Tensor]:
        with torch.inference_mode(), autocast(self.precision):
            mu, log_sigma = encode(x.contiguous(memory_format=torch.channels_last), y)
        return mu.float(), log_sigma.float()

    def _params(self, z: Tensor, y: Tensor) -> Tensor:
        with torch.inference_mode(), autocast(self.precision):
            return self.network.decode(z, y).float()

    def _batches(self, *arrays: Shaped[np.ndarray, n * rest]) -> Iterator[tuple[Tensor, ...]]:
        """Arrays of the same images in batches, as tensors."""
        tensors = (torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)
        return zip(*(tensor.split(self.batch) for tensor in tensors), strict=True)


def posterior_draws(posterior: Posterior, generator: torch.Generator) -> Latents:
    """One z for each image from q(z | x, y): what a decoder learns from."""
    mu, log_sigma = posterior
    noise = torch.randn(mu.shape, generator=generator).numpy()
    return np.asarray(mu + np.exp(log_sigma) * noise)
