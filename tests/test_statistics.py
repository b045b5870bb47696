"""Statistics against scipy, statsmodels, pingouin, published tables and closed forms."""

import itertools
import math
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired

from conftest import error_of
from isthmus.stats.corrections import holm, planned_looks
from isthmus.stats.means import SeedMean, rank_shares, seed_mean, variance_shares
from isthmus.stats.paired import (
    PairedDifference,
    image_difference,
    needed_seeds,
    needed_seeds_for_equivalence,
    paired_difference,
    smallest_visible,
)
from isthmus.stats.power_law import power_law

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # warnings raised by the import
    import pingouin


def pair(n, seed=0, shift=0.3):
    rng = np.random.default_rng(seed)
    common = rng.normal(size=n)
    return common + rng.normal(size=n) + shift, common + rng.normal(size=n)


finite = st.floats(-10, 10).map(lambda x: round(x, 6))


# Paired differences


@pytest.mark.parametrize("n", [2, 3, 5, 10, 40])
def test_p_value_and_interval_equal_scipy(n):
    a, b = pair(n)
    found, theirs = paired_difference(a, b), stats.ttest_rel(a, b)
    assert found.p_value == pytest.approx(theirs.pvalue, rel=1e-9)
    for level in (0.8, 0.95):
        assert found.interval(level) == pytest.approx(theirs.confidence_interval(level), rel=1e-9)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_p_value_and_interval_equal_pingouin(n):
    a, b = pair(n)
    found = paired_difference(a, b)
    theirs = pingouin.ttest(a, b, paired=True).iloc[0]
    interval = next(theirs[name] for name in ("CI95", "CI95%") if name in theirs)
    assert found.p_value == pytest.approx(theirs.filter(regex="^p.val").item(), rel=1e-9)
    assert found.interval() == pytest.approx(tuple(interval), abs=0.006)  # they round to 2 places


@pytest.mark.parametrize("n", [2, 3, 5, 10, 40])
@pytest.mark.parametrize("margin", [0.1, 0.5, 2.0])
def test_p_equivalent_equals_statsmodels_and_pingouin(n, margin):
    a, b = pair(n)
    ours = paired_difference(a, b).p_equivalent(margin)
    assert ours == pytest.approx(ttost_paired(a, b, -margin, margin)[0], rel=1e-9)
    theirs = pingouin.tost(a, b, bound=margin, paired=True).iloc[0]
    assert ours == pytest.approx(theirs.filter(regex="^p.?val").item(), rel=1e-9)


@pytest.mark.parametrize("n", [2, 5, 9])
def test_seed_mean_equals_scipy(n):
    metrics = pair(n)[0]
    theirs = stats.ttest_1samp(metrics, 0.0).confidence_interval()
    assert seed_mean(metrics).interval() == pytest.approx(theirs, rel=1e-9)


@given(st.lists(st.tuples(finite, finite), min_size=1, max_size=6), st.floats(0.01, 5))
@settings(max_examples=100, deadline=None)
def test_swapping_a_and_b_changes_only_the_sign(pairs, margin):
    a, b = np.array(pairs).T
    one, other = paired_difference(a, b), paired_difference(b, a)
    assert one.mean == -other.mean
    np.testing.assert_equal((one.sd, one.p_value), (other.sd, other.p_value))
    np.testing.assert_equal(one.p_equivalent(margin), other.p_equivalent(margin))
    assert one.interval() == tuple(-end for end in reversed(other.interval()))
    if one.n > 1:
        assert 0 <= one.p_value <= 1
        assert 0 <= one.p_equivalent(margin) <= 1
        assert one.interval()[0] <= one.mean <= one.interval()[1]


def test_one_seed_has_no_p_value_and_an_infinite_interval():
    found = paired_difference(np.array([3.0]), np.array([1.0]))
    assert (found.mean, found.n) == (2.0, 1)
    assert math.isnan(found.sd)
    assert math.isnan(found.p_value)
    assert math.isnan(found.p_equivalent(1.0))
    assert found.interval() == (-math.inf, math.inf)


