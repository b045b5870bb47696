"""Verdicts on synthetic studies whose truth is known, against other libraries where they do the same."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from scipy.stats import bootstrap
from statsmodels.stats.anova import AnovaRM
from statsmodels.stats.multitest import multipletests

import isthmus.study.verdicts
from isthmus.errors import UserError
from isthmus.metrics.metric import Metric
from isthmus.stats.corrections import planned_looks
from isthmus.study.analysis import analyse, image_differences, learning_curves
from isthmus.study.comparisons import Comparison, comparisons_of
from isthmus.study.differences import found_in, is_complete
from isthmus.study.plan import StudyPlan, Variant, metrics_of
from isthmus.study.power import Visible, visible_differences
from isthmus.study.records import AnalysisRecord, Verdict
from isthmus.study.study_folder import StudyFolder
from isthmus.study.verdicts import verdicts_on
from isthmus.tasks.generate.recipe import VAE, GenerateRecipe
from isthmus.tasks.segment.recipe import SegmentRecipe

IOU = Metric("mean_iou", True, "")
NLL = Metric("nll_nats", False, "")
LEVELS = {
    "down": ["pool", "strided"],
    "up": ["transposed", "bilinear"],
    "loss": ["bce", "dice", "mix"],
}
VARIANTS = {
    "_".join(setting): dict(zip(LEVELS, setting, strict=True))
    for setting in itertools.product(*LEVELS.values())
}


def results(
    seeds: int, effects: dict[str, float], noise: float = 0.01, entropy: int = 0
) -> pd.DataFrame:
    """A row a run; an effect belongs to every variant that has the level."""
    rng = np.random.default_rng(entropy)
    rows = []
    for seed in range(seeds):
        of_seed = rng.normal(0, 0.05)
        for variant, levels in VARIANTS.items():
            metric = 0.6 + of_seed + rng.normal(0, noise)
            metric += sum(effects.get(level, 0.0) for level in levels.values())
            rows.append(
                {"variant": variant, "seed": seed, "status": "finished", "mean_iou": metric}
            )
    table = pd.DataFrame(rows)
    return table.assign(nll_nats=100 - table["mean_iou"])


def verdicts(
    table: pd.DataFrame,
    margins: dict[str, float] | None = None,
    looks: list[int] | None = None,
    metrics: tuple[Metric, ...] = (IOU,),
    *,
    with_pairs: bool = False,
) -> pd.DataFrame:
    seeds = max(2, table["seed"].nunique())
    planned = planned_looks(looks or [seeds], np.random.default_rng(0))
    comparisons = [c for c in comparisons_of(VARIANTS) if with_pairs or c.kind != "pair"]
    found = found_in(table, comparisons, metrics)
    return table_of(verdicts_on(found, margins or {}, planned, is_complete=is_complete(table)))


def table_of(found: tuple[Verdict, ...]) -> pd.DataFrame:
    """A row a verdict, as verdicts.csv has them."""
    return pd.DataFrame([verdict.model_dump() for verdict in found])


def row_of(table: pd.DataFrame, factor: str, a: str, metric: str = "mean_iou") -> pd.Series:
    rows = table[(table["factor"] == factor) & (table["a"] == a) & (table["metric"] == metric)]
    return rows.iloc[0]


def test_a_factorial_is_compared_where_one_thing_differs():
    found = comparisons_of(VARIANTS)
    assert Counter(c.kind for c in found) == {"factor": 5, "interaction": 7, "pair": 66}
    for comparison in found:
        if comparison.kind == "factor":
            for a, b in comparison.groups:
                differing = {k for k in LEVELS if VARIANTS[a][k] != VARIANTS[b][k]}
                assert differing == {comparison.factor}
                assert VARIANTS[a][comparison.factor] == comparison.a
        if comparison.kind == "interaction":
            for group in comparison.groups:
                assert len(set(group)) == 4
    down = next(c for c in found if c.factor == "down")
    assert len(down.groups) == 6, "every setting of the other factors"


def test_a_field_that_another_determines_is_no_factor_of_its_own():
    variants = {
        "plain": {"penalty": "none", "weight": None, "where": "both"},
        "plain_read": {"penalty": "none", "weight": None, "where": "classifier"},
        "hsic": {"penalty": "hsic", "weight": 3.0, "where": "both"},
        "hsic_read": {"penalty": "hsic", "weight": 3.0, "where": "classifier"},
    }
    factors = [c for c in comparisons_of(variants) if c.kind == "factor"]
    assert [(c.factor, c.a, c.b, len(c.groups)) for c in factors] == [
        ("penalty (with weight)", "hsic", "none", 2),
        ("where", "classifier", "both", 2),
    ]


def test_a_stray_failure_does_not_hide_what_other_pairs_say():
    """One variant always fails, two others once: seeds that have the rest are compared."""
    table = results(5, {"strided": 0.1}, noise=0.001)
    dead = table["variant"] == "strided_transposed_bce"
    once = table["variant"].isin(("pool_bilinear_dice", "pool_bilinear_mix")) & (table["seed"] == 0)
    others = ("strided_transposed_bce", "pool_transposed_bce", "pool_bilinear_dice")
    others = (*others, "strided_bilinear_dice", "pool_bilinear_mix", "strided_bilinear_mix")
    failed = table.assign(status=np.where(dead | once, "failed", "finished"))
    compared = comparisons_of({variant: VARIANTS[variant] for variant in others})
    down = next(of for of in found_in(failed, compared, (IOU,)) if of.comparison.factor == "down")
    assert down.difference is not None
    assert (down.difference.n, len(down.groups)) == (4, 2)
    assert abs(down.difference.mean) == pytest.approx(0.1, abs=0.01)


def test_what_differs_in_two_fields_everywhere_has_pairs_only():
    variants = {"a": {"down": "pool", "loss": "bce"}, "b": {"down": "strided", "loss": "dice"}}
    kinds = {c.kind: c.factor for c in comparisons_of(variants)}
    assert kinds == {"factor": "down (with loss)", "pair": ""}, "confounded, and it says with what"


def test_a_factors_effect_is_the_paired_t_test_of_seed_means():
    table = results(5, {"strided": 0.01})
    by_seed = table.assign(down=[VARIANTS[v]["down"] for v in table["variant"]])
    means = by_seed.pivot_table(index="seed", columns="down", values="mean_iou")
    truth = scipy.stats.ttest_rel(means["strided"], means["pool"])
    row = row_of(verdicts(table), "down", "strided")
    assert row["p"] == pytest.approx(truth.pvalue)
    low, high = truth.confidence_interval(0.95)
    assert (row["low"], row["high"]) == (pytest.approx(low), pytest.approx(high))
    assert row["n"] == 5
    assert row["mean_a"] - row["mean_b"] == pytest.approx(row["difference"])


def test_effects_of_two_levels_equal_statsmodels_repeated_measures():
    table = results(6, {"strided": 0.01}, entropy=3)
    table = table.assign(**{k: [VARIANTS[v][k] for v in table["variant"]] for k in LEVELS})
    truth = AnovaRM(table, "mean_iou", "seed", within=list(LEVELS)).fit().anova_table
    ours = verdicts(table)
    down = row_of(ours, "down", "strided")
    both = row_of(ours, "down x up", "strided - pool")
    for row, name in ((down, "down"), (both, "down:up")):
        t_squared = row["difference"] ** 2 / (row["sd"] ** 2 / row["n"])
        assert t_squared == pytest.approx(truth.loc[name, "F Value"])
        assert row["p"] == pytest.approx(truth.loc[name, "Pr > F"])


def test_the_family_is_holms_of_statsmodels():
    ours = verdicts(results(5, {"strided": 0.01}))
    for _, family in ours.groupby("kind"):
        truth = multipletests(family["p"], method="holm")[1]
        np.testing.assert_allclose(family["p_family"], truth)


def test_a_study_claims_only_what_stands_the_correction_over_its_kinds_too(monkeypatch):
    """Between a twentieth and a twentieth over three kinds, a factor by itself is not enough."""
    monkeypatch.setattr(isthmus.study.verdicts, "_needs", lambda *_: None)  # for time
    seen = set()
    for entropy in range(6):
        ours = verdicts(results(5, {"strided": 0.008}, entropy=entropy), with_pairs=True)
        least, kinds = ours["p_family"].min(), ours["kind"].nunique()
        is_claimed = (ours["verdict"] != "cannot tell").any()
        assert is_claimed == (kinds * least < 0.05)
        assert ((ours["p_study"] < 0.05) == (ours["verdict"] != "cannot tell")).all()
        seen.add((bool(least < 0.05), bool(is_claimed)))
    assert seen == {(False, False), (True, False), (True, True)}


def test_a_factor_of_two_variants_is_one_family_with_their_pair():
    table = results(5, {"strided": 0.006})
    two = table[table["variant"].isin(("pool_bilinear_dice", "strided_bilinear_dice"))]
    settings = {name: {"down": name.split("_")[0]} for name in two["variant"].unique()}
    found = found_in(two, comparisons_of(settings), (IOU,))
    looks = planned_looks([5], np.random.default_rng(0))
    drawn = table_of(verdicts_on(found, {}, looks, is_complete=True))
    assert list(drawn["kind"]) == ["factor", "pair"]
    np.testing.assert_allclose(drawn["p_study"], drawn["p"])


def test_large_effects_have_a_direction_and_small_ones_cannot_be_told():
    ours = verdicts(results(5, {"strided": 0.03, "mix": -0.03}))
    assert row_of(ours, "down", "strided")["verdict"] == "better"
    assert row_of(ours, "loss", "mix")["verdict"] == "worse"
    up = row_of(ours, "up", "bilinear")
    assert up["verdict"] == "cannot tell"
    assert "Cannot tell bilinear from transposed (up): mean IoU " in up["sentence"]
    assert re.search(r" seeds would be (enough|needed)\.$", up["sentence"])


def test_for_a_metric_that_should_be_low_better_is_less():
    ours = verdicts(results(5, {"strided": 0.03}), metrics=(IOU, NLL))
    row = row_of(ours, "down", "strided", "nll_nats")
    assert row["difference"] < 0
    assert row["verdict"] == "better"
    assert row["sentence"].startswith("strided is better than pool (down): NLL nats -0.0")


def test_equivalent_within_the_margin_that_was_named():
    ours = verdicts(results(5, {"strided": 0.004}, noise=0.001), margins={"mean_iou": 0.02})
    row = row_of(ours, "down", "strided")
    assert row["p"] < 0.01, "there is a difference"
    assert row["verdict"] == "equivalent", "and it makes none"
    assert "are equivalent within 0.02: mean IoU +0.00" in row["sentence"]
    assert verdicts(results(5, {"strided": 0.004}, noise=0.001))["p_equivalent"].isna().all()


def test_an_interaction_says_that_it_depends():
    table = results(5, {}, noise=0.001)
    helped = table["variant"].str.startswith("strided_bilinear")
    table.loc[helped, "mean_iou"] += 0.05
    row = row_of(verdicts(table), "down x up", "strided - pool")
    assert row["verdict"] == "interacts"
    assert row["difference"] == pytest.approx(0.05, abs=0.005)
    assert row["sentence"].startswith("What strided - pool does depends on bilinear - transposed")


def test_an_interaction_within_the_margin_says_that_it_hardly_depends():
    ours = verdicts(results(5, {"strided": 0.1}, noise=0.001), margins={"mean_iou": 0.02})
    row = row_of(ours, "down x up", "strided - pool")
    assert row["verdict"] == "equivalent"
    assert row["sentence"].startswith(
        "What strided - pool does depends by less than 0.02 on bilinear - transposed (down x up): "
    )


def test_seeds_that_all_say_the_same_are_no_proof():
    """Two seeds with one difference have a spread of 0 and would be certain of anything."""
    table = results(2, {}).assign(
        mean_iou=[0.9 if "strided" in v else 0.8 for v in results(2, {})["variant"]]
    )
    row = row_of(verdicts(table, margins={"mean_iou": 0.5}), "down", "strided")
    assert row["difference"] == pytest.approx(0.1)
    assert row["verdict"] == "cannot tell"
    assert row[["p", "low", "p_equivalent", "needs_seeds"]].isna().all()
    assert row["sentence"].endswith(
        "all seeds have the same difference, so their standard deviation is not known."
    )


def test_one_seed_tells_nothing():
    ours = verdicts(results(1, {"strided": 0.3}))
    assert set(ours["verdict"]) == {"cannot tell"}
    assert ours[["low", "high", "p", "needs_seeds"]].isna().all().all()
    assert ours["sentence"].str.endswith("one seed has no standard deviation.").all()


@pytest.mark.parametrize("status", ["missing", "broken off"])
def test_nothing_is_claimed_before_every_run_is_done(status: str):
    table = results(5, {"strided": 0.03})
    table.loc[0, "status"] = status
    ours = verdicts(table)
    assert set(ours["verdict"]) == {"cannot tell"}
    assert ours["sentence"].str.startswith("No verdict before all runs are done.").sum() == len(
        ours
    )
    row = row_of(ours, "down", "strided")
    assert row["n"] == 4, "the seed that lacks a run is left out"
    assert row[["p", "p_family"]].isna().all(), "which would be a look"


def test_a_verdict_names_the_variants_that_it_rests_on():
    table = results(5, {"strided": 0.03})
    table.loc[(table["variant"] == "strided_bilinear_dice"), "status"] = "failed"
    row = row_of(verdicts(table), "down", "strided")
    groups = row["groups"].split("; ")
    assert len(groups) == row["matched"] == 5
    assert "strided_bilinear_bce pool_bilinear_bce" in groups
    assert not any("bilinear_dice" in group for group in groups)
    assert row["sentence"].endswith(", 5 seeds, 5 pairs of variants.")


def test_fields_that_follow_from_one_another_are_all_named():
    """Epochs follow from the rate and the rate from the width, whatever was mentioned first."""
    keys = ("epochs", "lr", "width")
    levels = [(1, 1, 8), (1, 1, 12), (1, 2, 16), (2, 3, 32), (2, 3, 64)]
    for order in itertools.permutations(keys):
        variants = {
            str(of[2]): {key: dict(zip(keys, of, strict=True))[key] for key in order}
            for of in levels
        }
        factor, *others = {c.factor for c in comparisons_of(variants) if c.kind == "factor"}
        assert not others
        assert factor.startswith("width (with ")
        assert set(factor.removeprefix("width (with ").rstrip(")").split(", ")) == {"epochs", "lr"}


def test_a_failed_run_takes_its_matched_pair_out_of_every_seed():
    table = results(5, {"strided": 0.03})
    broken = "strided_bilinear_dice"
    table.loc[(table["variant"] == broken) & (table["seed"] == 2), "status"] = "failed"
    ours = verdicts(table, with_pairs=True)
    row = row_of(ours, "down", "strided")
    assert (row["matched"], row["n"]) == (5, 5)
    kept = table[~table["variant"].str.endswith("bilinear_dice")]
    kept = kept.assign(down=[VARIANTS[v]["down"] for v in kept["variant"]])
    means = kept.pivot_table(index="seed", columns="down", values="mean_iou")
    assert row["difference"] == pytest.approx((means["strided"] - means["pool"]).mean())
    pair = ours[(ours["kind"] == "pair") & (ours["b"] == broken)].iloc[0]
    assert pair["n"] == 4, "a pair has no other group, so it loses the seed"


def test_looking_five_times_makes_intervals_wider_and_claims_fewer():
    table = results(6, {"strided": 0.008}, entropy=1)
    once, often = verdicts(table), verdicts(table, looks=[2, 3, 4, 5, 6])
    assert (often["p_family"] >= once["p_family"]).all()
    assert ((often["high"] - often["low"]) > (once["high"] - once["low"])).all()


def test_the_first_of_a_family_agrees_with_its_simultaneous_interval():
    """Which is where Holm's correction is Bonferroni's."""
    seen = set()
    for entropy in range(12):
        ours = verdicts(results(5, {"strided": 0.006}, entropy=entropy))
        first = ours.loc[ours[ours["kind"] == "factor"]["p"].idxmin()]
        excludes_zero = first["family_low"] > 0 or first["family_high"] < 0
        assert excludes_zero == (first["p_family"] < 0.05)
        seen.add(bool(excludes_zero))
    assert seen == {True, False}


@pytest.fixture
def plan() -> StudyPlan:
    keys = {"down": "model.down", "up": "model.up", "loss": "loss.name"}
    names = {"pool": "max-pool", "mix": "bce+dice"}
    variants = tuple(
        Variant(name=name, settings={keys[k]: names.get(v, v) for k, v in of.items()})
        for name, of in VARIANTS.items()
    )
    return StudyPlan(name="x", recipe=SegmentRecipe(), seeds=tuple(range(5)), variants=variants)


@pytest.mark.parametrize(
    ("where", "metrics"),
    [
        ("both", ["swap_encoded_wrong", "swap_encoded_true", "nll_nats"]),
        ("classifier", ["swap_encoded_true", "nll_nats"]),
    ],
)
def test_where_an_encoder_is_conditioned_the_harder_protocol_is_primary(where, metrics):
    variants = tuple(
        Variant(name=of, settings={"model.condition_on": of}) for of in (where, "none")
    )
    vaes = StudyPlan(name="x", recipe=GenerateRecipe(), variants=variants)
    assert [metric.name for metric in metrics_of(vaes)] == metrics


def test_images_as_the_unit_are_those_of_all_seeds_against_the_best_mean():
    random = np.random.default_rng(0)
    images = {"a": random.normal(0.5, 0.1, 40), "b": random.normal(0.6, 0.1, 40)}
    runs = [(variant, seed) for variant in images for seed in (0, 1)]
    per_image = pd.DataFrame(
        {"variant": v, "seed": s, "image": f"p{i}", "mean_iou": metric + (s - 0.5) / 10}
        for v, s in runs
        for i, metric in enumerate(images[v])
    )
    results = pd.DataFrame(runs, columns=["variant", "seed"]).assign(
        status="finished", mean_iou=[0.5, 0.5, 0.6, 0.6]
    )
    metric, draws = Metric("mean_iou", True, ""), 2_000
    table = image_differences(results, per_image, metric)
    (row,) = table.to_dict("records")
    assert (row["a"], row["b"], row["n"]) == ("b", "a", 40)
    differences = images["b"] - images["a"]
    assert row["difference"] == pytest.approx(differences.mean())
    known = bootstrap((differences,), np.mean, n_resamples=draws, rng=np.random.default_rng(1))
    ends = known.confidence_interval
    assert [row["low"], row["high"]] == pytest.approx([ends.low, ends.high], abs=0.005)
    fewer = results.assign(status=["finished", "finished", "failed", "failed"])
    assert image_differences(fewer, per_image, metric).empty


def test_metrics_that_no_verdict_can_speak_of_are_rejected():
    likelihoods = tuple(
        Variant(name=name, settings={"objective.likelihood": name})
        for name in ("bernoulli-dynamic", "bernoulli-threshold")
    )
    vaes = StudyPlan(name="x", recipe=GenerateRecipe(), variants=likelihoods)
    assert [metric.name for metric in metrics_of(vaes)] == ["swap_encoded_true"]
    with pytest.raises(
        UserError,
        match=r"nll_nats has different meanings for different likelihoods, so it gets no verdict",
    ):
        metrics_of(dataclasses.replace(vaes, metrics=("nll_nats",)))
    with pytest.raises(UserError, match=r"cas is not measured without measure\.cas_images: set it"):
        metrics_of(dataclasses.replace(vaes, metrics=("cas",)))
    with pytest.raises(UserError, match=r"study\.margins: nll_nats has different meanings"):
        metrics_of(dataclasses.replace(vaes, margins={"nll_nats": 0.5}))
    unhidden = GenerateRecipe(model=VAE(label_dropout=0.0))
    with pytest.raises(
        UserError, match=r"elbo_unconditional_nats is not measured without label dropout"
    ):
        metrics_of(
            StudyPlan(
                name="x",
                recipe=unhidden,
                variants=(likelihoods[0],),
                metrics=("elbo_unconditional_nats",),
            )
        )


def test_the_tables_of_a_study(plan: StudyPlan, tmp_path: Path):
    table = results(5, {"strided": 0.03})
    images = pd.DataFrame({"image": [f"p{i}" for i in range(4)], "hard": [0.0, 0.1, 0.2, 0.3]})
    per_image = table.merge(images, how="cross")
    per_image["mean_iou"] -= per_image["hard"]
    said = analyse(plan, StudyFolder(tmp_path), table, per_image)
    assert said == AnalysisRecord(
        alpha=0.05,
        looks=(5,),
        family={"factor": 5, "interaction": 7, "pair": 66},
        metrics=("mean_iou",),
    )
    variance = pd.read_csv(tmp_path / "variance.csv").set_index("source")["share"]
    assert list(variance.index) == [
        *("model.down", "model.up", "loss.name"),
        *("interactions", "seed", "image", "rest"),
    ]
    assert variance.sum() == pytest.approx(1)
    assert variance["image"] > variance["seed"] > variance["rest"]
    ranks = pd.read_csv(tmp_path / "ranks.csv")
    best = ranks[ranks["rank"] == 1].set_index("variant")["share"]
    assert best.sum() == pytest.approx(1)
    assert best[best.index.str.startswith("strided")].sum() > 0.99
    assert len(pd.read_csv(tmp_path / "verdicts.csv")) == 78
    gone = (per_image["image"] == "p0") & (per_image["seed"] == 0)
    gone |= (per_image["image"] == "p3") & (per_image["seed"] == 1)
    analyse(
        plan,
        StudyFolder(tmp_path),
        table,
        per_image.assign(mean_iou=per_image["mean_iou"].mask(gone)),
    )
    of_the_rest = pd.read_csv(tmp_path / "variance.csv").set_index("source")["share"]
    assert of_the_rest["image"] > 0.3, "images that every seed has, each with itself"
    assert of_the_rest["rest"] < 0.1
    analyse(plan, StudyFolder(tmp_path), table, per_image.assign(mean_iou=1.0))
    assert pd.read_csv(tmp_path / "variance.csv").empty, (
        "of what does not vary, nothing has a share"
    )


def test_more_images_would_buy_what_the_law_says():
    sizes = [50, 100, 200, 400]
    variants = {
        f"{size}_{down}": {"data.limit": size, "model.down": down}
        for size in sizes
        for down in ("pool", "strided")
    }
    rng = np.random.default_rng(0)
    rows = [
        {
            "variant": variant,
            "seed": seed,
            "status": "finished",
            "labelled_images": levels["data.limit"],
            "mean_iou": 0.8 - 2 * levels["data.limit"] ** -0.5 + rng.normal(0, 1e-4),
        }
        for seed in range(5)
        for variant, levels in variants.items()
    ]
    curves = learning_curves(pd.DataFrame(rows), variants, (IOU,))
    assert list(curves["variant"].unique()) == ["pool", "strided"]
    one = curves[curves["variant"] == "pool"].set_index("images")
    assert list(one.index) == [*sizes, 600]
    assert one.loc[600, "source"] == "predicted"
    assert one.loc[600, "mean"] == pytest.approx(0.8 - 2 * 600**-0.5, abs=1e-3)
    gain = 2 * (400**-0.5 - 600**-0.5)
    assert one.loc[600, "sentence"].startswith(
        "200 more labelled images (400 to 600) would change mean IoU of pool by "
    )
    said = float(one.loc[600, "sentence"].split(" by ")[1].split(" [")[0])
    assert said == pytest.approx(gain, abs=1e-3)
    assert (one["low"] < one["mean"]).all()


def test_all_the_images_are_a_size_too():
    variants = {str(size): {"data.limit": size} for size in (50, 100, None)}
    rows = [
        {"variant": v, "seed": s, "status": "finished", "mean_iou": 0.8 - 2 * n**-0.5 + 1e-4 * s}
        | {"labelled_images": n}
        for s in range(3)
        for v, n in zip(variants, (50, 100, 800), strict=True)
    ]
    curve = learning_curves(pd.DataFrame(rows), variants, (IOU,))
    assert curve["images"].tolist() == [50, 100, 800, 1000]


def test_a_limit_above_what_there_is_makes_no_law():
    variants = {str(size): {"data.limit": size} for size in (50, 100, 400)}
    rows = [
        {"variant": v, "seed": 0, "status": "finished", "mean_iou": 0.5, "labelled_images": count}
        for v, count in zip(variants, (50, 100, 100), strict=True)
    ]
    assert learning_curves(pd.DataFrame(rows), variants, (IOU,)).empty


def test_two_sizes_make_no_law():
    variants = {str(size): {"data.limit": size} for size in (50, 100)}
    rows = [{"variant": v, "seed": 0, "status": "finished", "mean_iou": 0.5} for v in variants]
    assert learning_curves(pd.DataFrame(rows), variants, (IOU,)).empty


def visible(expected: dict[str, float], table: pd.DataFrame | None = None) -> dict[str, Visible]:
    looks = planned_looks([5], np.random.default_rng(0))
    found = visible_differences(comparisons_of(VARIANTS), (IOU,), 5, looks, expected, table)
    return {of.words: of for of in found}


def power_of(effect: float, n: int, alpha: float) -> float:
    """Share of simulated pairs of n seeds in which scipy's t test finds an effect of so many deviations."""
    draws = np.random.default_rng(0).normal(effect, 1.0, size=(100_000, n))
    return float((scipy.stats.ttest_1samp(draws, 0.0, axis=1).pvalue <= alpha).mean())


