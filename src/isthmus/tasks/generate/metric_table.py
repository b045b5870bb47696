"""The test metrics of a label-conditioned VAE: names, directions and definitions."""

from __future__ import annotations

from isthmus.metrics.generation import BOUND_SAMPLES
from isthmus.metrics.metric import Metric

METRICS = (
    Metric(
        "swap_encoded_true",
        True,
        "Share of test images, encoded with their true label (where told) and decoded with a wrong one, of "
        "which the judge says the given label. Wrong labels are uniform over the other classes.",
        words="Swap success, encoded true",
    ),
    Metric(
        "swap_encoded_wrong",
        True,
        "The same, encoded and decoded with the wrong label; equal where the encoder is not told.",
        words="Swap success, encoded wrong",
    ),
    Metric(
        "leakage_encoded_true",
        False,
        "Share of the images of the first protocol of which the judge still says the true label.",
        words="Label leakage, encoded true",
    ),
    Metric(
        "leakage_encoded_wrong",
        False,
        "The same of the second protocol.",
        words="Label leakage, encoded wrong",
    ),
    Metric(
        "prior_fidelity",
        True,
        "Share of images drawn from the prior of which the judge says the given label.",
    ),
    Metric(
        "cas",
        True,
        "Classification accuracy metric: share of real test images whose label a classifier says "
        "that learned from images drawn from the prior alone; beside it what as many real ones teach. "
        "Absent where the recipe sets no measure.cas_images.",
        words="CAS",
    ),
    Metric(
        "style_encoded_true",
        True,
        "Correlation of style between source and image swapped under the first protocol, mean over "
        "descriptors that know no label; about 0 for pairs drawn at random.",
        words="Style kept, encoded true",
    ),
    Metric(
        "style_encoded_wrong",
        True,
        "The same under the second protocol.",
        words="Style kept, encoded wrong",
    ),
    Metric(
        "nll_nats",
        False,
        "Importance-sampled -log p(x | y) in nats an image: with "
        f"{BOUND_SAMPLES} samples on all test images, "
        "corrected by the mean difference that many samples make on some of them; the recipe's measure "
        "table says on how many, and how many. The encoder is told y, also one that would read it.",
        words="NLL (nats)",
    ),
    Metric(
        "elbo_nats",
        True,
        "ELBO in nats an image: weight 1, one sample of z, true label; in the curve of training, with "
        "the labels hidden that training hides, and lower where an importance-weighted bound is trained.",
        words="ELBO (nats)",
    ),
    Metric(
        "bits_per_dim",
        False,
        "nll_nats as bits for each value of the image; under a continuous Bernoulli no bound on the "
        "bits of its 256 levels.",
        words="Bits/dim",
    ),
    Metric(
        "elbo_bits_per_dim",
        False,
        "The negative ELBO as bits for each value of the image.",
        words="Bits/dim by the ELBO",
    ),
    Metric(
        "elbo_gap_nats",
        True,
        "ELBO with the true label less that with a wrong one.",
        words="ELBO gap (nats)",
    ),
    Metric(
        "elbo_unconditional_nats",
        True,
        "ELBO with no label given; absent where training has hidden none.",
        words="ELBO, no label (nats)",
    ),
    Metric(
        "label_probe_accuracy",
        False,
        "Share of test images whose label a small network reads in z, drawn from the posterior: what "
        "the encoder leaves there that the decoder could use instead of listening.",
        words="Label read from z",
    ),
    Metric("active_units", True, "Units of z whose posterior mean varies by more than 0.01."),
    Metric(
        "reconstruction_rmse",
        False,
        "Root mean square error of the expected image beside the grey or coloured one, in [0, 1].",
        words="Reconstruction RMSE",
    ),
    Metric(
        "frechet_judge",
        False,
        "Fréchet distance of images drawn from the prior to test images in the judge's "
        "features, as many of each; compares within this data set, judge "
        "and number only.",
        words="Fréchet, judge's features",
    ),
)
"""The metrics of a VAE's run, in the order of its tables."""