def test_without_spread_p_values_are_zero_or_one():
    same, one_up = np.ones(3), np.full(3, 2.0)
    assert paired_difference(same, same).p_value == 1.0
    assert paired_difference(one_up, same).p_value == 0.0
    assert paired_difference(one_up, same).interval() == (1.0, 1.0)
    assert paired_difference(one_up, same).p_equivalent(2.0) == 0.0
    assert paired_difference(one_up, same).p_equivalent(1.0) == 1.0
    assert paired_difference(one_up, same).p_equivalent(0.5) == 1.0


def test_differences_of_rounding_error_count_as_zero():
    a = np.array([0.1 + 0.2, 0.3, 0.6])
    found = paired_difference(a, np.array([0.3, 0.1 + 0.2, 0.1 * 6]))
    assert (found.mean, found.sd, found.p_value) == (0.0, 0.0, 1.0)
    constant = paired_difference(np.array([0.4, 0.8, 0.7]), np.array([0.3, 0.7, 0.6]))
    assert constant.sd == 0.0
    assert constant.p_value == 0.0


def test_errors_of_differences():
    a = np.ones(3)
    assert error_of(lambda: paired_difference(a, a[:2])) == (
        "3 and 2 metrics: both recipes need the same seeds; exclude each seed that only one recipe has"
    )
    assert error_of(lambda: paired_difference(a, np.array([1.0, math.nan, math.inf]))) == (
        "2 of 3 metrics are not finite: statistics need finite numbers; exclude each seed with a missing "
        "metric from the whole comparison, and report the exclusion"
    )
    assert error_of(lambda: paired_difference(a[:0], a[:0])) == (
        "no seed has a metric: a mean needs at least one seed; run a seed"
    )
    assert error_of(lambda: SeedMean(0.0, 1.0, 3).interval(95.0)) == (
        "level is 95.0: it must lie between 0 and 1; write 5 % as 0.05"
    )
    assert error_of(lambda: PairedDifference(0.0, 1.0, 3).p_equivalent(0.0)) == (
        "the margin is 0.0: equivalence needs a finite margin above 0; set the largest difference that "
        "would not matter"
    )


# Sample sizes


@pytest.mark.parametrize("alpha", [0.05, 0.01])
@pytest.mark.parametrize("effect", [0.1, 0.5, 1.0, 2.0, 4.0])
def test_needed_seeds_reach_the_power_of_statsmodels_and_one_fewer_does_not(effect, alpha):
    n = needed_seeds(-3 * effect, 3.0, alpha, most=2000)
    power = TTestPower().power
    assert not power(effect, n, alpha) < 0.8 - 1e-9  # theirs may be NaN
    assert n == 2 or not power(effect, n - 1, alpha) > 0.8 + 1e-9


@pytest.mark.parametrize("n", [2, 3, 5, 10, 100])
@pytest.mark.parametrize("alpha", [0.05, 0.01])
@pytest.mark.parametrize("power", [0.5, 0.8, 0.95])
def test_smallest_visible_has_the_power_of_statsmodels(n, alpha, power):
    effect = smallest_visible(1.0, n, alpha, power)
    theirs = TTestPower().power(effect, n, alpha)
    assert math.isnan(theirs) or theirs == pytest.approx(power, abs=1e-8)
    assert smallest_visible(7.0, n, alpha, power) == pytest.approx(7 * effect)


@pytest.mark.parametrize("alpha", [0.05, 0.0005, 1e-6])
def test_two_seeds_equal_the_closed_form_where_statsmodels_is_nan(alpha):
    """The standard deviation of 2 seeds is half-normal, so the power is a one-dimensional integral."""
    effect, t = smallest_visible(1.0, 2, alpha), stats.t.isf(alpha / 2, 1)
    shift = effect * math.sqrt(2)
    spread = np.linspace(0, 9, 200_001)
    chance = stats.norm.cdf(shift - t * spread) + stats.norm.cdf(-shift - t * spread)
    power = np.trapezoid(chance * stats.halfnorm.pdf(spread), spread)
    assert power == pytest.approx(0.8, abs=1e-5)