def test_what_a_study_can_see_is_what_the_t_test_finds():
    of = visible({"mean_iou": 0.01})
    pair = of["two variants"]
    assert (pair.source, pair.metric) == ("study.expected_sd", IOU)
    power = power_of(pair.smallest / 0.01, 5, 0.05 / 66 / 3)
    assert power == pytest.approx(0.8, abs=0.005)
    down = of["down"]  # six matched pairs in every seed, in a family of five, one of three
    power = power_of(down.smallest / (0.01 / 6**0.5), 5, 0.05 / 5 / 3)
    assert power == pytest.approx(0.8, abs=0.005)
    assert of["loss"].smallest > down.smallest, "fewer matched pairs"


def test_runs_already_done_say_how_much_seeds_scatter():
    pilot = results(3, {}, noise=0.02)
    of = visible({"mean_iou": 0.01}, pilot)["down"]
    assert of.source == "runs already done"
    row = row_of(verdicts(pilot), "down", "strided")
    power = power_of(of.smallest / row["sd"], 5, 0.05 / 5 / 3)
    assert power == pytest.approx(0.8, abs=0.005)


def test_a_pilot_that_does_not_scatter_says_nothing_of_the_scatter():
    of = visible({"mean_iou": 0.01}, results(3, {}, noise=0.0).assign(mean_iou=0.5))["down"]
    assert of == visible({"mean_iou": 0.01})["down"]


