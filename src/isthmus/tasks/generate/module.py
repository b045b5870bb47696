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

from isthmus.engine.task_module import TaskModule
from isthmus.metrics.generation import kl_nats, log_weights
from isthmus.nn.conditioning import CONDITION_ON, CONDITIONINGS
from isthmus.nn.cvae import PRIORS, ConditionalVAE, Outcome
from isthmus.nn.likelihoods import likelihood_named
from isthmus.nn.penalties import Penalty, penalty_named
from isthmus.nn.vae_blocks import BODIES, AuxiliaryClassifier, decoder_body, encoder_body
from isthmus.tasks.generate.recipe import GenerateRecipe, Objective


class Generator(TaskModule):
    """A VAE with its objective: negative ELBO or importance-weighted bound, penalties, auxiliary classifier's error.

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
        self.penalty = penalty_for(recipe.objective, recipe.model.latent, network.num_labels)

    def step(self, batch: dict[str, Tensor], part: str) -> Tensor:
        """The objective of one batch, in nats an image.

        The noise in image and z, and which labels are hidden, come from torch's global
        generator, which is seeded anew at every epoch.
        """
        label, network = batch["label"], self.network
        target = network.likelihood.target(batch["image"], None)
        condition = self._condition(label) if part == "train" else label
        image = target.contiguous(memory_format=torch.channels_last)
        size = (self._samples(part), len(label), self.recipe.model.latent)
        noise = torch.randn(size, device=label.device)
        outcome = network(image, condition, noise)
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
        is_labelled = condition != network.unconditional_label
        if is_labelled.sum() > 1:  # a z that no label goes with has to hold it
            z, of_z = outcome.z[0, is_labelled], label[is_labelled]
            loss = loss + self.penalty(z, of_z)
            if (weight := self.recipe.objective.label_consistency_weight) is not None:
                loss = loss + weight * self._label_consistency(z, of_z, draws)
        if outcome.class_logits is not None:  # teaches the auxiliary classifier alone
            class_logits = outcome.class_logits
            if part == "train" and self.recipe.objective.label_consistency_noise:
                assert network.auxiliary_classifier is not None
                with statistics_kept(network):  # it is asked of images without noise
                    class_logits = network.auxiliary_classifier(self._noisy(image, draws))
            loss = loss + F.cross_entropy(class_logits.float(), label)
        self.tallies[part].add(loss, counted)
        return loss

    def example_inputs(self) -> tuple[Tensor, ...]:
        """One image, its label, and noise for z."""
        data = self.recipe.data
        image = torch.zeros(1, data.channels, data.size_px, data.size_px)
        noise = torch.zeros(1, self.recipe.model.latent)
        return image, torch.zeros(1, dtype=torch.int64), noise

    def _condition(self, label: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
        """The labels, some of them hidden behind the unconditional label."""
        is_hidden = torch.rand(label.shape, device=label.device) < self.recipe.model.label_dropout
        return label.masked_fill(is_hidden, self.network.unconditional_label)

    def _label_consistency(
        self,
        z: Float[Tensor, "batch latent"],
        label: Int[Tensor, " batch"],
        draws: torch.Generator,
    ) -> Float[Tensor, ""]:
        """The auxiliary classifier's cross-entropy on what is decoded under wrong labels; it learns nothing here.

        Half of the images come from the z of a real one, half from the prior; they are
        expected images, as those that a judge sees. ``draws`` are a generator of their own, so
        that all other noise is that of a run without this.

        Source: the classifier's loss on generated images of Odena et al. 2017, Conditional image
        synthesis with auxiliary classifier GANs (arXiv:1610.09585), section 3.
        """
        network, half = self.network, len(z) // 2
        step = torch.randint(1, network.num_labels, label.shape, generator=draws)
        given = (label + step.to(label.device)) % network.num_labels
        mu, log_sigma = network.prior(given[half:])
        noise = torch.randn(mu.shape, generator=draws).to(mu.device)
        drawn = mu + log_sigma.exp() * noise
        auxiliary_classifier = network.auxiliary_classifier
        assert auxiliary_classifier is not None  # the recipe has checked it
        fixed = {name: weight.detach() for name, weight in auxiliary_classifier.named_parameters()}
        with statistics_kept(network):
            params = network.decode(torch.cat([z[:half], drawn]), given)
            image = network.likelihood.mean(params).contiguous(memory_format=torch.channels_last)
            class_logits = torch.func.functional_call(
                auxiliary_classifier, fixed, self._noisy(image, draws)
            )
        return F.cross_entropy(class_logits.float(), given)

    def _noisy(
        self, image: Float[Tensor, "batch channel height width"], draws: torch.Generator
    ) -> Float[Tensor, "batch channel height width"]:
        """Images as the auxiliary classifier reads them in training: under noise it has to read what people see.

        Source: Kaur, Cohen, Lipton 2019, Are perceptually-aligned gradients a general property of
        robust classifiers? (arXiv:1910.08640), whose classifiers under noise have such gradients.
        """
        sigma = self.recipe.objective.label_consistency_noise
        return (
            image + sigma * torch.randn(image.shape, generator=draws).to(image) if sigma else image
        )

    def _kl_weight(self) -> float:
        """The weight of the KL at this step: it climbs from 0 to beta (Bowman et al. 2016)."""
        objective = self.recipe.objective
        warm_steps = objective.kl_warmup * self.steps
        return objective.beta * min(1.0, self._steps_done() / warm_steps if warm_steps else 1.0)

    def _samples(self, part: str) -> int:
        """How many z are drawn of each image at this step; of validation images always all."""
        objective = self.recipe.objective
        is_early = self._steps_done() < objective.importance_from * self.steps
        return 1 if is_early and part == "train" else objective.importance_samples

    def _steps_done(self) -> int:
        return self.trainer.global_step if self._trainer is not None else self.steps

    def _charged(self, kl: Float[Tensor, "batch latent"]) -> Float[Tensor, ""]:
        """KL an image, no unit below its free bits (Kingma et al. 2016, arXiv:1606.04934, C.8)."""
        return kl.mean(dim=0).clamp(min=self.recipe.objective.free_bits_nats).sum()


@contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """Batch norm writes its running statistics into copies: what passes here is not what it metrics."""
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
    """The bound on log p(x | y) of each image that all its samples of z give together.

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
        self.images = 0

    def add(self, loss: Float[Tensor, ""], by_image: dict[str, Float[Tensor, " batch"]]) -> None:
        """Count one batch, in nats."""
        size = len(by_image["elbo_nats"])
        of_batch = torch.stack([loss * size, *(of.sum() for of in by_image.values())])
        for name, of in zip(("loss", *by_image), of_batch.tolist(), strict=True):  # one transfer
            self.sums[name] = self.sums.get(name, 0.0) + of
        self.images += size

    def numbers(self) -> dict[str, float]:
        """Means over the images counted; the ELBO has weight 1 and the z that were drawn."""
        return {name: of / self.images for name, of in self.sums.items()}


