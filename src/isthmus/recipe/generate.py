"""The recipe of a label-conditioned VAE: its network, its objective and what is measured."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass

from isthmus.recipe.labelled import LabelledData
from isthmus.recipe.recipe import Recipe
from isthmus.recipe.rules import STRICT, AboveZero, AtLeastZero, Even, Fraction, Positive
from isthmus.recipe.train import Train


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
    fusion: Literal["add", "concat", "film"] = "concat"
    """How the label enters: added to a vector, put beside it, or as scale and shift of each block."""
    where: Literal["decoder", "encoder", "both", "read", "none"] = "read"
    """Which side is told the label; read: the decoder, and the encoder reads it from the picture."""
    prior: Literal["standard", "per-label"] = "standard"
    """p(z): one normal distribution, or one learned for each label."""
    null_rate: Fraction = 0.1
    """Probability that training hides a label, so that the network also works without one; where =
    "decoder" wants 0, for an encoder that is not told so keeps the label in z for those pictures."""

    @property
    def encoder_is_told(self) -> bool:
        """Whether a wrong label can mislead the encoder; if not, both swap protocols are one."""
        return self.where in ("encoder", "both")

    @property
    def decoder_is_told(self) -> bool:
        """Whether the label that is given can change what is drawn from one z."""
        return self.where in ("decoder", "both", "read")

    @property
    def prior_is_told(self) -> bool:
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
    """p(x | z, y); the Bernoulli ones score pictures binarised anew each time, or at one half."""
    beta: AboveZero = 1.0
    """Weight of the KL once it is warm; other than 1, the objective is no bound."""
    kl_warmup: Fraction = 0.0
    """Share of the steps in which the weight of the KL climbs from 0."""
    importance_samples: Positive = 1
    """z drawn of each picture; more than one: the importance-weighted bound, which lies nearer to
    log p(x | y) than the ELBO and costs a pass of the decoder each. It chooses the epoch too; penalties
    and the reader see the first z alone."""
    importance_from: Fraction = 0.0
    """Share of the steps until which there is but one."""
    free_bits_nats: AtLeastZero = 0.0
    """KL of each latent unit below which it costs nothing, on average over a batch."""
    invariance: Literal["none", "adversary", "hsic", "mmd"] = "none"
    """What keeps the label out of z, so that the decoder has to listen."""
    invariance_weight: AtLeastZero | None = None
    """Nats a picture that one unit of the penalty costs."""
    listening_weight: AtLeastZero | None = None
    """For model.where = "read": nats a picture that one nat of the reader's error costs, where it reads
    what is decoded under wrong labels; left out, no such pictures are made in training."""
    listening_noise: AtLeastZero = 0.0
    """Standard deviation of the noise on what the reader reads in training (values are 0 .. 1), so that no
    marks which nobody sees can please it."""

    def __post_init__(self) -> None:
        """Refuse a weight that nothing reads, and a penalty without one."""
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
        if self.listening_noise and self.listening_weight is None:
            raise ValueError(
                f"objective.listening_noise = {self.listening_noise} does nothing without "
                "objective.listening_weight: set that too or take the key out"
            )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Measure:
    """What is measured on the test set once the run has finished."""

    importance_samples: Positive = 100
    """Samples of z for each picture in the importance-sampled NLL: its k."""
    nll_pictures: Positive = 1000
    """Test pictures, in proportion to the labels, that are sampled so; they correct what few samples
    say of all."""
    judge_width: Even = 16
    """Channels of the judge's first level."""
    judge_epochs: Positive = 10
    """Epochs that the judge is trained for; it is trained once for a data set and kept."""
    judge_batch: Positive = 32
    """Pictures per step of the judge."""
    judge_flip: Fraction = 0.0
    """Probability that the judge is shown a training picture flipped left to right."""
    cas_pictures: Positive | None = None
    """Pictures, evenly of all labels, drawn to train a classifier like the judge for each run: its
    accuracy on test pictures is CAS; left out, it is not measured."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GenerateTrain(Train):
    """How long and how the VAE is trained."""

    epochs: Positive = 20
    """Passes over the training pictures."""
    batch: Positive = 256
    """Pictures per step."""
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
        """Refuse combinations that mean nothing."""
        if self.objective.likelihood.startswith("bernoulli"):
            of_likelihood = f"objective.likelihood = {self.objective.likelihood!r}"
            if self.data.colour == "rgb":
                raise ValueError(
                    f"{of_likelihood} with data.colour = 'rgb': only grey pictures can be "
                    "binarised; use gaussian or discretised-logistic"
                )
            if self.data.name == "cifar10":
                raise ValueError(
                    f"{of_likelihood} with data.name = 'cifar10': only pictures of ink on paper "
                    "can be binarised, not photographs; use gaussian or discretised-logistic"
                )
        if self.objective.listening_weight is not None and self.model.where != "read":
            raise ValueError(
                f"objective.listening_weight does nothing for model.where = {self.model.where!r}: "
                "only a reader can read what was decoded; set model.where = 'read' or take the key out"
            )