def test_needed_seeds_of_extreme_effects():
    assert needed_seeds(1e9, 1.0, 0.05) == 2
    assert needed_seeds(1e9, 1.0, 1e-6) == 2
    assert needed_seeds(0.0, 1.0, 0.05) is None
    assert needed_seeds(0.01, 1.0, 0.05) is None
    assert needed_seeds(0.01, 1.0, 0.05, most=100_000) == pytest.approx(78_491, abs=2)
    assert needed_seeds(1.0, 0.0, 0.05) == 2
    assert needed_seeds(0.0, 0.0, 0.05) is None
    assert smallest_visible(1.0, 1, 0.05) == math.inf
    assert smallest_visible(0.0, 5, 0.05) == 0.0


def test_needed_seeds_for_equivalence_reach_the_power_and_one_fewer_does_not():
    rng = np.random.default_rng(0)
    for difference, margin in ((0.0, 1.0), (0.5, 1.5), (-0.2, 0.8)):
        n = needed_seeds_for_equivalence(difference, 1.0, margin, 0.05)
        shares = []
        for seeds in (n - 1, n):
            d = rng.normal(difference, 1.0, size=(200_000, seeds))
            reach = stats.t.isf(0.05, seeds - 1) * d.std(axis=1, ddof=1) / math.sqrt(seeds)
            shares.append((np.abs(d.mean(axis=1)) + reach < margin).mean())
        assert shares[0] < 0.8 + 0.003  # 3 standard errors
        assert shares[1] > 0.8 - 0.003


def test_needed_seeds_for_equivalence_of_extreme_effects():
    assert needed_seeds_for_equivalence(1.0, 1.0, 1.0, 0.05) is None
    assert needed_seeds_for_equivalence(0.99, 1.0, 1.0, 0.05) is None
    assert needed_seeds_for_equivalence(0.0, 0.0, 1.0, 0.05) == 2
    assert needed_seeds_for_equivalence(0.0, 1e-9, 1.0, 0.05) == 2


def test_errors_of_plans():
    assert error_of(lambda: needed_seeds(1.0, math.nan, 0.05)) == (
        "the standard deviation is nan: it must be finite and 0 or more; estimate it from two seeds "
        "or more"
    )
    assert "alpha is 5.0:" in error_of(lambda: needed_seeds(1.0, 1.0, 5.0))
    assert "power is 1.0:" in error_of(lambda: smallest_visible(1.0, 5, 0.05, power=1.0))
    assert error_of(lambda: smallest_visible(1.0, 5, 0.5, power=0.4)) == (
        "power 0.4 is not above alpha 0.5: any test reaches a power of alpha by chance; set a higher "
        "power, such as 0.8"
    )


# Corrections for families and looks


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.integers(0, 3))
@settings(max_examples=50, deadline=None)
def test_holm_equals_statsmodels_and_pingouin_and_skips_nan(p_values, missing):
    p = np.array(p_values)
    padded = np.concatenate([np.full(missing, np.nan), p])
    adjusted = holm(padded)
    assert np.isnan(adjusted[:missing]).all()
    np.testing.assert_array_equal(adjusted[missing:], multipletests(p, method="holm")[1])
    np.testing.assert_allclose(adjusted[missing:], pingouin.multicomp(p, method="holm")[1])


def test_holm_of_no_tests_and_of_a_wrong_p_value():
    assert holm(np.array([])).shape == (0,)
    assert np.isnan(holm(np.array([np.nan]))).all()
    assert error_of(lambda: holm(np.array([0.5, 1.5]))) == (
        "a p-value is 1.5: p-values lie in [0, 1]; use NaN for a test that has none"
    )


@pytest.mark.parametrize(
    ("looks", "published"), [(2, 0.0294), (3, 0.0221), (4, 0.0182), (5, 0.0158), (10, 0.0106)]
)
def test_nominal_alpha_of_large_samples_equals_pocock(looks, published):
    """Pocock 1977, table 1, assumes a known variance; 1000 seeds per look come close to that."""
    planned = planned_looks(range(1000, 1000 * looks + 1, 1000), np.random.default_rng(0))
    assert planned.nominal_alpha(0.05) == pytest.approx(published, abs=0.0006)


