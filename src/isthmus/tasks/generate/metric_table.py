"""The test metrics of a label-conditioned VAE: names, directions, definitions and titles."""

from __future__ import annotations

from isthmus.metrics.generation import BOUND_SAMPLES
from isthmus.metrics.metric import Metric

METRICS = (
    Metric(
        "swap_encoded_true",
        True,
        "Proportion of test images, encoded with their true label and decoded with a random wrong label, "
        "that the judge classifies as the wrong label.",
        "Swap success, encoded true",
    ),
    Metric(
        "swap_encoded_wrong",
        True,
        "The same proportion if images are also encoded with the wrong label; equal if the encoder is not "
        "given the label.",
        "Swap success, encoded wrong",
    ),
    Metric(
        "leakage_encoded_true",
        False,
        "Proportion of test images, encoded with their true label and decoded with a random wrong label, "
        "that the judge still classifies as their true label.",
        "Label leakage, encoded true",
    ),
    Metric(
        "leakage_encoded_wrong",
        False,
        "The same proportion if images are also encoded with the wrong label.",
        "Label leakage, encoded wrong",
    ),
    Metric(
        "prior_fidelity",
        True,
        "Proportion of generated images, sampled from the prior, that the judge classifies as the label they "
        "were decoded with.",
    ),
    Metric(
        "cas",
        True,
        "Classification accuracy score: accuracy on real test images of a classifier trained on generated "
        "images; compare with a classifier trained on as many real images. Not measured without "
        "measure.cas_images.",
        "CAS",
    ),
    Metric(
        "style_encoded_true",
        True,
        "Correlation of style descriptors (appearance apart from the label, such as slant) between source "
        "images and images decoded with a wrong label, within each pair of labels, mean over descriptors; "
        "encoded with the true label. About 0 for random pairs.",
        "Style kept, encoded true",
    ),
    Metric(
        "style_encoded_wrong",
        True,
        "The same correlation if images are also encoded with the wrong label.",
        "Style kept, encoded wrong",
    ),
    Metric(
        "nll_nats",
        False,
        "-log p(x | y) in nats per image, by importance sampling (IWAE) with the true label in the encoder: "
        f"estimated with {BOUND_SAMPLES} samples of z on all test images, plus the mean change on "
        "measure.nll_images of them if measure.importance_samples samples are used.",
        "NLL (nats)",
    ),
    Metric(
        "elbo_nats",
        True,
        "ELBO in nats per image, with beta = 1, one sample of z and the true label. In training curves it is "
        "measured with label dropout, and it is lower if an importance-weighted bound is trained.",
        "ELBO (nats)",
    ),
    Metric(
        "bits_per_dim",
        False,
        "nll_nats in bits per dimension (channel of a pixel) of the image; for a continuous Bernoulli, this "
        "is not a bound on the bits of the 256 discrete values.",
        "Bits/dim",
    ),
    Metric(
        "elbo_bits_per_dim",
        False,
        "The negative ELBO in bits per dimension of the image.",
        "Bits/dim by the ELBO",
    ),
    Metric(
        "elbo_gap_nats",
        True,
        "ELBO with the true label minus ELBO with a wrong label.",
        "ELBO gap (nats)",
    ),
    Metric(
        "elbo_unconditional_nats",
        True,
        "ELBO without a label (with the null label); not measured without label dropout.",
        "ELBO, no label (nats)",
    ),
    Metric(
        "label_probe_accuracy",
        False,
        "Accuracy on test images of a small network that predicts the label from z, sampled from the "
        "posterior: if z contains the label, the decoder can ignore the label it is given.",
        "Label read from z",
    ),
    Metric("active_units", True, "Units of z whose posterior mean has a variance above 0.01."),
    Metric(
        "reconstruction_rmse",
        False,
        "Root mean square error of the reconstruction (the expected image), for images in [0, 1].",
        "Reconstruction RMSE",
    ),
    Metric(
        "frechet_judge",
        False,
        "Fréchet distance between generated images, sampled from the prior, and as many test images, in the "
        "judge's features; comparable only for the same data set, judge and number of images.",
        "Fréchet, judge's features",
    ),
)
"""The metrics of a VAE's run, in the order of its tables."""
