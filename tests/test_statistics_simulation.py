"""Error rates and coverage of the statistics in thousands of synthetic studies with a known truth.

Bounds allow 3 standard errors of the simulation. Each figure is in the message of its assertion
and a property of its test, so passing figures can be read as well: run pytest with
``-m slow --junitxml FILE -o junit_family=xunit1``.
"""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from isthmus.metrics.metric import Metric
from isthmus.stats.corrections import holm, planned_looks
from isthmus.stats.paired import (
    PairedDifference,
    needed_seeds,
    needed_seeds_for_equivalence,
    paired_difference,
    smallest_visible,
)
from isthmus.stats.power_law import power_law
from isthmus.study import verdicts
from isthmus.study.comparisons import comparisons_of
from isthmus.study.differences import found_in
from isthmus.study.verdicts import CANNOT_TELL, verdicts_on

pytestmark = pytest.mark.slow


@pytest.fixture
def figure(record_property):
    """Record a share of studies; returns the share, its simulation error and a sentence."""

    def recorded(what, holds):
        share, n = float(np.mean(holds)), len(holds)
        error = math.sqrt(max(share * (1 - share), 1 / n) / n)
        sentence = f"{what}: {share:.4f} (simulation error {error:.4f}, {n} studies)"
        record_property(what, sentence)
        return share, error, sentence

    return recorded


# Intervals

EFFECT = 0.3


def covered(noise, n, studies, seed):
    """Whether the interval of each study holds the known effect."""
    rng = np.random.default_rng(seed)
    common = rng.normal(scale=2.0, size=(studies, n))  # removed by pairing
    a, b = common + EFFECT + noise(rng, (studies, n)), common
    ends = np.array([paired_difference(*pair).interval() for pair in zip(a, b, strict=True)])
    return (ends[:, 0] <= EFFECT) & (ends[:, 1] >= EFFECT)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_intervals_cover_normal_differences(n, figure):
    holds = covered(lambda rng, size: rng.normal(size=size), n, 20_000, seed=n)
    share, _, sentence = figure(f"95 % intervals cover, normal, n = {n}", holds)
    assert 0.945 < share < 0.955, sentence


@pytest.mark.parametrize("n", [3, 5, 10])
def test_intervals_slightly_over_cover_heavy_tails(n, figure):
    holds = covered(lambda rng, size: rng.standard_t(5, size=size), n, 10_000, seed=n)
    share, _, sentence = figure(f"95 % intervals cover, t of 5 df, n = {n}", holds)
    assert 0.94 < share < 0.98, sentence


@pytest.mark.parametrize("n", [3, 5, 10])
def test_intervals_under_cover_strong_skew(n, figure):
    """The limit stated in the docstring of ``SeedMean.interval``, at a skewness of 2."""
    holds = covered(lambda rng, size: rng.exponential(size=size) - 1, n, 10_000, seed=n)
    share, _, sentence = figure(f"95 % intervals cover, exponential, n = {n}", holds)
    assert 0.86 < share < 0.94, sentence


@pytest.mark.parametrize("n", [3, 5, 10])
def test_intervals_of_learning_curves_cover(n, figure):
    """The law holds, seeds differ in limit and scale, metrics have noise of 0.01."""
    rng, sizes, studies = np.random.default_rng(n), np.array([50, 100, 200, 400, 800]), 600

    def truth(size):
        return 0.9 - 2 * size**-0.5

    inside, beyond = np.zeros(studies, bool), np.zeros(studies, bool)
    for study in range(studies):
        limit = 0.9 + 0.01 * rng.normal(size=(n, 1))
        scale = 2 + 0.2 * rng.normal(size=(n, 1))
        law = power_law(limit - scale * sizes**-0.5 + 0.01 * rng.normal(size=(n, 5)), sizes)
        low, high = law.gained(100, 800).interval()
        inside[study] = low <= truth(800) - truth(100) <= high
        low, high = law.predicted(1600).interval()
        beyond[study] = low <= truth(1600) <= high
    for what, holds in (("gained within", inside), ("predicted at twice", beyond)):
        share, _, sentence = figure(f"95 % intervals cover, {what} the sizes, n = {n}", holds)
        assert 0.95 - 0.03 < share < 0.95 + 0.03, sentence