def test_corrected_equals_complete_studies_simulated_with_scipy():
    seeds, studies, draws = (5, 6, 8, 10), 200_000, 200_000
    differences = np.random.default_rng(1).normal(size=(studies, seeds[-1]))
    smallest = np.min(
        [stats.ttest_1samp(differences[:, :n], 0.0, axis=1).pvalue for n in seeds], axis=0
    )
    p = np.array([0.001, 0.01, 0.02, 0.05, 0.3])
    whole = (smallest[:, None] <= p).mean(axis=0)
    error = np.sqrt(whole * (1 - whole) * (1 / studies + 1 / draws))
    ours = planned_looks(seeds, np.random.default_rng(0), draws).corrected(p)
    assert (np.abs(ours - whole) < 4 * error).all(), (ours, whole)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20))
@settings(max_examples=100, deadline=None)
def test_corrected_increases_and_lies_between_p_and_the_union_bound(p_values):
    p = np.sort(p_values)
    corrected = LOOKS.corrected(p)
    assert (np.diff(corrected) >= 0).all()
    assert (corrected >= p).all()
    assert (corrected <= np.minimum(1, 3 * p)).all()


LOOKS = planned_looks([5, 7, 10], np.random.default_rng(0), draws=20_000)


def test_nominal_alpha_is_the_largest_p_that_stays_significant():
    for alpha in (0.05, 0.01, 1e-6):
        nominal = LOOKS.nominal_alpha(alpha)
        assert alpha / 3 <= nominal <= alpha
        assert LOOKS.corrected(np.array([nominal]))[0] <= alpha
        assert LOOKS.corrected(np.array([nominal * 1.01 + 1e-12]))[0] > alpha * 0.999


def test_one_look_needs_no_correction():
    one = planned_looks([5], np.random.default_rng(0))
    p = np.array([0.0, 1e-9, 0.03, 1.0, np.nan])
    np.testing.assert_array_equal(one.corrected(p), p)
    assert one.nominal_alpha(0.05) == 0.05


def test_nan_stays_nan_after_the_correction_for_looks():
    corrected = LOOKS.corrected(np.array([np.nan, 0.0, 1.0]))
    np.testing.assert_array_equal(corrected, [np.nan, 0.0, 1.0])


def test_looks_depend_only_on_their_generator():
    again = planned_looks([5, 7, 10], np.random.default_rng(0), draws=20_000)
    assert again == LOOKS
    np.testing.assert_array_equal(again.minima, LOOKS.minima)


@pytest.mark.parametrize("seeds", [[], [1, 2], [5, 5], [10, 5]])
def test_looks_out_of_order_are_rejected(seeds):
    assert error_of(lambda: planned_looks(seeds, np.random.default_rng(0))) == (
        f"looks at {seeds} seeds: the numbers must increase and start at 2 or more; list each planned "
        "look once, in order"
    )


# Shares of variance


def test_variance_shares_equal_anova():
    rng = np.random.default_rng(0)
    shape = (3, 4, 2, 2, 3)
    metrics = rng.normal(size=shape)
    for axis in range(5):
        line = [1] * 5
        line[axis] = shape[axis]
        metrics = metrics + rng.normal(size=shape[axis]).reshape(line)
    metrics[:, :, 1, 1] += 2.0
    names = ["seed", "image", "down", "up", "loss"]
    cells = list(itertools.product(*(range(size) for size in shape)))
    table = pd.DataFrame(cells, columns=names).assign(metric=metrics.ravel())
    fit = ols("metric ~ C(seed) + C(image) + C(down) * C(up) * C(loss)", data=table).fit()
    squares = anova_lm(fit, typ=2)["sum_sq"]
    squares = squares / squares.sum()
    ours = variance_shares(metrics, names[2:])
    for name in names:
        assert ours[name] == pytest.approx(squares[f"C({name})"], rel=1e-8)
    assert ours["rest"] == pytest.approx(squares["Residual"], rel=1e-8)
    interactions = squares[[row for row in squares.index if ":" in row]].sum()
    assert ours["interactions"] == pytest.approx(interactions, rel=1e-8)
    assert sum(ours.values()) == pytest.approx(1.0, abs=1e-12)


