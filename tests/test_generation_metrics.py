"""Metrics of a VAE against torch.distributions, scipy and closed forms."""

import importlib.util
import math
import sys
import tracemalloc

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import error_of
from isthmus.metrics import generation, style
from isthmus.metrics.generation import (
    LogMeanExp,
    Proportion,
    active_units,
    bits_per_dim,
    frechet_distance,
    gaussian_log_prob,
    kl_nats,
    swap_metrics,
    wrong_labels,
)
from isthmus.metrics.style import (
    COLOUR_DESCRIPTORS,
    GREY_DESCRIPTORS,
    class_medoids,
    style_descriptors,
    style_kept,
)


def gaussians(seed=0, batch=5, latent=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(4, batch, latent, generator=generator)


# Divergence and density


def test_kl_equals_torch():
    mu_q, log_sigma_q, mu_p, log_sigma_p = gaussians()
    theirs = torch.distributions.kl_divergence(
        torch.distributions.Normal(mu_q, log_sigma_q.exp()),
        torch.distributions.Normal(mu_p, log_sigma_p.exp()),
    )
    torch.testing.assert_close(kl_nats(mu_q, log_sigma_q, mu_p, log_sigma_p), theirs)


def test_kl_equals_monte_carlo():
    mu_q, log_sigma_q, mu_p, log_sigma_p = 0.5 * gaussians(batch=4)
    noise = torch.randn(100_000, 4, 3, generator=torch.Generator().manual_seed(1))
    z = mu_q + log_sigma_q.exp() * noise
    ratios = gaussian_log_prob(z, mu_q, log_sigma_q) - gaussian_log_prob(z, mu_p, log_sigma_p)
    closed = kl_nats(mu_q, log_sigma_q, mu_p, log_sigma_p).sum(-1)
    error = ratios.std(0) / math.sqrt(100_000)
    assert ((ratios.mean(0) - closed).abs() < 4 * error).all()
    assert (error < 0.02 * closed).all()  # else the line above says little


def test_kl_of_nearly_equal_gaussians_is_precise():
    zero, tiny = torch.zeros(1), torch.full((1,), 1e-3)
    assert kl_nats(zero, tiny, zero, zero).item() == pytest.approx(1e-6, rel=1e-2)
    assert kl_nats(zero, zero, zero, zero).item() == 0


def test_a_standard_prior_may_have_the_shape_of_one_z():
    mu_q, log_sigma_q, _, _ = gaussians()
    zero = torch.zeros(3)
    wide = torch.zeros(5, 3)
    assert torch.equal(
        kl_nats(mu_q, log_sigma_q, zero, zero), kl_nats(mu_q, log_sigma_q, wide, wide)
    )


def test_gaussian_log_prob_equals_torch_also_with_samples():
    mu, log_sigma, _, _ = gaussians()
    z = torch.randn(7, 5, 3, generator=torch.Generator().manual_seed(1))
    theirs = torch.distributions.Normal(mu, log_sigma.exp()).log_prob(z).sum(-1)
    torch.testing.assert_close(gaussian_log_prob(z, mu, log_sigma), theirs)


def test_bf16_latents_are_measured_in_float32():
    parts = gaussians().bfloat16()
    assert kl_nats(*parts).dtype == torch.float32
    torch.testing.assert_close(kl_nats(*parts), kl_nats(*parts.float()))
    torch.testing.assert_close(gaussian_log_prob(*parts[:3]), gaussian_log_prob(*parts[:3].float()))
    assert kl_nats(*gaussians().double()).dtype == torch.float64


# Importance sampling of a model with a known marginal: z ~ N(0, 1), x | z ~ N(W z + b, 0.5**2)

W = torch.tensor([[1.0, 0.2], [-0.5, 0.8], [0.3, 0.3]], dtype=torch.float64)
B = torch.tensor([0.1, -0.2, 0.3], dtype=torch.float64)
LOG_SIGMA_X = torch.full((3,), math.log(0.5), dtype=torch.float64)


def linear_images(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    return z @ W.T + B + 0.5 * torch.randn(n, 3, generator=generator, dtype=torch.float64)


def exact_nll(x):
    covariance = (W @ W.T).numpy() + 0.25 * np.eye(3)
    return -scipy.stats.multivariate_normal(B.numpy(), covariance).logpdf(x.numpy())


def linear_log_weights(x, k, seed=1, widen=1.2):
    """Log weights of z from a proposal with the posterior's mean and variances but no correlation."""
    precision = torch.eye(2, dtype=torch.float64) + W.T @ W / 0.25
    mu = (x - B) @ W / 0.25 @ precision.inverse()
    log_sigma = (widen * precision.inverse().diagonal().sqrt()).log().expand_as(mu)
    noise = torch.randn(
        k, *mu.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    z = mu + log_sigma.exp() * noise
    zero = torch.zeros(2, dtype=torch.float64)
    log_joint = gaussian_log_prob(z, zero, zero) + gaussian_log_prob(x, z @ W.T + B, LOG_SIGMA_X)
    return (log_joint - gaussian_log_prob(z, mu, log_sigma)).numpy()


def importance_nll(log_weights):
    """The NLL of all log weights at once."""
    weights = LogMeanExp()
    weights.add(log_weights)
    return weights.nll()


def test_importance_nll_is_the_exact_marginal():
    x = linear_images(40)
    nll = importance_nll(linear_log_weights(x, 4000))
    exact = exact_nll(x)
    assert nll.nats == pytest.approx(exact.mean(), abs=4 * nll.monte_carlo_error)
    assert nll.monte_carlo_error < 0.01
    np.testing.assert_allclose(nll.per_image, exact, atol=0.2)
    assert nll.standard_error == pytest.approx(scipy.stats.sem(exact), rel=0.02)
    assert (nll.k, nll.n) == (4000, 40)


def test_with_the_exact_posterior_a_single_sample_is_exact():
    """With one latent unit the proposal is the exact posterior."""
    x = torch.randn(6, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    one = torch.ones(1, dtype=torch.float64)
    mu, log_sigma = x / 2, 0.5 * torch.log(one / 2)  # z ~ N(0, 1), x | z ~ N(z, 1)
    z = mu + log_sigma.exp() * torch.randn(1, 6, 1, dtype=torch.float64)
    log_joint = gaussian_log_prob(z, 0 * one, 0 * one) + gaussian_log_prob(x, z, 0 * one)
    nll = importance_nll((log_joint - gaussian_log_prob(z, mu, log_sigma)).numpy())
    exact = -scipy.stats.norm(0, math.sqrt(2)).logpdf(x.numpy())[:, 0]
    np.testing.assert_allclose(nll.per_image, exact)
    assert math.isnan(nll.monte_carlo_error)  # k = 1 says nothing about it


def test_importance_nll_decreases_with_k_from_the_negative_elbo():
    x = linear_images(30)
    log_weights = linear_log_weights(x, 2**14, widen=1.5)
    means = [
        np.mean([importance_nll(log_weights[i : i + k]).nats for i in range(0, 2**14, 2**14 // 64)])
        for k in (1, 4, 16, 64, 256)
    ]
    assert means == sorted(means, reverse=True)
    gaps = np.array(means) - exact_nll(x).mean()
    assert gaps[0] > 0.1
    assert 0 < gaps[-1] < 0.05 * gaps[0]
    assert gaps[-2] / gaps[-1] == pytest.approx(4, rel=0.5)  # in theory as 1 / k, once k is large


def test_monte_carlo_error_is_the_spread_of_repeated_estimates():
    x = linear_images(5)
    log_weights = linear_log_weights(x, 300 * 200)
    estimates = [importance_nll(log_weights[i : i + 200]) for i in range(0, 300 * 200, 200)]
    spread = np.std([estimate.nats for estimate in estimates], ddof=1)
    stated = np.sqrt(np.mean([estimate.monte_carlo_error**2 for estimate in estimates]))
    assert stated == pytest.approx(spread, rel=0.2)


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(1, 59), max_size=5, unique=True), shift=st.floats(-1e4, 1e4))
def test_portions_give_the_same_as_all_samples_at_once(cuts, shift):
    log_weights = 20 * np.random.default_rng(0).standard_normal((60, 4)) + shift
    portions = LogMeanExp()
    for portion in np.split(log_weights, sorted(cuts)):
        portions.add(portion)
    whole = importance_nll(log_weights)
    nll = portions.nll()
    np.testing.assert_allclose(nll.per_image, whole.per_image, rtol=1e-12)
    assert nll.monte_carlo_error == pytest.approx(whole.monte_carlo_error, abs=1e-9)
    assert (nll.k, portions.k) == (60, 60)
    largest = log_weights.max(axis=0)
    direct = np.log(np.mean(np.exp(log_weights - largest), axis=0)) + largest
    np.testing.assert_allclose(portions.value(), direct, rtol=1e-9)


def test_equal_weights_have_no_monte_carlo_error_in_float32():
    nll = importance_nll(np.full((1000, 3), -81.25, np.float32))
    assert nll.nats == 81.25
    assert nll.monte_carlo_error == pytest.approx(0, abs=1e-6)
    assert nll.standard_error == 0


def test_a_non_finite_weight_affects_its_image_only():
    nll = importance_nll(np.array([[0.0, math.nan, -math.inf], [0.0, 0.0, -math.inf]]))
    assert nll.per_image[0] == 0
    assert math.isnan(nll.per_image[1])
    assert nll.per_image[2] == math.inf
    assert math.isnan(nll.nats)


def test_a_single_image_has_no_standard_error():
    assert math.isnan(importance_nll(np.zeros((5, 1))).standard_error)


def test_the_nll_of_a_whole_set_is_unbiased_and_its_standard_error_correct():
    """Over many sets of images, each with an NLL, a bound and a random sample."""
    rng = np.random.default_rng(0)
    estimates, errors, plain = [], [], []
    for _ in range(2_000):
        nll = rng.normal(90, 25, 400)
        bound = nll + rng.gamma(4, 1, 400)
        chosen = rng.choice(400, 40, replace=False)
        drawn = LogMeanExp()
        drawn.add(-nll[chosen][None])
        of_all = drawn.nll().of_all(chosen, importance_nll(-bound[None]))
        estimates.append(of_all.nats)
        errors.append(of_all.standard_error)
        plain.append(drawn.nll().standard_error)
    assert np.mean(estimates) == pytest.approx(90, abs=4 * np.std(estimates) / 2_000**0.5)
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(estimates), rel=0.05)
    assert np.mean(plain) > 2.5 * np.mean(errors)


def test_the_monte_carlo_error_of_a_whole_set_includes_the_noise_of_the_bound():
    chosen = np.arange(8)
    x = linear_images(40)
    bounds = linear_log_weights(x, 500 * 64, widen=1.5).reshape(500, 64, -1)
    draws = linear_log_weights(x[chosen], 500 * 400, widen=1.5).reshape(500, 400, -1)
    both = zip(draws, bounds, strict=True)
    wholes = [importance_nll(of).of_all(chosen, importance_nll(bound)) for of, bound in both]
    spread = np.std([whole.nats for whole in wholes], ddof=1)
    stated = np.sqrt(np.mean([whole.monte_carlo_error**2 for whole in wholes]))
    assert stated == pytest.approx(spread, rel=0.2)
    alone = np.mean([importance_nll(of).monte_carlo_error for of in draws])
    assert spread > 2 * alone, "the noise of the sample alone is far too small"


def test_the_nll_of_a_fully_sampled_set_is_that_of_the_sample():
    nll = importance_nll(linear_log_weights(linear_images(20), 50))
    of_all = nll.of_all(np.arange(20), importance_nll(np.linspace([-3, 9], 1, 20).T))
    assert of_all.nats == pytest.approx(nll.nats)
    assert of_all.standard_error == pytest.approx(nll.standard_error)
    assert of_all.monte_carlo_error == pytest.approx(nll.monte_carlo_error)
    assert (of_all.per_image == nll.per_image).all()


def test_portions_of_different_images_are_rejected():
    weights = LogMeanExp()
    assert error_of(weights.value) == (
        "no log weights: a mean needs at least one sample; add some first"
    )
    weights.add(np.zeros((2, 3)))
    assert error_of(lambda: weights.add(np.zeros((2, 1)))) == (
        "log weights of 1 images after those of 3: all chunks must be of the same images; use "
        "one LogMeanExp per set of images"
    )


def test_bits_per_dim():
    assert bits_per_dim(784 * math.log(2), 784, 0.0) == pytest.approx(1)
    assert bits_per_dim(-3072 * math.log(16), 3072, math.log(256)) == pytest.approx(4)


# Latent units


def test_active_units_vary_over_images():
    rng = np.random.default_rng(0)
    spreads = np.array([0.0, 0.05, 0.2, 1.0], np.float32)
    units = active_units(3 + spreads * rng.standard_normal((2000, 4), np.float32))
    assert units.count == 2
    np.testing.assert_allclose(units.variances, spreads**2, rtol=0.1, atol=1e-6)
    assert active_units(spreads * rng.standard_normal((2000, 4)), threshold=0.5).count == 1


def test_active_units_of_one_image_are_rejected():
    assert error_of(lambda: active_units(np.zeros((1, 2)))) == (
        "1 image: a variance needs at least 2; pass more images"
    )


# Proportions


def wilson(successes, n):
    """Wilson's interval (1927) in closed form."""
    z = scipy.stats.norm.ppf(0.975)
    p = successes / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return centre - half, centre + half


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 10_000), share=st.floats(0, 1))
def test_interval_equals_wilson_and_contains_the_value(n, share):
    proportion = Proportion(round(share * n), n)
    low, high = proportion.interval
    assert (low, high) == pytest.approx(wilson(proportion.successes, n), abs=1e-9)
    assert -1e-12 <= low <= proportion.value + 1e-12
    assert proportion.value - 1e-12 <= high <= 1 + 1e-12


def test_the_interval_of_0_of_0_is_0_to_1():
    assert math.isnan(Proportion(0, 0).value)
    assert Proportion(0, 0).interval == (0.0, 1.0)


def test_more_successes_than_cases_are_rejected():
    assert error_of(lambda: Proportion(3, 2)) == (
        "3 successes of 2: must be 0 .. n; check the counts"
    )


# Wrong labels and swaps


@settings(max_examples=50, deadline=None)
@given(
    labels=st.lists(st.integers(0, 9), max_size=50),
    num_labels=st.integers(10, 30),
    seed=st.integers(0, 2**31),
    dtype=st.sampled_from([np.int64, np.uint8]),
)
def test_a_wrong_label_is_another_known_one(labels, num_labels, seed, dtype):
    true = np.array(labels, dtype)
    given = wrong_labels(true, num_labels, np.random.default_rng(seed))
    assert given.shape == true.shape
    assert (given != true).all()
    assert ((given >= 0) & (given < num_labels)).all()


def test_wrong_labels_are_uniform_over_the_others_and_every_class_is_drawn():
    true = np.repeat(np.arange(10), 3000)
    given = wrong_labels(true, 10, np.random.default_rng(0))
    counts = np.zeros((10, 10))
    np.add.at(counts, (true, given), 1)
    off_diagonal = counts[~np.eye(10, dtype=bool)]
    assert (off_diagonal > 0).all()
    statistic = ((off_diagonal - 3000 / 9) ** 2 / (3000 / 9)).sum()
    assert scipy.stats.chi2(10 * 8).sf(statistic) > 0.001


def test_wrong_labels_of_one_class_and_of_unknown_labels_are_rejected():
    rng = np.random.default_rng(0)
    assert error_of(lambda: wrong_labels(np.zeros(3, np.int64), 1, rng)) == (
        "1 label: a label swap needs at least 2; add images with another label"
    )
    assert error_of(lambda: wrong_labels(np.array([0, 10]), 10, rng)) == (
        "labels are 0 .. 10 but there are 10 classes: a label is 0 .. 9; correct the labels or the "
        "number"
    )


def test_swap_metrics_count_given_true_and_other_labels():
    true = np.array([0, 0, 0, 1, 1, 2])
    given = np.array([1, 1, 2, 0, 2, 0])
    judged = np.array([1, 0, 2, 0, 0, 1])
    metrics = swap_metrics(true, given, judged)
    assert metrics.success == Proportion(3, 6)
    assert metrics.leakage == Proportion(1, 6)
    assert metrics.other == Proportion(2, 6)
    assert metrics.success_by_given == {
        0: Proportion(1, 2),
        1: Proportion(1, 2),
        2: Proportion(1, 2),
    }


@settings(max_examples=25, deadline=None)
@given(n=st.integers(0, 200), seed=st.integers(0, 2**31))
def test_swap_shares_add_up(n, seed):
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 4, n)
    given = wrong_labels(true, 4, rng)
    metrics = swap_metrics(true, given, rng.integers(0, 4, n))
    parts = (metrics.success, metrics.leakage, metrics.other)
    assert sum(part.successes for part in parts) == n
    assert {part.n for part in parts} == {n}
    by_given = metrics.success_by_given.values()
    assert sum(part.successes for part in by_given) == metrics.success.successes
    assert sum(part.n for part in by_given) == n


def test_a_swap_to_the_true_label_is_rejected():
    true = np.array([0, 1])
    assert error_of(lambda: swap_metrics(true, np.array([1, 1]), true)) == (
        "image 1 is given its true label 1: a swap needs a wrong label; draw the given labels with "
        "wrong_labels"
    )


def test_labels_of_different_images_are_rejected(monkeypatch):
    """Without the shape checks of the tests' import hook, which would raise first."""
    spec = importlib.util.spec_from_file_location("generation_unhooked", generation.__file__)
    unhooked = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "generation_unhooked", unhooked)  # dataclasses look there
    spec.loader.exec_module(unhooked)
    true = np.array([0, 1])
    assert error_of(lambda: unhooked.swap_metrics(true, 1 - true, np.array([0]))) == (
        "lengths [2, 2, 1] differ: all must be of the same images; pass one row per image"
    )


