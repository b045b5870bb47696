"""The report: its numbers against numpy, its holes, and the page in a real browser."""

import itertools
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from conftest import page_of, task_fields
from isthmus.engine.run_result import TaskNotes
from isthmus.errors import UserError
from isthmus.report.axes import ticks
from isthmus.report.charts import cost_chart
from isthmus.report.formatting import class_colours, palette
from isthmus.report.mask_grid import painted
from isthmus.report.page import write_report
from isthmus.report.tables import class_tables, cost_table, image_table, run_table, variant_table
from isthmus.study.study_folder import read_study
from isthmus.study.warnings import headline, study_warnings

VARIANTS = tuple(
    f"{down}_{up}_{loss}"
    for down, up in (("max-pool", "transposed"), ("strided", "transposed"), ("strided", "bilinear"))
    for loss in ("bce", "dice")
)
CLASSES = ("pet", "background", "border")
METRICS = ("mean_iou", "mean_dice", "pixel_accuracy", "boundary_f")


def make_study(
    folder: Path, *, variants=VARIANTS, seeds=(0, 1, 2), images=4, epochs=20, mean_iou=None
) -> Path:
    """A study folder as isthmus study leaves it, with drawn images and invented metrics.

    ``mean_iou`` gives a run's metric from its levels, seed and a source of chance.
    """
    random = np.random.default_rng(7)
    folder.mkdir(parents=True)
    (folder / "study.toml").write_text('[study]\nname = "six"\n', encoding="utf-8")
    rows = [
        _run(folder, variant, place, seed, epochs, random)
        for place, variant in enumerate(variants)
        for seed in seeds
    ]
    for row in rows if mean_iou else ():
        row["mean_iou"] = mean_iou(row["variant"].split("_"), row["seed"], random)
    pd.DataFrame(rows).to_csv(folder / "results.csv", index=False)
    metrics = [
        {"variant": r["variant"], "seed": r["seed"], "image": f"scene-{k:04d}"}
        | {metric: random.uniform(0.2, 0.95) for metric in METRICS}
        for r in rows
        for k in range(20)
    ]
    pd.DataFrame(metrics).to_parquet(folder / "per_image.parquet")
    _draw_images(folder / "images", variants, images, random)
    _write_about(folder, variants, seeds)
    return folder


def _run(folder, variant, place, seed, epochs, random):
    run = folder / "runs" / variant / f"seed-{seed}"
    run.mkdir(parents=True)
    epoch = np.arange(1, epochs + 1)
    decay = np.exp(-epoch * 20 / epochs / random.normal(6, 0.5)) + random.normal(0, 0.01, epochs)
    pd.DataFrame(
        {
            "epoch": epoch,
            "lr": 2e-3,
            "train_loss": decay * (1 + place % 2),
            "train_pixel_accuracy": 0.9 - 0.4 * decay,
            "validation_loss": decay * 1.2 * (1 + place % 2),
            "validation_pixel_accuracy": 0.85 - 0.4 * decay,
            "validation_mean_iou": 0.7 - 0.4 * decay,
            "seconds": 7.5,
        }
    ).to_csv(run / "metrics.csv", index=False)
    down, up, loss = variant.split("_")
    metrics = {metric: 0.6 + 0.02 * place + random.normal(0, 0.01) for metric in METRICS}
    of_class = {
        f"{kind}_{name}": random.uniform(0.3, 0.9)
        for kind in ("iou", "dice", "boundary_f")
        for name in CLASSES
    }
    return {
        **{"variant": variant, "seed": seed, "status": "finished", "reason": ""},
        **{"model.down": down, "model.up": up, "loss.name": loss},
        **metrics,
        **of_class,
        **{"train_loss_last": decay[-1], "parameters": 1_900_000 + 1000 * place, "gflop": 2.5},
        **{"train_seconds": 150.0 + 9 * place, "epochs": epochs, "best_epoch": epochs - 3},
    }


