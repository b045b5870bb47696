"""NLL and ELBO through ``VAEOnArrays``, against a model whose marginal is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

from isthmus.nn.cvae import ConditionalVAE, LabelPrior, Normal
from isthmus.tasks.generate import vae_on_arrays
from isthmus.tasks.generate.vae_on_arrays import VAEOnArrays, posterior_draws

SIGMA_X = 0.5
WEIGHT = torch.tensor([[1.0, 0.2], [-0.5, 0.8], [0.3, 0.3]])
OFFSET = torch.tensor([0.1, -0.2, 0.3])
PRIOR_MU = torch.tensor([[0.0, 0.0], [2.0, -1.0], [-0.5, 0.5]])
PRIOR_SIGMA = torch.tensor([[1.0, 1.0], [0.5, 2.0], [1.5, 0.7]])
"""A row for each of two labels and for none."""
WIDER = 1.2


class NormalPixels(nn.Module):
    """x ~ N(params, SIGMA_X**2), each value by itself."""

    def target(self, image, generator):
        return image

    def log_prob(self, params, target):
        return torch.distributions.Normal(params, SIGMA_X).log_prob(target).sum(dim=(-3, -2, -1))

    def mean(self, params):
        return params


class LinearGaussian(ConditionalVAE):
    """z ~ N(mu_y, sigma_y**2), x = WEIGHT z + OFFSET + noise; q misses only the correlation of z."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.latent, self.num_labels = 2, 2
        self.likelihood = NormalPixels()
        self.prior = LabelPrior(latent=2, num_labels=2)
        with torch.no_grad():
            raw = 6 * torch.atanh(PRIOR_SIGMA.log() / 6)  # log sigmas are softly bounded at 6
            self.prior.table.weight.copy_(torch.cat([PRIOR_MU, raw], dim=1))

    def encode_with_label(self, image, label):
        mu, covariance = exact_posterior(image.flatten(1), label)
        spread = covariance.diagonal(dim1=1, dim2=2).sqrt()
        return Normal(mu, (WIDER * spread).log())

    def encode(self, image, label):
        return self.encode_with_label(image, label)

    def decode(self, z, label):
        return (z @ WEIGHT.T + OFFSET)[..., None, None, :]


class Misclassifying(LinearGaussian):
    """Its encoder takes every image for one of the next label."""

    def encode(self, image, label):
        return self.encode_with_label(image, (label + 1) % 3)


def exact_posterior(x, label):
    prior_precision = torch.diag_embed(PRIOR_SIGMA[label] ** -2)
    covariance = (prior_precision + WEIGHT.T @ WEIGHT / SIGMA_X**2).inverse()
    pull = (x - OFFSET) @ WEIGHT / SIGMA_X**2 + PRIOR_MU[label] * PRIOR_SIGMA[label] ** -2
    return (covariance @ pull[..., None])[..., 0], covariance


def exact_nll(x, label):
    """Of x = WEIGHT z + OFFSET + noise: normal, with a mean and a covariance for each label."""
    nll = []
    for image, y in zip(x.reshape(len(x), 3), label, strict=True):
        mean = WEIGHT @ PRIOR_MU[y] + OFFSET
        covariance = WEIGHT @ torch.diag(PRIOR_SIGMA[y] ** 2) @ WEIGHT.T + SIGMA_X**2 * torch.eye(3)
        nll.append(-scipy.stats.multivariate_normal(mean.numpy(), covariance).logpdf(image))
    return np.array(nll)


@pytest.fixture
def vae() -> VAEOnArrays:
    """Batches of 8: neither of the sets below is a whole number of them."""
    return VAEOnArrays(LinearGaussian(), batch=8)


def images(n):
    """Images of both labels and of none, drawn from the model."""
    rng = np.random.default_rng(0)
    label = np.arange(n) % 3
    z = PRIOR_MU.numpy()[label] + PRIOR_SIGMA.numpy()[label] * rng.standard_normal((n, 2))
    x = z @ WEIGHT.T.numpy() + OFFSET.numpy() + SIGMA_X * rng.standard_normal((n, 3))
    return x.astype(np.float32).reshape(n, 1, 1, 3), label


@pytest.mark.parametrize("values_at_once", [2**22, 8 * 3 * 700])  # one portion of samples, six
def test_the_nll_is_the_exact_marginal(vae, values_at_once, monkeypatch):
    monkeypatch.setattr(vae_on_arrays, "_VALUES_AT_ONCE", values_at_once)
    x, label = images(30)
    nll = vae.nll(x, label, 4_000, seed=0)
    exact = exact_nll(x, label)
    assert (nll.k, nll.n) == (4_000, 30)
    assert nll.nats == pytest.approx(exact.mean(), abs=4 * nll.monte_carlo_error)
    assert nll.monte_carlo_error < 0.01
    np.testing.assert_allclose(nll.per_image, exact, atol=0.2)