# Class medoids


def naive_medoids(images_u8, labels, num_labels):
    """In whole numbers: distances times the squared number of images, so ties are exact."""
    rows = []
    for label in range(num_labels):
        own = np.flatnonzero(labels == label)
        images = images_u8[own].astype(np.int64)
        distances = ((len(own) * images - images.sum(axis=0)) ** 2).sum(axis=(1, 2, 3))
        rows.append(int(own[distances.argmin()]) if len(own) else -1)
    return rows


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 60),
    channels=st.sampled_from([1, 3]),
    values=st.sampled_from([1, 100, 2**20]),
    seed=st.integers(0, 2**31),
)
def test_class_medoids_equal_the_naive_ones_in_batches_of_any_size(n, channels, values, seed):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, 6, 5, channels), np.uint8)
    labels = rng.integers(-1, 4, n)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "_VALUES", values)
        found = class_medoids(images, labels, 4)
    assert found.tolist() == naive_medoids(images, labels, 4)


def test_class_medoids_are_the_first_of_equal_images():
    images = np.repeat(np.array([7, 7, 9, 9], np.uint8), 4).reshape(4, 2, 2, 1)
    assert class_medoids(images, np.array([0, 0, 1, 1]), 3).tolist() == [0, 2, -1]


def test_class_medoids_of_a_memory_map_need_memory_for_a_batch_only(tmp_path):
    """As floats the larger memory map would take 100 MB more than the smaller one."""
    peaks = []
    for n in (500, 2_500):
        images = np.lib.format.open_memmap(
            tmp_path / f"{n}.npy", mode="w+", dtype=np.uint8, shape=(n, 64, 64, 3)
        )
        images[:] = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        tracemalloc.start()
        class_medoids(images, np.arange(n) % 10, 10)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 1e6
    assert peaks[1] < 50e6