# False alarms

ALPHA = 0.05


def comparisons(metrics):
    """The 5 matched differences of a table [seed, 2, 2, 3]: two factors, and three of a third."""
    first = metrics[:, 0].mean(axis=(1, 2)), metrics[:, 1].mean(axis=(1, 2))
    second = metrics[:, :, 0].mean(axis=(1, 2)), metrics[:, :, 1].mean(axis=(1, 2))
    third = metrics.mean(axis=(1, 2)).T
    pairs = [first, second, *((third[i], third[j]) for i, j in ((0, 1), (0, 2), (1, 2)))]
    return np.array([paired_difference(a, b).p_value for a, b in pairs])


LEVELS = {"first": (0, 1), "second": (0, 1), "third": (0, 1, 2)}
VARIANTS = {
    "".join(map(str, levels)): dict(zip(LEVELS, levels, strict=True))
    for levels in itertools.product(*LEVELS.values())
}
COMPARISONS = comparisons_of(VARIANTS)
FACTORS = [of for of in COMPARISONS if of.kind == "factor"]
METRIC = Metric("metric", True, "")


def drawn_of(metrics, compared, looks):
    """The verdicts of a table [seed, 2, 2, 3]."""
    seeds, variants = np.indices((len(metrics), len(VARIANTS))).reshape(2, -1)
    runs = {"variant": np.array(list(VARIANTS))[variants], "seed": seeds, "status": "finished"}
    table = pd.DataFrame({**runs, "metric": metrics.ravel()})
    return verdicts_on(found_in(table, compared, (METRIC,)), {}, looks, is_complete=True)


def claims(metrics, looks):
    """Whether any verdict of a study claims an effect; verdicts are computed only if a p-value can."""
    p_values = comparisons(metrics)
    if looks.corrected(p_values).min() > ALPHA:  # a family correction only raises p-values
        return False
    drawn = drawn_of(metrics, FACTORS, looks)
    np.testing.assert_allclose(np.sort(drawn["p"]), np.sort(p_values))
    return bool((drawn["verdict"] != CANNOT_TELL).any())


@pytest.fixture
def no_needs(monkeypatch):
    """Skip the sample sizes: they take longer than everything else and no claim depends on them."""
    monkeypatch.setattr(verdicts, "_needs", lambda *_: None)


def null_study(rng, seeds):
    """No factor has an effect: seeds differ and each run has its own noise."""
    return rng.normal(size=(seeds, 1, 1, 1)) + rng.normal(size=(seeds, 2, 2, 3))


@pytest.mark.usefixtures("no_needs")
def test_false_alarms_of_a_family_stay_below_alpha(figure):
    rng, studies = np.random.default_rng(0), 3000
    one_look = planned_looks([5], np.random.default_rng(1))
    drawn = [null_study(rng, 5) for _ in range(studies)]
    p_values = [comparisons(metrics) for metrics in drawn]
    bare, _, bare_sentence = figure(
        "false alarms of a family of 5, uncorrected", [p.min() <= ALPHA for p in p_values]
    )
    share, error, sentence = figure(
        "false alarms of a family of 5, Holm", [claims(metrics, one_look) for metrics in drawn]
    )
    assert share <= ALPHA + 3 * error, sentence
    assert bare > 2 * ALPHA, bare_sentence


