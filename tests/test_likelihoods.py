"""Likelihoods against torch.distributions and scipy, and properties common to all of them."""

import copy
import importlib.util
import math
import pickle

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import error_of, moved
from isthmus.errors import UserError
from isthmus.nn import likelihoods
from isthmus.nn.likelihoods import (
    LOG_256,
    Bernoulli,
    ContinuousBernoulli,
    DiscretisedLogistic,
    Gaussian,
    dynamic_binarisation,
    likelihood_named,
    threshold_binarisation,
)
from isthmus.recipe.registry import LIKELIHOOD

every_likelihood = pytest.mark.parametrize("name", LIKELIHOOD.names)
LEVELS = torch.arange(256) / 255


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def scene(likelihood, *sample, seed=0, batch=3, size=4, spread=2.0, channels=None):
    """Random maps and the target of random images that are multiples of 1/255."""
    channels = channels or (1 if isinstance(likelihood, Bernoulli) else 3)
    generator = seeded(seed)
    maps = likelihood.params_per_channel * channels
    params = spread * torch.randn(*sample, batch, maps, size, size, generator=generator)
    values = torch.randint(256, (batch, channels, size, size), generator=generator)
    values[0, 0, 0, :2] = torch.tensor([0, 255])
    return params, likelihood.target(values / 255, generator)


def per_level(*params):
    """Log probabilities that the discretised logistic gives to its 256 values."""
    maps = torch.tensor(params, dtype=torch.float32).reshape(1, 2, 1, 1).expand(256, 2, 1, 1)
    return DiscretisedLogistic().log_prob(maps, LEVELS.reshape(256, 1, 1, 1))


# Against independent implementations


@pytest.mark.parametrize("binarisation", [dynamic_binarisation, threshold_binarisation])
def test_bernoulli_equals_torch(binarisation):
    likelihood = Bernoulli(binarisation)
    logits, target = scene(likelihood)
    theirs = torch.distributions.Bernoulli(logits=logits.double())
    torch.testing.assert_close(
        likelihood.log_prob(logits, target).double(),
        theirs.log_prob(target.double()).sum((1, 2, 3)),
        rtol=1e-5,
        atol=1e-5,
    )


def test_continuous_bernoulli_equals_torch():
    likelihood = ContinuousBernoulli()
    logits, target = scene(likelihood, size=16)
    theirs = torch.distributions.ContinuousBernoulli(logits=logits.double())
    torch.testing.assert_close(
        likelihood.log_prob(logits, target).double(),
        theirs.log_prob(target.double()).sum((1, 2, 3)),
        rtol=1e-5,
        atol=1e-4,
    )
    torch.testing.assert_close(likelihood.mean(logits).double(), theirs.mean, rtol=1e-5, atol=1e-5)


def exact_normaliser(logit):
    """log of the integral of exp(logit (x - 1/2)), in float64 and from its definition."""
    return math.log(scipy.integrate.quad(lambda x: math.exp(logit * (x - 0.5)), 0, 1)[0])


@pytest.mark.parametrize("logit", [0.0, 1e-6, -1e-3, 0.1, 0.499, -0.501, 0.7, 2.0, -9.0, 40.0])
def test_normaliser_of_the_continuous_bernoulli_equals_its_integral(logit):
    likelihood = ContinuousBernoulli()
    params = torch.tensor(logit).reshape(1, 1, 1, 1)
    middle = likelihood.log_prob(params, torch.full((1, 1, 1, 1), 0.5)).item()
    assert middle == pytest.approx(-exact_normaliser(logit), rel=1e-5, abs=1e-7)
    mean = scipy.integrate.quad(
        lambda x: x * math.exp(logit * (x - 0.5) - exact_normaliser(logit)), 0, 1
    )[0]
    assert likelihood.mean(params).item() == pytest.approx(mean, rel=1e-5)


@pytest.mark.parametrize("log_sigma", [-2.0, 0.0, 0.5])
def test_gaussian_equals_torch(log_sigma):
    likelihood = Gaussian(log_sigma)
    params, target = scene(likelihood)
    theirs = torch.distributions.Normal(params.double().sigmoid(), math.exp(log_sigma))
    torch.testing.assert_close(
        likelihood.log_prob(params, target).double(),
        theirs.log_prob(target.double()).sum((1, 2, 3)),
        rtol=1e-5,
        atol=1e-4,
    )


