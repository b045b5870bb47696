"""The page's answer: what it recommends, on the first screen, and what it must not claim."""

import itertools
import json
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import test_report_generate
from conftest import page_of
from isthmus.errors import UserError
from isthmus.metrics.metric import Metric
from isthmus.report import figures
from isthmus.report.charts import size_charts
from isthmus.report.curves import curve_charts
from isthmus.report.effects import NARROW, WIDE, effects_chart, scale_of
from isthmus.report.mask_grid import by_role, image_rows
from isthmus.report.page import write_report
from isthmus.report.tables import tuning_table
from isthmus.report.verdict_tables import (
    pair_matrix,
    rank_table,
    size_table,
    variance_table,
    verdict_sections,
)
from isthmus.stats.corrections import planned_looks
from isthmus.study.comparisons import comparisons_of
from isthmus.study.differences import found_in
from isthmus.study.recommendation import NO_VERDICTS, best_pairs, recommended, shown_effects
from isthmus.study.records import Recommendation, Verdict
from isthmus.study.study_folder import StudyFolder, read_study
from isthmus.study.verdicts import verdicts_on
from isthmus.study.warnings import study_warnings
from test_report import Outline, change_results, fail_one, make_study

LEVELS = {
    "model.down": ("max-pool", "strided"),
    "model.up": ("transposed", "bilinear"),
    "loss.name": ("bce", "dice", "focal"),
}
FACTORIAL = {
    "_".join(levels): dict(zip(LEVELS, levels, strict=True))
    for levels in itertools.product(*LEVELS.values())
}
FOUR = {name: own for name, own in FACTORIAL.items() if "bilinear" in name and "focal" not in name}
EFFECTS = {"strided": 0.031, "bilinear": 0.001, "dice": 0.009, "focal": 0.004}


def words_of(drawing) -> list[str]:
    """The text of a drawing, in its order."""
    return re.findall(r"<text[^>]*>(.*?)</text>", "".join(drawing.parts))


def mean_iou(levels, seed, random) -> float:
    """Down-sampling tells, up-sampling does not matter, losses differ by less than can be told."""
    of_seed = (0.012, -0.02, 0.004, 0.018, -0.009)[seed % 5]
    return 0.6 + of_seed + sum(EFFECTS.get(level, 0) for level in levels) + random.normal(0, 0.008)


def write_analysis(folder: Path, settings, metrics, margins) -> None:
    """The tables that a study writes of its results, made by what makes them in a study."""
    results = pd.read_csv(folder / "results.csv")
    count = max(2, results["seed"].nunique())
    looks = planned_looks([count], np.random.default_rng(0))
    found = found_in(results, comparisons_of(settings), [Metric(*metric, "") for metric in metrics])
    is_complete = not (results["status"] == "missing").any()
    verdicts = verdicts_on(found, margins, looks, is_complete=is_complete)
    StudyFolder(folder).write_verdicts(verdicts)
    write_ranks(folder, results[results["status"] == "finished"], metrics)
    about = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    about["analysis"] = {
        "alpha": 0.05,
        "looks": [count],
        "family": Counter(verdict.kind for verdict in verdicts),
        "metrics": [name for name, _ in metrics],
    }
    (folder / "study.json").write_text(json.dumps(about), encoding="utf-8")


def write_ranks(folder: Path, results: pd.DataFrame, metrics) -> None:
    random = np.random.default_rng(0)
    rows = []
    for name, higher in metrics:
        table = results.pivot_table(index="seed", columns="variant", values=name).dropna()
        if len(table) < 2:
            continue
        drawn = random.integers(len(table), size=(400, len(table)))
        means = table.to_numpy()[drawn].mean(axis=1) * (-1 if higher else 1)
        ranks = means.argsort(axis=1).argsort(axis=1)
        rows += [
            {"metric": name, "variant": variant, "rank": rank + 1, "share": share}
            for k, variant in enumerate(table.columns)
            for rank, share in enumerate((ranks[:, [k]] == np.arange(table.shape[1])).mean(axis=0))
        ]
    pd.DataFrame(rows, columns=["metric", "variant", "rank", "share"]).to_csv(
        folder / "ranks.csv", index=False
    )


def write_variance(folder: Path, factors) -> None:
    sources = [*factors, "interactions", "seed", "image", "rest"]
    shares = np.array([0.09, 0.001, 0.01, 0.012, 0.03, 0.71, 0.147])[-len(sources) :]
    table = pd.DataFrame({"metric": "mean_iou", "source": sources, "share": shares / shares.sum()})
    table.to_csv(folder / "variance.csv", index=False)


def write_tuning(folder: Path, variants) -> None:
    rows = [
        {
            **{"variant": variant, "seed": seed, "train.lr": lr, "train.weight_decay": decay},
            "value": 0.55 - 0.02 * abs(np.log10(lr / 2e-3)) - 0.003 * (decay > 0.01) + 0.001 * seed,
            **{"metric": "mean_iou", "status": "finished"},
            "chosen": (lr, decay) == (2e-3, 1e-2),
        }
        for variant in variants
        for seed in (0, 1)
        for lr in (5e-4, 2e-3, 8e-3)
        for decay in (1e-2, 1e-1)
    ]
    pd.DataFrame(rows).to_csv(folder / "tuning.csv", index=False)


