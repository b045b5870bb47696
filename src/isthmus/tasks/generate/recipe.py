"""The recipe of a label-conditioned VAE: its network, its objective and what is measured."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass

from isthmus.recipe.rules import STRICT, AboveZero, AtLeastZero, Even, Fraction, Positive
from isthmus.recipe.tables import LabelledData, Recipe, Train


@dataclass(frozen=True, kw_only=True, config=STRICT)
class VAE:
    """The network: an encoder and a decoder, and where the label enters them."""

    name: Literal["cvae"] = "cvae"
    """Network."""
    body: Literal["conv", "residual", "resnet18"] = "conv"
    """Blocks of encoder and decoder; resnet18 is the reference study's."""
    width: Even = 32
    """Channels of the first level."""
    latent: Positive = 32
    """Numbers in z."""
    conditioning: Literal["add", "concat", "film"] = "concat"
    """How the label enters: added to a vector, put beside it, or as scale and shift of each block."""
    condition_on: Literal["decoder", "encoder", "both", "classifier", "none"] = "classifier"
    """Which side is told the label; read: the decoder, and the encoder reads it from the image."""
    prior: Literal["standard", "per-label"] = "standard"
    """p(z): one normal distribution, or one learned for each label."""
    label_dropout: Fraction = 0.1
    """Probability that training hides a label, so that the network also works without one; condition_on =
    "decoder" wants 0, for an encoder that is not told so keeps the label in z for those images."""

    @property
    def encoder_is_conditioned(self) -> bool:
        """Whether a wrong label can mislead the encoder; if not, both swap protocols are one."""
        return self.condition_on in ("encoder", "both")

    @property
    def decoder_is_conditioned(self) -> bool:
        """Whether the label that is given can change what is drawn from one z."""
        return self.condition_on in ("decoder", "both", "classifier")

    @property
    def prior_is_conditioned(self) -> bool:
        """Whether the label that is given can change which z are drawn."""
        return self.prior == "per-label"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Objective:
    """What training minimises: negative log-likelihood, weighted KL, and what keeps the label out of z."""

    likelihood: Literal[
        "bernoulli-dynamic",
        "bernoulli-threshold",
        "continuous-bernoulli",
        "gaussian",
        "discretised-logistic",
    ] = "bernoulli-dynamic"
    """p(x | z, y); the Bernoulli ones metric images binarised anew each time, or at one half."""
    beta: AboveZero = 1.0
    """Weight of the KL once it is warm; other than 1, the objective is no bound."""
    kl_warmup: Fraction = 0.0
    """Share of the steps in which the weight of the KL climbs from 0."""
    importance_samples: Positive = 1
    """z drawn of each image; more than one: the importance-weighted bound, which lies nearer to
    log p(x | y) than the ELBO and costs a pass of the decoder each. It chooses the epoch too; penalties
    and the auxiliary classifier see the first z alone."""
    importance_from: Fraction = 0.0
    """Share of the steps until which there is but one."""
    free_bits_nats: AtLeastZero = 0.0
    """KL of each latent unit below which it costs nothing, on average over a batch."""
    invariance: Literal["none", "adversary", "hsic", "mmd"] = "none"
    """What keeps the label out of z, so that the decoder has to listen."""
    invariance_weight: AtLeastZero | None = None
    """Nats an image that one unit of the penalty costs."""
    label_consistency_weight: AtLeastZero | None = None
    """For model.condition_on = "classifier": nats an image that one nat of the auxiliary classifier's error costs, where it reads
    what is decoded under wrong labels; left out, no such images are made in training."""
    label_consistency_noise: AtLeastZero = 0.0
    """Standard deviation of the noise on what the auxiliary classifier reads in training (values are 0 .. 1), so that no
    marks which nobody sees can please it."""

    def __post_init__(self) -> None:
        """Reject a weight that nothing reads, and a penalty without one."""
        if (self.invariance == "none") != (self.invariance_weight is None):
            raise ValueError(
                f"objective.invariance = {self.invariance!r} with objective.invariance_weight = "
                f"{self.invariance_weight}: a penalty needs a weight and a weight a penalty; "
                "set both or neither"
            )
        if self.importance_samples == 1 and self.importance_from:
            raise ValueError(
                f"objective.importance_from = {self.importance_from} does nothing with "
                "objective.importance_samples = 1: set that higher or take the key out"
            )
        weighs = self.beta != 1 or self.free_bits_nats or self.kl_warmup > self.importance_from
        if self.importance_samples > 1 and weighs:
            raise ValueError(
                f"objective.importance_samples = {self.importance_samples} with objective.beta = "
                f"{self.beta}, free_bits_nats = {self.free_bits_nats}, kl_warmup = {self.kl_warmup}, "
                f"importance_from = {self.importance_from}: an importance-weighted bound has no KL to "
                "weigh; leave beta at 1 and free_bits_nats at 0, and let kl_warmup end by importance_from"
            )
        if self.label_consistency_noise and self.label_consistency_weight is None:
            raise ValueError(
                f"objective.label_consistency_noise = {self.label_consistency_noise} does nothing without "
                "objective.label_consistency_weight: set that too or take the key out"
            )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Measure:
    """What is measured on the test set once the run has finished."""

    importance_samples: Positive = 100
    """Samples of z for each image in the importance-sampled NLL: its k."""
    nll_images: Positive = 1000
    """Test images, in proportion to the labels, that are sampled so; they correct what few samples
    say of all."""
    judge_width: Even = 16
    """Channels of the judge's first level."""
    judge_epochs: Positive = 10
    """Epochs that the judge is trained for; it is trained once for a data set and kept."""
    judge_batch: Positive = 32
    """Images per step of the judge."""
    judge_flip: Fraction = 0.0
    """Probability that the judge is shown a training image flipped left to right."""
    cas_images: Positive | None = None
    """Images, evenly of all labels, drawn to train a classifier like the judge for each run: its
    accuracy on test images is CAS; left out, it is not measured."""


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
    """All that decides a run of a label-conditioned VAE except its seed."""

    task: Literal["generate"] = "generate"
    """What the network learns."""
    data: LabelledData = LabelledData()
    model: VAE = VAE()
    objective: Objective = Objective()
    measure: Measure = Measure()
    train: GenerateTrain = GenerateTrain()

    def __post_init__(self) -> None:
        """Reject combinations that mean nothing."""
        if self.objective.likelihood.startswith("bernoulli"):
            of_likelihood = f"objective.likelihood = {self.objective.likelihood!r}"
            if self.data.colour == "rgb":
                raise ValueError(
                    f"{of_likelihood} with data.colour = 'rgb': only grey images can be "
                    "binarised; use gaussian or discretised-logistic"
                )
            if self.data.name == "cifar10":
                raise ValueError(
                    f"{of_likelihood} with data.name = 'cifar10': only images of ink on paper "
                    "can be binarised, not photographs; use gaussian or discretised-logistic"
                )
        if (
            self.objective.label_consistency_weight is not None
            and self.model.condition_on != "classifier"
        ):
            raise ValueError(
                f"objective.label_consistency_weight does nothing for model.condition_on = {self.model.condition_on!r}: "
                "only an auxiliary classifier can read what was decoded; set model.condition_on = 'classifier' or take the key out"
            )