@pytest.mark.parametrize("centre", [-1.2, -0.8, 0.013, 0.5])
@pytest.mark.parametrize("log_scale", [-5.0, -2.0, 1.0])
def test_discretised_logistic_equals_differences_of_the_distribution_function(centre, log_scale):
    edges = np.concatenate([[-np.inf], (np.arange(255) + 0.5) / 127.5 - 1, [np.inf]])
    theirs = scipy.stats.logistic(centre, math.exp(log_scale))
    np.testing.assert_allclose(
        per_level(centre, log_scale).exp(), np.diff(theirs.cdf(edges)), rtol=1e-3, atol=1e-9
    )


def test_discretised_logistic_is_exact_in_the_tail():
    """At 200 scales a difference of sigmoids underflows to 0; scipy's survival function does not."""
    theirs = scipy.stats.logistic(-0.5, math.exp(-5.3))
    below, above = 190.5 / 127.5 - 1, 191.5 / 127.5 - 1
    expected = math.log(theirs.sf(below) - theirs.sf(above))
    assert expected < -190
    assert per_level(-0.5, -5.3)[191].item() == pytest.approx(expected, rel=1e-5)
    assert per_level(0.5, -5.3)[64].item() == pytest.approx(expected, rel=1e-5)  # mirrored


# Normalisation


@settings(max_examples=50, deadline=None)
@given(centre=st.floats(-3, 3), log_scale=st.floats(-9, 9))
def test_probabilities_of_the_256_values_sum_to_1(centre, log_scale):
    assert per_level(centre, log_scale).double().exp().sum().item() == pytest.approx(1, abs=2e-4)


def test_bernoulli_probabilities_sum_to_1():
    likelihood = Bernoulli(threshold_binarisation)
    logits = torch.linspace(-30, 30, 7).reshape(7, 1, 1, 1)
    both = [likelihood.log_prob(logits, torch.full_like(logits, value)) for value in (0.0, 1.0)]
    torch.testing.assert_close(both[0].exp() + both[1].exp(), torch.ones(7))


@pytest.mark.parametrize("log_sigma", [-4.0, -2.0])
def test_dequantised_bits_of_the_gaussian_bound_those_of_the_discrete_value(log_sigma):
    """E log p((k + u) / 256) - log 256 is at most the log of the integral over the bin."""
    likelihood = Gaussian(log_sigma)
    image = torch.full((20_000, 1, 1, 1), 100 / 255)
    params = torch.zeros(20_000, 1, 1, 1)
    evaluated = likelihood.log_prob(params, likelihood.target(image, seeded())).mean().item()
    theirs = scipy.stats.norm(0.5, math.exp(log_sigma))
    exact = math.log(theirs.cdf(101 / 256) - theirs.cdf(100 / 256))
    bound = evaluated - likelihood.dims_offset_nats_per_dim
    assert bound < exact + 1e-3
    assert bound == pytest.approx(exact, abs=0.1)


def test_bits_per_dim_offsets_are_log_256_for_densities_and_0_for_probabilities():
    assert {name: likelihood_named(name).dims_offset_nats_per_dim for name in LIKELIHOOD.names} == {
        "bernoulli-dynamic": 0.0,
        "bernoulli-threshold": 0.0,
        "continuous-bernoulli": LOG_256,
        "gaussian": LOG_256,
        "discretised-logistic": 0.0,
    }
    assert math.exp(LOG_256) == pytest.approx(256)


# Draws and means


def constant_maps(likelihood, values, n):
    maps = torch.tensor(values, dtype=torch.float32).reshape(1, likelihood.params_per_channel, 1, 1)
    return maps.expand(1, -1, n, 1)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("bernoulli-dynamic", [-1.3]),
        ("continuous-bernoulli", [-6.0]),
        ("continuous-bernoulli", [0.0]),
        ("continuous-bernoulli", [1.7]),
        ("discretised-logistic", [-0.9, -2.0]),
        ("discretised-logistic", [0.4, -1.0]),
        ("discretised-logistic", [1.1, -3.0]),
        ("discretised-logistic", [0.3, 4.0]),
    ],
)
def test_mean_is_the_mean_of_samples(name, values):
    likelihood = likelihood_named(name)
    params = constant_maps(likelihood, values, 40_000)
    samples = likelihood.sample(params, seeded())
    expected = likelihood.mean(params).flatten()[0].item()
    error = samples.std().item() / math.sqrt(40_000)
    assert samples.mean().item() == pytest.approx(expected, abs=4 * error + 1e-4)


