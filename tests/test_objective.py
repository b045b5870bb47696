"""What a VAE minimises: warm-up, beta and free bits; and the ELBO, which has none of them."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal

from isthmus.tasks.generate.module import Generator, vae_for
from isthmus.tasks.generate.recipe import VAE, GenerateRecipe, Objective

STEPS = 100
FREE_NATS = 0.5


def module_of(done: int = 0, **objective: float) -> Generator:
    """A module that has been trained for so many steps, with the same weights whatever it minimises."""
    recipe = GenerateRecipe(
        model=VAE(width=4, latent=3, condition_on="decoder", label_dropout=0.5),
        objective=Objective(**objective),
    )
    torch.manual_seed(0)
    module = Generator(vae_for(recipe, 3), recipe, STEPS)
    module.steps_done = done
    return module


@pytest.mark.parametrize(
    ("done", "kl_warmup", "beta", "weight"),
    [
        (0, 0.0, 1.0, 1.0),
        (0, 0.0, 4.0, 4.0),
        (0, 0.2, 1.0, 0.0),
        (5, 0.2, 1.0, 0.25),
        (19, 0.2, 1.0, 0.95),
        (20, 0.2, 1.0, 1.0),
        (99, 0.2, 1.0, 1.0),
        (10, 0.2, 4.0, 2.0),
        (60, 0.2, 4.0, 4.0),
    ],
)
def test_the_weight_of_the_kl_climbs_from_0_to_beta(
    done: int, kl_warmup: float, beta: float, weight: float
) -> None:
    module = module_of(done, kl_warmup=kl_warmup, beta=beta)
    assert module._kl_weight() == pytest.approx(weight)


def test_no_unit_is_charged_less_than_its_free_bits() -> None:
    """Means over the batch are 0.25, 1 and 0: the first and last are charged 0.5."""
    kl = torch.tensor([[0.5, 2.0, 0.0], [0.0, 0.0, 0.0]])
    assert module_of()._charged(kl).item() == 1.25
    module = module_of(free_bits_nats=FREE_NATS)
    assert module._charged(kl).item() == 0.5 + 1.0 + 0.5


def test_a_unit_below_its_free_bits_is_not_pushed() -> None:
    kl = torch.tensor([[0.5, 2.0, 0.0], [0.0, 0.0, 0.0]], requires_grad=True)
    module_of(free_bits_nats=FREE_NATS)._charged(kl).backward()
    assert kl.grad is not None
    assert kl.grad.tolist() == [[0.0, 0.5, 0.0], [0.0, 0.5, 0.0]]


def numbers_of(module: Generator) -> dict[str, float]:
    """What is tallied of one batch, with the same noise for every module."""
    draws = torch.Generator().manual_seed(2)
    batch = {"image": torch.rand(8, 1, 28, 28, generator=draws), "label": torch.arange(8) % 3}
    with torch.no_grad():  # at first every KL is nearly 0; a mean of 0.1 to 2.3 makes it some
        module.network.posterior.bias[:3] = torch.tensor([0.1, 2.3, 1.1])
    torch.manual_seed(1)
    with torch.inference_mode():
        loss, sums = module(batch, "train")
    numbers = module.metrics(sums, 8)
    assert numbers["loss"] == pytest.approx(loss.item(), rel=1e-6)
    return numbers


@pytest.mark.parametrize(
    ("done", "objective"),
    [(5, {"kl_warmup": 0.2}), (STEPS, {"free_bits_nats": FREE_NATS}), (STEPS, {"beta": 4.0})],
    ids=["warm-up", "free bits", "beta"],
)
def test_the_elbo_is_tallied_without_what_weighs_the_kl(
    done: int, objective: dict[str, float]
) -> None:
    plain = numbers_of(module_of(STEPS))
    assert plain["loss"] == pytest.approx(-plain["elbo_nats"], abs=1e-3)
    assert plain["kl_nats"] > 3, "else no weight of it shows"
    weighed = numbers_of(module_of(done, **objective))
    assert weighed["elbo_nats"] == plain["elbo_nats"]
    assert weighed["kl_nats"] == plain["kl_nats"]
    charged = {
        "kl_warmup": 0.25 * plain["kl_nats"],
        "free_bits_nats": plain["kl_nats"] + FREE_NATS - 0.005,  # 0.1**2 / 2 of the first unit
        "beta": 4.0 * plain["kl_nats"],
    }[next(iter(objective))]
    added = weighed["loss"] - plain["loss"]
    assert added == pytest.approx(charged - plain["kl_nats"], abs=0.01)


def test_more_samples_of_z_make_the_importance_weighted_bound() -> None:
    """Against torch's distributions; the ELBO that is tallied is the mean over the same samples."""
    seen = []
    module = module_of(STEPS, importance_samples=5)
    module.network.register_forward_hook(lambda _, given, outcome: seen.append((*given, outcome)))
    numbers = numbers_of(module)
    image, _, noise, outcome = seen[0]
    assert noise.shape == (5, 8, 3)
    q = Normal(outcome.mu, outcome.log_sigma.exp())
    log_prob = (
        torch.distributions.Bernoulli(logits=outcome.params).log_prob(image).sum(dim=(-3, -2, -1))
    )
    p = Normal(0.0, 1.0)
    ratio = (p.log_prob(outcome.z) - q.log_prob(outcome.z)).sum(dim=-1)
    bound = torch.logsumexp(log_prob + ratio, dim=0) - math.log(5)
    assert numbers["loss"] == pytest.approx(-bound.mean().item(), rel=1e-5)
    assert numbers[module.selection_metric] == pytest.approx(-numbers["loss"], rel=1e-6)
    kl = torch.distributions.kl_divergence(q, Normal(torch.zeros(8, 3), 1.0)).sum(dim=-1)
    assert numbers["elbo_nats"] == pytest.approx(
        (log_prob.mean(dim=0) - kl).mean().item(), rel=1e-5
    )
    assert numbers["loss"] < -numbers["elbo_nats"] - 0.1


@pytest.mark.parametrize(("done", "samples"), [(0, 1), (79, 1), (80, 5), (STEPS, 5)])
def test_more_samples_wait_for_their_share_of_the_steps(done: int, samples: int) -> None:
    """Of training images; epochs are chosen by as many samples throughout."""
    module = module_of(done, importance_samples=5, importance_from=0.8)
    assert module._samples("train") == samples
    assert module._samples("validation") == 5
    assert module.selection_metric == "bound_nats"
    assert module_of(done).selection_metric == "elbo_nats"