def test_variance_shares_of_tables_with_one_source_of_variance():
    table = np.zeros((2, 3, 2, 2))
    table[..., 0, 0] = table[..., 1, 1] = 1.0
    shares = variance_shares(table, ["a", "b"])
    assert shares["interactions"] == pytest.approx(1.0)
    assert min(shares.values()) >= 0
    no_factor = variance_shares(np.array([[0.0, 1.0], [0.0, 1.0]]), [])
    assert no_factor == {"interactions": 0.0, "seed": 0.0, "image": 1.0, "rest": 0.0}


def test_errors_of_variance_shares():
    flat = np.full((2, 2, 2), 0.1)
    assert error_of(lambda: variance_shares(flat, ["a"])) == (
        "all metrics are equal: there is no variance to decompose; leave this metric out"
    )
    assert error_of(lambda: variance_shares(flat, ["a", "b"])) == (
        "2 factor names for 1 axes of levels: each axis is one factor; give one name per axis"
    )
    assert error_of(lambda: variance_shares(flat, ["seed"])) == (
        "factors ['seed']: names must be unique and none of interactions, seed, image, rest; "
        "rename a factor"
    )
    assert "not finite" in error_of(lambda: variance_shares(flat * np.nan, ["a"]))


# Ranks of variants


def test_rank_shares_equal_all_resamples_of_three_seeds():
    metrics = np.array([[0.9, 0.8, 0.1], [0.2, 0.7, 0.1], [0.6, 0.5, 0.1]])
    expected = np.zeros((3, 3))
    for seeds in itertools.product(range(3), repeat=3):
        ranks = stats.rankdata(-metrics[list(seeds)].mean(axis=0).round(9))
        for variant, rank in enumerate(ranks):
            tied = np.flatnonzero(ranks == rank)
            first = int(rank - (len(tied) - 1) / 2) - 1
            expected[variant, first : first + len(tied)] += 1 / 27 / len(tied)
    ours = rank_shares(metrics, np.random.default_rng(0), higher_is_better=True, draws=100_000)
    np.testing.assert_allclose(ours, expected, atol=0.006)  # 4 standard errors
    assert ours.sum(axis=0) == pytest.approx(1.0)
    assert ours.sum(axis=1) == pytest.approx(1.0)


def test_reversing_the_direction_of_a_metric_reverses_the_ranks():
    metrics = np.random.default_rng(0).normal(size=(5, 4))
    up = rank_shares(metrics, np.random.default_rng(1), higher_is_better=True)
    down = rank_shares(metrics, np.random.default_rng(1), higher_is_better=False)
    np.testing.assert_allclose(up, down[:, ::-1])


def test_variants_that_tie_share_their_ranks():
    metrics = np.tile(np.random.default_rng(0).normal(size=(5, 1)), 2)
    metrics[:, 1] = metrics[:, 1] + 1e-16
    shares = rank_shares(
        np.c_[metrics, metrics[:, 0] - 9], np.random.default_rng(0), higher_is_better=True
    )
    np.testing.assert_array_equal(shares, [[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]])
    zeros = rank_shares(np.zeros((2, 2)), np.random.default_rng(0), higher_is_better=True)
    assert (zeros == 0.5).all()


def test_ranks_of_one_seed_are_rejected():
    one = np.ones((1, 2))
    assert error_of(lambda: rank_shares(one, np.random.default_rng(0), higher_is_better=True)) == (
        "10000 draws of 1 seeds of 2 variants: resampling needs at least 1 draw, 2 seeds and "
        "1 variant; run more seeds"
    )


# Two networks on the same images


def test_image_interval_of_many_images_is_close_to_the_t_interval():
    a, b = pair(2000)
    ours = image_difference(a, b, np.random.default_rng(0))
    low, high = stats.ttest_rel(a, b).confidence_interval()
    assert (ours.mean, ours.n) == (pytest.approx((a - b).mean()), 2000)
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.04 * (high - low))


def test_image_interval_is_asymmetric_for_skewed_differences():
    a = np.random.default_rng(0).exponential(size=60)
    ours = image_difference(a, np.zeros(60), np.random.default_rng(0))
    assert ours.high - ours.mean > ours.mean - ours.low


