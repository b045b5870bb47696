"""The recipe of a label-conditioned VAE: network, objective and measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic.dataclasses import dataclass

from isthmus.recipe.registry import LIKELIHOOD
from isthmus.recipe.rules import STRICT, AboveZero, AtLeastZero, Even, Fraction, Positive
from isthmus.recipe.tables import LabelledData, Recipe, Train

if TYPE_CHECKING:
    LikelihoodName = str
else:
    LikelihoodName = LIKELIHOOD.choices()


@dataclass(frozen=True, kw_only=True, config=STRICT)
class VAE:
    """The network: encoder, decoder, prior, and how they are conditioned on the label."""

    name: Literal["cvae"] = "cvae"
    """Network."""
    body: Literal["conv", "residual", "resnet18"] = "conv"
    """Kind of encoder and decoder; the reference study used resnet18."""
    width: Even = 32
    """Channels of the first level."""
    latent: Positive = 32
    """Size of z."""
    conditioning: Literal["add", "concat", "film"] = "concat"
    """How the label enters an encoder or decoder: its embedding is added to z or to the encoder's output,
    concatenated with it, or scales and shifts the feature maps of each block (FiLM)."""
    condition_on: Literal["decoder", "encoder", "both", "classifier", "none"] = "classifier"
    """What is conditioned on the label. "classifier": encoder and decoder, but the encoder on the label that
    an auxiliary classifier predicts from the image."""
    prior: Literal["standard", "per-label"] = "standard"
    """p(z): the standard normal distribution, or one learned normal distribution per label."""
    label_dropout: Fraction = 0.1
    """Probability of replacing a label by the null label ("no label") in training. 0 is best for condition_on
    = "decoder", because the encoder cannot know which labels are dropped and keeps all labels in z."""

    @property
    def encoder_is_conditioned(self) -> bool:
        """Whether the encoder is given the label; if not, both swap protocols are the same."""
        return self.condition_on in ("encoder", "both")

    @property
    def decoder_is_conditioned(self) -> bool:
        """Whether the decoder is given the label."""
        return self.condition_on in ("decoder", "both", "classifier")

    @property
    def prior_is_conditioned(self) -> bool:
        """Whether p(z) depends on the label."""
        return self.prior == "per-label"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Objective:
    """What training minimises: negative log-likelihood, weighted KL, and penalties."""

    likelihood: LikelihoodName = "bernoulli-dynamic"
    """p(x | z, y). The Bernoulli likelihoods are of binarised images: -dynamic binarises at random, anew at
    every use; -threshold at 0.5."""
    beta: AboveZero = 1.0
    """Weight of the KL after the warm-up; the objective is a bound on log p(x | y) only if beta = 1."""
    kl_warmup: Fraction = 0.0
    """Fraction of the steps during which the weight of the KL rises from 0 to beta."""
    importance_samples: Positive = 1
    """Samples of z per image. With more than one sample, the objective is the importance-weighted bound
    (IWAE), which is nearer to log p(x | y) than the ELBO and also selects the epoch. Each sample costs a
    pass of the decoder; penalties use only the first sample."""
    importance_from: Fraction = 0.0
    """Fraction of the steps, at the start, that use a single sample."""
    free_bits_nats: AtLeastZero = 0.0
    """Mean KL over a batch below which the KL of a unit of z is not penalised."""
    invariance: Literal["none", "adversary", "hsic", "mmd"] = "none"
    """Penalty on label information in z; without such information, the decoder has to use its label."""
    invariance_weight: AtLeastZero | None = None
    """Weight of the penalty, in nats per image."""
    label_consistency_weight: AtLeastZero | None = None
    """For model.condition_on = "classifier": weight of the auxiliary classifier's cross-entropy on images
    decoded with wrong labels. If left out, training does not decode with wrong labels."""
    label_consistency_noise: AtLeastZero = 0.0
    """Standard deviation of the noise added to the auxiliary classifier's inputs in training (images in
    [0, 1]); the noise suppresses adversarial patterns, which change the predicted label invisibly."""

    def __post_init__(self) -> None:
        """Reject values that contradict each other or have no effect."""
        if (self.invariance == "none") != (self.invariance_weight is None):
            raise ValueError(
                f"objective.invariance = {self.invariance!r} with objective.invariance_weight = "
                f"{self.invariance_weight}: a penalty needs a weight, and a weight needs a penalty; "
                "set both keys or neither"
            )
        if self.importance_samples == 1 and self.importance_from:
            raise ValueError(
                f"objective.importance_from = {self.importance_from} does nothing with "
                "objective.importance_samples = 1: increase importance_samples or remove importance_from"
            )
        weighs = self.beta != 1 or self.free_bits_nats or self.kl_warmup > self.importance_from
        if self.importance_samples > 1 and weighs:
            raise ValueError(
                f"objective.importance_samples = {self.importance_samples} with objective.beta = "
                f"{self.beta}, free_bits_nats = {self.free_bits_nats}, kl_warmup = {self.kl_warmup}, "
                f"importance_from = {self.importance_from}: an importance-weighted bound has no KL term; set "
                "beta = 1, free_bits_nats = 0 and kl_warmup to at most importance_from"
            )
        if self.label_consistency_noise and self.label_consistency_weight is None:
            raise ValueError(
                f"objective.label_consistency_noise = {self.label_consistency_noise} does nothing without "
                "objective.label_consistency_weight: set that weight or remove label_consistency_noise"
            )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Measure:
    """What is measured on the test set after training."""

    importance_samples: Positive = 100
    """Samples of z per image (k) in the importance-sampled NLL."""
    nll_images: Positive = 1000
    """Number of test images for the NLL with that many samples, stratified by label; the result corrects an
    estimate with fewer samples on all test images."""
    judge_width: Even = 16
    """Channels of the judge's first level."""
    judge_epochs: Positive = 10
    """Epochs of the judge, which is trained once per data set."""
    judge_batch: Positive = 32
    """Images per training step of the judge."""
    judge_flip: Fraction = 0.0
    """Probability of a left-right flip of the judge's training images."""
    cas_images: Positive | None = None
    """Number of generated images, equally many per label, to train a classifier like the judge on; its
    accuracy on test images is the classification accuracy score (CAS). If left out, CAS is not measured."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GenerateTrain(Train):
    """How long and how the VAE is trained."""

    epochs: Positive = 20
    """Passes over the training images."""
    batch: Positive = 256
    """Images per step."""
    weight_decay: AtLeastZero = 0.0
    """Weight decay."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GenerateRecipe(Recipe):
    """All settings of a run of a label-conditioned VAE except its seed."""

    task: Literal["generate"] = "generate"
    """What the network learns."""
    data: LabelledData = LabelledData()
    model: VAE = VAE()
    objective: Objective = Objective()
    measure: Measure = Measure()
    train: GenerateTrain = GenerateTrain()

    def __post_init__(self) -> None:
        """Reject values of one table that contradict those of another."""
        likelihood, condition_on = self.objective.likelihood, self.model.condition_on
        if likelihood.startswith("bernoulli"):
            setting = f"objective.likelihood = {likelihood!r}"
            if self.data.colour == "rgb":
                raise ValueError(
                    f"{setting} with data.colour = 'rgb': only grey images can be "
                    "binarised; use gaussian or discretised-logistic"
                )
            if self.data.name == "cifar10":
                raise ValueError(
                    f"{setting} with data.name = 'cifar10': only images like ink on paper can be "
                    "binarised, not photographs; use gaussian or discretised-logistic"
                )
        weight = self.objective.label_consistency_weight
        if weight is not None and condition_on != "classifier":
            raise ValueError(
                f"objective.label_consistency_weight does nothing for model.condition_on = {condition_on!r}: "
                "it needs an auxiliary classifier; set model.condition_on = 'classifier' or remove the key"
            )
