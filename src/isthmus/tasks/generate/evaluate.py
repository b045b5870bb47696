"""Evaluate a trained VAE on the test part: likelihood, use of z, and whether it listens."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Int

from isthmus.data.splits import in_proportion
from isthmus.data.store import LabelledStore, as_float
from isthmus.engine.run_folder import write_arrays
from isthmus.engine.run_result import Evaluation, JudgeRecord
from isthmus.engine.seeds import numpy_draws, torch_draws
from isthmus.engine.trained import Trained
from isthmus.metrics.generation import (
    BOUND_SAMPLES,
    active_units,
    bits_per_dim,
    frechet_distance,
)
from isthmus.tasks.generate.cas import cas_metrics
from isthmus.tasks.generate.judge import LoadedJudge, load_judge
from isthmus.tasks.generate.label_swap import (
    Images,
    Labels,
    Swapped,
    TestPart,
    alike_in_labels,
    prior_fidelity,
    swapped,
    wrong_labels_of,
)
from isthmus.tasks.generate.module import Generator
from isthmus.tasks.generate.probe import probe_accuracy
from isthmus.tasks.generate.recipe import GenerateRecipe
from isthmus.tasks.generate.sample_grids import sample_grids_of
from isthmus.tasks.generate.vae_on_arrays import Posterior, VAEOnArrays, posterior_draws

_PROBE_IMAGES = 10_000


def evaluate_generator(trained: Trained) -> Evaluation:
    """Evaluate the test set, once; write metrics and sample grids; say whether the run can be counted."""
    recipe, store = trained.recipe, trained.store
    module = cast(Generator, trained.module)
    module.cpu().eval()
    vae = VAEOnArrays(module.network, trained.precision, recipe.train.batch)
    judge = load_judge(recipe, store, trained.shared)
    of_judge = JudgeRecord(name=judge.name, accuracy=judge.accuracy)

    test = _test_part(vae, trained)
    encoded = _encoded(vae, recipe, test)
    likelihood, arrays = _likelihood(vae, recipe, test, encoded, trained.seed)
    if not np.isfinite(likelihood["elbo_nats"]):
        return Evaluation(reason="the ELBO is not finite", metrics=likelihood, judge=of_judge)
    label_use, judged = _label_use(vae, judge, test, encoded, trained)
    metrics = {**label_use, **likelihood, **_use_of_z(vae, trained, test, encoded.true)}
    names = [store.names[row] for row in trained.split.test]
    write_arrays(trained.folder.image_metrics, {"names": names, **arrays, **judged})
    draws = torch_draws(trained.seed, "sample_grids")
    sample_grids = sample_grids_of(vae, test, draws, recipe.model)
    write_arrays(trained.folder.sample_grids, sample_grids)
    if not metrics["active_units"]:
        reason = "collapsed: no unit of z says anything of the image"
        return Evaluation(reason=reason, metrics=metrics, judge=of_judge)
    if recipe.measure.cas_images is not None:
        metrics |= cas_metrics(trained, vae, recipe.measure.cas_images)
    return Evaluation(reason="", metrics=metrics, judge=of_judge)


def images_of(store: LabelledStore, rows: Int[np.ndarray, " n"]) -> tuple[Images, Labels]:
    """These images as float32 in [0, 1], and their labels."""
    images = as_float(torch.from_numpy(np.asarray(store.images[rows]))).numpy()
    return images, np.asarray(store.labels[rows]).astype(np.int64)


def _test_part(vae: VAEOnArrays, trained: Trained) -> TestPart:
    images, labels = images_of(trained.store, trained.split.test)
    return TestPart(
        images=images,
        target=vae.target(images, torch_draws(trained.seed, "target")),
        labels=labels,
        given=wrong_labels_of(labels, vae.network.num_labels, trained.seed),
    )


class _Encoded(NamedTuple):
    """The test part encoded with the true labels, and with the wrong ones."""

    true: Posterior
    wrong: Posterior


def _encoded(vae: VAEOnArrays, recipe: GenerateRecipe, test: TestPart) -> _Encoded:
    true = vae.encoded(test.target, test.labels)
    if not recipe.model.encoder_is_conditioned:
        return _Encoded(true, true)
    return _Encoded(true, vae.encoded(test.target, test.given))


def _likelihood(
    vae: VAEOnArrays, recipe: GenerateRecipe, test: TestPart, encoded: _Encoded, seed: int
) -> tuple[dict[str, float], dict[str, Any]]:
    """ELBO under the true, a wrong and the unconditional label, and the importance-sampled NLL.

    One noise for every ELBO, so that a network that is told nothing has a gap of exactly 0. The
    images of the NLL are in proportion to the labels, and the same for every seed and variant.
    """
    network = vae.network
    draws = torch_draws(seed, "elbo")
    noise = torch.randn(len(test.labels), network.latent, generator=draws).numpy()
    condition = {
        "elbo_nats": (encoded.true, test.labels),
        "elbo_wrong_nats": (encoded.wrong, test.given),
    }
    if recipe.model.label_dropout > 0:
        unconditional = np.full_like(test.labels, network.unconditional_label)
        condition["elbo_unconditional_nats"] = (
            vae.encoded(test.target, unconditional),
            unconditional,
        )
    elbo = {name: vae.elbo_nats(test.target, *of, noise) for name, of in condition.items()}
    chosen = in_proportion(test.labels, recipe.measure.nll_images, numpy_draws(0, "nll"))
    bound = vae.nll(test.target, test.labels, BOUND_SAMPLES, torch_draws(seed, "bound"))
    nll = vae.nll(
        test.target[chosen],
        test.labels[chosen],
        recipe.measure.importance_samples,
        torch_draws(seed, "nll"),
    ).of_all(chosen, bound)
    dims, offset = test.target[0].size, network.likelihood.dims_offset_nats_per_dim
    gap = elbo["elbo_nats"] - elbo["elbo_wrong_nats"]
    means = {name: float(of.mean()) for name, of in elbo.items() if name != "elbo_wrong_nats"}
    metrics = {
        "nll_nats": nll.nats,
        "nll_standard_error": nll.standard_error,
        "nll_monte_carlo_error": nll.monte_carlo_error,
        "bits_per_dim": bits_per_dim(nll.nats, dims, offset),
        **means,
        "elbo_gap_nats": float(gap.mean()),
        "elbo_bits_per_dim": bits_per_dim(-means["elbo_nats"], dims, offset),
    }
    nll_of_all = np.full(len(test.labels), np.nan)
    nll_of_all[chosen] = nll.per_image
    return metrics, {**elbo, "nll_nats": nll_of_all}


def _label_use(
    vae: VAEOnArrays, judge: LoadedJudge, test: TestPart, encoded: _Encoded, trained: Trained
) -> tuple[dict[str, float], dict[str, Any]]:
    """Swap success under both protocols, fidelity from the prior, Fréchet distance to its floor."""
    metrics: dict[str, float] = {}
    judged = {"label": test.labels, "given": test.given}

    def outcome(posterior: Posterior) -> Swapped:
        return swapped(vae, judge, test, posterior[0], numpy_draws(trained.seed, "style"))

    true = outcome(encoded.true)
    wrong = true if encoded.wrong is encoded.true else outcome(encoded.wrong)
    for protocol, swap in (("encoded_true", true), ("encoded_wrong", wrong)):
        metrics |= swap_shares(swap, protocol)
        judged[f"swap_{protocol}_judged"] = swap.judged
        judged[f"swap_{protocol}"] = (swap.judged == test.given).astype(np.float32)
    fidelity, drawn = prior_fidelity(vae, judge, test.labels, torch_draws(trained.seed, "prior"))
    metrics |= fidelity.named("prior_fidelity")
    metrics["judge_accuracy"] = judge.accuracy
    return metrics | _frechet(judge, test, drawn, trained), judged


def swap_shares(swap: Swapped, protocol: str) -> dict[str, float]:
    """Swap success, label leakage and style kept under one protocol."""
    return {
        **swap.swap.success.named(f"swap_{protocol}"),
        **swap.swap.leakage.named(f"leakage_{protocol}"),
        f"style_{protocol}": swap.style.metric,
        f"style_{protocol}_shuffled": swap.style.control,
    }


def _frechet(
    judge: LoadedJudge, test: TestPart, drawn: Images, trained: Trained
) -> dict[str, float]:
    """Distance of drawn to test images in the judge's features; and of training to test ones.

    All three sets are of one size, with as many of each label: the distance grows as sets shrink,
    and as their labels differ. They are the test set's, where training has as many of each.
    """
    train = trained.split.train
    train_labels = np.asarray(trained.store.labels[train])
    of_train, rows = alike_in_labels(train_labels, test.labels)
    training, _ = images_of(trained.store, train[of_train])
    of_test = judge.features(test.images[rows])
    return {
        "frechet_judge": frechet_distance(judge.features(drawn[rows]), of_test),
        "frechet_floor": frechet_distance(judge.features(training), of_test),
        "frechet_images": float(len(rows)),
    }


def _use_of_z(
    vae: VAEOnArrays, trained: Trained, test: TestPart, posterior: Posterior
) -> dict[str, float]:
    """How many units of z say something, and how much they say of the label.

    The probe reads z as decoders get it, with its noise: a mean that moves by less than the noise
    tells the label to whoever scales it up, and no decoder has learned from that.
    """
    seed = trained.seed
    rows = numpy_draws(seed, "probe images").permutation(trained.split.train)
    images, labels = images_of(trained.store, rows[:_PROBE_IMAGES])
    target = vae.target(images, torch_draws(seed, "probe target"))
    of_training = posterior_draws(
        vae.encoded(target, labels), torch_draws(seed, "probe training latents")
    )
    of_test = posterior_draws(posterior, torch_draws(seed, "probe test latents"))
    outputs = vae.images(posterior[0], test.labels)
    return {
        "label_probe_accuracy": probe_accuracy(
            (of_training, labels), (of_test, test.labels), vae.network.num_labels, seed
        ),
        "active_units": float(active_units(vae.beside_prior(posterior[0], test.labels)).count),
        "reconstruction_rmse": float(np.sqrt(np.mean((outputs - test.images) ** 2))),
    }