@pytest.mark.parametrize("logit", [-20.0, -1.0, 0.0, 3.0])
def test_samples_of_the_continuous_bernoulli_have_its_distribution(logit):
    likelihood = ContinuousBernoulli()
    samples = likelihood.sample(constant_maps(likelihood, [logit], 5000), seeded()).flatten()
    theirs = torch.distributions.ContinuousBernoulli(logits=torch.tensor(logit).double())
    cdf = lambda x: theirs.cdf(torch.as_tensor(x).double()).numpy()  # noqa: E731
    assert scipy.stats.kstest(samples.double().numpy(), cdf).pvalue > 0.001


def test_sample_frequencies_of_the_discretised_logistic_are_its_probabilities():
    likelihood = DiscretisedLogistic()
    samples = likelihood.sample(constant_maps(likelihood, [0.8, -1.5], 50_000), seeded())
    counts = torch.bincount((samples.flatten() * 255).round().long(), minlength=256)
    expected = per_level(0.8, -1.5).double().exp() * 50_000
    often = expected > 10
    statistic = ((counts - expected)[often] ** 2 / expected[often]).sum().item()
    assert scipy.stats.chi2(int(often.sum()) - 1).sf(statistic) > 0.001
    assert counts[255] > 5000  # the open bin


def test_samples_of_the_gaussian_have_the_learned_scale():
    likelihood = Gaussian(-3.0)
    samples = likelihood.sample(torch.zeros(1, 1, 20_000, 1), seeded())
    assert samples.mean().item() == pytest.approx(0.5, abs=0.002)
    assert samples.std().item() == pytest.approx(math.exp(-3), rel=0.03)


@every_likelihood
@pytest.mark.parametrize("spread", [0.0, 3.0, 1e4])
def test_means_and_samples_lie_in_0_1_and_values_and_gradients_are_finite(name, spread):
    likelihood = likelihood_named(name)
    params, target = scene(likelihood, 2, spread=spread)
    params.requires_grad_()
    images = [likelihood.mean(params), likelihood.sample(params, seeded())]
    for image in images:
        assert image.shape == (2, *target.shape)
        assert image.min() >= 0
        assert image.max() <= 1
    value = likelihood.log_prob(params, target)
    assert value.isfinite().all()
    (value.sum() + images[0].sum()).backward()
    assert params.grad.isfinite().all()


@pytest.mark.parametrize(
    ("name", "dark", "bright"),
    [
        ("bernoulli-dynamic", [-1e6], [1e6]),
        ("continuous-bernoulli", [-1e6], [1e6]),
        ("gaussian", [-1e6], [1e6]),
        ("discretised-logistic", [-1e10, 0.0], [1e10, 0.0]),
    ],
)
def test_extreme_maps_give_black_and_white(name, dark, bright):
    likelihood = likelihood_named(name)
    assert likelihood.mean(constant_maps(likelihood, dark, 1)).item() == pytest.approx(0, abs=1e-5)
    assert likelihood.mean(constant_maps(likelihood, bright, 1)).item() == pytest.approx(
        1, abs=1e-5
    )


@every_likelihood
def test_draws_repeat_with_a_seeded_generator_only(name):
    likelihood = likelihood_named(name)
    params, _ = scene(likelihood, batch=8)
    assert torch.equal(likelihood.sample(params, seeded(1)), likelihood.sample(params, seeded(1)))
    assert not torch.equal(likelihood.sample(params, None), likelihood.sample(params, None))


# Targets


def test_dynamic_binarisation_draws_again_with_the_brightness_as_probability():
    image = torch.linspace(0, 1, 5).reshape(1, 1, 1, 5).expand(20_000, 1, 1, 5)
    likelihood = likelihood_named("bernoulli-dynamic")
    drawn = likelihood.target(image, seeded())
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(drawn.mean((0, 1, 2)), image[0, 0, 0], atol=0.02, rtol=0)
    assert torch.equal(drawn, likelihood.target(image, seeded()))
    assert not torch.equal(drawn, likelihood.target(image, seeded(1)))


def test_threshold_binarisation_is_1_from_0_5():
    image = torch.tensor([0.0, 127 / 255, 0.5, 128 / 255, 1.0]).reshape(1, 1, 1, 5)
    target = likelihood_named("bernoulli-threshold").target(image, None)
    assert target.flatten().tolist() == [0.0, 0.0, 1.0, 1.0, 1.0]


