"""Score a trained VAE on the test set, once: likelihood, use of z, and whether it listens."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from isthmus.data.store import LabelledStore, as_float
from isthmus.recipe import GenerateRecipe
from isthmus.runs.cas import cas_scores
from isthmus.runs.folder import write_arrays
from isthmus.runs.generator import Generator
from isthmus.runs.judge import LoadedJudge, load_judge
from isthmus.runs.listening import evenly_from_labels, prior_fidelity, swapped
from isthmus.runs.probe import probe_accuracy
from isthmus.runs.seeds import stream, torch_seed
from isthmus.runs.sheets import sheets_of
from isthmus.runs.trained import Trained
from isthmus.runs.vae_on_arrays import VAEOnArrays
from isthmus.scoring.generation import (
    Proportion,
    active_units,
    bits_per_dim,
    frechet_distance,
    wrong_labels,
)

_PROBE_PICTURES = 10_000


def score_generator(trained: Trained) -> dict[str, Any]:
    """Score the test set, once; write scores and sheets; say whether the run can be counted.

    Every draw comes from the run's "sampling" stream, so the wrong labels and the noise are
    the same for every variant with one seed.
    """
    recipe, module, store = trained.recipe, trained.module, trained.store
    assert isinstance(recipe, GenerateRecipe)
    assert isinstance(module, Generator)
    module.cpu().eval()
    vae = VAEOnArrays(module.network, trained.precision, recipe.train.batch)
    judge = load_judge(recipe, store)
    draws = torch.Generator().manual_seed(torch_seed(stream(trained.seed, "sampling")))
    rng = np.random.default_rng(stream(trained.seed, "sampling"))

    images, labels = pictures_of(store, trained.split.test)
    target = vae.target(images, draws)
    given = wrong_labels(labels, len(store.class_names), rng)
    likelihood, per_picture = _likelihood(vae, recipe, target, labels, given, draws)
    listening, swaps = _listening(vae, judge, (images, target, labels, given), trained, draws, rng)
    z_scores = _use_of_z(vae, trained, target, labels, rng)
    write_arrays(
        trained.folder.scores,
        {"names": [store.names[row] for row in trained.split.test], **per_picture, **swaps},
    )
    write_arrays(trained.folder.sheets, sheets_of(vae, images, target, labels, given, draws))
    scores = {**listening, **likelihood, **z_scores}
    reason, cas_pictures = _failure(scores), recipe.measure.cas_pictures
    if cas_pictures is not None and not reason:
        scores |= cas_scores(trained, vae, cas_pictures)
    return {
        "reason": reason,
        "scores": scores,
        "judge": {"name": judge.name, "accuracy": judge.accuracy},
    }


def pictures_of(
    store: LabelledStore, rows: Int[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, "n channel height width"], Int[np.ndarray, " n"]]:
    """These pictures as float32 in [0, 1], and their labels."""
    images = as_float(torch.from_numpy(np.asarray(store.images[rows]))).numpy()
    return images, np.asarray(store.labels[rows]).astype(np.int64)


def _likelihood(
    vae: VAEOnArrays,
    recipe: GenerateRecipe,
    target: Float[np.ndarray, "n channel height width"],
    labels: Int[np.ndarray, " n"],
    given: Int[np.ndarray, " n"],
    draws: torch.Generator,
) -> tuple[dict[str, float], dict[str, Any]]:
    """ELBO under the true, a wrong and the null label, and the importance-sampled NLL."""
    null = np.full_like(labels, vae.network.null_label)
    noise = torch.randn(len(labels), vae.network.latent, generator=draws)  # one for all three
    elbo, elbo_wrong, elbo_null = (
        vae.elbo_nats(target, told, noise) for told in (labels, given, null)
    )
    chosen = evenly_from_labels(labels, recipe.measure.nll_pictures)
    k = recipe.measure.importance_samples
    nll = np.full(len(labels), np.nan)
    nll[chosen] = vae.nll_nats(target[chosen], labels[chosen], k, draws)
    of_nll, dims = nll[chosen], int(np.prod(target.shape[1:]))
    offset = vae.network.likelihood.dims_offset_nats_per_dim
    scores = {
        "nll_nats": float(of_nll.mean()),
        "nll_standard_error": float(of_nll.std(ddof=1) / len(of_nll) ** 0.5),
        "bits_per_dim": float(bits_per_dim(float(of_nll.mean()), dims, offset)),
        "elbo_nats": float(elbo.mean()),
        "elbo_gap_nats": float((elbo - elbo_wrong).mean()),
        "elbo_null_nats": float(elbo_null.mean()),
    }
    arrays = {"elbo_nats": elbo, "elbo_wrong_nats": elbo_wrong, "elbo_null_nats": elbo_null}
    return scores, {**arrays, "nll_nats": nll}


def _listening(
    vae: VAEOnArrays,
    judge: LoadedJudge,
    test: tuple[Any, Any, Any, Any],
    trained: Trained,
    draws: torch.Generator,
    rng: np.random.Generator,
) -> tuple[dict[str, float], dict[str, Any]]:
    """Swap success under both protocols, fidelity from the prior, Fréchet distance to its floor."""
    images, target, labels, given = test
    by_protocol = {
        name: swapped(vae, judge, images, target, labels, given, rng, encoded_with=told)
        for name, told in (("swap_encoded_true", labels), ("swap_encoded_wrong", given))
    }
    fidelity, drawn = prior_fidelity(vae, judge, labels, draws)
    first = by_protocol["swap_encoded_true"]
    scores = {
        **_with_interval("swap_encoded_true", first.swap.success),
        **_with_interval("swap_encoded_wrong", by_protocol["swap_encoded_wrong"].swap.success),
        **_with_interval("prior_fidelity", fidelity),
        **_with_interval("stay_rate", first.swap.stay),
        "style_kept": first.style.score,
        "style_kept_shuffled": first.style.control,
        "judge_accuracy": judge.accuracy,
    }
    scores |= _frechet(judge, images, drawn, trained)
    judged = {f"{name}_judged": swap.judged for name, swap in by_protocol.items()}
    return scores, {"label": labels, "given": given, **judged}


def _frechet(judge: LoadedJudge, images: Any, drawn: Any, trained: Trained) -> dict[str, float]:
    """Distance of drawn to test pictures in the judge's features; and of training to test ones."""
    rows = trained.split.train[:: max(1, len(trained.split.train) // len(images))][: len(images)]
    training, _ = pictures_of(trained.store, rows)
    of_test = judge.features(images)
    return {
        "frechet_judge": frechet_distance(judge.features(drawn), of_test),
        "frechet_floor": frechet_distance(judge.features(training), of_test),
    }


def _use_of_z(
    vae: VAEOnArrays, trained: Trained, target: Any, labels: Any, rng: np.random.Generator
) -> dict[str, float]:
    """How many units of z say something, and how much they say of the label."""
    mu_test, _ = vae.encoded(target, labels)
    rows = rng.permutation(trained.split.train)[:_PROBE_PICTURES]
    images, told = pictures_of(trained.store, rows)
    mu_train, _ = vae.encoded(images, told)
    outputs = vae.pictures(mu_test, labels)
    return {
        "label_probe_accuracy": probe_accuracy(
            (mu_train, told), (mu_test, labels), vae.network.num_labels, trained.seed
        ),
        "active_units": float(active_units(mu_test).count),
        "reconstruction_rmse": float(np.sqrt(np.mean((outputs - target) ** 2))),
    }


def _with_interval(name: str, proportion: Proportion) -> dict[str, float]:
    low, high = proportion.interval
    return {name: proportion.value, f"{name}_low": low, f"{name}_high": high}


def _failure(scores: dict[str, float]) -> str:
    """Why the run cannot be counted; empty where it can."""
    if not np.isfinite(scores["elbo_nats"]):
        return "the ELBO is not finite"
    return "" if scores["active_units"] else "collapsed: no unit of z says anything of the picture"