def test_image_interval_of_equal_differences_has_no_width():
    ours = image_difference(
        np.array([0.4, 0.8, 0.7]), np.array([0.3, 0.7, 0.6]), np.random.default_rng(0)
    )
    assert ours.low == ours.mean == ours.high == pytest.approx(0.1)


def test_errors_of_images():
    rng, a = np.random.default_rng(0), np.ones(3)
    sentence = (
        "3 and 2 metrics: both networks need the same images, at least 2; exclude each image that only "
        "one network has"
    )
    assert error_of(lambda: image_difference(a, a[:2], rng)) == sentence
    assert "1 and 1 metrics" in error_of(lambda: image_difference(a[:1], a[:1], rng))
    assert "not finite" in error_of(lambda: image_difference(a, a * np.nan, rng))


# Learning curves

SIZES = np.array([50, 100, 200, 400, 800])


@given(
    st.floats(-1, 1),
    st.floats(0.1, 10) | st.floats(-10, -0.1),
    st.floats(0.05, 2.0),
    st.integers(3, 5),
)
@settings(max_examples=40, deadline=None)
def test_exact_power_laws_are_found(limit, gap, exponent, count):
    sizes = SIZES[:count]
    exact = limit - gap * (sizes / 50) ** -exponent
    law = power_law(np.stack([exact, exact + 1]), sizes)
    np.testing.assert_allclose(law.exponent, exponent, rtol=1e-3)
    np.testing.assert_allclose(law.limit, [limit, limit + 1], atol=abs(gap) * 1e-2)
    truth = limit - gap * (1600 / 50) ** -exponent
    np.testing.assert_allclose(law.metric(1600), [truth, truth + 1], atol=abs(gap) * 1e-3)
    gained = law.gained(100, 800)
    assert gained.mean == pytest.approx(gap * (2**-exponent - 16**-exponent), abs=abs(gap) * 1e-3)
    assert gained.n == 2


def test_a_fit_to_noisy_metrics_has_smaller_residuals_than_the_true_law():
    rng = np.random.default_rng(0)
    metrics = 0.9 - 2 * SIZES**-0.5 + 0.01 * rng.normal(size=(20, 5))
    law = power_law(metrics, SIZES)
    fitted = np.stack([law.metric(int(n)) for n in SIZES], axis=1)
    squares = ((fitted - metrics) ** 2).sum(axis=1)
    assert (squares <= ((0.9 - 2 * SIZES**-0.5 - metrics) ** 2).sum(axis=1)).all()
    assert law.predicted(400).mean == pytest.approx(0.8, abs=0.01)
    assert ((law.exponent >= 0.01) & (law.exponent <= 2.0)).all()


def test_a_flat_curve_gains_nothing():
    law = power_law(np.full((3, 5), 0.7), SIZES)
    assert law.gained(50, 1600) == PairedDifference(0.0, 0.0, 3)
    assert law.predicted(1600).mean == pytest.approx(0.7)


def test_intervals_of_the_law_are_t_intervals_across_seeds():
    metrics = 0.9 - np.array([[1.0], [2.0], [3.0]]) * SIZES**-0.5
    law = power_law(metrics, SIZES)
    theirs = stats.ttest_1samp(law.metric(200), 0.0).confidence_interval()
    assert law.predicted(200).interval() == pytest.approx(theirs)
    theirs = stats.ttest_rel(law.metric(800), law.metric(50)).confidence_interval()
    assert law.gained(50, 800).interval() == pytest.approx(theirs)


def test_errors_of_learning_curves():
    assert error_of(lambda: power_law(np.ones((2, 3)), np.array([50, 50, 100]))) == (
        "sizes [50, 50, 100]: a learning curve needs at least 3 different sizes, all above 0; train "
        "on another number of images"
    )
    assert "not finite" in error_of(lambda: power_law(np.full((2, 5), np.nan), SIZES))
    assert "run at least one seed" in error_of(lambda: power_law(np.ones((0, 5)), SIZES))
    law = power_law(np.ones((2, 5)), SIZES)
    assert error_of(lambda: law.metric(0)) == (
        "0 training images: at least 1 is needed; pass a larger number"
    )
