"""Every score of every task: what it means, what verdicts speak of, what is drawn by epoch."""

from __future__ import annotations

from isthmus.scoring.definitions import Score
from isthmus.scoring.generation import BOUND_SAMPLES
from isthmus.scoring.segmentation import SCORES

GENERATION_SCORES = (
    Score(
        "swap_encoded_true",
        True,
        "Share of test pictures, encoded with their true label (where told) and decoded with a wrong one, of "
        "which the judge says the given label. Wrong labels are uniform over the other classes.",
        words="Swap success, encoded true",
    ),
    Score(
        "swap_encoded_wrong",
        True,
        "The same, encoded and decoded with the wrong label; equal where the encoder is not told.",
        words="Swap success, encoded wrong",
    ),
    Score(
        "stay_encoded_true",
        False,
        "Share of the pictures of the first protocol of which the judge still says the true label.",
        words="Stay rate, encoded true",
    ),
    Score(
        "stay_encoded_wrong",
        False,
        "The same of the second protocol.",
        words="Stay rate, encoded wrong",
    ),
    Score(
        "prior_fidelity",
        True,
        "Share of pictures drawn from the prior of which the judge says the given label.",
    ),
    Score(
        "cas",
        True,
        "Classification accuracy score: share of real test pictures whose label a classifier says "
        "that learned from pictures drawn from the prior alone; beside it what as many real ones teach. "
        "Absent where the recipe sets no measure.cas_pictures.",
        words="CAS",
    ),
    Score(
        "style_encoded_true",
        True,
        "Correlation of style between source and picture swapped under the first protocol, mean over "
        "descriptors that know no label; about 0 for pairs drawn at random.",
        words="Style kept, encoded true",
    ),
    Score(
        "style_encoded_wrong",
        True,
        "The same under the second protocol.",
        words="Style kept, encoded wrong",
    ),
    Score(
        "nll_nats",
        False,
        "Importance-sampled -log p(x | y) in nats a picture: with "
        f"{BOUND_SAMPLES} samples on all test pictures, "
        "corrected by the mean difference that many samples make on some of them; the recipe's measure "
        "table says on how many, and how many. The encoder is told y, also one that would read it.",
        words="NLL (nats)",
    ),
    Score(
        "elbo_nats",
        True,
        "ELBO in nats a picture: weight 1, one sample of z, true label; in the curve of training, with "
        "the labels hidden that training hides, and lower where an importance-weighted bound is trained.",
        words="ELBO (nats)",
    ),
    Score(
        "bits_per_dim",
        False,
        "nll_nats as bits for each value of the picture; under a continuous Bernoulli no bound on the "
        "bits of its 256 levels.",
        words="Bits/dim",
    ),
    Score(
        "elbo_bits_per_dim",
        False,
        "The negative ELBO as bits for each value of the picture.",
        words="Bits/dim by the ELBO",
    ),
    Score(
        "elbo_gap_nats",
        True,
        "ELBO with the true label less that with a wrong one.",
        words="ELBO gap (nats)",
    ),
    Score(
        "elbo_null_nats",
        True,
        "ELBO with no label given; absent where training has hidden none.",
        words="ELBO, no label (nats)",
    ),
    Score(
        "label_probe_accuracy",
        False,
        "Share of test pictures whose label a small network reads in z, drawn from the posterior: what "
        "the encoder leaves there that the decoder could use instead of listening.",
        words="Label read from z",
    ),
    Score("active_units", True, "Units of z whose posterior mean varies by more than 0.01."),
    Score(
        "reconstruction_rmse",
        False,
        "Root mean square error of the expected picture beside the grey or coloured one, in [0, 1].",
        words="Reconstruction RMSE",
    ),
    Score(
        "frechet_judge",
        False,
        "Fréchet distance of pictures drawn from the prior to test pictures in the judge's "
        "features, as many of each; compares within this data set, judge "
        "and number only.",
        words="Fréchet, judge's features",
    ),
)
"""The scores of a VAE's run, in the order of its tables."""

CLASSIFICATION_SCORES = (Score("accuracy", True, "Share of test pictures whose label it says."),)

SCORES_OF = {"segment": SCORES, "generate": GENERATION_SCORES, "classify": CLASSIFICATION_SCORES}
"""The scores of each task, in the order of its tables."""

VERDICT_SCORES = {
    "segment": ("mean_iou",),
    "generate": ("swap_encoded_wrong", "swap_encoded_true", "nll_nats"),
    "classify": ("accuracy",),
}
"""The scores that verdicts speak of where the plan names none; the first one says which is best.

Of the two protocols it is the harder one: an encoder that is told a wrong label may hide in z what
the decoder is to show.
"""

CURVES = {"segment": "pixel_accuracy", "generate": "elbo_nats", "classify": "accuracy"}
"""The score whose value on training and validation pictures is drawn by epoch."""
