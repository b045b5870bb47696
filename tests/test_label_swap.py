"""Which images are evaluated where labels are uneven: NLL, Fréchet distance and its floor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.data.splits import Split, in_proportion
from isthmus.data.store import LabelledStore
from isthmus.engine.device import CPU
from isthmus.engine.fit import Trained
from isthmus.engine.run_folder import RunFolder
from isthmus.metrics.generation import LogMeanExp
from isthmus.tasks.generate.evaluate import _encoded, _frechet, _likelihood, images_of
from isthmus.tasks.generate.judge import LoadedJudge
from isthmus.tasks.generate.label_swap import (
    TestPart,
    alike_in_labels,
    evenly_from_labels,
)
from isthmus.tasks.generate.module import Generator, vae_for
from isthmus.tasks.generate.recipe import VAE, GenerateRecipe, Measure
from isthmus.tasks.generate.vae_on_arrays import VAEOnArrays

MANY = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(np.array)


@settings(max_examples=60, deadline=None)
@given(labels=MANY, count=st.integers(1, 70), seed=st.integers(0, 2**31))
def test_every_label_gives_its_share_rounded_up_or_down(labels, count, seed):
    drawn = in_proportion(labels, count, np.random.default_rng(seed))
    assert len(drawn) == min(count, len(labels))
    assert (np.diff(drawn) > 0).all(), "ascending, none twice"
    whole, of_drawn = (np.bincount(of, minlength=5) for of in (labels, labels[drawn]))
    assert (np.abs(of_drawn - whole * len(drawn) / len(labels)) < 1).all()


def test_every_image_is_as_likely_to_be_drawn_however_rare_its_label():
    labels = np.repeat([0, 1, 2], [30, 9, 1])
    draws = [in_proportion(labels, 12, np.random.default_rng(seed)) for seed in range(1_500)]
    shares = np.bincount(np.concatenate(draws), minlength=40) / 1_500
    np.testing.assert_allclose(shares, 0.3, atol=4 * np.sqrt(0.3 * 0.7 / 1_500))


def nll_of(nats):
    weights = LogMeanExp()
    weights.add(-nats[None])
    return weights.nll()


def test_the_nll_of_a_complete_set_of_uneven_labels_is_unbiased():
    """Images of the rare label lie 20 nats above their bound, the others 2."""
    labels = np.repeat([0, 1], [180, 20])
    rng = np.random.default_rng(0)
    nll = rng.normal(90, 25, 200)
    bound = nll - np.array([2.0, 20.0])[labels]
    estimates = []
    for seed in range(400):
        chosen = in_proportion(labels, 25, np.random.default_rng(seed))
        estimates.append(nll_of(nll[chosen]).of_all(chosen, nll_of(bound)).nats)
    assert np.mean(estimates) == pytest.approx(nll.mean(), abs=4 * np.std(estimates) / 20)
    evenly = evenly_from_labels(labels, 25)
    of_even = (nll - bound)[evenly].mean() + bound.mean()
    assert of_even > nll.mean() + 5, "what as many of each label would have said"


@settings(max_examples=60, deadline=None)
@given(a=MANY, b=MANY)
def test_two_sets_are_cut_to_as_many_of_each_label_as_both_have(a, b):
    in_a, in_b = alike_in_labels(a, b)
    counts = [np.bincount(of, minlength=5) for of in (a[in_a], b[in_b])]
    assert counts[0].tolist() == counts[1].tolist()
    both = np.minimum(np.bincount(a, minlength=5), np.bincount(b, minlength=5))
    assert counts[0].tolist() == both.tolist()
    assert (np.diff(in_a) > 0).all()


# In the metrics of a run


class OfGreyness(LoadedJudge):
    """Sees how bright an image is, and nothing else."""

    def __init__(self) -> None:
        pass

    def features(self, images):
        return np.repeat(images.mean(axis=(1, 2, 3))[:, None], 2, axis=1)


def trained_on(train: list[int], test: list[int], folder: Path) -> Trained:
    """A run on so many images of each label, whose greyness is their label; untrained."""
    recipe = GenerateRecipe(
        model=VAE(width=2, latent=2, label_dropout=0.0),
        measure=Measure(nll_images=10, importance_samples=2),
    )
    labels = np.concatenate([np.repeat(np.arange(len(of)), of) for of in (train, test)])
    names = tuple(f"{row:03}" for row in range(len(labels)))
    store = LabelledStore(
        images=np.tile(np.uint8(100 * labels)[:, None, None, None], (1, 28, 28, 1)),
        labels=labels,
        names=names,
        groups=tuple(map(str, labels)),
        parts=("train",) * sum(train) + ("test",) * sum(test),
        class_names=tuple(map(str, range(len(train)))),
        label_scheme="grey",
        content="grey",
    )
    rows = np.arange(len(labels))
    split = Split(rows[: sum(train)], rows[:0], rows[sum(train) :])
    module = Generator(vae_for(recipe, len(train)), recipe, 1)
    return Trained(module, 1, recipe, 0, RunFolder(folder), store, split, CPU, False, folder)


def part_of(trained: Trained) -> TestPart:
    images, labels = images_of(trained.store, trained.split.test)
    return TestPart(images, (images > 0.1).astype(np.float32), labels, (labels + 1) % 2)


@pytest.mark.parametrize(
    ("train", "test", "size"),
    [([900, 100], [90, 10], 100), ([50, 50], [90, 10], 60), ([5, 5], [90, 10], 10)],
    ids=["as the test set", "fewer of a label", "few"],
)
def test_labels_that_are_uneven_are_no_distance(
    train: list[int], test: list[int], size: int, tmp_path: Path
) -> None:
    """A perfect decoder has distance 0 and so has training, whatever labels they have most of."""
    trained = trained_on(train, test, tmp_path)
    part = part_of(trained)
    metrics = _frechet(OfGreyness(), part, part.images, trained)
    assert metrics["frechet_images"] == size
    assert metrics["frechet_judge"] == pytest.approx(0, abs=1e-6)
    assert metrics["frechet_floor"] == pytest.approx(0, abs=1e-6)


def test_the_nll_is_of_labels_in_proportion_and_of_the_same_images_for_every_seed(
    tmp_path: Path,
) -> None:
    trained = trained_on([10, 10], [40, 10], tmp_path)
    part = part_of(trained)
    vae = VAEOnArrays(trained.module.network)
    encoded = _encoded(vae, trained.recipe, part)
    are_sampled = [
        np.isfinite(_likelihood(vae, trained.recipe, part, encoded, seed)[1]["nll_nats"])
        for seed in (0, 1)
    ]
    assert (are_sampled[0] == are_sampled[1]).all()
    assert np.bincount(part.labels[are_sampled[0]]).tolist() == [8, 2]