def mark_differing(folder: Path) -> None:
    """The first two images are those where two variants differ most."""
    path = folder / "images" / "images.json"
    entries = json.loads(path.read_text(encoding="utf-8"))
    for entry in entries[:2]:
        a, *_, b = entry["predictions"]
        entry |= {"role": "differing", "a": a, "b": b}
    path.write_text(json.dumps(entries), encoding="utf-8")


def make_factorial(
    folder: Path, *, seeds=range(5), settings=FACTORIAL, lower=False, margin=0.012, **more
) -> Path:
    """A 2 x 2 x 3 study with its verdicts: 12 variants, one factor better, one equivalent."""
    make_study(folder, variants=tuple(settings), seeds=tuple(seeds), mean_iou=mean_iou, **more)
    if lower:
        change_results(folder, lambda table: table.assign(mean_iou=1 - table["mean_iou"]))
        about = json.loads((folder / "study.json").read_text(encoding="utf-8"))
        about["metrics"][0]["higher_is_better"] = False
        (folder / "study.json").write_text(json.dumps(about), encoding="utf-8")
    write_analysis(
        folder, settings, [("mean_iou", not lower)], {"mean_iou": margin} if margin else {}
    )
    write_variance(folder, LEVELS)
    mark_differing(folder)
    return folder


PENALTIES = {"none": None, "adversary": 10.0, "hsic": 5.0}
VAES = {
    f"{where}_{penalty}": {"model.condition_on": where, "objective.invariance": penalty}
    | ({"objective.invariance_weight": weight} if weight else {})
    for where in ("decoder", "both")
    for penalty, weight in PENALTIES.items()
}


def make_vaes(folder: Path, *, metrics=(("nll_nats", False), ("swap_encoded_true", True))) -> Path:
    """A study of six VAEs, told apart by a metric that is better when lower, then by another."""
    test_report_generate.make_study(folder, variants=VAES, seeds=tuple(range(5)))
    random = np.random.default_rng(0)

    def measured(table: pd.DataFrame) -> pd.DataFrame:
        is_both, is_hsic = (
            (table[key] == level) * 1.0
            for key, level in (("model.condition_on", "both"), ("objective.invariance", "hsic"))
        )
        swap = 0.8 + 0.06 * is_both + random.normal(0, 0.01, len(table))
        nll = 83 + 2 * is_hsic - 0.1 * is_both + random.normal(0, 0.4, len(table))
        return table.assign(swap_encoded_true=swap, nll_nats=nll)

    change_results(folder, measured)
    blank = dict.fromkeys(
        ("model.condition_on", "objective.invariance", "objective.invariance_weight")
    )
    settings = {name: blank | own for name, own in VAES.items()}
    write_analysis(folder, settings, list(metrics), {})
    return folder


def analysed_again(folder: Path, change) -> None:
    """Other results of the four variants, and what a study would say of them."""
    change_results(folder, change)
    write_analysis(folder, FOUR, [("mean_iou", True)], {"mean_iou": 0.012})


def condition(folder: Path) -> Recommendation:
    found = recommended(read_study(folder))
    assert found
    return found


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    folder = make_factorial(tmp_path_factory.mktemp("verdicts") / "factorial", epochs=60)
    write_tuning(folder, FACTORIAL)
    page_of(folder)
    return folder


# The answer.


def test_a_factor_that_tells_is_taken_and_what_pairs_cannot_tell_is_left_open(study):
    content = read_study(study)
    assert {(v.a, v.b): v.verdict for v in shown_effects(content)} == {
        ("strided", "max-pool"): "better",
        ("bilinear", "transposed"): "equivalent",
        ("dice", "bce"): "cannot tell",
        ("focal", "bce"): "equivalent",
        ("focal", "dice"): "cannot tell",
    }
    found = condition(study)
    assert found.text == (
        "Take strided (model.down). These seeds cannot decide which of the 6 remaining variants is best."
    )
    assert (
        found.details[0]
        == "The fastest of these to train is strided_transposed_bce (3 min 24 s per run)."
    )
    assert re.search(r"cannot be distinguished from \d+ other variants\.$", found.details[1])


def pair(a: str, b: str, verdict: str, difference: float = 0.03, **more) -> dict[str, object]:
    """A row of verdicts.csv."""
    ends = {
        **{"low": difference - 0.01, "high": difference + 0.01},
        **{"family_low": difference - 0.02, "family_high": difference + 0.02},
    }
    row = {"kind": "pair", "metric": "mean_iou", "factor": "", "a": a, "b": b, "n": 5}
    return row | ends | {"difference": difference, "verdict": verdict} | more