# Style


def stroke(slant=0.0, thickness=4.0, length=24.0, size=48, value=1.0):
    """A sheared upright bar, anti-aliased by 8x8 samples per pixel."""
    fine = (np.arange(8 * size) + 0.5) / 8 - size / 2
    up, right = -fine[:, None], fine[None, :]
    inside = (np.abs(up) < length / 2) & (np.abs(right - slant * up) < thickness / 2)
    return value * inside.reshape(size, 8, size, 8).mean(axis=(1, 3))


def described(*images):
    columns = style_descriptors(np.stack(images)[:, None].astype(np.float32)).T
    return dict(zip(GREY_DESCRIPTORS, columns, strict=True))


def test_descriptors_measure_strokes():
    bars = [(0.0, 4.0), (0.4, 4.0), (-0.4, 4.0), (0.0, 2.0), (0.0, 8.0)]
    style = described(*(stroke(slant, thickness) for slant, thickness in bars))
    np.testing.assert_allclose(style["ink"], [24 * w for _, w in bars], rtol=1e-3)
    np.testing.assert_allclose(style["slant"], [slant for slant, _ in bars], atol=0.01)
    np.testing.assert_allclose(style["aspect"], [w / 24 for _, w in bars], rtol=0.1)
    # A bar's area over half its outline is w l / (w + l); outlines of slanted bars are longer.
    np.testing.assert_allclose(
        style["thickness"][[0, 3, 4]], [w * 24 / (w + 24) for w in (4, 2, 8)], rtol=0.05
    )
    assert style["thickness"][3] < style["thickness"][1] < style["thickness"][4]


