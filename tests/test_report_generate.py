"""The report of a study of VAEs: its sample grids pixel for pixel, its drawings, its words, its page."""

import base64
import html
import io
import itertools
import json
import re
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import tomli_w
from PIL import Image

from conftest import concluded, page_of, task_fields
from isthmus.errors import UserError
from isthmus.recipe import settings_of
from isthmus.report import figures
from isthmus.report.architecture import READ, architecture_drawing
from isthmus.report.curves import curve_charts
from isthmus.report.image_grid import as_png
from isthmus.report.page import write_figure
from isthmus.report.sample_grids import KINDS, label_columns, sample_grid
from isthmus.report.svg import Drawing
from isthmus.report.tables import label_use_table, run_table, variant_table
from isthmus.study.plan import StudyPlan, Variant, plan_as_toml
from isthmus.study.study_folder import read_study
from isthmus.tasks.generate.page import OBEYED
from isthmus.tasks.generate.recipe import GenerateRecipe
from test_report import change_results

NAMES = ("zero", "one", "two", "three")
TITLES = {
    "swap": "Encoded with the true label, decoded with a wrong one",
    "swap_wrong": "Encoded and decoded with a wrong label",
    "random": "Generated from the prior, each with a label",
    "unconditional": "Generated from the prior without a label",
    "style": "One style per row, one label per column",
    "reconstruction": "Reconstructed with the true label",
    "interpolation": "From one image to another",
    "traversal": "One unit of z varied, the others fixed",
}
SHARES = ("swap_encoded_true", "swap_encoded_wrong", "leakage_encoded_true", "prior_fidelity")
METRICS = (
    ("swap_encoded_true", True, "Swap success, encoded true"),
    ("swap_encoded_wrong", True, "Swap success, encoded wrong"),
    ("leakage_encoded_true", False, "Label leakage, encoded true"),
    ("prior_fidelity", True, ""),
    ("nll_nats", False, "NLL (nats)"),
    ("elbo_nats", True, "ELBO (nats)"),
)
VARIANTS = {
    "told": {"model.condition_on": "decoder", "objective.invariance": "none"},
    "told_adversary": {
        "model.condition_on": "both",
        "objective.invariance": "adversary",
        "objective.invariance_weight": 10.0,
    },
}


def make_study(folder: Path, *, variants=VARIANTS, seeds=(0, 1), names=NAMES, arrays=None) -> Path:
    """A study folder as isthmus study leaves it, with random images and invented metrics."""
    random = np.random.default_rng(3)
    folder.mkdir(parents=True)
    plan = StudyPlan(
        name="label_use",
        recipe=GenerateRecipe(),
        seeds=seeds,
        variants=tuple(Variant(name=name, settings=own) for name, own in variants.items()),
    )
    (folder / "study.toml").write_text(plan_as_toml(plan), encoding="utf-8")
    rows = [
        _run(folder, name, seed, variants[name], place, random, arrays or random_arrays(random))
        for place, name in enumerate(variants)
        for seed in seeds
    ]
    pd.DataFrame(rows).to_csv(folder / "results.csv", index=False)
    about = task_fields("generate") | {
        "name": "label_use",
        "question": "Does a VAE that is told the label listen?",
        "label_scheme": "strokes, 4 labels",
        "class_names": names,
        "metrics": [
            {"name": name, "higher_is_better": up, "words": words, "definition": f"What {name} is."}
            for name, up, words in METRICS
        ],
        "judge": {"name": "strokes-0123abcd", "accuracy": 0.993},
        "images": {"train": 320, "validation": 40, "test": 200},
        "baselines": [
            {
                "name": "ignores the label (control)",
                "definition": "a decoder that returns the source image",
                "is_floor": True,
                "metrics": {"swap_encoded_true": 0.007, "swap_encoded_wrong": 0.007},
            }
        ],
        "variants": list(variants),
        "factors": ["model.condition_on", "objective.invariance", "objective.invariance_weight"],
        "seeds": seeds,
        "loss_differs": len(variants) > 1,
        "command": "isthmus study recipes/conditioning.toml",
    }
    (folder / "study.json").write_text(json.dumps(about), encoding="utf-8")
    return folder