def test_dequantisation_is_uniform_within_the_bin_of_each_value():
    image = LEVELS.reshape(1, 1, 256, 1).expand(50, 1, 256, 1)
    target = Gaussian().target(image, seeded())
    offset = 256 * target - (255 * image).round()
    assert offset.min() >= -1e-4
    assert offset.max() <= 1 + 1e-4
    assert scipy.stats.kstest(offset.flatten().numpy(), "uniform").pvalue > 0.001


@pytest.mark.parametrize("name", ["continuous-bernoulli", "discretised-logistic"])
def test_other_targets_are_the_unchanged_image(name):
    image = torch.rand(2, 3, 4, 4)
    assert torch.equal(likelihood_named(name).target(image, None), image)


# Common properties


@every_likelihood
def test_log_prob_of_several_samples_equals_that_of_each(name):
    likelihood = likelihood_named(name)
    params, target = scene(likelihood, 2, 4)
    value = likelihood.log_prob(params, target)
    assert value.shape == (2, 4, 3)
    for i in range(2):
        for j in range(4):
            torch.testing.assert_close(value[i, j], likelihood.log_prob(params[i, j], target))


@every_likelihood
def test_log_prob_of_an_image_is_the_sum_over_its_values(name):
    likelihood = likelihood_named(name)
    params, target = scene(likelihood, size=4)
    columns = [likelihood.log_prob(params[..., [i]], target[..., [i]]) for i in range(4)]
    torch.testing.assert_close(sum(columns), likelihood.log_prob(params, target))


@pytest.mark.parametrize("name", ["continuous-bernoulli", "gaussian", "discretised-logistic"])
def test_first_parameters_of_all_channels_come_first(name):
    likelihood = likelihood_named(name)
    params, target = scene(likelihood)
    by_channel = [
        likelihood.log_prob(params[:, channel::3], target[:, [channel]]) for channel in range(3)
    ]
    torch.testing.assert_close(sum(by_channel), likelihood.log_prob(params, target))
    means = [likelihood.mean(params[:, channel::3]) for channel in range(3)]
    torch.testing.assert_close(torch.cat(means, dim=1), likelihood.mean(params))


@every_likelihood
def test_bf16_params_are_evaluated_in_float32(name):
    likelihood = likelihood_named(name)
    params, target = scene(likelihood, size=16)
    params = params.bfloat16()
    plain = likelihood.log_prob(params.float(), target)
    with torch.autocast("cpu", torch.bfloat16):
        cast = likelihood.log_prob(params, target)
        assert likelihood.mean(params).dtype == torch.float32
    assert cast.dtype == torch.float32
    assert torch.equal(cast, plain)


@every_likelihood
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), spread=st.sampled_from([0.05, 1.0, 2.0]))
def test_gradient_equals_finite_differences(name, seed, spread):
    """Over a small step along a random direction."""
    likelihood = likelihood_named(name)
    params, target = scene(likelihood, seed=seed, spread=spread, batch=2)
    direction = torch.randn(params.shape, generator=seeded(seed + 1))
    params.requires_grad_()
    likelihood.log_prob(params, target).sum().backward()
    slope = (params.grad * direction).double().sum().item()
    step = 2e-3
    ahead, behind = (
        likelihood.log_prob((params + sign * step * direction).detach(), target) for sign in (1, -1)
    )
    change = ((ahead - behind).double().sum() / (2 * step)).item()
    assert change == pytest.approx(slope, rel=2e-2, abs=0.2 + 1e-2 * params.grad.norm().item())


@pytest.mark.parametrize("name", ["bernoulli-dynamic", "continuous-bernoulli"])
def test_gradient_by_the_logit_is_target_minus_mean(name):
    """Holds for exponential families; also where the normaliser is evaluated by its series."""
    likelihood = likelihood_named(name)
    logits = torch.cat([torch.linspace(-1, 1, 201), torch.tensor([-80.0, -8.0, 8.0, 80.0])])
    params = logits.reshape(1, 1, -1, 1).requires_grad_()
    target = torch.rand(params.shape, generator=seeded()).round()
    likelihood.log_prob(params, target).backward()
    torch.testing.assert_close(
        params.grad, target - likelihood.mean(params).detach(), rtol=0, atol=2e-6
    )