def test_descriptors_are_invariant_to_translation():
    style = described(stroke(0.3), np.roll(stroke(0.3), (5, -7), axis=(0, 1)))
    for values in style.values():
        assert values[0] == pytest.approx(values[1], rel=1e-6)


def test_slant_and_aspect_equal_weighted_moments():
    image = np.random.default_rng(0).random((9, 7))
    rows, columns = np.mgrid[:9, :7]
    covariance = np.cov(np.stack([columns.ravel(), -rows.ravel()]), aweights=image.ravel(), ddof=0)
    covariance += np.eye(2) / 12
    slant = covariance[0, 1] / covariance[1, 1]
    upright = np.linalg.det(covariance) / covariance[1, 1]
    style = described(image)
    assert style["slant"][0] == pytest.approx(slant, rel=1e-5)
    assert style["aspect"][0] == pytest.approx(math.sqrt(upright / covariance[1, 1]), rel=1e-5)


def test_a_blank_image_has_descriptors():
    style = described(np.zeros((8, 8)))
    assert {name: float(values[0]) for name, values in style.items()} == {
        "ink": 0.0,
        "slant": 0.0,
        "aspect": 1.0,
        "thickness": 0.0,
    }


def test_colour_is_described_by_means_and_contrast():
    images = np.zeros((2, 3, 4, 4), np.float32)
    images[0, 0] = 0.75
    images[1, :, :2] = 1.0
    style = dict(zip(COLOUR_DESCRIPTORS, style_descriptors(images).T, strict=True))
    np.testing.assert_allclose(style["mean red"], [0.75, 0.5])
    np.testing.assert_allclose(style["mean blue"], [0.0, 0.5])
    np.testing.assert_allclose(style["contrast"], [0.0, 0.5])