def _run(folder, variant, seed, settings, place, random, arrays):
    run = folder / "runs" / variant / f"seed-{seed}"
    run.mkdir(parents=True)
    np.savez_compressed(run / "sample_grids.npz", **arrays)
    epoch = np.arange(1, 9)
    fall = 90 + 60 * np.exp(-epoch / 3) + random.normal(0, 0.5, 8)
    curves = {"train_loss": fall, "validation_loss": fall + 2}
    curves |= {"train_elbo_nats": -fall, "validation_elbo_nats": -fall - 2}
    pd.DataFrame({"epoch": epoch} | curves).to_csv(run / "metrics.csv", index=False)
    shares = {
        "swap_encoded_true": 0.95 + 0.02 * place,
        "swap_encoded_wrong": 0.4 + 0.55 * place,
        "prior_fidelity": 0.98,
        "leakage_encoded_true": 0.02,
    }
    with_intervals = {
        f"{name}{end}": share + shift
        for name, share in shares.items()
        for end, shift in (("", 0.001 * seed), ("_low", -0.01), ("_high", 0.015))
    }
    return {
        **{"variant": variant, "seed": seed, "status": "finished", "reason": ""},
        **settings,
        **with_intervals,
        **{"nll_nats": 83.1234 + seed, "nll_standard_error": 0.6, "elbo_nats": -85.5 - seed},
        **{
            "style_encoded_true_shuffled": 0.01 * seed,
            "frechet_floor": 1.5,
            "judge_accuracy": 0.993,
        },
        **{"train_loss_last": fall[-1], "parameters": 900_000, "gflop": 0.1},
        **{"train_seconds": 60.0, "epochs": 8, "best_epoch": 8},
    }


def random_arrays(random, *, channels=1, labels=4, side=8):
    """What runs/sample grids.py writes, with noise for images."""

    def images(count):
        return random.integers(0, 256, (count, channels, side, side), dtype=np.uint8)

    true = np.arange(25) % labels
    return {
        "swap_source": images(25),
        "swap_true": true,
        "swap_given": (true + 1) % labels,
        "swap_output": images(25),
        "reconstruction_output": images(25),
        "random_given": random.integers(labels, size=25),
        "random_output": images(25),
        "unconditional_output": images(25),
        "style_output": images(10 * labels),
        "interpolation_output": images(10 * labels),
        "interpolation_label": np.arange(labels),
        "interpolation_to": np.arange(labels),
        "traversal_output": images(50),
        "traversal_unit": np.array([3, 17, 0, 31, 8]),
        "swap_wrong_output": images(25),
    }


@pytest.fixture
def arrays():
    return random_arrays(np.random.default_rng(0))


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    folder = make_study(tmp_path_factory.mktemp("report") / "label_use")
    page_of(folder)
    return folder


def change_about(folder: Path, **fields) -> None:
    path = folder / "study.json"
    about = json.loads(path.read_text(encoding="utf-8")) | fields
    path.write_text(json.dumps(about), encoding="utf-8")


def words_on(drawing: Drawing) -> list[str]:
    """The text of a drawing, in its order."""
    words = re.findall(r"<text[^>]*>(.*?)</text>", drawing.inline())
    return [html.unescape(text) for text in words]


def captions_on(drawing: Drawing, **attributes: str) -> list[str]:
    """The text of a drawing after its title and note."""
    small = r'<text[^>]*font-size="12"[^>]*text-anchor="\w+"[^>]*>(.*?)</text>'
    return [html.unescape(text) for text in re.findall(small, drawing.inline())]


def note_on(drawing: Drawing) -> str:
    """The sentences under a drawing's title."""
    quiet = re.findall(r'<text[^>]*fill="var\(--quiet\)"[^>]*>(.*?)</text>', drawing.inline())
    return " ".join(quiet)


def pixels_of(drawing: Drawing) -> np.ndarray:
    """The pixels of the one image in a drawing."""
    (source,) = re.findall(r'href="data:image/png;base64,([^"]+)"', drawing.inline())
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source))))


# Sample grids.


