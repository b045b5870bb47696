"""The variational autoencoder that is told the label, as topology only.

It knows the order of its parts and nothing about them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 (its name everywhere)
from jaxtyping import Float, Int
from torch import Tensor, nn

from isthmus.errors import UserError
from isthmus.nn.conditioning import Conditioning
from isthmus.nn.vae_blocks import Decoder, Encoder

LOG_SIGMA_LIMIT = 6.0
"""Every log sigma lies between minus and plus this: sigma between 0.0025 and 403."""


class Normal(NamedTuple):
    """A diagonal Gaussian for each image, in float32 even under autocast: its KL needs digits."""

    mu: Float[Tensor, "batch latent"]
    log_sigma: Float[Tensor, "batch latent"]
    """Natural logarithm of the standard deviation."""


class Outcome(NamedTuple):
    """All that one pass of a ``ConditionalVAE`` computes."""

    mu: Float[Tensor, "batch latent"]
    log_sigma: Float[Tensor, "batch latent"]
    z: Float[Tensor, "*sample batch latent"]
    params: Float[Tensor, "*sample batch maps height width"]
    """Parameters of the likelihood, as the decoder gives them."""
    prior_mu: Float[Tensor, "batch latent"]
    prior_log_sigma: Float[Tensor, "batch latent"]
    class_logits: Float[Tensor, "batch label"] | None
    """Logits of the label that the auxiliary classifier reads from the image; None without an auxiliary classifier."""


class ConditionalVAE(nn.Module):
    """A VAE whose encoder, decoder and prior may each be told the label of the image.

    image -> encoder -> label enters -> ReLU, linear -> q(z|x,y) -> z -> label enters -> decoder.

    Labels are 0 .. num_labels-1 or ``unconditional_label``, which says that no label is told; it is
    learned by giving it in place of some labels in training.

    With an auxiliary classifier the encoder is never told which label: it is told what the auxiliary classifier sees in the
    image, or that no label is told. So it can leave the label out of z without being misled by
    a wrong one.

    The layer that gives mu and log sigma starts with weights of 0.001 and biases of 0: the
    first q(z|x,y) is nearly the standard normal, so the first KL is nearly 0 and the first
    steps are spent on reconstruction.

    Args:
        encoder: (image, condition) -> vector of ``encoder.features``.
        decoder: (z, condition) -> parameters of the likelihood.
        enter_encoder: Where the label enters the encoder's side; its vector has
            ``encoder.features``.
        enter_decoder: Where the label enters the decoder's side; its vector is z.
        prior: label -> mu and log sigma of p(z|y).
        likelihood: Says what the decoder's maps mean; a part, for some learn a scale.
        latent: Size of z.
        num_labels: How many labels there are, the unconditional label not counted.
        auxiliary classifier: image -> logits of its label, or None: the encoder is told the label.

    Source: Kingma and Welling 2014 (arXiv:1312.6114); with labels Sohn, Lee, Yan 2015,
    Learning Structured Output Representation using Deep Conditional Generative Models; the
    auxiliary classifier is q(y|x) of Kingma et al. 2014, Semi-supervised learning with deep generative models
    (arXiv:1406.5298), section 2.2.

    >>> from isthmus.nn.vae_blocks import BODIES, decoder_body, encoder_body
    >>> from isthmus.nn.conditioning import FUSIONS, WHERE
    >>> from isthmus.nn.likelihoods import Bernoulli, dynamic_binarisation
    >>> encoder_side, decoder_side = WHERE["both"](FUSIONS["concat"])
    >>> encoder = encoder_body(1, 28, 8, BODIES["conv"], encoder_side.modulate)
    >>> decoder = decoder_body(16, 1, 28, 8, BODIES["conv"], decoder_side.modulate)
    >>> vae = ConditionalVAE(
    ...     encoder, decoder, encoder_side.enter(encoder.features, 10), decoder_side.enter(16, 10),
    ...     StandardPrior(16, 10), Bernoulli(dynamic_binarisation), latent=16, num_labels=10,
    ... )
    >>> digits, labels = torch.rand(2, 1, 28, 28), torch.tensor([3, vae.unconditional_label])
    >>> vae(digits, labels, noise=torch.randn(2, 16)).params.shape
    torch.Size([2, 1, 28, 28])
    """

    likelihood: Any
    """An ``isthmus.nn.likelihoods.Likelihood``, or what has its methods."""

    def __init__(
        self,
        encoder: Encoder,
        decoder: Decoder,
        enter_encoder: Conditioning,
        enter_decoder: Conditioning,
        prior: StandardPrior | LabelPrior,
        likelihood: nn.Module,
        latent: int,
        num_labels: int,
        auxiliary_classifier: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.auxiliary_classifier = auxiliary_classifier
        self.encoder = encoder
        self.decoder = decoder
        self.enter_encoder = enter_encoder
        self.enter_decoder = enter_decoder
        self.prior = prior
        self.likelihood = likelihood
        self.latent = latent
        self.num_labels = num_labels
        self.posterior = nn.Linear(encoder.features, 2 * latent)
        nn.init.normal_(self.posterior.weight, std=0.001)
        nn.init.zeros_(self.posterior.bias)

    @property
    def unconditional_label(self) -> int:
        """The label that says that no label is told."""
        return self.num_labels

    def encode(
        self, image: Float[Tensor, "batch channel height width"], label: Int[Tensor, " batch"]
    ) -> Normal:
        """The posterior q(z|x,y) of each image; log sigma is softly bounded."""
        return self._encode(image, self._heard(label, self._read(image)))

    def encode_with_label(
        self, image: Float[Tensor, "batch channel height width"], label: Int[Tensor, " batch"]
    ) -> Normal:
        """The posterior where the encoder is told the label itself, whatever an auxiliary classifier would read.

        Where an auxiliary classifier errs, z of ``encode`` lies where the given label does not explain the image.
        """
        self._check_known(label)
        return self._encode(image, label)

    def decode(
        self, z: Float[Tensor, "*sample batch latent"], label: Int[Tensor, " batch"]
    ) -> Float[Tensor, "*sample batch maps height width"]:
        """Raw parameters of the likelihood of each image, for every sample of its z."""
        self._check_known(label)
        given = label.expand(z.shape[:-1]).flatten()
        vector = self.enter_decoder(z.flatten(0, -2), given)
        maps: Tensor = self.decoder(vector, self.enter_decoder.condition(given))
        params: Tensor = maps.unflatten(0, z.shape[:-1])
        return params

    def forward(
        self,
        image: Float[Tensor, "batch channel height width"],
        label: Int[Tensor, " batch"],
        noise: Float[Tensor, "*sample batch latent"],
    ) -> Outcome:
        """Encode, draw z with the standard normal ``noise`` handed in, decode every sample of it."""
        class_logits = self._read(image)
        mu, log_sigma = self._encode(image, self._heard(label, class_logits))
        z = mu + log_sigma.exp() * noise
        params, (prior_mu, prior_log_sigma) = self.decode(z, label), self.prior(label)
        return Outcome(mu, log_sigma, z, params, prior_mu, prior_log_sigma, class_logits)

    def _read(
        self, image: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch label"] | None:
        return None if self.auxiliary_classifier is None else self.auxiliary_classifier(image)

    def _heard(
        self, label: Int[Tensor, " batch"], class_logits: Float[Tensor, "batch label"] | None
    ) -> Int[Tensor, " batch"]:
        """What the encoder is told: the label, or with an auxiliary classifier what that reads in its place."""
        self._check_known(label)
        if class_logits is None:
            return label
        return class_logits.argmax(dim=1).where(
            label != self.unconditional_label, self.unconditional_label
        )

    def _encode(
        self, image: Float[Tensor, "batch channel height width"], heard: Int[Tensor, " batch"]
    ) -> Normal:
        vector = self.encoder(image, self.enter_encoder.condition(heard))
        vector = F.relu(self.enter_encoder(vector, heard))
        with torch.autocast(image.device.type, enabled=False):
            return _normal(self.posterior(vector.to(self.posterior.weight.dtype)))

    def _check_known(self, label: Tensor) -> None:
        # Only where it costs nothing: it would make an accelerator wait, and cannot be traced.
        if label.device.type == "cpu" and not torch.compiler.is_compiling():
            unknown = (label < 0) | (label > self.num_labels)
            if unknown.any():
                raise UserError(
                    f"label {int(label[unknown][0])} is unknown: this network knows "
                    f"0 .. {self.num_labels - 1}, and {self.num_labels} where no label is "
                    "told; give one of these"
                )


class StandardPrior(nn.Module):
    """p(z|y) is the standard normal, whatever the label."""

    def __init__(self, latent: int, num_labels: int) -> None:  # noqa: ARG002 (like its sibling)
        super().__init__()
        self.latent = latent

    def forward(self, label: Int[Tensor, " batch"]) -> Normal:
        """Zero mu and log sigma."""
        zeros = torch.zeros(len(label), self.latent, device=label.device)
        return Normal(zeros, zeros)


class LabelPrior(nn.Module):
    """p(z|y) is a learned Gaussian a label, the unconditional label too; at first all are standard.

    Source: Sohn, Lee, Yan 2015, section 4 (a prior that depends on what is told).
    """

    def __init__(self, latent: int, num_labels: int) -> None:
        super().__init__()
        self.table = nn.Embedding(num_labels + 1, 2 * latent)
        nn.init.zeros_(self.table.weight)

    def forward(self, label: Int[Tensor, " batch"]) -> Normal:
        """Mu and log sigma of each label; log sigma is bounded as the posterior's is."""
        return _normal(self.table(label.long()))


PRIORS: dict[str, Callable[[int, int], StandardPrior | LabelPrior]] = {
    "standard": StandardPrior,
    "per-label": LabelPrior,
}
"""(latent, num_labels) -> prior: the one place where a prior gets the name that recipes use."""


def softly_bounded(raw: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """``raw`` where it is small, never beyond ``LOG_SIGMA_LIMIT`` on either side.

    So one odd image cannot make exp overflow, and a unit cannot buy likelihood for ever with
    an ever smaller sigma. A sigma of 0.0025 of the prior's tells 6 nats of a unit, above what
    trained ones tell. Unlike a clamp, tanh has a gradient beyond the limit too, to return by.

    >>> softly_bounded(torch.tensor([-1000.0, 0.0, 0.1]))
    tensor([-6.0000,  0.0000,  0.1000])
    """
    return LOG_SIGMA_LIMIT * torch.tanh(raw / LOG_SIGMA_LIMIT)


def _normal(both: Float[Tensor, "batch mu_and_raw"]) -> Normal:
    mu, raw = both.chunk(2, dim=1)
    return Normal(mu, softly_bounded(raw))