def test_other_channel_counts_are_rejected():
    assert error_of(lambda: style_descriptors(np.zeros((1, 2, 4, 4)))) == (
        "images have 2 channels: style descriptors need 1 (grey) or 3 (colour); convert them"
    )


def styled(n=4000, seed=0):
    """True and given labels, and descriptors that depend on the label and on an independent style."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 10, n)
    of_label = 5 * rng.standard_normal((10, 3))
    style = rng.standard_normal((n, 3))
    return rng, true, wrong_labels(true, 10, rng), of_label, style


def test_style_of_a_decoder_that_ignores_the_label_is_1():
    rng, true, given, of_label, style = styled()
    source = of_label[true] + style
    kept = style_kept(source, source, true, given, rng)
    assert kept.metric == pytest.approx(1)
    assert abs(kept.control) < 0.06
    assert kept.n == 4000


def test_style_of_a_decoder_of_class_means_is_0():
    rng, true, given, of_label, style = styled()
    kept = style_kept(of_label[true] + style, of_label[given], true, given, rng)
    assert kept.metric == 0
    assert kept.control == 0


def test_style_of_a_perfect_swap_is_1_for_any_effect_of_the_labels():
    rng, true, given, of_label, style = styled()
    kept = style_kept(of_label[true] + style, of_label[given] + style, true, given, rng)
    assert kept.metric == pytest.approx(1)


def test_style_of_outputs_that_depend_on_the_true_label_only_is_0():
    """Such outputs share the label's descriptors with their source."""
    rng, true, given, of_label, style = styled()
    other = rng.standard_normal(style.shape)
    kept = style_kept(of_label[true] + style, of_label[true] + other, true, given, rng)
    assert abs(kept.metric) < 0.06


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_partly_kept_style_is_the_correlation(share):
    rng, true, given, of_label, style = styled(20_000)
    output = share * style + math.sqrt(1 - share**2) * rng.standard_normal(style.shape)
    kept = style_kept(of_label[true] + style, of_label[given] + output, true, given, rng)
    np.testing.assert_allclose(kept.per_descriptor, share, atol=0.03)
    assert kept.metric == pytest.approx(share, abs=0.02)