@pytest.fixture
def three(tmp_path) -> Path:
    """Three variants, a, b and c, whose means are 0.8, 0.7 and 0.6."""
    names = ("max-pool_bilinear_a", "max-pool_bilinear_b", "max-pool_bilinear_c")
    means = {"a": 0.8, "b": 0.7, "c": 0.6}
    return make_study(
        tmp_path / "three",
        variants=names,
        images=1,
        seeds=tuple(range(5)),
        mean_iou=lambda levels, *_: means[levels[-1]],
    )


A, B, C = (f"max-pool_bilinear_{name}" for name in "abc")


@pytest.mark.parametrize(
    ("verdicts", "text"),
    [
        (("better", "better"), f"Take {A}: it is better than 2 other variants by 0.100 to 0.200."),
        (
            ("cannot tell", "better"),
            f"{A} cannot be distinguished from {B}: any of them may be best.",
        ),
        (
            ("cannot tell", "cannot tell"),
            "These seeds cannot decide which of the 3 variants is best.",
        ),
        (("equivalent", "better"), f"Take {A} or {B}, which is equivalent to it."),
        (
            ("equivalent", "cannot tell"),
            f"{A} cannot be distinguished from {C}: any of them may be best.",
        ),
    ],
)
def test_the_answer_never_has_a_winner_that_was_not_conditioned_from_all_others(
    three, verdicts, text
):
    rows = [pair(A, B, verdicts[0], 0.1), pair(C, A, flipped(verdicts[1]), -0.2)]
    rows.append(pair(B, C, "better"))
    pd.DataFrame(rows).to_csv(three / "verdicts.csv", index=False)
    found = condition(three)
    assert found.text == text
    is_open = "cannot tell" in verdicts
    assert found.text.startswith("Take ") != is_open
    cheapest = any(line.startswith("The fastest of these to train is ") for line in found.details)
    assert cheapest == (verdicts != ("better", "better"))


def flipped(verdict: str) -> str:
    return {"better": "worse", "worse": "better"}.get(verdict, verdict)


def test_a_factor_that_another_one_reverses_is_not_taken(tmp_path):
    folder = make_factorial(tmp_path / "s", settings=FOUR, images=1)
    assert "the only one with strided (model.down)" in condition(folder).text
    table = pd.read_csv(folder / "verdicts.csv")
    both = table["factor"] == "model.down x loss.name"
    table.loc[both.idxmax(), ["verdict", "sentence"]] = ["interacts", "It depends."]
    table.to_csv(folder / "verdicts.csv", index=False)
    assert "the only one with strided (model.down)" in condition(folder).text, (
        "better in every setting"
    )
    turned = ("max-pool_bilinear_bce", "strided_bilinear_bce")
    pair_of_them = table["a"].isin(turned) & table["b"].isin(turned)
    assert pair_of_them.sum() == 1
    table.loc[pair_of_them, "difference"] *= -1
    table.to_csv(folder / "verdicts.csv", index=False)
    assert "strided (model.down)" not in condition(folder).text, "reversed with bce"
    assert "<p><strong>It depends.</strong></p>" in page_of(folder)


DROPOUTS = {
    f"{kind}_{rate}_ce": {"model.dropout": kind, "model.dropout_rate": rate}
    for kind, rate in (("element", 0.1), ("element", 0.3), ("channel", 0.1))
}


def evaluated(folder: Path, settings, metric, *, failed=()) -> Path:
    """A study with these metrics, of (variant, seed, source of chance), and these failed runs."""
    make_study(
        folder,
        variants=tuple(settings),
        seeds=tuple(range(5)),
        images=1,
        mean_iou=lambda levels, seed, random: metric("_".join(levels), seed, random),
    )

    factors = list(next(iter(settings.values())))

    def as_conditioned(table: pd.DataFrame) -> pd.DataFrame:
        runs = zip(table["variant"], table["seed"], strict=True)
        levels = {key: [settings[v][key] for v in table["variant"]] for key in factors}
        status = ["failed" if run in failed else "finished" for run in runs]
        return table.assign(status=status, **levels)

    change_results(folder, as_conditioned)
    write_analysis(folder, settings, [("mean_iou", True)], {})
    about = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    (folder / "study.json").write_text(json.dumps(about | {"factors": factors}), encoding="utf-8")
    return folder


def test_a_field_whose_name_begins_like_another_is_another(tmp_path):
    """channel is better than element at the rate of both, so element is not what to take."""
    level = dict(zip(DROPOUTS, (0.60, 0.65, 0.645), strict=True))
    swing = (0.02, -0.02, 0.01, -0.01, 0.0)

    def metric(variant, seed, random):
        of_seed = swing[seed] if "channel" in variant else random.normal(0, 0.002)
        return level[variant] + of_seed

    said = condition(evaluated(tmp_path / "s", DROPOUTS, metric))
    assert said.text.startswith("element_0.3_ce cannot be distinguished from channel_0.1_ce")


