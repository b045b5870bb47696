"""A label-conditioned variational autoencoder: the topology; all modules are passed as arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 (conventional name)
from jaxtyping import Float, Int
from torch import Tensor, nn

from isthmus.errors import UserError
from isthmus.nn.conditioning import Conditioning
from isthmus.nn.vae_blocks import Decoder, Encoder

LOG_SIGMA_LIMIT = 6.0
"""Bound on the absolute value of every log sigma: sigma lies between 0.0025 and 403."""


class Normal(NamedTuple):
    """One diagonal Gaussian per image, in float32 even under autocast so that the KL is precise."""

    mu: Float[Tensor, "batch latent"]
    log_sigma: Float[Tensor, "batch latent"]
    """Natural logarithm of the standard deviation."""


class Outcome(NamedTuple):
    """Everything that one forward pass of a ``ConditionalVAE`` computes."""

    mu: Float[Tensor, "batch latent"]
    log_sigma: Float[Tensor, "batch latent"]
    z: Float[Tensor, "*sample batch latent"]
    params: Float[Tensor, "*sample batch maps height width"]
    """Raw parameters of the likelihood."""
    prior_mu: Float[Tensor, "batch latent"]
    prior_log_sigma: Float[Tensor, "batch latent"]
    class_logits: Float[Tensor, "batch label"] | None
    """Logits of the auxiliary classifier; None if there is no auxiliary classifier."""


class ConditionalVAE(nn.Module):
    """A VAE whose encoder, decoder and prior can each be conditioned on the label of the image.

    image -> encoder -> conditioning -> ReLU -> linear -> q(z|x,y) -> z -> conditioning -> decoder.

    Labels are 0 .. num_labels-1, or the null label ``unconditional_label``, which stands for "no
    label". Training replaces some labels by the null label (label dropout), so that the network
    learns to do without a label.

    With an auxiliary classifier, the encoder is conditioned on the label that the classifier predicts
    from the image, or on the null label if the null label is given. Thus the encoder can leave the
    label out of z, and a wrong label cannot mislead the encoder.

    The layer that outputs mu and log sigma is initialised with weights of standard deviation 0.001
    and biases of 0, so that the first q(z|x,y) is nearly standard normal, the first KL is nearly 0,
    and training starts with reconstruction.

    Args:
        encoder: (image, condition) -> vector of size ``encoder.features``.
        decoder: (z, condition) -> parameters of the likelihood.
        enter_encoder: Conditions the encoder's output vector, and the encoder's stages.
        enter_decoder: Conditions z before the decoder, and the decoder's stages.
        prior: label -> mu and log sigma of p(z|y).
        likelihood: Interprets the decoder's output maps; a module because some likelihoods learn a
            scale.
        latent: Size of z.
        num_labels: Number of labels, without the null label.
        auxiliary_classifier: image -> logits of its label. If None, the encoder is conditioned on the
            given label.

    Source: Kingma and Welling 2014 (arXiv:1312.6114); with labels Sohn, Lee, Yan 2015,
    Learning Structured Output Representation using Deep Conditional Generative Models; the
    auxiliary classifier is q(y|x) of Kingma et al. 2014, Semi-supervised learning with deep generative models
    (arXiv:1406.5298), section 2.2.

    >>> from isthmus.nn.vae_blocks import BODIES, decoder_body, encoder_body
    >>> from isthmus.nn.conditioning import CONDITION_ON, CONDITIONINGS
    >>> from isthmus.nn.likelihoods import Bernoulli, dynamic_binarisation
    >>> encoder_side, decoder_side = CONDITION_ON["both"](CONDITIONINGS["concat"])
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
    """An ``isthmus.nn.likelihoods.Likelihood``, or a module with its methods."""

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
        """The null label, which stands for "no label"."""
        return self.num_labels

    def encode(
        self, image: Float[Tensor, "batch channel height width"], label: Int[Tensor, " batch"]
    ) -> Normal:
        """The posterior q(z|x,y) of each image; log sigma is softly bounded."""
        return self._encode(image, self._encoder_label(label, self._class_logits(image)))

    def encode_with_label(
        self, image: Float[Tensor, "batch channel height width"], label: Int[Tensor, " batch"]
    ) -> Normal:
        """The posterior conditioned on this label, even if there is an auxiliary classifier.

        If the auxiliary classifier is wrong, ``encode`` returns a z that does not fit the given label.
        """
        self._check_known(label)
        return self._encode(image, label)

    def decode(
        self, z: Float[Tensor, "*sample batch latent"], label: Int[Tensor, " batch"]
    ) -> Float[Tensor, "*sample batch maps height width"]:
        """Raw parameters of the likelihood for every sample of z of each image."""
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
        """Encode the images, compute z from the standard normal ``noise``, decode every sample of z."""
        class_logits = self._class_logits(image)
        mu, log_sigma = self._encode(image, self._encoder_label(label, class_logits))
        z = mu + log_sigma.exp() * noise
        params, (prior_mu, prior_log_sigma) = self.decode(z, label), self.prior(label)
        return Outcome(mu, log_sigma, z, params, prior_mu, prior_log_sigma, class_logits)

    def _class_logits(
        self, image: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch label"] | None:
        return None if self.auxiliary_classifier is None else self.auxiliary_classifier(image)

    def _encoder_label(
        self, label: Int[Tensor, " batch"], class_logits: Float[Tensor, "batch label"] | None
    ) -> Int[Tensor, " batch"]:
        """The label that the encoder is conditioned on: given, or predicted by the auxiliary classifier."""
        self._check_known(label)
        if class_logits is None:
            return label
        return class_logits.argmax(dim=1).where(
            label != self.unconditional_label, self.unconditional_label
        )

    def _encode(
        self, image: Float[Tensor, "batch channel height width"], label: Int[Tensor, " batch"]
    ) -> Normal:
        vector = self.encoder(image, self.enter_encoder.condition(label))
        vector = F.relu(self.enter_encoder(vector, label))
        with torch.autocast(image.device.type, enabled=False):
            return _normal(self.posterior(vector.to(self.posterior.weight.dtype)))

    def _check_known(self, label: Tensor) -> None:
        # Checked on the CPU only: on a GPU the check would synchronise, and it cannot be traced.
        if label.device.type == "cpu" and not torch.compiler.is_compiling():
            unknown = (label < 0) | (label > self.num_labels)
            if unknown.any():
                raise UserError(
                    f"label {int(label[unknown][0])} is unknown: the labels of this network are "
                    f"0 .. {self.num_labels - 1}, and {self.num_labels} for no label; pass one of these"
                )


class StandardPrior(nn.Module):
    """p(z|y) is the standard normal for every label."""

    def __init__(self, latent: int, num_labels: int) -> None:  # noqa: ARG002 (same signature as LabelPrior)
        super().__init__()
        self.latent = latent

    def forward(self, label: Int[Tensor, " batch"]) -> Normal:
        """Zero mu and log sigma."""
        zeros = torch.zeros(len(label), self.latent, device=label.device)
        return Normal(zeros, zeros)


class LabelPrior(nn.Module):
    """p(z|y) is one learned Gaussian per label (and for the null label), initially standard normal.

    Source: Sohn, Lee, Yan 2015, section 4 (a conditional prior).
    """

    def __init__(self, latent: int, num_labels: int) -> None:
        super().__init__()
        self.table = nn.Embedding(num_labels + 1, 2 * latent)
        nn.init.zeros_(self.table.weight)

    def forward(self, label: Int[Tensor, " batch"]) -> Normal:
        """Mu and log sigma of each label; log sigma is softly bounded."""
        return _normal(self.table(label.long()))


PRIORS: dict[str, Callable[[int, int], StandardPrior | LabelPrior]] = {
    "standard": StandardPrior,
    "per-label": LabelPrior,
}
"""``model.prior`` in a recipe -> factory: (latent, num_labels) -> prior."""


def softly_bounded(raw: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Soft clamp to +-``LOG_SIGMA_LIMIT``: close to ``raw`` for small values.

    The bound prevents outliers from making exp overflow, and latent units from increasing the
    likelihood without limit by shrinking sigma. With a sigma of 0.0025 a unit carries 6 nats, more
    than trained units do. Unlike a clamp, tanh has a gradient beyond the limit.

    >>> softly_bounded(torch.tensor([-1000.0, 0.0, 0.1]))
    tensor([-6.0000,  0.0000,  0.1000])
    """
    return LOG_SIGMA_LIMIT * torch.tanh(raw / LOG_SIGMA_LIMIT)


def _normal(both: Float[Tensor, "batch mu_and_raw"]) -> Normal:
    mu, raw = both.chunk(2, dim=1)
    return Normal(mu, softly_bounded(raw))