@pytest.mark.usefixtures("no_needs")
def test_false_alarms_of_three_families_together_stay_below_alpha(figure):
    """Factors, interactions and pairs are three families; alpha bounds a false alarm in any."""
    rng, studies = np.random.default_rng(0), 1000
    one_look = planned_looks([5], np.random.default_rng(1))
    contrasts = np.zeros((len(COMPARISONS), len(VARIANTS)))
    for row, of in enumerate(COMPARISONS):
        for group in of.groups:
            contrasts[row, [list(VARIANTS).index(v) for v in group]] += of.weights
    kinds = np.array([of.kind for of in COMPARISONS])
    claimed, by_family = np.zeros((2, studies), bool)
    for study in range(studies):
        metrics = null_study(rng, 5)
        p_values = stats.ttest_1samp(metrics.reshape(5, -1) @ contrasts.T, 0).pvalue
        least = [p_values[kinds == kind].min() * (kinds == kind).sum() for kind in set(kinds)]
        by_family[study] = min(least) < ALPHA  # Holm's first is Bonferroni's
        if by_family[study]:
            drawn = drawn_of(metrics, COMPARISONS, one_look)
            np.testing.assert_allclose(drawn["p"], p_values)
            claimed[study] = (drawn["verdict"] != CANNOT_TELL).any()
    share, error, sentence = figure("false alarms of a study of three families", claimed)
    assert share <= ALPHA + 3 * error, sentence
    share, error, sentence = figure("the same, each family by itself", by_family)
    assert share - 3 * error > ALPHA, sentence


@pytest.mark.usefixtures("no_needs")
def test_false_alarms_of_early_looks_stay_below_alpha(figure):
    """A study looks after 5, 6, .. 10 seeds and stops as soon as anything is significant."""
    rng, studies, seeds = np.random.default_rng(0), 2000, range(5, 11)
    looks = planned_looks(seeds, np.random.default_rng(1))
    bare, corrected, one_test, one_test_bare = [], [], [], []
    for _ in range(studies):
        metrics = null_study(rng, seeds[-1])
        p_values = [comparisons(metrics[:n]) for n in seeds]
        bare.append(any(holm(p).min() <= ALPHA for p in p_values))
        corrected.append(any(claims(metrics[:n], looks) for n in seeds))
        one_test.append(any(looks.corrected(p[:1])[0] <= ALPHA for p in p_values))
        one_test_bare.append(any(p[0] <= ALPHA for p in p_values))
    share, error, sentence = figure("false alarms at 6 looks, corrected, then Holm", corrected)
    assert share <= ALPHA + 3 * error, sentence
    share, error, sentence = figure("false alarms at 6 looks, Holm alone", bare)
    assert share - 3 * error > 1.5 * ALPHA, sentence
    share, error, sentence = figure("false alarms of one test at 6 looks, corrected", one_test)
    assert abs(share - ALPHA) <= 3 * error, sentence
    share, error, sentence = figure("false alarms of one test at 6 looks, bare", one_test_bare)
    assert share - 3 * error > 1.5 * ALPHA, sentence


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        ((5, 10), 0.068),
        (tuple(range(5, 11)), 0.079),
        ((3, 5, 10), 0.080),
        (tuple(range(2, 13)), 0.106),
    ],
)
def test_false_alarms_of_unplanned_looks_are_as_the_page_says(seeds, said, figure):
    differences = np.random.default_rng(3).standard_normal((100_000, seeds[-1]))
    planned, later = np.zeros((2, len(differences)), dtype=bool)
    whole = planned_looks(seeds, np.random.default_rng(1))
    for number, n in enumerate(seeds):
        p = stats.ttest_1samp(differences[:, :n], 0, axis=1).pvalue
        so_far = planned_looks(seeds[: number + 1], np.random.default_rng(1))
        planned |= whole.corrected(p) <= ALPHA
        later |= so_far.corrected(p) <= ALPHA
    share, error, sentence = figure(f"false alarms at planned looks {seeds}", planned)
    assert abs(share - ALPHA) <= 3 * error, sentence
    share, error, sentence = figure(f"false alarms at looks {seeds}, not planned", later)
    assert abs(share - said) <= 3 * error, sentence


