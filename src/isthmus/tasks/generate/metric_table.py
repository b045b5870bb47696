"""The test metrics of a label-conditioned VAE: names, directions, definitions and titles."""

from __future__ import annotations

from isthmus.metrics.generation import BOUND_SAMPLES
from isthmus.metrics.metric import Metric

METRICS = (
    Metric(
        "swap_encoded_true",
        True,
        "Share of test images that the judge assigns a wrong label, after they were decoded with that label "
        "and encoded with their true one. Wrong labels are uniform over the other classes.",
        "Swap success, encoded true",
    ),
    Metric(
        "swap_encoded_wrong",
        True,
        "The same for images encoded with the wrong label too; equal if the encoder is not given the label.",
        "Swap success, encoded wrong",
    ),
    Metric(
        "leakage_encoded_true",
        False,
        "Share of the images of the first protocol that the judge still assigns their true label.",
        "Label leakage, encoded true",
    ),
    Metric(
        "leakage_encoded_wrong",
        False,
        "The same for the second protocol.",
        "Label leakage, encoded wrong",
    ),
    Metric(
        "prior_fidelity",
        True,
        "Share of images drawn from the prior that the judge assigns the label they were drawn with.",
    ),
    Metric(
        "cas",
        True,
        "Classification accuracy score: accuracy on real test images of a classifier trained on images drawn "
        "from the prior; to be compared with training on as many real ones. Absent without "
        "measure.cas_images.",
        "CAS",
    ),
    Metric(
        "style_encoded_true",
        True,
        "Correlation of style descriptors between source and swapped image under the first protocol, mean "
        "over descriptors, within each pair of labels; about 0 for pairs drawn at random.",
        "Style kept, encoded true",
    ),
    Metric(
        "style_encoded_wrong",
        True,
        "The same under the second protocol.",
        "Style kept, encoded wrong",
    ),
    Metric(
        "nll_nats",
        False,
        "Importance-sampled -log p(x | y) in nats per image, the encoder given y: with "
        f"{BOUND_SAMPLES} samples on all test images, corrected by the mean difference that "
        "measure.importance_samples make on measure.nll_images of them.",
        "NLL (nats)",
    ),
    Metric(
        "elbo_nats",
        True,
        "ELBO in nats per image: beta = 1, one sample of z, true label. In training curves with label "
        "dropout, and lower where an importance-weighted bound is trained.",
        "ELBO (nats)",
    ),
    Metric(
        "bits_per_dim",
        False,
        "nll_nats in bits per value of the image; under a continuous Bernoulli not a bound on the bits of "
        "its 256 levels.",
        "Bits/dim",
    ),
    Metric(
        "elbo_bits_per_dim",
        False,
        "The negative ELBO in bits per value of the image.",
        "Bits/dim by the ELBO",
    ),
    Metric(
        "elbo_gap_nats",
        True,
        "ELBO with the true label minus ELBO with a wrong one.",
        "ELBO gap (nats)",
    ),
    Metric(
        "elbo_unconditional_nats",
        True,
        "ELBO with the unconditional label; absent without label dropout.",
        "ELBO, no label (nats)",
    ),
    Metric(
        "label_probe_accuracy",
        False,
        "Accuracy on test images of a small network that predicts the label from z, drawn from the "
        "posterior: label information in z lets the decoder ignore the label it is given.",
        "Label read from z",
    ),
    Metric("active_units", True, "Units of z whose posterior mean has a variance above 0.01."),
    Metric(
        "reconstruction_rmse",
        False,
        "Root mean square error of the expected image, values in [0, 1].",
        "Reconstruction RMSE",
    ),
    Metric(
        "frechet_judge",
        False,
        "Fréchet distance of images drawn from the prior to as many test images in the judge's features; "
        "comparable for the same data set, judge and number of images only.",
        "Fréchet, judge's features",
    ),
)
"""The metrics of a VAE's run, in the order of its tables."""
