"""Apply a trained VAE to numpy arrays, in batches and with the precision of its training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from isthmus.data.batches import as_float
from isthmus.data.store import LabelledStore
from isthmus.engine.device import CPU, Device
from isthmus.metrics.generation import NLL, LogMeanExp, kl_nats, log_weights
from isthmus.nn.cvae import ConditionalVAE, Normal

Images = Float[np.ndarray, "n channel height width"]
Labels = Int[np.ndarray, " n"]
Latents = Float[np.ndarray, "n latent"]
Posterior = tuple[Latents, Latents]
"""Mean and log standard deviation of q(z | x, y) of each image."""

_VALUES_AT_ONCE = 2**19
"""Number of image dimensions that importance sampling decodes at a time: 668 grey images of 28 px.

A larger number is not faster on a CPU, and the feature maps of a wide network would take gigabytes.
"""


def images_of(store: LabelledStore, rows: Int[np.ndarray, " n"]) -> tuple[Images, Labels]:
    """The images in these rows as float32 in [0, 1], and their labels."""
    images = as_float(torch.from_numpy(np.asarray(store.images[rows]))).numpy()
    return images, np.asarray(store.labels[rows]).astype(np.int64)


@dataclass(frozen=True)
class VAEOnArrays:
    """Encodes, decodes and measures whole sets of images.

    Images are float32 in [0, 1]. Labels may include the network's null label.
    """

    network: ConditionalVAE
    device: Device = CPU
    """Where the network is, and the precision it computes in."""
    batch: int = 256

    def target(self, images: Images, generator: torch.Generator) -> Images:
        """The images that are encoded and whose likelihood is measured.

        These are the images themselves, or binarised (Bernoulli) or dequantised (Gaussian) images.
        """
        whole = torch.from_numpy(np.ascontiguousarray(images))
        target: Tensor = self.network.likelihood.target(whole, generator)
        return target.numpy()

    def encoded(self, target: Images, labels: Labels) -> Posterior:
        """The posterior of each image."""
        encode = self.network.encode
        parts = [self._posterior(x, y, encode) for x, y in self._batches(target, labels)]
        mu, log_sigma = (torch.cat(batches).cpu().numpy() for batches in zip(*parts, strict=True))
        return mu, log_sigma

    def images(self, z: Latents, labels: Labels) -> Images:
        """The expected image of p(x | z, y) for each z."""
        mean = self.network.likelihood.mean
        batches = self._batches(z, labels)
        return np.concatenate([mean(self._params(z, y)).float().cpu().numpy() for z, y in batches])

    def prior_draws(self, labels: Labels, generator: torch.Generator) -> Latents:
        """One sample of z from p(z | y) per label."""
        return self.from_prior(self.noise(len(labels), generator), labels)

    def noise(self, count: int, generator: torch.Generator) -> Latents:
        """``count`` rows of standard normal noise; row i does not depend on ``count``."""
        size = self.network.latent
        return torch.stack([torch.randn(size, generator=generator) for _ in range(count)]).numpy()

    def from_prior(self, noise: Latents, labels: Labels) -> Latents:
        """Samples of z from p(z | y): rows of standard normal noise, scaled and shifted by the prior."""
        mu, sigma = self._prior(labels)
        return np.asarray(mu + sigma * noise)

    def standardised_by_prior(self, mu: Latents, labels: Labels) -> Latents:
        """Posterior means, standardised by the mean and standard deviation of p(z | y)."""
        centre, sigma = self._prior(labels)
        return np.asarray((mu - centre) / sigma)

    def _prior(self, labels: Labels) -> tuple[Latents, Latents]:
        """Mean and standard deviation of p(z | y) for each label."""
        with torch.inference_mode():
            mu, log_sigma = self.network.prior(
                torch.from_numpy(labels).to(self.device.torch_device)
            )
        return mu.cpu().numpy(), log_sigma.exp().cpu().numpy()

    def mean_kl_nats(self, posterior: Posterior, labels: Labels) -> Float[np.ndarray, " latent"]:
        """KL of posterior and prior for each unit of z, mean over images."""
        kl = []
        for mu, log_sigma, y in self._batches(*posterior, labels):
            with torch.inference_mode():
                kl.append(kl_nats(mu, log_sigma, *self.network.prior(y)).cpu().numpy())
        return np.asarray(np.concatenate(kl).mean(axis=0))

    def elbo_nats(
        self, target: Images, posterior: Posterior, labels: Labels, noise: Latents
    ) -> Float[np.ndarray, " n"]:
        """The ELBO of each image with one sample of z and beta = 1, without free bits or penalties."""
        elbos = []
        for x, mu, log_sigma, noise_part, y in self._batches(target, *posterior, noise, labels):
            params = self._params(mu + log_sigma.exp() * noise_part, y)
            with torch.inference_mode():
                log_prob = self.network.likelihood.log_prob(params, x)
                kl = kl_nats(mu, log_sigma, *self.network.prior(y)).sum(dim=-1)
                elbos.append((log_prob - kl).cpu().numpy())
        return np.concatenate(elbos)

    def nll(self, target: Images, labels: Labels, k: int, seed: int) -> NLL:
        """-log p(x | y) by importance sampling, with k samples of z per image from q(z | x, y).

        The samples are drawn on the network's device; ``seed`` decides them.

        The encoder is conditioned on y itself, even if the network has an auxiliary classifier: q is
        only the proposal distribution, and the proposal of a misclassified image would hardly cover
        p(z | x, y).

        Source: Burda et al. 2016, Importance weighted autoencoders (arXiv:1509.00519), eq. 8.
        """
        images = min(self.batch, len(target))
        at_once = max(1, _VALUES_AT_ONCE // (images * target[0].size))
        encode = self.network.encode_with_label
        batches = [(x, y, self._posterior(x, y, encode)) for x, y in self._batches(target, labels)]
        total, draws = LogMeanExp(), self.device.draws(seed)
        for first in range(0, k, at_once):
            count = min(at_once, k - first)
            parts = [self._log_weights(*batch, count, draws).cpu().numpy() for batch in batches]
            total.add(np.concatenate(parts, axis=1))
        return total.nll()

    def _log_weights(
        self,
        x: Float[Tensor, "batch channel height width"],
        y: Int[Tensor, " batch"],
        posterior: tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch latent"]],
        count: int,
        generator: torch.Generator,
    ) -> Float[Tensor, "count batch"]:
        mu, log_sigma = posterior
        with torch.inference_mode():
            z = mu + log_sigma.exp() * torch.randn(
                count, *mu.shape, generator=generator, device=mu.device
            )
            log_prob = self.network.likelihood.log_prob(self._params(z, y), x)
            return log_weights(log_prob, z, posterior, self.network.prior(y))

    def _posterior(
        self, x: Tensor, y: Tensor, encode: Callable[[Tensor, Tensor], Normal]
    ) -> tuple[Tensor, Tensor]:
        with torch.inference_mode(), self.device.autocast():
            mu, log_sigma = encode(x.contiguous(memory_format=torch.channels_last), y)
        return mu.float(), log_sigma.float()

    def _params(self, z: Tensor, y: Tensor) -> Tensor:
        with torch.inference_mode(), self.device.autocast():
            return self.network.decode(z, y).float()

    def _batches(self, *arrays: Shaped[np.ndarray, "n ..."]) -> Iterator[tuple[Tensor, ...]]:
        """Arrays with the same first axis, as tensors on the network's device, in batches."""
        tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
        for batch in zip(*(tensor.split(self.batch) for tensor in tensors), strict=True):
            yield tuple(tensor.to(self.device.torch_device) for tensor in batch)


def posterior_draws(posterior: Posterior, generator: torch.Generator) -> Latents:
    """One sample of z from q(z | x, y) per image, like the decoder's inputs in training."""
    mu, log_sigma = posterior
    noise = torch.randn(mu.shape, generator=generator).numpy()
    return np.asarray(mu + np.exp(log_sigma) * noise)