def test_style_within_one_pair_of_labels_equals_scipys_correlation():
    rng = np.random.default_rng(0)
    source, output = rng.standard_normal((2, 50, 2))
    output += source
    zeros = np.zeros(50, np.uint8)
    kept = style_kept(source, output, zeros, zeros + 1, rng)
    theirs = [scipy.stats.pearsonr(source[:, i], output[:, i]).statistic for i in range(2)]
    np.testing.assert_allclose(kept.per_descriptor, theirs)


def test_control_is_near_0_for_any_metric_and_labels():
    rng = np.random.default_rng(0)
    true = np.repeat([0, 1], 2000)
    source = rng.standard_normal((4000, 1)) + 100 * true[:, None]
    kept = style_kept(source, -source, true, 1 - true, rng)
    assert kept.metric == pytest.approx(-1)
    assert abs(kept.control) < 0.06


def test_style_of_images_without_a_common_pair_of_labels_is_nan():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((3, 2))
    kept = style_kept(features, features, np.arange(3), np.arange(3), rng)
    assert np.isnan([kept.metric, kept.control, *kept.per_descriptor]).all()
    assert kept.n == 0


# Fréchet distance


def with_moments(mean, covariance, n, seed):
    """Features with exactly this sample mean and covariance."""
    raw = np.random.default_rng(seed).standard_normal((n, len(mean)))
    raw -= raw.mean(axis=0)
    white = raw @ np.linalg.inv(np.linalg.cholesky(np.cov(raw, rowvar=False))).T
    return white @ np.linalg.cholesky(covariance).T + mean