@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_the_swap_sample_grid_are_drawn_pixel_for_pixel_in_their_places(channels):
    """In the SVG at their own pixels, in a PNG as squares of pixels; the gaps are transparent."""
    arrays = random_arrays(np.random.default_rng(1), channels=channels)
    drawing = sample_grid("swap", arrays, NAMES)
    mosaic = pixels_of(drawing)
    x, y, width, height = (
        float(
            re.search(
                r'<image x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"',
                drawing.inline(),
            )[k]
        )
        for k in range(1, 5)
    )
    assert (width / mosaic.shape[1], height / mosaic.shape[0]) == (10, 10)
    drawn = np.asarray(Image.open(io.BytesIO(as_png(drawing))).convert("RGB"))
    drawn = drawn[int(2 * y) : int(2 * (y + height)), int(2 * x) : int(2 * (x + width))]
    across, down, seen = 2 * 8 + 1 + 3, 8 + 3, np.zeros(mosaic.shape[:2], dtype=bool)
    for place in range(25):
        row, column = divmod(place, 5)
        for kind, shift in (("source", 0), ("output", 8 + 1)):
            top, left = down * row, across * column + shift
            here = (slice(top, top + 8), slice(left, left + 8))
            image = arrays[f"swap_{kind}"][place].transpose(1, 2, 0)
            assert np.array_equal(mosaic[here][..., :channels], image)
            seen[here] = True
            expected = np.kron(
                np.broadcast_to(image, (8, 8, 3)), np.ones((20, 20, 1), dtype=np.uint8)
            )
            assert np.array_equal(
                drawn[20 * top : 20 * (top + 8), 20 * left : 20 * (left + 8)], expected
            )
    assert np.array_equal(mosaic[..., -1], 255 * seen)


def test_every_pair_of_the_swap_sample_grid_says_true_and_given(arrays):
    drawing = sample_grid("swap", arrays, NAMES)
    assert words_on(drawing)[0] == "Encoded with the true label, decoded with a wrong one"
    pairs = zip(arrays["swap_true"], arrays["swap_given"], strict=True)
    assert captions_on(drawing) == [f"{NAMES[true]} → {NAMES[given]}" for true, given in pairs]


def test_no_sample_grid_says_more_than_the_network_depends_on(arrays):
    unheard = arrays | {"encoder_is_conditioned": np.array(False)}
    assert words_on(sample_grid("swap", unheard, NAMES))[0] == "Decoded with a wrong label"
    own_priors = arrays | {"prior_is_conditioned": np.array(True)}
    assert note_on(sample_grid("style", own_priors, NAMES)) == (
        "Each row has one sample of noise, turned into z by the prior of every label."
    )


def test_the_other_sample_grids_are_labelled(arrays):
    drawn = {kind: sample_grid(kind, arrays, NAMES) for kind in KINDS}
    assert {kind: drawing.label for kind, drawing in drawn.items()} == TITLES
    said = {kind: captions_on(drawing) for kind, drawing in drawn.items()}
    assert said["random"] == [NAMES[label] for label in arrays["random_given"]]
    assert said["unconditional"] == ["no label"] * 25
    assert said["style"] == [*NAMES, *(f"z {row}" for row in range(1, 11))]
    assert said["reconstruction"] == [NAMES[label] for label in arrays["swap_true"]]
    assert said["interpolation"][:10] == [
        f"{k} %" for k in (0, 11, 22, 33, 44, 56, 67, 78, 89, 100)
    ]
    assert said["interpolation"][10:] == [*NAMES]
    assert said["traversal"][0] == "\N{MINUS SIGN}3.0"
    assert said["traversal"][9:] == ["+3.0", "unit 3", "unit 17", "unit 0", "unit 31", "unit 8"]
    assert "label zero" in note_on(drawn["traversal"])
    assert note_on(drawn["style"]) == "Each row decodes one sample of z with every label."
    some = note_on(sample_grid("style", arrays, [*NAMES, "and", "more"]))
    assert some.endswith(" one sample of z with the first 4 of 6 labels.")


