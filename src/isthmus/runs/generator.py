"""A label-conditioned VAE while it trains: its objective, and what is counted in an epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F  # noqa: N812 (its name everywhere)
from jaxtyping import Float, Int
from torch import Tensor, nn

from isthmus import build
from isthmus.models.cvae import ConditionalVAE, Outcome
from isthmus.recipe import GenerateRecipe
from isthmus.runs.module import TaskModule
from isthmus.scoring.generation import kl_nats, log_weights


class Generator(TaskModule):
    """A VAE with its objective: negative ELBO or importance-weighted bound, penalties, reader's error.

    What it minimises is called an objective and never an ELBO: it may have free bits, a warm-up,
    several samples and penalties. The ELBO that is tallied has none of them. The epoch is chosen by
    the bound that is trained: the importance-weighted one, by as many samples, else the ELBO.
    """

    direction: ClassVar[Literal["min", "max"]] = "max"
    network: ConditionalVAE

    def __init__(self, network: ConditionalVAE, recipe: GenerateRecipe, steps: int) -> None:
        super().__init__(network, recipe.train, steps, GenerationTally)
        self.chooses = "bound_nats" if recipe.objective.importance_samples > 1 else "elbo_nats"
        self.recipe = recipe
        self.penalty = build.penalty_for(recipe.objective, recipe.model.latent, network.num_labels)

    def step(self, batch: dict[str, Tensor], part: str) -> Tensor:
        """The objective of one batch, in nats a picture.

        The noise in picture and z, and which labels are hidden, come from torch's global
        generator, which is seeded anew at every epoch.
        """
        label, network = batch["label"], self.network
        target = network.likelihood.target(batch["image"], None)
        told = self._told(label) if part == "train" else label
        image = target.contiguous(memory_format=torch.channels_last)
        size = (self._samples(part), len(label), self.recipe.model.latent)
        noise = torch.randn(size, device=label.device)
        outcome = network(image, told, noise)
        log_prob = network.likelihood.log_prob(outcome.params, target)
        kl = kl_nats(outcome.mu, outcome.log_sigma, outcome.prior_mu, outcome.prior_log_sigma)
        counted = {"elbo_nats": log_prob.mean(dim=0) - kl.sum(dim=-1), "kl_nats": kl.sum(dim=-1)}
        if self.chooses == "bound_nats":
            counted["bound_nats"] = _importance_bound(log_prob, outcome)
        if len(log_prob) > 1:
            loss: Tensor = -counted["bound_nats"].mean()
        else:
            loss = -log_prob.mean() + self._kl_weight() * self._charged(kl)
        draws = torch.Generator().manual_seed(torch.initial_seed() + 1 + self._steps_done())
        is_told = told != network.null_label
        if is_told.sum() > 1:  # a z that no label goes with has to hold it
            z, of_z = outcome.z[0, is_told], label[is_told]
            loss = loss + self.penalty(z, of_z)
            if (weight := self.recipe.objective.listening_weight) is not None:
                loss = loss + weight * self._misread(z, of_z, draws)
        if outcome.reading is not None:  # teaches the reader alone
            reading = outcome.reading
            if part == "train" and self.recipe.objective.listening_noise:
                assert network.reader is not None
                with statistics_kept(network):  # it is asked of pictures without noise
                    reading = network.reader(self._noisy(image, draws))
            loss = loss + F.cross_entropy(reading.float(), label)
        self.tallies[part].add(loss, counted)
        return loss

    def example_inputs(self) -> tuple[Tensor, ...]:
        """One picture, its label, and noise for z."""
        data = self.recipe.data
        image = torch.zeros(1, data.channels, data.size_px, data.size_px)
        noise = torch.zeros(1, self.recipe.model.latent)
        return image, torch.zeros(1, dtype=torch.int64), noise

    def _told(self, label: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
        """The labels, some of them hidden behind the null label."""
        is_hidden = torch.rand(label.shape, device=label.device) < self.recipe.model.null_rate
        return label.masked_fill(is_hidden, self.network.null_label)

    def _misread(
        self,
        z: Float[Tensor, "batch latent"],
        label: Int[Tensor, " batch"],
        draws: torch.Generator,
    ) -> Float[Tensor, ""]:
        """The reader's cross-entropy on what is decoded under wrong labels; it learns nothing here.

        Half of the pictures come from the z of a real one, half from the prior; they are
        expected pictures, as those that a judge sees. ``draws`` are a generator of their own, so
        that all other noise is that of a run without this.

        Source: the classifier's loss on generated pictures of Odena et al. 2017, Conditional image
        synthesis with auxiliary classifier GANs (arXiv:1610.09585), section 3.
        """
        network, half = self.network, len(z) // 2
        step = torch.randint(1, network.num_labels, label.shape, generator=draws)
        given = (label + step.to(label.device)) % network.num_labels
        mu, log_sigma = network.prior(given[half:])
        noise = torch.randn(mu.shape, generator=draws).to(mu.device)
        drawn = mu + log_sigma.exp() * noise
        reader = network.reader
        assert reader is not None  # the recipe has checked it
        fixed = {name: weight.detach() for name, weight in reader.named_parameters()}
        with statistics_kept(network):
            params = network.decode(torch.cat([z[:half], drawn]), given)
            image = network.likelihood.mean(params).contiguous(memory_format=torch.channels_last)
            reading = torch.func.functional_call(reader, fixed, self._noisy(image, draws))
        return F.cross_entropy(reading.float(), given)

    def _noisy(
        self, image: Float[Tensor, "batch channel height width"], draws: torch.Generator
    ) -> Float[Tensor, "batch channel height width"]:
        """Pictures as the reader reads them in training: under noise it has to read what people see.

        Source: Kaur, Cohen, Lipton 2019, Are perceptually-aligned gradients a general property of
        robust classifiers? (arXiv:1910.08640), whose classifiers under noise have such gradients.
        """
        sigma = self.recipe.objective.listening_noise
        return (
            image + sigma * torch.randn(image.shape, generator=draws).to(image) if sigma else image
        )

    def _kl_weight(self) -> float:
        """The weight of the KL at this step: it climbs from 0 to beta (Bowman et al. 2016)."""
        objective = self.recipe.objective
        warm_steps = objective.kl_warmup * self.steps
        return objective.beta * min(1.0, self._steps_done() / warm_steps if warm_steps else 1.0)

    def _samples(self, part: str) -> int:
        """How many z are drawn of each picture at this step; of validation pictures always all."""
        objective = self.recipe.objective
        is_early = self._steps_done() < objective.importance_from * self.steps
        return 1 if is_early and part == "train" else objective.importance_samples

    def _steps_done(self) -> int:
        return self.trainer.global_step if self._trainer is not None else self.steps

    def _charged(self, kl: Float[Tensor, "batch latent"]) -> Float[Tensor, ""]:
        """KL a picture, no unit below its free bits (Kingma et al. 2016, arXiv:1606.04934, C.8)."""
        return kl.mean(dim=0).clamp(min=self.recipe.objective.free_bits_nats).sum()


@contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """Batch norm writes its running statistics into copies: what passes here is not what it scores."""
    kept = [
        (owner, name, buffer)
        for owner in module.modules()
        for name, buffer in owner.named_buffers(recurse=False)
    ]
    for owner, name, buffer in kept:
        setattr(owner, name, buffer.clone())
    try:
        yield
    finally:
        for owner, name, buffer in kept:
            setattr(owner, name, buffer)


def _importance_bound(
    log_prob: Float[Tensor, "sample batch"], outcome: Outcome
) -> Float[Tensor, " batch"]:
    """The bound on log p(x | y) of each picture that all its samples of z give together.

    Source: Burda et al. 2016, Importance weighted autoencoders (arXiv:1509.00519), equation 8.
    """
    posterior = outcome.mu, outcome.log_sigma
    prior = outcome.prior_mu, outcome.prior_log_sigma
    weights = log_weights(log_prob, outcome.z, posterior, prior)
    return weights.logsumexp(dim=0) - math.log(len(weights))


class GenerationTally:
    """Objective, ELBO, its KL, and the importance-weighted bound where it is trained, over one epoch."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.pictures = 0

    def add(self, loss: Float[Tensor, ""], by_picture: dict[str, Float[Tensor, " batch"]]) -> None:
        """Count one batch, in nats."""
        size = len(by_picture["elbo_nats"])
        of_batch = torch.stack([loss * size, *(of.sum() for of in by_picture.values())])
        for name, of in zip(("loss", *by_picture), of_batch.tolist(), strict=True):  # one transfer
            self.sums[name] = self.sums.get(name, 0.0) + of
        self.pictures += size

    def numbers(self) -> dict[str, float]:
        """Means over the pictures counted; the ELBO has weight 1 and the z that were drawn."""
        return {name: of / self.pictures for name, of in self.sums.items()}