def test_a_mean_over_easier_seeds_is_not_taken(tmp_path):
    """Seed 4 is hard, and the variant that failed there has the best mean of what is left."""
    level = dict(zip(FOUR, (0.65, 0.62, 0.60, 0.60), strict=True))
    first, second, *_ = FOUR

    def metric(variant, seed, random):
        return level[variant] + random.normal(0, 0.002) - (0.2 if seed == 4 else 0)

    folder = evaluated(tmp_path / "s", FOUR, metric, failed={(second, 4)})
    assert read_study(folder).by_primary_metric[0] == second
    assert condition(folder).text.startswith(f"Take {first}: it is better than 3 other variants")


def test_a_taken_variant_whose_runs_failed_says_so(tmp_path):
    best, *_ = FOUR

    def metric(variant, seed, random):
        return 0.7 * (variant == best) + random.normal(0.2, 0.002)

    said = condition(evaluated(tmp_path / "s", FOUR, metric, failed={(best, 1), (best, 3)}))
    assert said.text.startswith(f"Take {best}: it is better than 3 other variants")
    assert f"Failed runs are left out of the means: {best} (2 of 5)." in said.details


def test_five_seeds_that_all_say_the_same_are_not_called_one(tmp_path):
    said = condition(evaluated(tmp_path / "s", FOUR, lambda v, *_: list(FOUR).index(v) / 10))
    assert said.text.startswith("These seeds cannot decide which of the 4 variants is best")
    assert said.details[0].endswith(
        "all seeds have the same difference, so their standard deviation is not known."
    )


def test_a_verdict_turned_round_says_the_same_of_the_other():
    verdict = Verdict.model_validate(pair("a", "b", "better", family_low=-0.01, mean_a=1.0))
    other = verdict.seen_from("b")
    assert (other.a, other.b, other.verdict, other.mean_b) == ("b", "a", "worse", 1.0)
    assert (other.difference, other.low, other.family_high) == (-0.03, -0.04, 0.01)
    assert other.seen_from("a").model_dump() == pytest.approx(verdict.model_dump(), nan_ok=True)


def test_one_seed_says_nothing(tmp_path):
    folder = make_factorial(tmp_path / "one", seeds=range(1), settings=FOUR, images=1)
    said = condition(folder)
    assert said.text == "One seed is not enough to decide which variant is best."
    assert said.details[1] == (
        "To find out, run the study again with --seeds 5; finished runs are kept."
    )
    page = page_of(folder)
    assert page.count("no interval") == 2 * 2, "two rows, on a wide and on a narrow chart"
    assert "Thick: 95 % t interval" not in page
    assert 'class="thick"' not in page
    assert "There are no ranks: this folder has no ranks.csv, or the file is empty." in page


def test_where_lower_is_better_the_best_is_lowest_and_lies_left(tmp_path):
    folder = make_factorial(tmp_path / "lower", lower=True, settings=FOUR, images=1)
    assert "the only one with strided (model.down)" in condition(folder).text
    content = read_study(folder)
    assert best_pairs(content)[0].a == content.by_primary_metric[0]
    assert content.mean(content.by_primary_metric[0], "mean_iou") < 0.4
    shown = words_of(effects_chart(content))
    assert {"← the first is better", "the second is better →"} <= set(shown)
    first = shown.index("strided against max-pool")
    assert shown[first + 1] == "▲ better"
    assert shown[first + 2].startswith("\N{MINUS SIGN}0.0")
    assert "by mean IoU, lower is better" in page_of(folder)


def test_collapsed_variants_are_not_compared_and_others_are(tmp_path):
    folder = make_factorial(tmp_path / "collapsed", settings=FOUR, images=1)

    def collapse(table: pd.DataFrame) -> pd.DataFrame:
        one = table["variant"] == "strided_bilinear_dice"
        return fail_one(table).assign(status=table["status"].where(~one, "failed"))

    analysed_again(folder, collapse)
    found = condition(folder)
    assert found.text.startswith("Take strided")
    assert "strided_bilinear_dice was not compared." in found.details
    page = page_of(folder)
    top = page.split('<section aria-labelledby="metrics">')[0]
    assert "Failed: 6 of 20 runs, left out of every mean." in top
    assert "max-pool_<wbr>bilinear_<wbr>bce, seed 0: all pixels are one class" in top


def test_before_all_runs_are_done_nothing_is_claimed(tmp_path):
    folder = make_factorial(tmp_path / "missing", settings=FOUR, images=1)
    analysed_again(folder, lambda t: t.assign(status=["finished"] * (len(t) - 2) + ["missing"] * 2))
    content = read_study(folder)
    assert (
        condition(folder).text
        == "There are no verdicts until all runs are done; 2 of 20 runs are not."
    )
    assert {v.verdict for v in content.verdicts} == {"cannot tell"}
    assert "Missing: 2 of 20 runs" in page_of(folder)