def _draw_images(folder, variants, count, random):
    folder.mkdir()
    rows, columns = np.mgrid[:128, :128]
    entries = []
    for k in range(count):
        y, x, radius = random.integers(40, 88), random.integers(40, 88), random.integers(20, 36)

        def mask(shift, y=y, x=x, radius=radius):
            distance = np.hypot(rows - y, columns - x - shift)
            classes = np.where(distance < radius, 0, np.where(distance < radius + 6, 2, 1))
            return classes.astype(np.uint8)

        truth = mask(0)
        image = np.array([[200, 120, 70], [60, 90, 120], [20, 20, 20]], np.uint8)[truth]
        image += random.integers(0, 50, image.shape, dtype=np.uint8)
        truth[:4] = 255
        Image.fromarray(image).save(folder / f"{k:03d}.png")
        Image.fromarray(truth).save(folder / f"{k:03d}-truth.png")
        for place, variant in enumerate(variants):
            Image.fromarray(mask(2 * place)).save(folder / f"{k:03d}-{variant}.png")
        entries.append(
            {
                "name": f"scene-{k:04d}",
                "role": ("typical", "typical", "hardest", "easiest")[k % 4],
                "image": f"{k:03d}.png",
                "truth": f"{k:03d}-truth.png",
                "predictions": {variant: f"{k:03d}-{variant}.png" for variant in variants},
                "mean_iou": dict.fromkeys(variants, 0.7 + 0.01 * k),
            }
        )
    (folder / "images.json").write_text(json.dumps(entries), encoding="utf-8")


def _write_about(folder, variants, seeds):
    about = task_fields() | {
        "name": "six",
        "question": "Which down-sampling, up-sampling and loss should a small U-Net have?",
        "label_scheme": "classes3: pet, background, border; masks resized by nearest",
        "class_names": CLASSES,
        "metrics": [
            {"name": s, "higher_is_better": True, "definition": f"What {s} is."} for s in METRICS
        ],
        "metric_note": "A class absent from truth and prediction is left out of the mean.",
        "images": {"train": 320, "validation": 57, "test": 335},
        "baselines": [
            {
                "name": "all background (constant prediction)",
                "definition": "the same class everywhere",
                "is_floor": True,
                "metrics": {"mean_iou": 0.193, "pixel_accuracy": 0.58},
            }
        ],
        "variants": variants,
        "factors": ["model.down", "model.up", "loss.name"],
        "seeds": seeds,
        "loss_differs": len(variants) > 1,
        "command": "isthmus study recipes/six.toml",
        "versions": {"isthmus": "0.1.0", "torch": "2.14.0"},
        "machine": "a processor, 2 threads",
        "precision": "bf16",
    }
    (folder / "study.json").write_text(json.dumps(about), encoding="utf-8")


def change_results(study: Path, change) -> None:
    path = study / "results.csv"
    change(pd.read_csv(path)).to_csv(path, index=False)


def fail_one(table: pd.DataFrame) -> pd.DataFrame:
    """The first run collapsed: absurd metrics that must not enter a mean."""
    table["reason"] = table["reason"].astype(object)
    table.loc[0, ["status", "reason", "mean_iou"]] = ["failed", "all pixels are one class", 99.0]
    return table


