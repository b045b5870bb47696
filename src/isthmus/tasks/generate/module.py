"""A label-conditioned VAE in training: its objective and its metrics over an epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F  # noqa: N812 (conventional name)
from jaxtyping import Float, Int
from torch import Tensor, nn

from isthmus.data.batches import Batch
from isthmus.engine.task_module import Part, Sums, TaskModule
from isthmus.metrics.generation import kl_nats, log_weights
from isthmus.nn.conditioning import CONDITION_ON, CONDITIONINGS
from isthmus.nn.cvae import PRIORS, ConditionalVAE, Outcome
from isthmus.nn.likelihoods import likelihood_named
from isthmus.nn.penalties import penalty_named
from isthmus.nn.vae_blocks import BODIES, AuxiliaryClassifier, decoder_body, encoder_body
from isthmus.tasks.generate.recipe import GenerateRecipe


class Generator(TaskModule):
    """A VAE with its objective.

    The objective is the negative ELBO or the negative importance-weighted bound, plus the penalty on
    label information in z and the cross-entropies of the auxiliary classifier. The objective may have
    a KL warm-up and free bits; the metric "elbo_nats" has neither. The epoch is selected on the bound
    that is trained: the importance-weighted bound with the same number of samples, or the ELBO.
    """

    network: ConditionalVAE

    def __init__(self, network: ConditionalVAE, recipe: GenerateRecipe, steps: int) -> None:
        super().__init__(network, recipe.train, steps)
        objective, latent = recipe.objective, recipe.model.latent
        self.selection_metric = "bound_nats" if objective.importance_samples > 1 else "elbo_nats"
        self.recipe = recipe
        self.penalty = penalty_named(
            objective.invariance, objective.invariance_weight, latent, network.num_labels
        )

    def forward(self, batch: Batch, part: Part) -> tuple[Tensor, Sums]:
        """The objective of one batch, in nats per image.

        Binarisation, label dropout and the noise of z use torch's global generator, which is reseeded
        at every epoch.
        """
        label, network, objective = batch["label"], self.network, self.recipe.objective
        target = network.likelihood.target(batch["image"], None)
        condition = self._with_label_dropout(label) if part == "train" else label
        image = target.contiguous(memory_format=torch.channels_last)
        size = (self._samples(part), len(label), self.recipe.model.latent)
        outcome = network(image, condition, torch.randn(size, device=label.device))
        loss, bounds = self._bound(outcome, target)
        draws = torch.Generator(label.device)
        draws.manual_seed(torch.initial_seed() + 1 + self.steps_done)
        # Images with the null label are exempt: z must contain their label.
        weights = (condition != network.unconditional_label).to(outcome.z.dtype)
        if len(label) > 1:
            loss = loss + self.penalty(outcome.z[0], label, weights)
            if (weight := objective.label_consistency_weight) is not None:
                consistency = self._label_consistency(outcome.z[0], label, weights, draws)
                loss = loss + weight * consistency
        if (class_logits := outcome.class_logits) is not None:
            if part == "train" and objective.label_consistency_noise:
                assert network.auxiliary_classifier is not None
                # Buffers are left alone: the classifier is evaluated on images without noise.
                with buffers_unchanged(network):
                    class_logits = network.auxiliary_classifier(self._noisy(image, draws))
            loss = loss + F.cross_entropy(class_logits.float(), label)
        sums = {name: of.detach().sum() for name, of in bounds.items()}
        return loss, {"loss": loss.detach() * len(label), **sums}

    def example_inputs(self) -> tuple[Tensor, ...]:
        """One image, its label, and noise for z."""
        data = self.recipe.data
        image = torch.zeros(1, data.channels, data.size_px, data.size_px)
        noise = torch.zeros(1, self.recipe.model.latent)
        return image, torch.zeros(1, dtype=torch.int64), noise

    def _bound(self, outcome: Outcome, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss for the bound that is trained, and the bounds and KL of each image, in nats."""
        log_prob = self.network.likelihood.log_prob(outcome.params, target)
        prior = outcome.prior_mu, outcome.prior_log_sigma
        kl = kl_nats(outcome.mu, outcome.log_sigma, *prior)
        bounds = {"elbo_nats": log_prob.mean(dim=0) - kl.sum(dim=-1), "kl_nats": kl.sum(dim=-1)}
        if self.selection_metric == "bound_nats":
            bounds["bound_nats"] = importance_bound(log_prob, outcome)
        if len(log_prob) > 1:
            return -bounds["bound_nats"].mean(), bounds
        return -log_prob.mean() + self._kl_weight() * self._charged(kl), bounds

    def _with_label_dropout(self, label: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
        """The labels, randomly replaced by the null label with probability ``label_dropout``."""
        is_dropped = torch.rand(label.shape, device=label.device) < self.recipe.model.label_dropout
        return label.masked_fill(is_dropped, self.network.unconditional_label)

    def _label_consistency(
        self,
        z: Float[Tensor, "batch latent"],
        label: Int[Tensor, " batch"],
        weights: Float[Tensor, " batch"],
        draws: torch.Generator,
    ) -> Float[Tensor, ""]:
        """The cross-entropy of the auxiliary classifier on images decoded with wrong labels.

        This loss trains the decoder and the encoder, not the classifier. Half of the images are
        decoded from the given z, half from z sampled from the prior; they are expected images, like
        the images that the judge classifies. ``draws`` is a separate generator, so that this loss
        does not change any other random numbers.

        Source: the classifier's loss on generated images of Odena et al. 2017, Conditional image
        synthesis with auxiliary classifier GANs (arXiv:1610.09585), section 3.
        """
        network, half = self.network, len(z) // 2
        offset = torch.randint(
            1, network.num_labels, label.shape, generator=draws, device=label.device
        )
        given = (label + offset) % network.num_labels
        mu, log_sigma = network.prior(given[half:])
        noise = torch.randn(mu.shape, generator=draws, device=mu.device)
        z = torch.cat([z[:half], mu + log_sigma.exp() * noise])
        classifier = network.auxiliary_classifier
        assert classifier is not None  # checked by the recipe
        fixed = {name: weight.detach() for name, weight in classifier.named_parameters()}
        with buffers_unchanged(network):
            image = network.likelihood.mean(network.decode(z, given))
            image = self._noisy(image.contiguous(memory_format=torch.channels_last), draws)
            class_logits = torch.func.functional_call(classifier, fixed, image)
        each = F.cross_entropy(class_logits.float(), given, reduction="none")
        return (weights * each).sum() / weights.sum().clamp(min=1)

    def _noisy(
        self, image: Float[Tensor, "batch channel height width"], draws: torch.Generator
    ) -> Float[Tensor, "batch channel height width"]:
        """Images with added noise, as the auxiliary classifier is trained with.

        With noise in training, the decoder has to change an image visibly to change the predicted
        label; without it, adversarial patterns that are invisible suffice.

        Source: Kaur, Cohen, Lipton 2019, Are perceptually-aligned gradients a general property of
        robust classifiers? (arXiv:1910.08640).
        """
        sigma = self.recipe.objective.label_consistency_noise
        if not sigma:
            return image
        noise = torch.randn(image.shape, generator=draws, device=image.device)
        return image + sigma * noise.to(image.dtype)

    def _kl_weight(self) -> float:
        """The weight of the KL at this step: it rises from 0 to beta (Bowman et al. 2016)."""
        objective = self.recipe.objective
        warmup_steps = objective.kl_warmup * self.steps
        return objective.beta * min(1.0, self.steps_done / warmup_steps if warmup_steps else 1.0)

    def _samples(self, part: Part) -> int:
        """Number of samples of z per image at this step; validation always uses all samples."""
        objective = self.recipe.objective
        is_early = self.steps_done < objective.importance_from * self.steps
        return 1 if is_early and part == "train" else objective.importance_samples

    def _charged(self, kl: Float[Tensor, "batch latent"]) -> Float[Tensor, ""]:
        """Sum of the mean KL of each unit, clamped from below at the free bits.

        Source: Kingma et al. 2016 (arXiv:1606.04934), appendix C.8.
        """
        return kl.mean(dim=0).clamp(min=self.recipe.objective.free_bits_nats).sum()


@contextmanager
def buffers_unchanged(module: nn.Module) -> Iterator[None]:
    """Context manager that restores all buffers on exit, such as the running statistics of batch norm."""
    buffers = [
        (owner, name, buffer)
        for owner in module.modules()
        for name, buffer in owner.named_buffers(recurse=False)
    ]
    for owner, name, buffer in buffers:
        setattr(owner, name, buffer.clone())
    try:
        yield
    finally:
        for owner, name, buffer in buffers:
            setattr(owner, name, buffer)


def importance_bound(
    log_prob: Float[Tensor, "sample batch"], outcome: Outcome
) -> Float[Tensor, " batch"]:
    """The importance-weighted bound (IWAE) on log p(x | y) of each image, from all samples of z.

    Source: Burda et al. 2016, Importance weighted autoencoders (arXiv:1509.00519), equation 8.
    """
    posterior = outcome.mu, outcome.log_sigma
    prior = outcome.prior_mu, outcome.prior_log_sigma
    weights = log_weights(log_prob, outcome.z, posterior, prior)
    return weights.logsumexp(dim=0) - math.log(len(weights))


def vae_for(recipe: GenerateRecipe, num_labels: int) -> ConditionalVAE:
    """The VAE of a recipe, initialised at random by torch's global generator."""
    model, size_px, channels = recipe.model, recipe.data.size_px, recipe.data.channels
    likelihood, body = likelihood_named(recipe.objective.likelihood), BODIES[model.body]
    image, maps = (channels, size_px, model.width, body), channels * likelihood.params_per_channel
    encoder_side, decoder_side = CONDITION_ON[model.condition_on](CONDITIONINGS[model.conditioning])
    encoder, classifier = encoder_body(*image, encoder_side.modulate), None
    if model.condition_on == "classifier":
        classifier = AuxiliaryClassifier(encoder_body(*image), num_labels)
    modulate = decoder_side.modulate
    return ConditionalVAE(
        encoder,
        decoder_body(model.latent, maps, size_px, model.width, body, modulate),
        enter_encoder=encoder_side.enter(encoder.features, num_labels),
        enter_decoder=decoder_side.enter(model.latent, num_labels),
        prior=PRIORS[model.prior](model.latent, num_labels),
        likelihood=likelihood,
        latent=model.latent,
        num_labels=num_labels,
        auxiliary_classifier=classifier,
    )