@pytest.mark.parametrize("is_empty", [False, True])
def test_without_verdicts_the_page_renders_and_says_so(tmp_path, is_empty):
    folder = make_factorial(tmp_path / "bare", settings=FOUR, images=1)
    write_tuning(folder, FOUR)
    for name in ("verdicts", "ranks", "variance", "tuning"):
        path = folder / f"{name}.csv"
        if is_empty:
            path.write_text("", encoding="utf-8")
        else:
            path.unlink()
    page = page_of(folder)
    assert condition(folder) == Recommendation(text=NO_VERDICTS)
    for missing in ("verdicts", "ranks", "variance"):
        assert f"this folder has no {missing}.csv, or the file is empty." in page
    assert 'id="tuning"' not in page
    assert not (folder / "figures" / "effects.svg").exists()


def test_one_variant_of_one_epoch_has_no_verdicts_and_a_dot_for_a_curve(tmp_path):
    folder = make_study(tmp_path / "one", variants=(next(iter(FOUR)),), epochs=1, images=1)
    page = page_of(folder)
    assert 'id="verdicts"' not in page
    assert "#verdicts" not in page
    drawn = re.findall(r'<polyline points="(\S+) (\S+)"[^>]* class="mean"', page)
    assert drawn
    assert all(first == second for first, second in drawn)