class Outline(HTMLParser):
    """Tags and attributes of a page, to be asked about."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def of(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in names]


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    folder = make_study(tmp_path_factory.mktemp("report") / "six")
    change_results(folder, fail_one)
    page_of(folder)
    return folder


# Numbers.


def test_means_and_spreads_are_those_of_the_csv(study):
    results = pd.read_csv(study / "results.csv")
    table = variant_table(read_study(study))
    for row in table.rows:
        name = row.cells[0].text
        sound = results[(results["variant"] == name) & (results["status"] == "finished")]
        for metric, cell in zip(METRICS, row.cells[1:], strict=False):
            if not row.is_baseline:
                mean, sd = np.mean(sound[metric]), np.std(sound[metric], ddof=1)
                assert cell.text == f"{mean:.3f} ± {sd:.3f}"


def test_rows_are_sorted_by_the_first_metric_with_the_constant_prediction_at_its_rank(study):
    rows = variant_table(read_study(study)).rows
    values = [row.cells[1].value for row in rows]
    assert len(rows) == len(VARIANTS) + 1
    assert values == sorted(values, reverse=True)
    assert [row.is_baseline for row in rows] == [False] * len(VARIANTS) + [True]


def test_n_counts_finished_runs_only(study):
    n_of = {row.cells[0].text: row.cells[-1].text for row in variant_table(read_study(study)).rows}
    assert n_of[VARIANTS[0]] == "2 of 3"
    assert n_of[VARIANTS[1]] == "3"


def test_a_single_seed_has_no_spread(tmp_path):
    table = variant_table(read_study(make_study(tmp_path / "six", seeds=(0,))))
    assert not any("±" in cell.text for row in table.rows for cell in row.cells)


def test_percentiles_are_over_images_after_seeds(study):
    metrics = pd.read_parquet(study / "per_image.parquet")
    table = image_table(read_study(study))
    for row in table.rows:
        mine = metrics[metrics["variant"] == row.cells[0].text]
        by_image = mine.pivot(index="image", columns="seed", values="mean_iou").mean(axis=1)
        expected = np.percentile(by_image, [10, 50, 90])
        assert [cell.value for cell in row.cells[1:4]] == pytest.approx(list(expected))


def test_the_best_is_set_against_each_other_one_image_by_image(tmp_path):
    folder = make_study(tmp_path / "six")
    best, *others = read_study(folder).by_primary_metric
    assert image_table(read_study(folder)).columns[-2].text == "90th percentile"
    row = {
        "metric": "mean_iou",
        "a": best,
        "n": 3,
        "difference": 0.0215,
        "low": 0.01,
        "high": 0.033,
    }
    pd.DataFrame([row | {"b": name} for name in others]).to_csv(
        folder / "by_image.csv", index=False
    )
    table = image_table(read_study(folder))
    assert table.columns[-2].text == f"{best} \N{MINUS SIGN} this variant"
    assert [row.cells[-2].text for row in table.rows] == [
        "\N{EM DASH}",
        *["+0.021 [+0.010, +0.033]"] * len(others),
    ]
    assert "verdicts include the variation between seeds" in table.caption


def test_a_metric_that_is_better_when_lower_is_sorted_the_other_way(tmp_path):
    folder = make_study(tmp_path / "six", seeds=(0,))
    about = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    about["metrics"][0]["higher_is_better"] = False
    (folder / "study.json").write_text(json.dumps(about), encoding="utf-8")
    table = variant_table(read_study(folder))
    values = [row.cells[1].value for row in table.rows]
    assert values == sorted(values)
    assert table.columns[1].order == "ascending"
    assert any("no better than a baseline" in n.text for n in study_warnings(read_study(folder)))


@pytest.mark.parametrize("ends", [(0.41, 0.72), (-3e-5, 4e-5), (1, 9), (0, 1e6), (-120.5, -90.0)])
def test_ticks_are_round_inside_and_neither_few_nor_many(ends):
    for most in (4, 5, 7):
        values = ticks(ends, most)
        assert 2 <= len(values) <= most + 1
        assert ends[0] <= values[0] < values[-1] <= ends[1]
        step = values[1] - values[0]
        assert np.diff(values) == pytest.approx(step)
        mantissa = step / 10 ** np.floor(np.log10(step) + 1e-9)
        assert mantissa == pytest.approx(
            min((1, 2, 5), key=lambda round_one: abs(round_one - mantissa))
        )


def test_a_variant_lies_at_its_cost_and_its_mean(study):
    content = read_study(study)
    drawing = cost_chart(content)
    dots = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', "".join(drawing.parts))
    names = content.by_primary_metric
    assert len(dots) == 4 * len(names), "the metric and three costs"
    for k, column in enumerate(("mean_iou", "train_seconds")):
        x, y = np.array(dots[k * len(names) : (k + 1) * len(names)], dtype=float).T
        values = [content.mean(name, column) for name in names]
        slope = np.polyfit(values, x, 1)
        assert np.polyval(slope, values) == pytest.approx(x, abs=0.15), column
        assert slope[0] > 0
        assert np.diff(y) == pytest.approx(20), "a row a variant, the best first"


def test_masks_are_painted_in_the_colours_of_the_legend():
    mask = np.array([[0, 1, 2, 255, 3]], dtype=np.uint8)
    rgb = np.asarray(painted(mask, CLASSES).convert("RGB"))[0]
    colours = ["#" + bytes(pixel).hex().upper() for pixel in rgb]
    assert colours == [*class_colours(CLASSES), "#999999", "#999999"]


def test_no_two_of_many_classes_share_a_colour():
    assert len(np.unique(palette(tuple("abcdefghijklmnopqrstuvw"))[:23], axis=0)) == 23
    assert palette(tuple(map(str, range(256)))).shape == (256, 3)


# What a reader is told first.


def test_headline_says_what_ran(study):
    assert headline(read_study(study), TaskNotes()) == (
        "6 variants with 3 seeds each: 17 of 18 runs finished, "
        "each evaluated once on 335 test images."
    )


def test_failed_runs_stand_with_their_reason(study):
    failed = next(n for n in study_warnings(read_study(study)) if n.text.startswith("Failed"))
    assert failed.text == "Failed: 1 of 18 runs, left out of every mean."
    assert failed.details == (f"{VARIANTS[0]}, seed 0: all pixels are one class",)


def test_runs_that_are_not_in_the_csv_are_missing(tmp_path):
    folder = make_study(tmp_path / "six", seeds=(0, 1))
    change_results(folder, lambda table: table.iloc[1:])
    content = read_study(folder)
    missing = next(n for n in study_warnings(content) if n.text.startswith("Missing"))
    assert missing.details == (f"{VARIANTS[0]}, seed 0: not in results.csv",)
    assert len(run_table(content).rows) == 12


@pytest.mark.parametrize(
    ("seeds", "start"),
    [
        (
            1,
            "One seed: the differences below may be due to chance, and there are no verdicts on them.",
        ),
        (4, "4 seeds: verdicts are given, but their intervals are wide and rest on the assumption"),
    ],
)
def test_few_seeds_are_the_first_notice(tmp_path, seeds, start):
    folder = make_study(tmp_path / "six", variants=VARIANTS[:2], seeds=tuple(range(seeds)))
    assert study_warnings(read_study(folder))[0].text.startswith(start)


def test_five_finished_seeds_need_no_notice_but_four_of_five_do(tmp_path):
    folder = make_study(tmp_path / "six", variants=VARIANTS[:2], seeds=tuple(range(5)))
    assert [n.text[:12] for n in study_warnings(read_study(folder))] == ["The variants"]
    change_results(folder, fail_one)
    few = study_warnings(read_study(folder))[0]
    assert few.text.startswith("Fewer than 5 finished seeds")
    assert few.details == VARIANTS[:1]


def test_variants_that_do_not_beat_a_constant_are_named(tmp_path):
    folder = make_study(tmp_path / "six", variants=VARIANTS[:2], seeds=(0,))
    change_results(folder, lambda t: t.assign(mean_iou=[0.1, 0.5]))
    low = next(
        n for n in study_warnings(read_study(folder)) if "no better than a baseline" in n.text
    )
    assert low.details == (
        f'{VARIANTS[0]}: no better than the baseline "all background (constant prediction)"',
    )
    assert [r.is_baseline for r in variant_table(read_study(folder)).rows] == [False, True, False]


def test_different_losses_are_said_not_to_rank(study, page):
    assert "minimise different quantities, so the loss cannot be used to rank them" in page


# The page.


def test_page_is_one_file_below_five_megabytes(study, page):
    assert (study / "report.html").stat().st_size < 5_000_000
    for attributes in Outline(page).tags:
        for key in ("src", "srcset", "href", "action", "data"):
            link = attributes[1].get(key)
            assert link is None or link.startswith(("data:image/", "#")), link
    assert "http" not in re.sub(r"data:image/\w+;base64,[\w+/=]+|http-equiv", "", page)
    assert "url(" not in page
    assert "@import" not in page


def test_page_has_alternatives_headings_and_captions(page):
    outline = Outline(page)
    assert len(outline.of("h1")) == 1
    assert all(image.get("alt") for image in outline.of("img"))
    assert len(outline.of("caption")) == len(outline.of("table"))
    levels = [int(tag[1]) for tag, _ in outline.tags if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = {attributes["id"] for _, attributes in outline.tags if "id" in attributes}
    assert {link["href"][1:] for link in outline.of("a")} <= ids


def test_every_variant_shows_every_image(page):
    alts = [image["alt"] for image in Outline(page).of("img")]
    for k in range(4):
        for variant in VARIANTS:
            assert f"Mask of scene-{k:04d} predicted by {variant}" in alts


def test_names_are_escaped(tmp_path):
    folder = make_study(tmp_path / "six", variants=VARIANTS[:1], seeds=(0,), images=1)
    about = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    about["question"] = about["name"] = "<script>alert(1)</script>"
    (folder / "study.json").write_text(json.dumps(about), encoding="utf-8")
    assert "<script>alert" not in page_of(folder)


def test_a_name_with_dollar_signs_is_no_formula(tmp_path):
    folder = make_study(tmp_path / "six", variants=VARIANTS[:1], seeds=(0,), images=1)
    images, about = folder / "images" / "images.json", folder / "study.json"
    images.write_text(images.read_text().replace("scene-0000", "a$5_and_$6_b"))
    about.write_text(about.read_text().replace(f'"{CLASSES[0]}"', '"$5_and_$6_b"'))
    assert "a$5_and_$6_b" in page_of(folder).replace("<wbr>", "")


def test_figures_are_saved_the_same_again_and_do_not_outlive_their_numbers(tmp_path):
    folder = make_study(tmp_path / "six", variants=VARIANTS[:1], seeds=(0,), images=1)
    files = [write_report(folder), *sorted((folder / "figures").iterdir())]
    assert [f.name for f in files[1:]] == ["cost.svg", "learning_curves.svg", "sample_grid.svg"]
    before = [file.read_bytes() for file in files]
    write_report(folder)
    assert [file.read_bytes() for file in files] == before
    shutil.rmtree(folder / "images")
    write_report(folder)
    assert not (folder / "figures" / "sample_grid.svg").exists()


# Holes.


@pytest.mark.parametrize(
    "holes",
    [
        {
            "per_image.parquet": "This folder has no metrics of single images.",
            "images": "This folder has no test images.",
            "runs": "no run in this folder has a metrics.csv",
        },
        {
            "results.csv": "Missing: 2 of 2 runs",
            f"images/000-{VARIANTS[0]}.png": '<div class="hole"',
        },
        {
            "study.json": "This folder has no metrics of each class.",
            "images/images.json": "This folder has no test images.",
        },
    ],
    ids=lambda holes: "+".join(holes),
)
def test_page_renders_with_holes(tmp_path, holes):
    folder = make_study(tmp_path / "six", variants=VARIANTS[:2], seeds=(0,), images=1)
    for name in holes:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    page = page_of(folder)
    if "study.json" in holes:  # what the page says without it
        (folder / "study.json").unlink()
        page = write_report(folder).read_text(encoding="utf-8")
    assert [sentence for sentence in holes.values() if sentence not in page] == []


def test_a_folder_with_nothing_but_its_plan_renders(tmp_path):
    plan = '[study]\nname = "bare"\nseeds = [0, 1]\nvariants = [{ name = "a" }, { name = "b" }]\n'
    (tmp_path / "study.toml").write_text(plan, encoding="utf-8")
    page = page_of(tmp_path)
    assert "2 variants with 2 seeds each: 0 of 4 runs finished." in page
    assert "Missing: 4 of 4 runs" in page


def test_a_failed_run_with_infinite_loss_is_drawn_but_not_averaged(tmp_path):
    folder = make_study(tmp_path / "six", variants=VARIANTS[:1], seeds=(0, 1), images=1)
    change_results(folder, fail_one)
    metrics = folder / "runs" / VARIANTS[0] / "seed-0" / "metrics.csv"
    table = pd.read_csv(metrics)
    table.loc[5:, "train_loss"] = np.inf
    table.to_csv(metrics, index=False)
    page = page_of(folder)
    assert "99.0" not in page.split('<section aria-labelledby="curves">')[0]
    assert "One variant: there is nothing to compare it with." in page


def test_metrics_that_are_not_numbers_are_dashes(tmp_path):
    folder = make_study(tmp_path / "six", variants=VARIANTS[:1], seeds=(0,))
    change_results(folder, lambda table: table.assign(iou_pet=np.nan, gflop=np.nan))
    content = read_study(folder)
    assert class_tables(content)[0].rows[0].cells[1].text == "—"
    assert cost_table(content).rows[0].cells[-1].value is None


# UserErrors.


def test_a_folder_without_a_plan_is_rejected(tmp_path):
    with pytest.raises(UserError) as error:
        write_report(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}: not a study folder, because it contains no study.toml; "
        "name a folder that isthmus study wrote"
    )


@pytest.mark.parametrize(
    "name", ["study.json", "images/images.json", "per_image.parquet", "study.toml"]
)
def test_a_broken_file_is_rejected_by_name(tmp_path, name):
    folder = make_study(tmp_path / "six", variants=VARIANTS[:1], seeds=(0,), images=1)
    (folder / name).write_text("{ not", encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(str(folder / name)) + ": cannot be read"):
        write_report(folder)


def test_results_without_a_status_are_rejected(tmp_path):
    folder = make_study(tmp_path / "six", variants=VARIANTS[:1], seeds=(0,), images=1)
    change_results(folder, lambda table: table.drop(columns="status"))
    with pytest.raises(UserError, match=r"results\.csv: cannot be read .*no column status"):
        write_report(folder)


def test_the_report_needs_no_torch():
    program = "import sys, isthmus.report.page; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# In a browser.


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_overflows_the_page(visit, study, width):
    page = visit(study, width)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")


def column(page, number: int) -> list[str]:
    return page.eval_on_selector_all(
        "section table",
        f"t => [...t[0].tBodies[0].rows].map(r => r.cells[{number}].dataset.value)",
    )


def test_a_click_sorts_and_sorts_back(visit, study):
    page = visit(study)
    button = page.get_by_role("button", name="Mean Dice").first
    header = page.locator("thead th").nth(2)
    assert page.locator("thead th").nth(1).get_attribute("aria-sort") == "descending"
    button.click()
    values = [float(value) for value in column(page, 2) if value]
    assert values == sorted(values, reverse=True)
    assert column(page, 2)[-1] == ""  # the constant prediction has no Dice here: last
    assert header.get_attribute("aria-sort") == "descending"
    assert page.locator("thead th").nth(1).get_attribute("aria-sort") == "none"
    button.click()
    assert [float(value) for value in column(page, 2) if value] == values[::-1]
    assert column(page, 2)[-1] == ""
    assert header.get_attribute("aria-sort") == "ascending"


def test_the_keyboard_reaches_the_metrics_and_sorts(visit, study):
    page = visit(study)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Variant").first.focus()
    page.keyboard.press("Enter")
    assert column(page, 0) == sorted(column(page, 0))
    page.keyboard.press("Space")
    assert column(page, 0) == sorted(column(page, 0), reverse=True)