def test_the_seed_of_the_nll_decides_its_draws(vae):
    x, label = images(30)
    before = torch.get_rng_state()
    first = vae.nll(x, label, 20, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(5)
    np.testing.assert_array_equal(vae.nll(x, label, 20, seed=3).per_image, first.per_image)
    other = vae.nll(x, label, 20, seed=4)
    assert (other.per_image != first.per_image).all()


def test_the_nll_is_of_the_label_that_is_conditioned(vae):
    x, label = images(30)
    other = (label + 1) % 3
    nll = vae.nll(x, other, 4_000, seed=0)
    np.testing.assert_allclose(nll.per_image, exact_nll(x, other), rtol=0.1)
    assert nll.nats > exact_nll(x, label).mean() + 1


def test_a_misreading_encoder_changes_no_nll(vae):
    """p(x | y) is the decoder's; the ELBO, which is the encoder's too, suffers."""
    x, label = images(30)
    misclassifying = VAEOnArrays(Misclassifying(), batch=8)
    nll, misclassified = (of.nll(x, label, 100, seed=0) for of in (vae, misclassifying))
    np.testing.assert_array_equal(nll.per_image, misclassified.per_image)
    noise = np.zeros((30, 2), dtype=np.float32)
    elbo, misclassified = (
        of.elbo_nats(x, of.encoded(x, label), label, noise).mean() for of in (vae, misclassifying)
    )
    assert misclassified < elbo - 1


def test_the_elbo_is_the_exact_marginal_less_the_divergence_from_the_exact_posterior(vae):
    x, label = images(10)
    times = 4_000
    q = vae.encoded(x, label)
    noise = torch.randn(times * 10, 2, generator=torch.Generator().manual_seed(0)).numpy()
    many = (np.tile(x, (times, 1, 1, 1)), tuple(np.tile(of, (times, 1)) for of in q))
    vae_of_many = VAEOnArrays(vae.network, batch=9_999)
    elbos = vae_of_many.elbo_nats(*many, np.tile(label, times), noise).reshape(times, 10)
    mu, log_sigma = (torch.from_numpy(of) for of in q)
    divergence = torch.distributions.kl_divergence(
        torch.distributions.MultivariateNormal(mu, torch.diag_embed((2 * log_sigma).exp())),
        torch.distributions.MultivariateNormal(
            *exact_posterior(torch.from_numpy(x).flatten(1), torch.from_numpy(label))
        ),
    )
    exact = -exact_nll(x, label) - divergence.numpy()
    error = elbos.std(axis=0) / math.sqrt(times)
    assert (np.abs(elbos.mean(axis=0) - exact) < 4 * error).all()
    assert (error < 0.05).all(), "else the line above says little"
    assert (divergence > 0.01).all(), "nor would it, were the posterior exact"


def test_batches_change_no_elbo(vae):
    x, label = images(30)
    noise = np.random.default_rng(1).standard_normal((30, 2)).astype(np.float32)
    in_batches = vae.elbo_nats(x, vae.encoded(x, label), label, noise)
    whole = VAEOnArrays(vae.network, batch=30)
    at_once = whole.elbo_nats(x, whole.encoded(x, label), label, noise)
    np.testing.assert_allclose(in_batches, at_once, rtol=1e-5)


def test_beside_a_prior_of_its_label_a_draw_is_standard(vae):
    label = np.repeat([0, 1, 2], 5_000)
    z = vae.prior_draws(label, torch.Generator().manual_seed(0))
    mu, sigma = PRIOR_MU.numpy(), PRIOR_SIGMA.numpy()
    for y in range(3):
        np.testing.assert_allclose(z[label == y].mean(axis=0), mu[y], atol=0.1)
        np.testing.assert_allclose(z[label == y].std(axis=0), sigma[y], rtol=0.05)
    beside = vae.standardised_by_prior(z, label)
    np.testing.assert_allclose(beside, (z - mu[label]) / sigma[label], atol=1e-5)
    two_sigmas_off = vae.standardised_by_prior(mu[label] + 2 * sigma[label], label)
    np.testing.assert_allclose(two_sigmas_off, 2, atol=1e-5)


def test_draws_of_the_posterior_have_its_mean_and_sigma():
    mu = np.repeat([[-3.0, 0.5]], 20_000, axis=0).astype(np.float32)
    log_sigma = np.log(np.full_like(mu, [0.1, 2.0]))
    z = posterior_draws((mu, log_sigma), torch.Generator().manual_seed(0))
    np.testing.assert_allclose(z.mean(axis=0), mu[0], atol=0.05)
    np.testing.assert_allclose(z.std(axis=0), [0.1, 2.0], rtol=0.02)