def vae_for(recipe: GenerateRecipe, num_labels: int) -> ConditionalVAE:
    """The VAE of a recipe, with fresh weights from torch's global generator."""
    model, data = recipe.model, recipe.data
    likelihood = likelihood_named(recipe.objective.likelihood)
    body = BODIES[model.body]
    encoder_side, decoder_side = CONDITION_ON[model.condition_on](CONDITIONINGS[model.conditioning])
    encoder = encoder_body(data.channels, data.size_px, model.width, body, encoder_side.modulate)
    auxiliary_classifier = None
    if model.condition_on == "classifier":
        auxiliary_classifier = AuxiliaryClassifier(
            encoder_body(data.channels, data.size_px, model.width, body), num_labels
        )
    maps = data.channels * likelihood.params_per_channel
    decoder = decoder_body(
        model.latent, maps, data.size_px, model.width, body, decoder_side.modulate
    )
    return ConditionalVAE(
        encoder,
        decoder,
        enter_encoder=encoder_side.enter(encoder.features, num_labels),
        enter_decoder=decoder_side.enter(model.latent, num_labels),
        prior=PRIORS[model.prior](model.latent, num_labels),
        likelihood=likelihood,
        latent=model.latent,
        num_labels=num_labels,
        auxiliary_classifier=auxiliary_classifier,
    )


def penalty_for(objective: Objective, latent: int, num_labels: int) -> Penalty:
    """The penalty of a recipe; an adversary is a module with weights of its own."""
    return penalty_named(objective.invariance, objective.invariance_weight, latent, num_labels)


def generator_for(recipe: GenerateRecipe, num_labels: int, steps: int) -> Generator:
    """A fresh VAE with its objective."""
    return Generator(vae_for(recipe, num_labels), recipe, steps)
