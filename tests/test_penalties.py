"""Penalties against their definitions in plain sums, and whether they remove the label from z."""

import importlib.util
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import error_of, moved
from isthmus.nn import penalties
from isthmus.nn.penalties import Adversary, hsic, mmd, penalty_named, reverse_gradient

both_kernels = pytest.mark.parametrize("penalty", [hsic, mmd])


def scene(seed=0, batch=60, latent=3, num_labels=4, shift=0.0):
    """z around a centre per class, ``shift`` scales the distances between centres; labels; weights of 1."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(num_labels, (batch,), generator=generator)
    centres = torch.randn(num_labels, latent, generator=generator)
    z = torch.randn(batch, latent, generator=generator) + shift * centres[labels]
    return z, labels, torch.ones(batch)


def plain_kernel(z):
    """Pair by pair, in float64."""
    points = z.double().numpy()
    squared = np.array([[((a - b) ** 2).sum() for b in points] for a in points])
    distances = np.sqrt(squared[np.triu_indices(len(points), 1)])
    median = np.sort(distances)[(len(distances) - 1) // 2]
    return np.exp(-squared / (2 * median**2))


def plain_hsic(z, labels):
    n = len(z)
    centring = np.eye(n) - 1 / n
    same = (labels[:, None] == labels).double().numpy()
    return np.trace(plain_kernel(z) @ centring @ same @ centring) / (n - 1) ** 2


def plain_mmd(z, labels):
    kernel, labels = plain_kernel(z), labels.numpy()
    values = []
    for label in np.unique(labels):
        mine = labels == label
        within, across = kernel[np.ix_(mine, mine)].mean(), kernel[mine].mean()
        values.append(within + kernel.mean() - 2 * across)
    return np.mean(values)


# Against the definitions


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    batch=st.integers(3, 25),
    shift=st.sampled_from([0.0, 1.0, 5.0]),
)
def test_penalties_equal_their_definitions_in_plain_sums(seed, batch, shift):
    z, labels, ones = scene(seed, batch, shift=shift)
    assert hsic(z, labels, ones, 4).item() == pytest.approx(
        plain_hsic(z, labels), rel=1e-3, abs=1e-6
    )
    assert mmd(z, labels, ones, 4).item() == pytest.approx(plain_mmd(z, labels), rel=1e-3, abs=1e-6)


def test_hsic_is_the_sum_of_mmds_weighted_by_squared_counts():
    z, labels, ones = scene(shift=1.0)
    centred = [mmd_of_class(z, labels, label) * (labels == label).sum() ** 2 for label in range(4)]
    torch.testing.assert_close(hsic(z, labels, ones, 4), sum(centred) / 59**2, rtol=1e-3, atol=1e-7)


def mmd_of_class(z, labels, label):
    kernel = torch.from_numpy(plain_kernel(z)).float()
    mine = labels == label
    return kernel[mine][:, mine].mean() + kernel.mean() - 2 * kernel[mine].mean()


# Properties of both kernel penalties


@both_kernels
def test_independent_z_costs_one_over_batch_and_dependent_z_more(penalty):
    free = [
        np.mean([penalty(*scene(seed, batch=n), 4).item() for seed in range(10)])
        for n in (50, 200, 800)
    ]
    bound = penalty(*scene(batch=800, shift=2.0), 4).item()
    assert 0 <= free[2] < free[1] < free[0]
    assert free[0] / free[2] == pytest.approx(16, rel=0.6)  # of the order of 1 / batch
    assert bound > 20 * free[2]


@both_kernels
def test_only_dependent_z_costs_more_than_its_permutations(penalty):
    for shift, is_seen in ((0.0, False), (0.7, True)):
        z, labels, ones = scene(seed=3, batch=150, shift=shift)
        generator = torch.Generator().manual_seed(0)
        by_chance = [
            penalty(z, labels[torch.randperm(150, generator=generator)], ones, 4).item()
            for _ in range(50)
        ]
        assert (penalty(z, labels, ones, 4).item() > max(by_chance)) is is_seen


@both_kernels
def test_classes_with_equal_means_and_different_spread_are_detected(penalty):
    z, labels, ones = scene(batch=400, num_labels=2)
    wide = z * (1 + 3 * labels[:, None])
    assert penalty(wide, labels, ones, 2) > 5 * penalty(z, labels, ones, 2)


@both_kernels
def test_penalty_is_invariant_to_order_label_names_shift_and_scale(penalty):
    z, labels, ones = scene(shift=1.0)
    value = penalty(z, labels, ones, 4)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    same = {"rtol": 1e-4, "atol": 1e-7}
    torch.testing.assert_close(penalty(z[order], labels[order], ones, 4), value, **same)
    torch.testing.assert_close(
        penalty(z, torch.tensor([2, 0, 3, 1])[labels], ones, 4), value, **same
    )
    torch.testing.assert_close(penalty(z, labels, ones, 9), value, **same)  # absent classes
    torch.testing.assert_close(penalty(100 + 7 * z, labels, ones, 4), value, **same)


@both_kernels
def test_gradient_is_the_derivative_at_a_fixed_bandwidth(penalty):
    z, labels, ones = scene(batch=9, shift=1.0)
    z = z.double().requires_grad_()
    ours = torch.autograd.grad(penalty(z, labels, ones, 4), z)[0]
    distances = torch.pdist(z)
    squared = torch.zeros(9, 9, dtype=torch.float64)
    squared[*torch.triu_indices(9, 9, 1)] = distances.square()
    kernel = torch.exp(-(squared + squared.T) / (2 * distances.detach().median() ** 2))
    weights = torch.stack([(labels == label).double() for label in labels.unique()])
    counts = weights.sum(1, keepdim=True)
    weights = weights / (counts * math.sqrt(len(weights)) if penalty is mmd else 8)
    centred = weights - weights.mean(1, keepdim=True)
    value = (centred @ kernel @ centred.T).trace()
    torch.testing.assert_close(ours, torch.autograd.grad(value, z)[0])


@both_kernels
def test_penalty_is_float32_under_bf16_autocast(penalty):
    z, labels, ones = scene(shift=1.0)
    z = z.bfloat16()
    plain = penalty(z.float(), labels, ones, 4)
    with torch.autocast("cpu", torch.bfloat16):
        cast = penalty(z, labels, ones, 4)
    assert cast.dtype == torch.float32
    assert torch.equal(cast, plain)


@both_kernels
def test_equal_z_cost_nothing_and_have_a_finite_gradient(penalty):
    z = torch.full((6, 2), 3.0, requires_grad=True)
    value = penalty(z, torch.tensor([0, 0, 1, 1, 2, 2]), torch.ones(6), 3)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert z.grad.isfinite().all()


@pytest.mark.trains
@both_kernels
def test_gradient_descent_removes_the_label_from_z(penalty):
    """With 40 seeds at most 0.012 of the penalty and 0.29 of the distance remained."""
    z, labels, ones = scene(moved(0), batch=80, latent=2, num_labels=2, shift=1.5)
    z.requires_grad_()
    before = penalty(z, labels, ones, 2).item()
    distance_before = class_distance(z, labels)
    optimiser = torch.optim.Adam([z], lr=0.05)
    for _ in range(160):
        optimiser.zero_grad()
        penalty(z, labels, ones, 2).backward()
        optimiser.step()
    assert penalty(z, labels, ones, 2).item() < 0.05 * before
    assert class_distance(z, labels) < 0.5 * distance_before
    assert z.std() > 0.3  # and not by shrinking z to a point


def class_distance(z, labels):
    """Distance between the means of two classes in standard deviations."""
    difference = z[labels == 0].mean(0) - z[labels == 1].mean(0)
    return (difference.norm() / z.std()).item()


# Adversary


@pytest.mark.parametrize("weight", [0.0, 0.5, 3.0])
def test_gradient_reversal_keeps_values_and_negates_gradients(weight):
    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    plain = torch.autograd.grad(x.sin().square().sum(), x)[0]
    out = reverse_gradient(x, weight)
    assert torch.equal(out, x)
    assert torch.equal(torch.autograd.grad(out.sin().square().sum(), x)[0], -weight * plain)


def test_adversary_is_cross_entropy_with_a_reversed_gradient_for_z_only():
    z, labels, ones = scene(shift=1.0)
    z.requires_grad_()
    adversary = Adversary(3, 4, weight=0.7)
    value = adversary(z, labels, ones)
    log_probs = adversary.classifier(z).log_softmax(1)
    expected = -log_probs[torch.arange(60), labels].mean()
    torch.testing.assert_close(value, expected)
    value.backward()
    reversed_, own = z.grad.clone(), [p.grad.clone() for p in adversary.parameters()]
    z.grad = None
    adversary.zero_grad()
    expected.backward()
    torch.testing.assert_close(reversed_, -0.7 * z.grad)
    for ours, theirs in zip(own, adversary.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs.grad)


@pytest.mark.trains
def test_training_with_the_adversary_removes_the_label_from_z():
    """An encoder with one gain for the label and one for noise learns to drop the label."""
    torch.manual_seed(moved(0))
    labels = torch.randint(2, (256,))
    seen = torch.stack([2.0 * labels - 1, torch.randn(256)], dim=1)
    gains = torch.ones(2, requires_grad=True)
    adversary = Adversary(2, 2, weight=1.0, hidden=32)
    optimiser = torch.optim.Adam(
        [{"params": [gains], "lr": 0.01}, {"params": adversary.parameters(), "lr": 0.02}]
    )
    values = []
    for _ in range(300):
        optimiser.zero_grad()
        z = gains * seen + 0.5 * torch.randn(256, 2)
        loss = adversary(z, labels, torch.ones(256))
        rebuilt = (gains[1] - 1).square()  # the other input must be kept
        (loss + rebuilt).backward()
        optimiser.step()
        values.append(loss.item())
    assert min(values) < 0.3
    assert gains[0].abs() < 0.1
    assert gains[1] > 0.9
    assert np.mean(values[-20:]) == pytest.approx(math.log(2), abs=0.05)


def test_adversary_under_autocast_gives_float32():
    z, labels, ones = scene()
    with torch.autocast("cpu", torch.bfloat16):
        assert Adversary(3, 4, weight=1.0)(z, labels, ones).dtype == torch.float32


# Images that do not count


def penalty_and_gradients(measure, z, labels, weights):
    """The penalty, its gradient for z, and those for the weights of an adversary."""
    z = z.clone().requires_grad_()
    penalty = penalty_named(measure, 0.7, latent=3, num_labels=4)
    of_penalty = []
    if isinstance(penalty, Adversary):
        generator = torch.Generator().manual_seed(0)
        for parameter in penalty.double().parameters():
            with torch.no_grad():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 4)
        of_penalty = list(penalty.parameters())
    value = penalty(z, labels, weights)
    gradients = torch.autograd.grad(value, [z, *of_penalty])
    return value, gradients


every_penalty = pytest.mark.parametrize("measure", ["hsic", "mmd", "adversary"])


@every_penalty
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    counted=st.lists(st.booleans(), min_size=3, max_size=25).filter(lambda of: sum(of) >= 2),
    outlier=st.sampled_from([0.0, 1.0, 1e3]),
)
def test_images_of_weight_0_are_as_if_they_were_left_out(measure, seed, counted, outlier):
    """Their z may be far away and their label one that no other image has."""
    z, labels, _ = scene(seed, len(counted), shift=1.0)
    counts = torch.tensor(counted)
    z = torch.where(counts[:, None], z, z + outlier).double()
    value, (of_z, *of_penalty) = penalty_and_gradients(measure, z, labels, counts.double())
    kept = z[counts], labels[counts], torch.ones(int(counts.sum()), dtype=torch.float64)
    expected, (of_kept, *of_its_penalty) = penalty_and_gradients(measure, *kept)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(of_z[counts], of_kept)
    assert (of_z[~counts] == 0).all()
    for ours, theirs in zip(of_penalty, of_its_penalty, strict=True):
        torch.testing.assert_close(ours, theirs)


@every_penalty
@pytest.mark.parametrize("counted", [[], [4]])
def test_fewer_than_two_images_that_count_cost_nothing(measure, counted):
    z, labels, _ = scene(batch=9, shift=1.0)
    weights = torch.zeros(9).index_fill(0, torch.tensor(counted, dtype=torch.int64), 1.0)
    value, gradients = penalty_and_gradients(measure, z.double(), labels, weights.double())
    assert value.item() == 0
    assert all((of == 0).all() for of in gradients)


# By name


@pytest.mark.parametrize("name", ["hsic", "mmd"])
def test_named_kernel_penalties_are_weighted(name):
    z, labels, ones = scene(shift=1.0)
    weighted = penalty_named(name, 2.5, latent=3, num_labels=4)(z, labels, ones)
    assert torch.equal(weighted, 2.5 * getattr(penalties, name)(z, labels, ones, 4))


def test_without_a_weight_the_penalty_is_zero_and_an_adversary_has_weights():
    z, labels, ones = scene()
    assert penalty_named("none", None, latent=3, num_labels=4)(z, labels, ones) == 0
    adversary = penalty_named("adversary", 3.0, latent=3, num_labels=4)
    assert isinstance(adversary, Adversary)
    assert adversary.weight == 3.0


# Errors


@pytest.mark.parametrize(
    "penalty", [hsic, mmd, lambda z, labels, ones, n: Adversary(2, n, weight=1.0)(z, labels, ones)]
)
@pytest.mark.parametrize("wrong", [-1, 3])
def test_unknown_labels_are_rejected(penalty, wrong):
    labels = torch.tensor([0, wrong])
    assert error_of(lambda: penalty(torch.zeros(2, 2), labels, torch.ones(2), 3)) == (
        f"labels contain {wrong} but there are 3 classes: a label is 0 .. 2; leave out images "
        "without a label"
    )


@both_kernels
def test_a_single_z_is_rejected(penalty):
    assert error_of(lambda: penalty(torch.zeros(1, 2), torch.tensor([0]), torch.ones(1), 2)) == (
        "1 z: a kernel penalty needs at least 2; drop a last batch of one image"
    )


def test_different_numbers_of_z_and_labels_are_rejected():
    """Without the shape checks of the tests' import hook, which would raise first."""
    spec = importlib.util.spec_from_file_location("penalties_unhooked", penalties.__file__)
    unhooked = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(unhooked)
    for penalty in (unhooked.hsic, unhooked.mmd):
        of_one = torch.zeros(3, 2), torch.tensor([0]), torch.ones(1)
        assert (
            error_of(lambda penalty=penalty, of_one=of_one: penalty(*of_one, 2))
            == "3 z but 1 labels: each z has one label; pass z and labels of one batch"
        )