def test_frechet_distance_of_diagonal_covariances():
    mean_a, mean_b = np.array([0.0, 1.0, -2.0]), np.array([0.5, 1.0, 1.0])
    sigma_a, sigma_b = np.array([1.0, 2.0, 0.1]), np.array([3.0, 2.0, 0.5])
    a = with_moments(mean_a, np.diag(sigma_a**2), 40, 0)
    b = with_moments(mean_b, np.diag(sigma_b**2), 90, 1)
    expected = ((mean_a - mean_b) ** 2).sum() + ((sigma_a - sigma_b) ** 2).sum()
    assert frechet_distance(a, b) == pytest.approx(expected)


def test_frechet_distance_equals_the_formula_with_scipys_root():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((200, 8)) @ rng.standard_normal((8, 8)) + 1
    b = rng.standard_normal((150, 8)) @ rng.standard_normal((8, 8))
    sigma_a, sigma_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(sigma_a @ sigma_b).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(sigma_a + sigma_b - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected)
    assert frechet_distance(b, a) == pytest.approx(expected)


def test_frechet_distance_to_itself_is_0_also_with_fewer_images_than_features():
    a = np.random.default_rng(0).standard_normal((10, 64)).astype(np.float32)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(a, a + 2) == pytest.approx(4 * 64, rel=1e-6)
    assert frechet_distance(a[:, :1], 3 * a[:, :1]) > 0  # a single feature


def test_frechet_distance_of_different_features_is_rejected():
    assert error_of(lambda: frechet_distance(np.zeros((5, 2)), np.zeros((1, 2)))) == (
        "features have shapes (5, 2) and (1, 2): each set needs at least 2 images, and both the "
        "same features; compute both with one network"
    )