def test_needed_seeds_tell_four_times_in_five_at_the_look_that_they_are():
    """Added to five seeds whose verdicts were seen, a difference of one sd, corrected for both looks."""
    differences = 1 + scipy.stats.zscore(np.arange(5.0), ddof=1)
    runs = [("b", seed, 0.0) for seed in range(5)]
    runs += [("a", seed, float(difference)) for seed, difference in enumerate(differences)]
    table = pd.DataFrame(runs, columns=["variant", "seed", "mean_iou"]).assign(status="finished")
    pair = Comparison("pair", "", "a", "b", (("a", "b"),))
    seen = planned_looks([5], np.random.default_rng(0))
    found = found_in(table, [pair], (IOU,))
    needs = int(verdicts_on(found, {}, seen, is_complete=True)[0].needs_seeds)
    rng = np.random.default_rng(1)
    for count, least, most in ((needs, 0.79, 1.0), (needs - 1, 0.0, 0.81)):
        looks = planned_looks([5, count], rng)
        p_values = scipy.stats.ttest_1samp(rng.normal(1, 1, (40_000, count)), 0, axis=1).pvalue
        assert least < (looks.corrected(p_values) < 0.05).mean() < most, count


def test_without_a_scatter_the_unit_is_the_scatter():
    assert visible({})["two variants"].source == ""
    assert visible({})["down"].smallest == pytest.approx(
        100 * visible({"mean_iou": 0.01})["down"].smallest
    )
