"""Evaluate a trained VAE on the test set: likelihood, use of z, and use of the label."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (conventional name)
from jaxtyping import Float, Int
from torch import nn

from isthmus.data.splits import in_proportion
from isthmus.engine.fit import Trained
from isthmus.engine.run_folder import write_arrays
from isthmus.engine.run_result import Evaluation, JudgeRecord
from isthmus.engine.seeds import numpy_draws, torch_draws, torch_seed
from isthmus.metrics.generation import (
    BOUND_SAMPLES,
    Proportion,
    active_units,
    bits_per_dim,
    frechet_distance,
)
from isthmus.tasks.generate.cas import cas_metrics
from isthmus.tasks.generate.judge import LoadedJudge, load_judge
from isthmus.tasks.generate.label_swap import (
    PROTOCOLS,
    TestPart,
    alike_in_labels,
    judged_swap,
    wrong_labels_of,
)
from isthmus.tasks.generate.module import Generator
from isthmus.tasks.generate.recipe import GenerateRecipe
from isthmus.tasks.generate.sample_grids import sample_grids_of
from isthmus.tasks.generate.vae_on_arrays import (
    Images,
    Posterior,
    VAEOnArrays,
    images_of,
    posterior_draws,
)

LabelledLatents = tuple[Float[np.ndarray, "_ latent"], Int[np.ndarray, " _"]]

_PROBE_IMAGES = 10_000


def evaluate_generator(trained: Trained) -> Evaluation:
    """Metrics on the test set; writes metrics of each image and sample grids to the run folder.

    The run has failed if the ELBO is not finite or if no unit of z depends on the image.
    """
    recipe, store, folder = trained.recipe, trained.store, trained.folder
    module = cast(Generator, trained.module)
    module.eval()
    vae = VAEOnArrays(module.network, trained.device, recipe.train.batch)
    judge = load_judge(recipe, store, trained.shared, trained.device.torch_device)
    record = JudgeRecord(name=judge.name, accuracy=judge.accuracy)

    test = _test_part(vae, trained)
    encoded = _encoded(vae, recipe, test)
    metrics, likelihoods = _likelihood(vae, recipe, test, encoded, trained.seed)
    if not np.isfinite(metrics["elbo_nats"]):
        return Evaluation(reason="the ELBO is not finite", metrics=metrics, judge=record)
    label_use, judged = _label_use(vae, judge, test, encoded, trained)
    metrics = {**label_use, **metrics, **_use_of_z(vae, trained, test, encoded[0])}
    names = [store.names[row] for row in trained.split.test]
    write_arrays(folder.image_metrics, {"names": names, **likelihoods, **judged})
    draws = torch_draws(trained.seed, "sample_grids")
    write_arrays(folder.sample_grids, sample_grids_of(vae, test, draws, recipe.model))
    if not metrics["active_units"]:
        reason = "collapsed: no unit of z depends on the image"
        return Evaluation(reason=reason, metrics=metrics, judge=record)
    if recipe.measure.cas_images is not None:
        metrics |= cas_metrics(trained, vae, recipe.measure.cas_images)
    return Evaluation(metrics=metrics, judge=record)


def _test_part(vae: VAEOnArrays, trained: Trained) -> TestPart:
    images, labels = images_of(trained.store, trained.split.test)
    return TestPart(
        images=images,
        target=vae.target(images, torch_draws(trained.seed, "target")),
        labels=labels,
        given=wrong_labels_of(labels, vae.network.num_labels, trained.seed),
    )


def _encoded(
    vae: VAEOnArrays, recipe: GenerateRecipe, test: TestPart
) -> tuple[Posterior, Posterior]:
    """Posteriors with the true labels and with the wrong labels; the same object if they are equal."""
    true = vae.encoded(test.target, test.labels)
    if not recipe.model.encoder_is_conditioned:
        return true, true
    return true, vae.encoded(test.target, test.given)


def _likelihood(
    vae: VAEOnArrays,
    recipe: GenerateRecipe,
    test: TestPart,
    encoded: tuple[Posterior, Posterior],
    seed: int,
) -> tuple[dict[str, float], dict[str, Any]]:
    """Metrics and per-image arrays: ELBO with the true, a wrong, and the null label, and the NLL.

    All ELBOs use the same noise, so that the gap between the ELBO with the true label and that with a
    wrong label is exactly 0 for a network that is not conditioned. The NLL is importance-sampled on
    images that are stratified by label and the same for every run.
    """
    network, labels, measure = vae.network, test.labels, recipe.measure
    draws = torch_draws(seed, "elbo")
    noise = torch.randn(len(labels), network.latent, generator=draws).numpy()
    elbo = {
        "elbo_nats": vae.elbo_nats(test.target, encoded[0], labels, noise),
        "elbo_wrong_nats": vae.elbo_nats(test.target, encoded[1], test.given, noise),
    }
    if recipe.model.label_dropout > 0:
        none = np.full_like(labels, network.unconditional_label)
        posterior = vae.encoded(test.target, none)
        elbo["elbo_unconditional_nats"] = vae.elbo_nats(test.target, posterior, none, noise)
    chosen = in_proportion(labels, measure.nll_images, numpy_draws(0, "nll"))
    bound = vae.nll(test.target, labels, BOUND_SAMPLES, torch_seed(seed, "bound"))
    nll_seed, k = torch_seed(seed, "nll"), measure.importance_samples
    nll_of_chosen = vae.nll(test.target[chosen], labels[chosen], k, nll_seed)
    nll = nll_of_chosen.of_all(chosen, bound)
    dims, offset = test.target[0].size, network.likelihood.dims_offset_nats_per_dim
    gap = elbo["elbo_nats"] - elbo["elbo_wrong_nats"]
    means = {
        name: float(values.mean()) for name, values in elbo.items() if name != "elbo_wrong_nats"
    }
    metrics = {
        "nll_nats": nll.nats,
        "nll_standard_error": nll.standard_error,
        "nll_monte_carlo_error": nll.monte_carlo_error,
        "bits_per_dim": bits_per_dim(nll.nats, dims, offset),
        **means,
        "elbo_gap_nats": float(gap.mean()),
        "elbo_bits_per_dim": bits_per_dim(-means["elbo_nats"], dims, offset),
    }
    nll_per_image = np.full(len(labels), np.nan)
    nll_per_image[chosen] = nll.per_image
    return metrics, {**elbo, "nll_nats": nll_per_image}


def _label_use(
    vae: VAEOnArrays,
    judge: LoadedJudge,
    test: TestPart,
    encoded: tuple[Posterior, Posterior],
    trained: Trained,
) -> tuple[dict[str, float], dict[str, Any]]:
    """Metrics and per-image arrays: both swap protocols, prior fidelity and Fréchet distance."""
    metrics: dict[str, float] = {}
    arrays: dict[str, Any] = {"label": test.labels, "given": test.given}
    true, wrong = encoded
    both, each = [(PROTOCOLS, true)], [(PROTOCOLS[:1], true), (PROTOCOLS[1:], wrong)]
    for protocols, (mu, _) in both if wrong is true else each:
        outputs = vae.images(mu, test.given)
        swap_metrics, swap_arrays = judged_swap(judge, test, outputs, trained.seed, protocols)
        metrics |= swap_metrics
        arrays |= swap_arrays
    drawn = vae.images(
        vae.prior_draws(test.labels, torch_draws(trained.seed, "prior")), test.labels
    )
    hits = judge.labels(drawn) == test.labels
    metrics |= Proportion(int(hits.sum()), len(hits)).named("prior_fidelity")
    metrics["judge_accuracy"] = judge.accuracy
    return metrics | _frechet(judge, test, drawn, trained), arrays


def _frechet(
    judge: LoadedJudge, test: TestPart, drawn: Images, trained: Trained
) -> dict[str, float]:
    """Fréchet distances in the judge's features: generated to test images, and training to test images.

    The distance depends on the sizes of the sets and on their proportions of labels. Therefore the
    three sets have the same number of images of each label: that of the test set, or that of the
    training set if it is smaller.
    """
    train = trained.split.train
    in_train, in_test = alike_in_labels(np.asarray(trained.store.labels[train]), test.labels)
    training, _ = images_of(trained.store, train[in_train])
    test_features = judge.features(test.images[in_test])
    return {
        "frechet_judge": frechet_distance(judge.features(drawn[in_test]), test_features),
        "frechet_floor": frechet_distance(judge.features(training), test_features),
        "frechet_images": float(len(in_test)),
    }


def _use_of_z(
    vae: VAEOnArrays, trained: Trained, test: TestPart, posterior: Posterior
) -> dict[str, float]:
    """Active units of z, the accuracy of a label probe on z, and the reconstruction error.

    The inputs of the probe are samples of the posterior, like the inputs of the decoder, not posterior
    means: means could reveal the label by differences that are smaller than the noise of the samples,
    which a decoder cannot use.
    """
    seed, labels = trained.seed, test.labels
    rows = numpy_draws(seed, "probe images").permutation(trained.split.train)[:_PROBE_IMAGES]
    images, training_labels = images_of(trained.store, rows)
    target = vae.target(images, torch_draws(seed, "probe target"))
    training_posterior = vae.encoded(target, training_labels)
    training_z = posterior_draws(training_posterior, torch_draws(seed, "probe training latents"))
    test_z = posterior_draws(posterior, torch_draws(seed, "probe test latents"))
    outputs = vae.images(posterior[0], labels)
    return {
        "label_probe_accuracy": probe_accuracy(
            (training_z, training_labels), (test_z, labels), vae.network.num_labels, seed
        ),
        "active_units": float(active_units(vae.standardised_by_prior(posterior[0], labels)).count),
        "reconstruction_rmse": float(np.sqrt(np.mean((outputs - test.images) ** 2))),
    }


def probe_accuracy(
    training: LabelledLatents,
    test: LabelledLatents,
    num_labels: int,
    seed: int,
    *,
    epochs: int = 30,
) -> float:
    """Accuracy on test latents of a two-layer network trained to predict the label from z.

    An accuracy at chance means that this network finds no label information in z; another network
    might find some.

    Source: Alain and Bengio 2016, Understanding intermediate layers using linear classifier
    probes (arXiv:1610.01644), with one hidden layer for boundaries that are not linear.
    """
    mean, deviation = training[0].mean(axis=0), training[0].std(axis=0) + 1e-6
    z, test_z = (torch.from_numpy((x - mean) / deviation).float() for x, _ in (training, test))
    label = torch.from_numpy(training[1])
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(torch_seed(seed, "probe"))
        probe = nn.Sequential(nn.Linear(z.shape[1], 128), nn.ReLU(), nn.Linear(128, num_labels))
        optimiser = torch.optim.AdamW(probe.parameters(), lr=3e-3, weight_decay=1e-3)
        for _ in range(epochs):
            for rows in torch.randperm(len(z)).split(250):
                optimiser.zero_grad()
                F.cross_entropy(probe(z[rows]), label[rows]).backward()
                optimiser.step()
    with torch.inference_mode():
        predicted = probe(test_z).argmax(dim=1).numpy()
    return float((predicted == test[1]).mean())