def test_rows_between_two_images_are_named_by_what_both_show(arrays):
    many = [f"class {k}" for k in range(30)]
    arrays["interpolation_label"] = np.array([7, 9, 11, 12])
    arrays["interpolation_to"] = np.array([7, 9, 11, 3])
    assert captions_on(sample_grid("interpolation", arrays, many))[10:] == [
        *("class 7", "class 9", "class 11", "class 12 → class 3")
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_grid_without_its_images_is_no_figure(arrays, kind):
    own = next(key for key in arrays if key.startswith(kind) and key.endswith("output"))
    without = {key: value for key, value in arrays.items() if key != own}
    assert sample_grid(kind, without, NAMES) is None
    assert sample_grid(kind, {}, NAMES) is None


def test_long_names_break_after_the_arrow_and_are_cut_to_their_room(arrays):
    names = ("a very long name of a class indeed", "$x^2$ & <b>", "ship", "frog")
    words = captions_on(sample_grid("swap", arrays, names))
    assert re.fullmatch(r"a very long name.*(… →|…)", words[0])
    assert words[1:4] == ["$x^2$ & <b>", "$x^2$ & <b> →", "ship"]


def test_a_label_after_the_last_is_the_unconditional_label(arrays):
    arrays["swap_given"][0] = len(NAMES)
    assert captions_on(sample_grid("swap", arrays, NAMES))[0] == "zero → no label"


def test_columns_of_labels_start_with_the_source_where_there_is_one():
    rows, sources = np.full((2, 3, 1, 8, 8), 128, np.uint8), np.zeros((2, 1, 8, 8), np.uint8)
    drawing = label_columns(rows, ["a", "b", "c"], sources, row_names=["one.png", "two.png"])
    assert captions_on(drawing) == ["image", "a", "b", "c", "one.png", "two.png"]
    mosaic = pixels_of(drawing)
    assert mosaic[4, 4].tolist() == [0, 255]
    assert mosaic[4, 13].tolist() == [128, 255]
    assert captions_on(label_columns(rows, ["a", "b", "c"])) == ["a", "b", "c", "z 1", "z 2"]


def test_a_figure_is_written_where_it_is_asked_for(tmp_path):
    path = tmp_path / "new" / "sample_grid.png"
    figure = label_columns(np.zeros((1, 1, 3, 8, 8), np.uint8), ["a"])
    assert write_figure(figure, path) == path
    with Image.open(path) as written:
        assert written.size == (2 * figure.width, 2 * figure.height)
    text = write_figure(figure, path.with_suffix(".svg")).read_text(encoding="utf-8")
    assert ElementTree.fromstring(text).get("width") == str(figure.width)
    assert "var(" not in text, "other programs know no variables of a page"


# Drawn designs.


def design(**settings) -> Drawing:
    return architecture_drawing(settings_of(GenerateRecipe()) | settings)


def ends_of_label_arrows(drawing: Drawing) -> list[tuple[float, float]]:
    """Where the arrows in the label's colour end."""
    head = r'<polygon points="([\d.]+),([\d.]+) [^"]*" fill="var\(--validation\)" class="head"'
    return sorted((float(x), float(y)) for x, y in re.findall(head, drawing.inline()))


def test_the_drawing_reads_fields_that_the_recipe_has():
    assert set(READ) <= set(settings_of(GenerateRecipe()))


@pytest.mark.parametrize("conditioning", ["add", "concat", "film"])
def test_the_label_has_an_arrow_to_each_side_that_is_conditioned(conditioning):
    def ends(where):
        return ends_of_label_arrows(
            design(**{"model.condition_on": where, "model.conditioning": conditioning})
        )

    assert ends("none") == []
    (encoder,), (decoder,) = ends("encoder"), ends("decoder")
    assert encoder[0] < decoder[0]
    both = ends("both")
    assert [y for _, y in both] == [encoder[1], decoder[1]]
    assert both[0] == encoder


def test_a_prior_of_each_label_has_its_arrow_even_where_no_side_is_conditioned():
    drawing = design(**{"model.condition_on": "none", "model.prior": "per-label"})
    assert len(ends_of_label_arrows(drawing)) == 1
    assert "p(z | y)" in words_on(drawing)
    assert not any("not used" in words for words in words_on(drawing))
    assert any("not used" in words for words in words_on(design(**{"model.condition_on": "none"})))


def test_what_depends_on_the_label_says_so():
    condition = words_on(design(**{"model.condition_on": "encoder"}))
    assert "q(z | x, y)" in condition
    assert "p(x | z)" in condition
    condition = words_on(design(**{"model.condition_on": "decoder"}))
    assert "q(z | x)" in condition
    assert "p(x | z, y)" in condition


def test_the_penalty_is_drawn_where_there_is_one():
    assert "HSIC" in words_on(design(**{"objective.invariance": "hsic"}))
    assert not any("out of" in words for words in words_on(design()))


def test_the_label_consistency_is_drawn_where_it_weighs():
    weighed = design(**{"objective.label_consistency_weight": 3.0})
    assert any(words.startswith("checks") for words in words_on(weighed))
    assert "label consistency weight 3.0" in weighed.label
    assert not any(words.startswith("checks") for words in words_on(design()))


def test_no_words_overlap_or_leave_the_drawing(browser):
    """As a browser lays them out, with its own font, for every way to condition and the longest words."""
    choices = itertools.product(
        ["residual", "resnet18"], ["add", "concat", "film"], ["both", "none", "classifier"]
    )
    page = browser.new_page()
    for body, conditioning, where in choices:
        drawing = design(
            **{"model.body": body, "model.conditioning": conditioning, "model.width": 128},
            **{"model.condition_on": where, "model.latent": 1024, "model.prior": "per-label"},
            **{"objective.invariance": "adversary", "objective.label_consistency_weight": 3.0},
            **{"objective.likelihood": "discretised-logistic", "objective.beta": 0.25},
        )
        page.set_content(f'<div style="width: {drawing.width}px">{drawing.inline()}</div>')
        whole, *boxes = page.eval_on_selector_all(
            "div > svg, text",
            """all => all.map(one => {
                const box = one.getBoundingClientRect();
                return [one.textContent, box.left, box.right, box.top, box.bottom];
            })""",
        )
        assert len(boxes) > 15
        for (one, *a), (other, *b) in itertools.combinations(boxes, 2):
            is_apart = a[1] <= b[0] or b[1] <= a[0] or a[3] <= b[2] or b[3] <= a[2]
            assert is_apart, (one, other, conditioning, where)
        for words, left, right, top, bottom in boxes:
            assert whole[1] <= left < right <= whole[2], (words, conditioning, where)
            assert whole[3] <= top < bottom <= whole[4], (words, conditioning, where)
    page.close()


# Numbers and words.


def test_a_plan_gives_back_every_setting_of_a_variant(study):
    plan = tomllib.loads((study / "study.toml").read_text(encoding="utf-8"))
    assert "study" in plan
    complete = settings_of(GenerateRecipe()) | VARIANTS["told_adversary"]
    said = read_study(study).recipe_of("told_adversary")
    assert {key: said[key] for key in complete if complete[key] is not None} == {
        key: value for key, value in complete.items() if value is not None
    }


def test_every_finished_run_stands_with_its_shares_and_intervals(study):
    table = label_use_table(read_study(study))
    results = pd.read_csv(study / "results.csv").set_index(["variant", "seed"])
    *of_runs, control = table.rows
    assert len(of_runs) == 4
    for row in of_runs:
        variant, seed, *shares, judge = (cell.text for cell in row.cells)
        run = results.loc[(variant, int(seed))]
        for name, share in zip(SHARES, shares, strict=True):
            low, high = run[f"{name}_low"], run[f"{name}_high"]
            assert share == f"{run[name]:.3f} [{low:.3f}, {high:.3f}]"
        assert judge == "0.993"
    assert [row.cells[0].text for row in of_runs] == ["told_adversary"] * 2 + ["told"] * 2
    assert [cell.text for cell in control.cells][:4] == [
        "ignores the label (control)",
        "—",
        "0.007",
        "0.007",
    ]
    assert "strokes-0123abcd" in table.caption
    assert "accuracy on real test images is 0.993" in table.caption
    assert "Data: strokes, 4 labels." in table.caption


def test_runs_that_failed_do_not_stand_among_those_that_listen(tmp_path):
    folder = make_study(tmp_path / "s")
    change_results(folder, lambda t: t.assign(status=["failed", *t["status"][1:]]))
    of_runs = [row for row in label_use_table(read_study(folder)).rows if not row.is_baseline]
    assert len(of_runs) == 3


def test_headers_are_words_and_the_control_has_its_row(study):
    table = variant_table(read_study(study))
    heads = [column.text.replace("\N{NO-BREAK SPACE}", " ") for column in table.columns]
    assert heads[1:5] == [
        "Swap success, encoded true ↑",
        "Swap success, encoded wrong ↑",
        "Label leakage, encoded true ↓",
        "Prior fidelity ↑",
    ]
    assert heads[5:7] == ["NLL (nats) ↓", "ELBO (nats) ↑"]
    assert [row.cells[0].text for row in table.rows if row.is_baseline] == [
        "ignores the label (control)"
    ]
    assert table.rows[0].cells[5].text == "83.62 ± 0.71"
    heads = [column.text for column in run_table(read_study(study)).columns]
    assert "Last training objective" in heads


def test_two_protocols_that_are_one_stand_once(tmp_path):
    untold = {
        "told": {"model.condition_on": "decoder"},
        "reads": {"model.condition_on": "classifier"},
    }
    folder = make_study(tmp_path / "s", variants=untold)

    def said():
        references, study = concluded(folder).notes.references, read_study(folder)
        heads = [
            c.text
            for table in (variant_table(study), label_use_table(study))
            for c in table.columns
        ]
        return sum("encoded wrong" in head for head in heads), references[0][:24]

    assert said() == (2, "NLL: its standard error ")
    change_results(folder, lambda t: t.assign(swap_encoded_wrong=t["swap_encoded_true"]))
    assert said() == (0, "No encoder here is given")


def test_variants_are_conditioned_apart_by_the_protocols_they_obey(tmp_path):
    folder = make_study(tmp_path / "s")
    content = concluded(folder)
    assert [(group.text, group.details) for group in content.notes.groups] == [
        ("Under both protocols:", ("told_adversary",)),
        ("Only when encoded with the true label:", ("told",)),
    ]
    assert "1 of 2 variants obeys a wrong label under both protocols" in content.headline
    # One run of two below: the variant does not obey.
    change_results(folder, lambda t: t.assign(swap_encoded_wrong_low=[0.3, 0.3, 0.95, 0.89]))
    assert [group.text for group in concluded(folder).notes.groups] == [
        "Only when encoded with the true label:"
    ]
    assert "0 of 2 variants obey a wrong label" in concluded(folder).headline


def test_a_weak_judge_is_a_notice(tmp_path):
    folder = make_study(tmp_path / "s")
    assert not any("judge" in warning.text for warning in concluded(folder).warnings)
    change_results(folder, lambda t: t.assign(judge_accuracy=0.852))
    (said,) = (n.text for n in concluded(folder).warnings if "judge" in n.text)
    assert said.startswith("The judge classifies only 0.852 of the real test images correctly")


def test_the_page_says_why_a_sample_grid_without_labels_is_not_there(tmp_path):
    folder = make_study(tmp_path / "s")
    words = "There is no sample grid without labels, because this network was trained without label dropout"
    assert words not in page_of(folder)
    plan = tomllib.loads((folder / "study.toml").read_text(encoding="utf-8"))
    plan["model"]["label_dropout"] = 0.0
    (folder / "study.toml").write_text(tomli_w.dumps(plan), encoding="utf-8")
    assert page_of(folder).count(words) == 2


def test_a_control_that_the_judge_misreads_is_a_notice(tmp_path):
    folder = make_study(tmp_path / "s")

    def said(swaps):
        control = {"name": "class medoids (control)", "definition": "", "is_floor": False}
        control |= {"metrics": {"swap_encoded_true": swaps}}
        change_about(folder, baselines=[control])
        return [n.text for n in concluded(folder).warnings if "medoid" in n.text]

    assert said(1.0) == []
    (text,) = said(0.904)
    assert text.startswith("The control of class medoids has a swap success of 0.904 where theory")


def test_metrics_say_of_how_many_images_they_are(tmp_path):
    folder = make_study(tmp_path / "s")
    change_results(folder, lambda t: t.assign(cas=0.5, frechet_images=[200, 200, 198, 200]))
    said = concluded(folder).notes.references
    assert any(text.endswith("test images: 1.500, 198 images in each.") for text in said), said
    assert not any("CAS" in text for text in said), "the plan does not say it"
    plan = tomllib.loads((folder / "study.toml").read_text(encoding="utf-8"))
    plan["measure"]["cas_images"] = 2000
    (folder / "study.toml").write_text(tomli_w.dumps(plan), encoding="utf-8")
    assert (
        "CAS: its classifier is trained on 2000 generated images."
        in concluded(folder).notes.references
    )


def test_protocols_that_agree_by_chance_are_still_two(tmp_path):
    """One of its encoders is told, whatever the shares."""
    folder = make_study(tmp_path / "s")
    change_results(folder, lambda t: t.assign(swap_encoded_true=1.0, swap_encoded_wrong=1.0))
    assert not concluded(folder).notes.hidden_metrics
    assert not any(
        "No encoder here is given" in text for text in concluded(folder).notes.references
    )


def test_variants_that_minimise_different_objectives_are_said_not_to_rank(study):
    said = [warning.text for warning in concluded(study).warnings]
    assert any(
        text.startswith("The variants minimise different quantities, so the objective ")
        for text in said
    )


def test_obeying_is_measured_by_what_the_judge_can_say(tmp_path):
    """A judge of 0.85 cannot say much more than that of a perfect decoder."""
    folder = make_study(tmp_path / "s")
    change_results(folder, lambda t: t.assign(judge_accuracy=0.85, swap_encoded_wrong_low=0.77))
    assert "2 of 2 variants obey a wrong label" in concluded(folder).headline
    change_results(folder, lambda t: t.assign(swap_encoded_wrong_low=0.76))
    assert "0 of 2 variants obey a wrong label" in concluded(folder).headline


def test_metrics_of_different_likelihoods_are_said_not_to_compare(tmp_path):
    folder = make_study(tmp_path / "s")
    start = "The variants have different likelihoods"
    assert not any(n.text.startswith(start) for n in concluded(folder).warnings)
    plan = tomllib.loads((folder / "study.toml").read_text(encoding="utf-8"))
    plan["study"]["variants"][0].setdefault("objective", {})["likelihood"] = "gaussian"
    (folder / "study.toml").write_text(tomli_w.dumps(plan), encoding="utf-8")
    assert any(n.text.startswith(start) for n in concluded(folder).warnings)


def test_metrics_stand_beside_what_they_are_read_against(study):
    assert concluded(study).notes.references == (
        "NLL: its standard error over images is 0.600 nats; k = 100, at most 1000 test images.",
        "Fréchet distance of training to test images: 1.500.",
        "Style kept: pairs drawn at random give 0.000 to 0.010.",
    )


def test_curves_are_the_objective_and_the_elbo(study):
    said = [text for chart in curve_charts(read_study(study)).values() for text in words_on(chart)]
    titles = [text for text in said if not re.fullmatch(r"[\N{MINUS SIGN}\d.]+", text)]
    assert titles == ["Objective", "ELBO (nats)", "Objective (adversary, 10.0)", "ELBO (nats)"]


# The page.


def test_the_page_says_what_obeying_takes(page):
    assert f"lies above {OBEYED} of the judge's accuracy" in page


def test_label_use_follows_the_verdicts_and_what_a_vae_has_not_is_left_out(page):
    sections = re.findall(r'<h2 id="(\w+)"', page)
    assert sections == [
        *(
            "recommendation",
            "metrics",
            "verdicts",
            "label_use",
            "designs",
            "curves",
            "sample_grids",
            "cost",
            "made",
        )
    ]
    assert re.findall(r'<li><a href="#(\w+)"', page) == sections[1:]
    assert "mask" not in page.split("</style>")[1]
    assert "percentile" not in page


def test_page_shows_every_sample_grid_with_words_and_the_designs(page):
    for variant in VARIANTS:
        for title in TITLES.values():
            assert f'aria-label="{title}: sample grid of {variant}"' in page
    assert (
        "Design of told: the label conditions the decoder (concat); prior standard; invariance none"
        in page
    )
    both = "the label conditions the encoder and the decoder (concat)"
    assert f"{both}; prior standard; invariance adversary" in page
    assert len(page) < 5_000_000
    assert "http" not in re.sub(r"data:image/\w+;base64,[\w+/=]+|http-equiv", "", page)


def test_every_sample_grid_and_design_is_a_file(study):
    written = {path.name for path in (study / "figures").iterdir()}
    expected = {f"{v}_{kind}.svg" for v in VARIANTS for kind in KINDS}
    expected |= {f"architecture_{v}.svg" for v in VARIANTS} | {"learning_curves.svg", "cost.svg"}
    assert written == expected


def test_the_page_shows_the_lowest_finished_seed(tmp_path):
    folder = make_study(tmp_path / "s", seeds=(1, 0))
    change_results(folder, lambda t: t.assign(status=t["seed"].map({0: "failed", 1: "finished"})))
    shown = read_study(folder).sample_grids_of("told")
    with np.load(folder / "runs" / "told" / "seed-1" / "sample_grids.npz") as expected:
        assert np.array_equal(shown["swap_output"], expected["swap_output"])


def test_too_many_sample_grids_are_left_out_of_the_page_for_all_variants_alike(
    tmp_path, monkeypatch
):
    folder = make_study(tmp_path / "s", seeds=(0,))
    monkeypatch.setattr(figures, "KINDS", {k: KINDS[k] for k in ("swap", "style", "unconditional")})
    swap = len(sample_grid("swap", random_arrays(np.random.default_rng(0)), NAMES).inline())
    monkeypatch.setattr(figures, "_SAMPLE_GRIDS_BYTES", round(2.2 * swap))
    shown = figures.variant_sample_grids(read_study(folder))
    for variant, (drawing,) in shown.items():
        assert f'aria-label="{TITLES["swap"]}: sample grid of {variant}"' in drawing
    assert (folder / "figures" / "told_unconditional.svg").is_file()


def test_images_are_embedded_without_loss_unless_they_are_too_large(arrays):
    noise = random_arrays(np.random.default_rng(0), channels=3, side=48)
    drawing = sample_grid("swap", noise, NAMES)
    exact, lossy = (
        figures._embedded(sample_grid("swap", noise, NAMES), "told", most) for most in (10**7, 1000)
    )
    source = re.search('href="([^"]+)"', drawing.inline())[1]
    assert source in exact
    assert len(lossy) < 0.7 * len(exact)
    assert "data:image/webp;base64," in lossy
    assert re.sub('href="[^"]+"', "", lossy) == re.sub('href="[^"]+"', "", exact)


def test_six_designs_at_most_and_equal_ones_once(tmp_path):
    looks = list(
        itertools.product(("decoder", "both"), ("add", "concat"), ("standard", "per-label"))
    )[:7]
    variants = {
        f"v{k}": {
            "model.condition_on": where,
            "model.conditioning": conditioning,
            "model.prior": prior,
        }
        for k, (where, conditioning, prior) in enumerate(looks)
    }
    folder = make_study(tmp_path / "s", variants=variants | {"again": variants["v0"]}, seeds=(0,))
    shown = figures.designs(read_study(folder))
    assert [design.names for design in shown] == [
        ("v0", "again"),
        *((f"v{k}",) for k in range(1, 6)),
    ]
    assert len(list((folder / "figures").glob("architecture_*.svg"))) == 8


@pytest.mark.parametrize(
    ("key", "values"), [("objective.beta", (1.0, 4.0)), ("model.latent", (8, 16))]
)
def test_what_is_drawn_otherwise_is_another_design(tmp_path, key, values):
    variants = {f"v{value}": {key: value} for value in values}
    shown = figures.designs(read_study(make_study(tmp_path / "s", variants=variants, seeds=(0,))))
    assert [design.names for design in shown] == [(name,) for name in variants]


def test_where_no_side_is_conditioned_the_conditioning_makes_no_other_design(tmp_path):
    variants = {f: {"model.condition_on": "none", "model.conditioning": f} for f in ("add", "film")}
    folder = make_study(tmp_path / "s", variants=variants, seeds=(0,))
    (shown,) = figures.designs(read_study(folder))
    assert shown.drawing.label.startswith(
        "Design of add, film: the label conditions neither encoder nor decoder;"
    )


def test_the_page_of_a_study_of_vaes_renders_with_holes(tmp_path):
    folder = make_study(tmp_path / "s", seeds=(0,))
    (folder / "results.csv").unlink()
    (folder / "study.toml").write_text('[study]\nname = "bare"\n', encoding="utf-8")
    page = page_of(folder)
    assert "No run has finished." in page
    assert "The sample grids are not in this folder" in page
    assert "the plan in this folder does not define the networks" in page


def test_broken_sample_grids_are_rejected_by_name(tmp_path):
    folder = make_study(tmp_path / "s", seeds=(0,))
    path = folder / "runs" / "told" / "seed-0" / "sample_grids.npz"
    path.write_bytes(b"no zip")
    with pytest.raises(UserError, match=re.escape(f"{path}: cannot be read")):
        read_study(folder).sample_grids_of("told")


def test_the_report_of_a_classifier_has_neither_masks_nor_sample_grids(tmp_path):
    folder = make_study(tmp_path / "s", seeds=(0,))
    metrics = [{"name": "prior_fidelity", "words": "Accuracy"}]
    change_about(folder, **task_fields("classify") | {"metrics": metrics})
    page = page_of(folder)
    sections = ["recommendation", "metrics", "verdicts", "curves", "cost", "made"]
    assert re.findall(r'<h2 id="(\w+)"', page) == sections