@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize("margin", [0.5, 2.0, 10.0])
def test_recipes_that_differ_by_the_margin_are_rarely_called_equivalent(n, margin, figure):
    """The margin is in standard deviations; for a wide margin the error rate equals alpha."""
    rng = np.random.default_rng(n)
    differences = margin + rng.normal(size=(10_000, n))
    wrong = [
        PairedDifference(float(d.mean()), float(d.std(ddof=1)), n).p_equivalent(margin) <= ALPHA
        for d in differences
    ]
    share, error, sentence = figure(f"false equivalence at a margin of {margin}, n = {n}", wrong)
    assert share <= ALPHA + 3 * error, sentence
    if margin == 10.0:
        assert share >= ALPHA - 3 * error, sentence


def test_early_looks_rarely_call_recipes_equivalent_that_differ_by_the_margin(figure):
    """The correction is computed for two-sided p-values; for one-sided ones it is conservative."""
    rng, studies, seeds, margin = np.random.default_rng(0), 3000, range(5, 11), 10.0
    looks = planned_looks(seeds, np.random.default_rng(1))
    smallest = np.array(
        [
            min(paired_difference(d[:n], np.zeros(n)).p_equivalent(margin) for n in seeds)
            for d in margin + rng.normal(size=(studies, seeds[-1]))
        ]
    )
    share, error, sentence = figure("false equivalence at 6 looks, bare", smallest <= ALPHA)
    assert share - 3 * error > ALPHA, sentence
    share, error, sentence = figure(
        "false equivalence at 6 looks, corrected", looks.corrected(smallest) <= ALPHA
    )
    assert share <= ALPHA + 3 * error, sentence


# Power

STUDIES = 50_000


def found(difference, n, alpha):
    """Whether scipy's paired t test is significant in each study; standard deviation 1."""
    draws = np.random.default_rng(n).normal(difference, 1.0, size=(STUDIES, n))
    return stats.ttest_1samp(draws, 0.0, axis=1).pvalue <= alpha


@pytest.mark.parametrize("n", [2, 3, 5, 10])
@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_the_smallest_visible_difference_has_the_stated_power(n, alpha, figure):
    holds = found(smallest_visible(1.0, n, alpha), n, alpha)
    share, error, sentence = figure(f"power at the smallest visible, n = {n}, {alpha}", holds)
    assert abs(share - 0.8) <= 3 * error, sentence


@pytest.mark.parametrize("difference", [0.5, 1.0, 2.0, 5.0])
def test_needed_seeds_suffice_and_one_fewer_does_not(difference, figure):
    n = needed_seeds(difference, 1.0, ALPHA)
    share, error, sentence = figure(
        f"power for {difference} sd at the needed n = {n}", found(difference, n, ALPHA)
    )
    assert share >= 0.8 - 3 * error, sentence
    share, error, sentence = figure(
        f"power for {difference} sd at n = {n - 1}", found(difference, n - 1, ALPHA)
    )
    assert share < 0.8 + 3 * error, sentence


@pytest.mark.parametrize(("difference", "margin"), [(0.0, 1.0), (0.5, 1.5), (-0.2, 0.8)])
def test_needed_seeds_for_equivalence_suffice(difference, margin, figure):
    n = needed_seeds_for_equivalence(difference, 1.0, margin, ALPHA)
    draws = np.random.default_rng(n).normal(difference, 1.0, size=(10_000, n))
    holds = [
        PairedDifference(float(d.mean()), float(d.std(ddof=1)), n).p_equivalent(margin) <= ALPHA
        for d in draws
    ]
    share, error, sentence = figure(
        f"power of equivalence for {difference} sd, margin {margin} sd, at the needed n = {n}",
        holds,
    )
    assert share >= 0.8 - 3 * error, sentence