@pytest.mark.trains
@every_likelihood
def test_gradient_ascent_on_the_maps_recovers_the_image(name):
    likelihood = likelihood_named(name)
    params, _ = scene(likelihood, seed=moved(0), batch=1, spread=0.1)
    channels = params.shape[1] // likelihood.params_per_channel
    image = torch.rand((1, channels, 4, 4), generator=seeded(moved(0))).round()
    params.requires_grad_()
    optimiser = torch.optim.Adam([params, *likelihood.parameters()], lr=0.3)
    for _ in range(100):
        optimiser.zero_grad()
        (-likelihood.log_prob(params, likelihood.target(image, seeded()))).sum().backward()
        optimiser.step()
    assert (likelihood.mean(params) - image).abs().max() < 0.1  # seen 0.06 and less, 40 seeds


@pytest.mark.trains
def test_learned_scale_converges_to_the_root_mean_square_error():
    likelihood = Gaussian()
    assert [name for name, _ in likelihood.named_parameters()] == ["log_sigma"]
    params, target = torch.zeros(1, 1, 8, 8), torch.rand((1, 1, 8, 8), generator=seeded(moved(0)))
    optimiser = torch.optim.Adam(likelihood.parameters(), lr=0.05)
    for _ in range(200):
        optimiser.zero_grad()
        (-likelihood.log_prob(params, target)).sum().backward()
        optimiser.step()
    left = (target - 0.5).square().mean().sqrt().item()
    assert likelihood.log_sigma.exp().item() == pytest.approx(left, rel=1e-3)


@every_likelihood
def test_likelihoods_can_be_copied_and_pickled(name):
    likelihood = likelihood_named(name)
    params, target = scene(likelihood)
    value = likelihood.log_prob(params, target)
    for twin in (copy.deepcopy(likelihood), pickle.loads(pickle.dumps(likelihood))):
        assert torch.equal(twin.log_prob(params, target), value)


@every_likelihood
def test_likelihoods_can_be_exported(name):
    likelihood = likelihood_named(name)
    params, _ = scene(likelihood)

    class Head(torch.nn.Module):
        def forward(self, params):
            return likelihood.mean(params)

    exported = torch.export.export(Head(), (params,)).module()
    torch.testing.assert_close(exported(params), likelihood.mean(params))


# Errors


def test_an_unknown_name_is_rejected():
    assert error_of(lambda: likelihood_named("gausian")) == (
        "'gausian': unknown likelihood; did you mean gaussian?"
    )


@pytest.mark.parametrize("name", ["bernoulli-dynamic", "bernoulli-threshold"])
def test_binarising_colour_is_rejected(name):
    assert error_of(lambda: likelihood_named(name).target(torch.rand(2, 3, 4, 4), None)) == (
        "images have 3 channels: a binarised likelihood needs grey images; set objective.likelihood = "
        '"discretised-logistic"'
    )
    likelihood_named("discretised-logistic").target(
        torch.rand(2, 3, 4, 4), None
    )  # the remedy works


def test_maps_that_do_not_fit_the_target_are_rejected():
    likelihood = DiscretisedLogistic()
    target = torch.zeros(2, 3, 4, 4)
    assert error_of(lambda: likelihood.log_prob(torch.zeros(2, 2, 4, 4), target)) == (
        "params have shape (2, 2, 4, 4) but the target (2, 3, 4, 4): batch, height and width must "
        "agree, with 2 maps per channel; let the decoder give 6 maps at the image's size"
    )
    assert likelihood.log_prob(torch.zeros(2, 6, 4, 4), target).shape == (2,)  # the remedy works
    assert error_of(lambda: likelihood.mean(torch.zeros(2, 3, 4, 4))) == (
        "params have 3 maps: this likelihood takes 2 per channel; let the decoder give a multiple "
        "of that"
    )


def test_shapes_that_would_broadcast_are_rejected():
    """Without the shape checks of the tests' import hook, which would raise first."""
    spec = importlib.util.spec_from_file_location("likelihoods_unhooked", likelihoods.__file__)
    unhooked = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(unhooked)
    likelihood = unhooked.Gaussian()
    for shape in ((1, 3, 4, 4), (2, 3, 4, 1), (2, 1, 4, 4)):
        with pytest.raises(UserError) as caught:
            likelihood.log_prob(torch.zeros(2, 3, 4, 4), torch.zeros(shape))
        assert str(caught.value).startswith(
            f"params have shape (2, 3, 4, 4) but the target {shape}: batch, height and width must "
            "agree, with 1 maps per channel; let the decoder give "
        )