def test_broken_verdicts_are_rejected_by_name(study, tmp_path):
    folder = shutil.copytree(study, tmp_path / "broken")
    path = folder / "verdicts.csv"
    path.write_text("kind,metric\npair,mean_iou\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"verdicts\.csv: cannot be read .*no column a"):
        write_report(folder)
    pd.DataFrame([pair("a", "b", "better", n="five")]).to_csv(path, index=False)
    with pytest.raises(UserError, match=re.escape(f"{path}: cannot be read")):
        write_report(folder)


# The bars.


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_bars_lie_where_their_numbers_are(study, width):
    """Pixels are a straight line of the differences: both ends of both intervals, and the points."""
    content = read_study(study)
    verdicts = shown_effects(content)
    drawn = "".join(effects_chart(content, width).parts)
    px, values = [], []
    for name, ends in (("thick", ("low", "high")), ("thin", ("family_low", "family_high"))):
        lines = re.findall(
            r'<line x1="([\d.]+)" y1="[\d.]+" x2="([\d.]+)"[^>]* class="' + name, drawn
        )
        assert len(lines) == len(verdicts)
        px += [float(x) for line in lines for x in line]
        values += [getattr(verdict, end) for verdict in verdicts for end in ends]
    slope, start = np.polyfit(values, px, 1)
    assert np.polyval((slope, start), values) == pytest.approx(px, abs=0.11)
    assert slope > 0
    (equivalent, *_), (x, *_) = (
        [v for v in verdicts if v.verdict == "cannot tell"],
        re.findall(r'<circle cx="([\d.]+)"', drawn),
    )
    assert float(x) == pytest.approx(slope * equivalent.difference + start, abs=0.11)


def test_intervals_too_wide_for_the_scale_end_in_arrows(three):
    row = pair(A, B, "cannot tell", 0.01, family_low=-5.0, family_high=5.0)
    pd.DataFrame([row]).to_csv(three / "verdicts.csv", index=False)
    content = read_study(three)
    drawn = "".join(effects_chart(content).parts)
    assert drawn.count('class="beyond"') == 2
    low, high = scale_of(shown_effects(content))
    assert high - low < 0.1


# Tables.


def test_every_verdict_is_in_a_table_and_long_ones_fold(study):
    factors, interactions, pairs = verdict_sections(read_study(study))
    assert [len(s.table.rows) for s in (factors, interactions, pairs)] == [5, 7, 66]
    assert [s.is_folded for s in (factors, interactions, pairs)] == [False, False, True]
    assert len(pairs.sentences) == 66
    cells = [cell.text for cell in factors.table.rows[0].cells[:4]]
    assert cells == ["model.down", "strided", "max-pool", "better"]


def test_the_matrix_of_pairs_is_its_own_mirror(study):
    matrix = pair_matrix(read_study(study))
    assert matrix
    words = [[cell.text for cell in row.cells[1:]] for row in matrix.rows]
    for row, column in itertools.product(range(12), range(12)):
        assert words[row][column] == flipped(words[column][row])


def test_ranks_and_shares_of_variance_are_those_of_the_files(study):
    content = read_study(study)
    ranks, shares = rank_table(content), variance_table(content)
    assert ranks
    assert shares
    for row in ranks.rows:
        assert sum(cell.share or 0 for cell in row.cells[1:]) == pytest.approx(1)
    assert [row.cells[0].text for row in shares.rows] == [
        *(*LEVELS, "interactions", "seed", "image", "rest")
    ]
    assert shares.rows[5].cells[1].text == "71 %"


def test_what_more_images_would_buy_is_said_and_tabled(study, tmp_path):
    folder = tmp_path / "sized"
    shutil.copytree(study, folder)
    rows = [
        ("measured", 100, 0.5, ""),
        ("measured", 400, 0.6, ""),
        ("predicted", 600, 0.62, "Buy!"),
    ]
    table = pd.DataFrame(rows, columns=["source", "images", "mean", "sentence"])
    table = table.assign(metric="mean_iou", variant="strided", low=table["mean"] - 0.01)
    table.assign(high=table["mean"] + 0.01).to_csv(folder / "learning_curve.csv", index=False)
    content = size_table(read_study(folder))
    assert [cell.text for cell in content.rows[2].cells] == [
        *("strided", "600", "predicted", "0.620 [0.610, 0.630]")
    ]
    page = page_of(folder)
    assert "<li>Buy!</li>" in page
    assert 'aria-label="Mean IoU by number of labelled images, strided"' in page
    (chart,) = size_charts(read_study(folder))
    dots = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', "".join(chart.parts))
    x, y = np.array(dots, dtype=float).T
    assert (x[1] - x[0]) / (x[2] - x[0]) == pytest.approx(np.log(4) / np.log(6), abs=0.002)
    assert (y[0] - y[1]) / (y[0] - y[2]) == pytest.approx(0.1 / 0.12, abs=0.005)
    measured, ahead = (
        re.findall(r'<polyline points="([^"]*)"[^>]* class="' + name, "".join(chart.parts))
        for name in ("measured", "predicted")
    )
    places = [",".join(place) for place in dots]
    assert (measured, ahead) == ([" ".join(places[:2])], [" ".join(places[1:])])
    assert (folder / "figures/sizes.svg").is_file()
    assert size_table(read_study(study)) is None
    assert size_charts(read_study(study)) == []


def test_a_cell_at_a_tenth_of_the_others_is_pointed_at(study, tmp_path):
    """A published table had one such cell, and nobody had looked at it."""
    folder = tmp_path / "slipped"
    shutil.copytree(study, folder)
    assert not any(
        "far below the others" in warning.text for warning in study_warnings(read_study(folder))
    )
    slipped = "strided_bilinear_dice"
    change_results(
        folder,
        lambda t: t.assign(
            mean_iou=t["mean_iou"].where(t["variant"] != slipped, t["mean_iou"] / 10)
        ),
    )
    found = [
        warning
        for warning in study_warnings(read_study(folder))
        if "far below the others" in warning.text
    ]
    assert len(found) == 1
    assert [line.split(":")[0] for line in found[0].details] == [
        f"{slipped}, seed {seed}" for seed in range(5)
    ]


def test_runs_that_were_not_trained_alike_are_said_before_any_number(study, tmp_path):
    folder = shutil.copytree(study, tmp_path / "mixed")
    assert not any(
        "same environment" in warning.text for warning in study_warnings(read_study(folder))
    )
    test_report_generate.change_about(folder, mixed=["precision", "threads"])
    assert any(
        "they differ in precision and threads" in warning.text
        for warning in study_warnings(read_study(folder))
    )


def test_variants_added_after_verdicts_are_said_to_be(study, tmp_path):
    folder = shutil.copytree(study, tmp_path / "late")
    names = read_study(folder).record.variants
    test_report_generate.change_about(folder, variants_seen=names)
    assert not any(
        "added after verdicts" in warning.text for warning in study_warnings(read_study(folder))
    )
    test_report_generate.change_about(folder, variants_seen=names[1:])
    found = [
        warning
        for warning in study_warnings(read_study(folder))
        if "added after verdicts" in warning.text
    ]
    assert [warning.details for warning in found] == [names[:1]]


def test_a_design_has_the_fields_that_tuning_chose(study):
    content = read_study(study)
    chosen = content.recipe_of(content.record.variants[0])
    assert (chosen["train.lr"], chosen["train.weight_decay"]) == (2e-3, 1e-2)


def test_losses_that_were_not_tuned_are_said_to_be(study, tmp_path):
    folder = shutil.copytree(study, tmp_path / "untuned")
    test_report_generate.change_about(folder, loss_differs=True)
    assert not any(
        "No hyperparameter was tuned" in warning.text
        for warning in study_warnings(read_study(folder))
    )
    (folder / "tuning.csv").unlink()
    assert any(
        "No hyperparameter was tuned" in warning.text
        for warning in study_warnings(read_study(folder))
    )


def test_an_equivalent_pair_shows_the_test_that_it_rests_on(study):
    tables = [section.table for section in verdict_sections(read_study(study))]
    verdicts = [v for v in read_study(study).verdicts if v.verdict == "equivalent"]
    assert verdicts
    shown = [
        row.cells[[column.text for column in table.columns].index("p")].value
        for table in tables
        for row in table.rows
        if any(cell.text == "equivalent" for cell in row.cells)
    ]
    assert sorted(shown) == sorted(v.p_equivalent for v in verdicts)


def test_ranks_of_very_many_variants_are_left_to_their_file(study, tmp_path):
    folder = shutil.copytree(study, tmp_path / "many")
    several = pd.read_csv(folder / "results.csv")
    more = [several.assign(variant=several["variant"] + f"+{k}") for k in (1, 2)]
    ranks = pd.read_csv(folder / "ranks.csv")
    names = sorted(set(several["variant"]) | set(more[0]["variant"]) | set(more[1]["variant"]))
    about = json.loads((folder / "study.json").read_text(encoding="utf-8")) | {"variants": names}
    (folder / "study.json").write_text(json.dumps(about), encoding="utf-8")
    pd.concat([several, *more]).to_csv(folder / "results.csv", index=False)
    rows = [ranks, *(ranks.assign(variant=ranks["variant"] + f"+{k}") for k in (1, 2))]
    pd.concat(rows).to_csv(folder / "ranks.csv", index=False)
    html = page_of(folder)
    assert "There are too many variants to show their ranks; see ranks.csv." in html


def test_tuning_says_what_was_chosen_and_how_flat_the_optimum_was(study, tmp_path):
    table = tuning_table(read_study(study))
    assert table
    assert len(table.rows) == 12
    assert [cell.text for cell in table.rows[0].cells[1:]] == [
        *(
            "train.lr 0.002, train.weight_decay 0.01",
            "0.550",
            "0.548",
            "0.535",
            "6",
            "train.weight_decay",
        )
    ]
    folder = shutil.copytree(study, tmp_path / "edge")
    tried = pd.read_csv(folder / "tuning.csv")
    tried["chosen"] = (tried["train.lr"] == 8e-3) & (tried["train.weight_decay"] == 1e-2)
    tried.to_csv(folder / "tuning.csv", index=False)
    edge = tuning_table(read_study(folder))
    assert edge
    assert edge.rows[0].cells[-1].text == "train.lr, train.weight_decay"
    tried.loc[0, ["value", "metric", "status"]] = [np.nan, np.nan, "failed"]
    tried.to_csv(folder / "tuning.csv", index=False)
    broken = tuning_table(read_study(folder))
    assert broken
    assert broken.caption == edge.caption, "the first setting tried has no metric to name"
    tried.loc[0, ["value", "metric"]] = [0.99, "mean_iou"]
    tried.to_csv(folder / "tuning.csv", index=False)
    diverged = tuning_table(read_study(folder))
    assert diverged
    assert diverged.rows == broken.rows, "it broke after a good epoch"
    tried["chosen"] = False
    tried.to_csv(folder / "tuning.csv", index=False)
    unsettled = tuning_table(read_study(folder))
    assert unsettled
    texts = [cell.text for cell in unsettled.rows[0].cells[1:5]]
    assert texts == ["", "—", "—", "—"], "nothing is next best, or worst, before one is chosen"


# The curves.


def test_every_line_says_its_run_without_a_script(page):
    titles = re.findall(r"<title>(.*?)</title>", page)[1:]
    assert len(titles) == 60 * 4
    words = r"strided_bilinear_focal, seed 4, validation: 0\.\d+ at epoch 60"
    assert any(re.fullmatch(words, title) for title in titles)


def test_a_failed_run_does_not_stretch_its_panel(tmp_path):
    folder = make_study(tmp_path / "s", variants=tuple(FACTORIAL)[:1], seeds=(0, 1), images=1)
    before = next(iter(curve_charts(read_study(folder)).values()))
    change_results(folder, fail_one)
    metrics = folder / "runs" / next(iter(FACTORIAL)) / "seed-0" / "metrics.csv"
    table = pd.read_csv(metrics)
    table.loc[5:, "train_loss"] = [1e9, np.inf, *[np.nan] * 13]
    table.to_csv(metrics, index=False)
    drawn = next(iter(curve_charts(read_study(folder)).values()))
    whole = "".join(drawn.parts)
    assert "seed 0, failed, training: " in whole
    assert '<g class="run train failed">' in whole
    assert "1000000" not in "".join(words_of(drawn))
    assert len(whole) == pytest.approx(len("".join(before.parts)), rel=0.3)
    heights = [float(y) for y in re.findall(r"[ \"][\d.]+,([\d.]+)", whole)]
    assert 0 <= min(heights) <= max(heights) <= drawn.height


def test_images_where_two_variants_differ_come_first_with_these_two(study):
    (heading, differing), *others = by_role(image_rows(read_study(study))).items()
    assert heading == "Where two variants differ most"
    assert len(others) == 2
    a, *_, b = FACTORIAL
    assert differing[0].note == f"{a} against {b}"
    assert [tile.label for tile in differing[0].shown] == ["image", "truth", a, b]
    assert len(differing[0].folded) == 10


# In a browser.


def test_the_first_screen_has_question_answer_verdicts_and_figure(visit, study):
    page = visit(study)
    for name in ("h1", ".take", ".effects", ".effects .wide svg"):
        box = page.locator(name).bounding_box()
        assert box["y"] >= 0, name
        assert box["y"] + box["height"] <= 800, name
        assert box["x"] + box["width"] <= 1280, name
    assert not page.locator(".effects .phone").is_visible()
    words = page.locator(".effects .wide text").all_text_contents()
    assert words.count("5 seeds") == 3
    assert sum(text.startswith("5 seeds, needs about") for text in words) == 2
    for verdict in ("▲ better", "= equivalent", "? cannot tell"):
        assert verdict in words


def test_on_a_phone_the_first_screen_has_the_answer_and_the_first_verdicts(visit, study):
    page = visit(study, width=400)
    assert not page.locator(".effects .wide").is_visible()
    second = page.locator(".effects .phone text", has_text="bilinear against").bounding_box()
    assert second["y"] + second["height"] <= 800
    assert second["height"] >= 10, "large enough to be read"
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def middle_of(page, line) -> tuple[float, float]:
    """The screen's point in the middle of a run's line."""
    point = """path => {
        const at = path.points[Math.floor(path.points.length / 2)].matrixTransform(path.getScreenCTM());
        return [at.x, at.y];
    }"""
    return tuple(line.evaluate(point))


def test_pointer_and_keyboard_name_a_curve(visit, study):
    page = visit(study)
    figure = page.locator(".curves figure").nth(1)
    said = figure.locator(".said")
    variant = list(FACTORIAL)[1]
    assert said.inner_text() == ""
    figure.scroll_into_view_if_needed()
    page.mouse.move(*middle_of(page, figure.locator(".run .own").nth(12)))
    named = r", seed \d, (training|validation): 0\.\d+ at epoch 60"
    assert re.fullmatch(re.escape(variant) + named, said.inner_text())
    assert figure.locator(".run.named").count() == 1
    page.mouse.move(0, 0)
    assert said.inner_text() == ""
    figure.focus()
    page.keyboard.press("ArrowDown")
    assert re.fullmatch(f"{variant}, seed 0, training: .* at epoch 60", said.inner_text())
    page.keyboard.press("ArrowDown")
    assert said.inner_text().startswith(f"{variant}, seed 1, training: ")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    assert said.inner_text().startswith(f"{variant}, seed 4, validation: ")
    page.keyboard.press("Tab")
    assert said.inner_text() == ""


def test_a_tap_names_a_curve(visit, study):
    page = visit(study, width=400, has_touch=True)
    figure = page.locator(".curves figure").first
    figure.scroll_into_view_if_needed()
    page.touchscreen.tap(*middle_of(page, figure.locator(".run .own").first))
    assert figure.locator(".said").inner_text().startswith(f"{next(iter(FACTORIAL))}, seed ")


def test_print_opens_what_is_folded(visit, study):
    page = visit(study)
    pairs = page.locator("details table").first
    assert not pairs.is_visible()
    page.emulate_media(media="print")
    assert pairs.is_visible()
    assert not page.locator("nav").is_visible()


def test_sixty_runs_of_sixty_epochs_stay_below_five_megabytes(study, page):
    content = read_study(study)
    assert (len(content.finished), len(content.epochs)) == (60, 3600)
    assert (study / "report.html").stat().st_size < 5_000_000
    assert "http" not in re.sub(r"data:image/\w+;base64,[\w+/=]+|http-equiv", "", page)
    outline = Outline(page)
    assert len(outline.of("caption")) == len(outline.of("table"))
    levels = [int(tag[1]) for tag, _ in outline.tags if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_a_study_of_vaes_is_answered_by_its_primary_metric(visit, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "KINDS", {"swap": figures.KINDS["swap"]})
    folder = make_vaes(tmp_path / "vaes")
    page_of(folder)
    page = visit(folder)
    assert (
        page.locator("#recommendation").inner_text()
        == "Recommendation, by NLL (nats), lower is better"
    )
    for name in (".take", ".effects .wide svg"):
        box = page.locator(name).bounding_box()
        assert box["y"] + box["height"] <= 800
    text = page.locator(".effects").text_content()
    assert "hsic against none" in text
    assert "worse" in text
    assert "Other metrics may rank differently: Swap success, encoded true; see Verdicts." in text
    study = read_study(folder)
    rival = best_pairs(study)[0]
    table = pd.read_csv(folder / "verdicts.csv")
    as_factor = table[table["kind"] == "pair"].assign(kind="factor", factor="model.conditioning")
    table = pd.concat([table, as_factor[as_factor["metric"] == "swap_encoded_true"]])
    table.to_csv(folder / "verdicts.csv", index=False)  # its two sides are named as two variants
    said = [
        text for text in condition(folder).details if text.startswith("Swap success, encoded true")
    ]
    assert len(said) == 1
    assert re.match(rf".*: .* {re.escape(rival.b)}[a-z ]*, difference .?0\.0\d+ \[", said[0])
    metrics = [v.metric for v in study.verdicts if v.kind == "pair"]
    assert metrics.count("nll_nats") == metrics.count("swap_encoded_true") == 15
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
