"""VAEs as users train and use them: studies, the wrong-label benchmark, generate and swap."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from conftest import error_of, run_result
from isthmus.cli.main import main
from isthmus.data.batches import Batch
from isthmus.data.places import cache_folder
from isthmus.engine import train as runs_train
from isthmus.engine.device import CPU, Device
from isthmus.engine.fit import Trained
from isthmus.engine.loaders import split_for
from isthmus.engine.run_folder import RunFolder
from isthmus.engine.run_result import RunResult
from isthmus.engine.seeds import torch_draws
from isthmus.engine.task import task_of
from isthmus.engine.task_module import Part, Sums, TaskModule, optimiser_for, schedule_for
from isthmus.engine.train import train_run, tune_run
from isthmus.errors import UserError
from isthmus.metrics.generation import kl_nats
from isthmus.recipe import Recipe, Train, with_settings
from isthmus.study.plan import load_plan
from isthmus.tasks.classify.evaluate import evaluate_classifier
from isthmus.tasks.classify.module import ClassifierModule
from isthmus.tasks.generate.evaluate import _test_part, _use_of_z, images_of
from isthmus.tasks.generate.judge import (
    LoadedJudge,
    judge_folder,
    judge_name,
    judge_recipe,
    load_judge,
)
from isthmus.tasks.generate.module import Generator, vae_for
from isthmus.tasks.generate.page import generation_notes
from isthmus.tasks.generate.recipe import VAE, GenerateRecipe, GenerateTrain, Objective
from isthmus.tasks.generate.trained_vae import load_vae
from isthmus.tasks.generate.vae_on_arrays import VAEOnArrays

BF16 = Device(torch.device("cpu"), "bf16")


@pytest.fixture(scope="module")
def study(
    strokes: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Path:
    """A finished study of two VAEs, one of which is told the label."""
    return tmp_path_factory.mktemp("vae") / "study"


@pytest.fixture
def finished(study: Path, stroke_recipe: Path) -> Path:
    if not (study / "results.csv").exists():
        assert main(["study", str(stroke_recipe), "--out", str(study)]) == 0
    return study


def results_of(study: Path) -> pd.DataFrame:
    return pd.read_csv(study / "results.csv").set_index("variant")


@pytest.mark.trains
def test_the_conditioned_vae_obeys_and_the_unconditioned_one_does_not(finished: Path) -> None:
    results = results_of(finished)
    assert set(results["status"]) == {"finished"}
    assert (results["judge_accuracy"] > 0.9).all(), "strokes are easy to tell apart"
    condition, untold = results.loc["told"], results.loc["not_told"]
    assert condition["prior_fidelity"] > 0.6, "seen .86 and more; without its label .31 to .39"
    assert condition["swap_encoded_true"] > untold["swap_encoded_true"] + 0.4
    assert untold["swap_encoded_true"] < 0.2, "what knows no label cannot obey it"
    assert untold["elbo_gap_nats"] == 0.0
    assert untold["elbo_unconditional_nats"] == untold["elbo_nats"]
    assert condition["elbo_gap_nats"] > 5


@pytest.mark.trains
def test_both_protocols_are_one_where_the_encoder_is_not_conditioned(finished: Path) -> None:
    results = results_of(finished)
    assert (results["swap_encoded_true"] == results["swap_encoded_wrong"]).all()


@pytest.mark.trains
def test_every_interval_holds_its_metric(finished: Path) -> None:
    results = results_of(finished)
    for name in (
        "swap_encoded_true",
        "swap_encoded_wrong",
        "prior_fidelity",
        "leakage_encoded_true",
    ):
        assert (results[f"{name}_low"] <= results[name]).all()
        assert (results[name] <= results[f"{name}_high"]).all()
        assert (results[f"{name}_high"] - results[f"{name}_low"] > 0.05).all(), "36 test images"


@pytest.mark.trains
def test_importance_sampling_tightens_the_elbo(finished: Path) -> None:
    per_image = pd.read_parquet(finished / "per_image.parquet").dropna(subset="nll_nats")
    assert len(per_image) == 2 * 30
    gap = -per_image["nll_nats"] - per_image["elbo_nats"]
    assert gap.mean() > 0, "the bound with 20 samples lies above that with one, by 5.5 on average"


@pytest.mark.trains
def test_wrong_labels_are_wrong_and_the_same_for_every_variant(finished: Path) -> None:
    per_image = pd.read_parquet(finished / "per_image.parquet")
    assert (per_image["given"] != per_image["label"]).all()
    assert set(per_image["given"]) == {0, 1, 2}
    by_variant = per_image.groupby("variant")["given"].apply(tuple)
    assert by_variant.nunique() == 1


@pytest.mark.trains
def test_both_controls_land_where_theory_says(finished: Path) -> None:
    baselines = json.loads((finished / "study.json").read_text())["baselines"]
    of = {baseline["name"]: baseline["metrics"] for baseline in baselines}
    ignores, medoids = of["ignores the label (control)"], of["class medoids (control)"]
    judge_accuracy = results_of(finished)["judge_accuracy"].iloc[0]
    assert ignores["swap_encoded_true"] <= 1 - judge_accuracy
    assert ignores["style_encoded_true"] == pytest.approx(1.0)
    assert medoids["swap_encoded_true"] == 1.0
    assert medoids["style_encoded_true"] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.trains
def test_the_judge_is_trained_once(
    stroke_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the variant and the seed; here in a cache that no judge lies in yet."""
    monkeypatch.setenv("ISTHMUS_CACHE", str(tmp_path / "cache"))
    trained, fit = [], runs_train.fit

    def counting(fresh: Any, recipe: Recipe, *of_run: Any, **how: Any) -> TaskModule:
        trained.append(recipe.task)
        return fit(fresh, recipe, *of_run, **how)

    monkeypatch.setattr(runs_train, "fit", counting)
    plan = load_plan(stroke_recipe)
    quick = {"train.epochs": 1, "measure.judge_epochs": 4}
    for seed, variant in enumerate(plan.variants):
        recipe = with_settings(plan.recipe_of(variant), quick)
        train_run(recipe, seed, RunFolder(tmp_path / variant.name))
    assert trained == ["classify", "generate", "generate"]


def judges_of(study: Path) -> set[str]:
    """The names that the finished runs of a study have for their judge."""
    results = (RunFolder(path.parent).result() for path in study.glob("runs/*/*/result.json"))
    return {result.judge.name for result in results if result.judge}


@pytest.mark.trains
def test_a_study_goes_on_with_its_own_judge_whatever_the_cache_holds(
    finished: Path,
    stroke_recipe: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The cache was cleared, or this is another machine; another judge in the study is rejected."""
    monkeypatch.setenv("ISTHMUS_CACHE", str(tmp_path / "cache"))
    study = shutil.copytree(finished, tmp_path / "study")
    (weights,) = study.glob("judges/*/model.safetensors")
    own, (judge,) = weights.read_bytes(), judges_of(study)
    other = {name: 1.5 * of for name, of in load_file(weights).items() if of.is_floating_point()}
    save_file(load_file(weights) | other, weights)
    another = judge_name(RunFolder(weights.parent))
    words = ["study", str(stroke_recipe), "--out", str(study), "--seeds", "2"]
    capsys.readouterr()
    assert main(words) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1] == (
        f"isthmus: the judge in {study}/judges is {another}, and {judge} evaluated the other runs: metrics "
        f"by different judges cannot be compared; put {judge} back, or choose another --out"
    )
    assert not list(study.glob("runs/*/seed-1/metrics.csv"))
    weights.write_bytes(own)
    assert main(words) == 0
    assert len(list(study.glob("runs/*/seed-1/result.json"))) == 2
    assert judges_of(study) == {judge}
    assert not (tmp_path / "cache" / "judges").exists(), "so none was trained"


@pytest.mark.trains
def test_runs_of_two_judges_are_no_study(
    finished: Path, stroke_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = shutil.copytree(finished, tmp_path / "study")
    (judge,) = judges_of(study)
    begun = RunFolder(study / "runs" / "not_told" / "seed-0").environment
    begun.write_text(begun.read_text().replace(judge, f"{judge}-too"))
    words = ["study", str(stroke_recipe), "--out", str(study)]
    capsys.readouterr()
    assert main(words) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1] == (
        f"isthmus: {study}: its runs were evaluated with two judges, {judge} and {judge}-too: the metrics "
        "of different judges differ by percentage points; delete the folders of the runs with one judge, or "
        "choose another folder with --out"
    )
    shutil.rmtree(begun.parent)
    assert main(words) == 0
    assert set(results_of(study)["status"]) == {"finished"}
    assert judges_of(study) == {judge}


def test_a_judge_is_evaluated_as_it_judges(stroke_recipe: Path, tmp_path: Path) -> None:
    """In float32, whatever it has trained in."""
    recipe = load_plan(stroke_recipe).recipe
    assert isinstance(recipe, GenerateRecipe)
    of_judge, store = judge_recipe(recipe), task_of(recipe).open_store(recipe.data)
    split = split_for(recipe, store, 0)
    module = task_of(of_judge).new_module(of_judge, store, steps=1)
    kinds: set[torch.dtype] = set()
    module.network.head.register_forward_hook(lambda _net, _in, out: kinds.add(out.dtype))
    trained = Trained(
        module, 1, of_judge, 0, RunFolder(tmp_path), store, split, BF16, False, tmp_path
    )
    evaluate_classifier(trained)
    assert kinds == {torch.float32}


def test_another_path_to_the_same_images_has_the_same_judge(
    stroke_recipe: Path, strokes: Path, tmp_path: Path
) -> None:
    moved = shutil.copytree(strokes, tmp_path / "moved")
    here = load_plan(stroke_recipe).recipe
    there = with_settings(here, {"data.folder": str(moved)})
    longer = with_settings(here, {"measure.judge_epochs": 11})
    of_here, of_there, of_longer = (
        judge_folder(judge_recipe(recipe), task_of(recipe).open_store(recipe.data), tmp_path).path
        for recipe in (here, there, longer)
    )
    assert of_here == of_there != of_longer


@pytest.mark.trains
def test_sample_grids_say_which_label_went_in(finished: Path) -> None:
    with np.load(RunFolder(finished / "runs" / "told" / "seed-0").sample_grids) as sample_grids:
        assert len(sample_grids["swap_output"]) == len(sample_grids["swap_given"]) == 25
        assert (sample_grids["swap_true"] != sample_grids["swap_given"]).all()
        assert sample_grids["random_output"].shape == (25, 1, 16, 16)
        assert set(sample_grids["random_given"]) == {0, 1, 2}
        assert len(sample_grids["style_output"]) == 10 * 3
        assert len(sample_grids["interpolation_output"]) == 3 * 10
        assert sample_grids["unconditional_output"].shape == (25, 1, 16, 16), (
            "it was trained without labels, too"
        )


@pytest.mark.trains
def test_the_report_shows_label_use_and_sample_grids(finished: Path) -> None:
    html = (finished / "report.html").read_text(encoding="utf-8")
    assert "Does it listen?" in html
    assert "class medoids (control)" in html
    assert (finished / "figures" / "told_swap.svg").exists()


def dropping(recipe: GenerateRecipe) -> list[tuple[str, ...]]:
    """The variants of the warning on label dropout with a label in the decoder alone."""
    start = "Label dropout with a label in the decoder alone"
    runs = pd.DataFrame({"variant": ["a"], "seed": [0]})
    warnings = generation_notes(runs, {"a": recipe}, ()).warnings
    return [warning.details for warning in warnings if warning.text.startswith(start)]


def test_label_dropout_with_a_label_in_the_decoder_alone_is_a_warning() -> None:
    recipe = with_settings(GenerateRecipe(), {"model.condition_on": "decoder"})
    assert dropping(recipe) == [("a",)]
    for remedy in ({"model.label_dropout": 0.0}, {"model.condition_on": "classifier"}):
        assert dropping(with_settings(recipe, remedy)) == []


@pytest.mark.trains
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {
            "model.condition_on": "classifier",
            "objective.label_consistency_weight": 3.0,
            "objective.importance_samples": 2,
            "objective.importance_from": 0.6,
        },
    ],
    ids=["plain", "bound and auxiliary classifier"],
)
def test_a_vae_cut_short_ends_as_if_it_had_not_been(
    settings: dict[str, object], stroke_recipe: Path, tmp_path: Path
) -> None:
    """The same weights, whether or not training was interrupted after three of six epochs."""
    from isthmus.engine.train import train_run

    plan = load_plan(stroke_recipe)
    short = {"train.epochs": 6, "train.batch": 16, "train.keep": "last"}
    recipe = with_settings(plan.recipe, short | settings)
    whole, cut = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "cut")
    train_run(recipe, 0, whole)

    class Cut(Exception):
        pass

    def on_progress(done: int, of: int, _words: str) -> None:
        if done > of / 2 + 1 and not (cut.path / "was_cut").exists():
            (cut.path / "was_cut").touch()
            raise Cut

    with pytest.raises(Cut):
        train_run(recipe, 0, cut, on_progress=on_progress)
    train_run(recipe, 0, cut, on_progress=on_progress)
    assert whole.result().metrics == cut.result().metrics
    assert whole.weights.read_bytes() == cut.weights.read_bytes()


@pytest.mark.trains
@pytest.mark.parametrize("labels", ["upright level", "none"])
def test_generate_writes_a_sample_grid(labels: str, finished: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "drawn.png"
    run = finished / "runs" / "told" / "seed-0"
    assert main(["generate", str(run), "--labels", *labels.split(), "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    with Image.open(out) as sample_grid:
        assert sample_grid.width > 100


SHORT: dict[str, object] = {"train.epochs": 2, "measure.judge_epochs": 10}


@pytest.mark.trains
@pytest.mark.parametrize(
    "settings",
    [
        {"objective.likelihood": "gaussian", "objective.label_consistency_weight": 3.0},
        {"objective.likelihood": "discretised-logistic", "model.condition_on": "both"},
        {"objective.likelihood": "continuous-bernoulli", "model.prior": "per-label"},
        {
            "objective.likelihood": "bernoulli-threshold",
            "objective.invariance": "mmd",
            "objective.invariance_weight": 10.0,
            "model.condition_on": "encoder",
            "model.body": "residual",
        },
    ],
    ids=lambda settings: str(settings["objective.likelihood"]),
)
def test_every_likelihood_is_evaluated_and_used(
    settings: dict[str, object], stroke_recipe: Path, strokes: Path, tmp_path: Path, capsys
) -> None:
    """Metrics are finite; none comes from an unconditional label that training has never shown."""
    label_dropout = {"model.label_dropout": 0.0}
    recipe = with_settings(load_plan(stroke_recipe).recipe, SHORT | label_dropout | settings)
    metrics = train_run(recipe, 0, RunFolder(tmp_path)).metrics
    assert np.isfinite(list(metrics.values())).all()
    assert "elbo_unconditional_nats" not in metrics
    assert metrics["frechet_images"] == 36
    with np.load(RunFolder(tmp_path).sample_grids) as sample_grids:
        assert "unconditional_output" not in sample_grids
    image, out = tmp_path / "mine.png", str(tmp_path / "swapped.png")
    image.write_bytes((strokes / "level" / "00.png").read_bytes())  # in no folder of its label
    is_labelled = settings.get("model.condition_on") in ("both", "encoder")
    assert main(["swap", str(tmp_path), str(image), "--out", out]) == (2 if is_labelled else 0)
    sentence = (
        "--true is missing: the encoder of this model (model.condition_on = "
        f"{recipe.model.condition_on!r}) is conditioned on the label of an image; name the label"
    )
    assert (sentence in capsys.readouterr().err) == is_labelled
    assert main(["generate", str(tmp_path), "--labels", "none", "--out", out]) == 2
    assert "label none: this model has no such label" in capsys.readouterr().err


@pytest.mark.trains
def test_a_network_that_has_diverged_is_failed_and_counted(
    stroke_recipe: Path, tmp_path: Path
) -> None:
    wild = {"train.lr": 1e6, "train.schedule": "constant", "model.condition_on": "classifier"}
    recipe = with_settings(load_plan(stroke_recipe).recipe, SHORT | wild)
    result = train_run(recipe, 0, RunFolder(tmp_path))
    assert result.status == "failed"
    is_of_loss = result.reason.endswith("it must be finite")
    assert is_of_loss or result.reason == "the ELBO is not finite"


@pytest.mark.trains
@pytest.mark.parametrize("task", ["generate", "classify", "tuning"])
def test_a_loss_that_breaks_after_a_sound_epoch_fails_the_run(
    task: str, stroke_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights that were kept are sound, and are evaluated; yet the recipe went wrong."""
    asked = SHORT | {"objective.likelihood": "continuous-bernoulli"}
    of_vae = with_settings(load_plan(stroke_recipe).recipe, asked)
    assert isinstance(of_vae, GenerateRecipe)
    is_judge = task == "classify"
    recipe = judge_recipe(of_vae) if is_judge else of_vae
    broken = ClassifierModule if is_judge else Generator
    forward = broken.forward

    def breaking(self: TaskModule, batch: Batch, part: Part) -> tuple[torch.Tensor, Sums]:
        if part == "train" and self.steps_done >= self.steps / recipe.train.epochs:
            batch = batch | {"image": math.nan * batch["image"]}
        return forward(self, batch, part)

    monkeypatch.setattr(broken, "forward", breaking)
    run = tune_run if task == "tuning" else train_run
    result = run(recipe, 0, RunFolder(tmp_path))
    assert result.status == "failed"
    assert result.reason == "loss 2 of 2 is nan: it must be finite"
    values = result.metrics.values() if isinstance(result, RunResult) else [result.value]
    assert np.isfinite(list(values)).all()


@pytest.mark.trains
def test_a_network_that_says_nothing_in_z_has_collapsed(
    stroke_recipe: Path, tmp_path: Path
) -> None:
    recipe = with_settings(load_plan(stroke_recipe).recipe, SHORT | {"objective.beta": 1e4})
    result = train_run(recipe, 0, RunFolder(tmp_path))
    assert result.status == "failed"
    assert result.reason == "collapsed: no unit of z depends on the image"
    assert result.metrics["active_units"] == 0
    assert RunFolder(tmp_path).sample_grids.exists(), "what it draws can be looked at"


@pytest.mark.trains
@pytest.mark.parametrize("prior", ["standard", "per-label"])
def test_what_the_noise_of_z_hides_is_not_read_in_it(
    prior: str, stroke_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mean that whispers the label tells no decoder, one that shouts it does, whatever the prior."""
    recipe = with_settings(load_plan(stroke_recipe).recipe, {"model.prior": prior})
    assert isinstance(recipe, GenerateRecipe)
    store = task_of(recipe).open_store(recipe.data)
    module = task_of(recipe).new_module(recipe, store, steps=1)
    network = module.network.requires_grad_(requires_grad=False)
    split = split_for(recipe, store, 0)
    trained = Trained(module, 1, recipe, 0, RunFolder(tmp_path), store, split, CPU, False, tmp_path)
    if prior == "per-label":
        torch.nn.init.normal_(network.prior.table.weight, std=3.0)
    vae = VAEOnArrays(network)
    test = _test_part(vae, trained)

    def read(loudness: float) -> float:
        def encode(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            mu = loudness * torch.nn.functional.one_hot(y, 4).float()
            return mu, torch.zeros_like(mu)

        monkeypatch.setattr(network, "encode", encode)
        of_test = vae.encoded(test.target, test.labels)
        return _use_of_z(vae, trained, test, of_test)["label_probe_accuracy"]

    chance, error = 1 / 3, math.sqrt(2 / 9 / len(test.labels))
    assert abs(read(1e-3) - chance) < 4 * error
    assert read(10.0) == 1


def test_a_size_that_no_network_fits_is_rejected_before_the_judge_is_trained(
    stroke_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISTHMUS_CACHE", str(tmp_path / "cache"))
    recipe = with_settings(load_plan(stroke_recipe).recipe, {"data.size_px": 18})
    before = torch.get_rng_state()
    with pytest.raises(UserError, match="images of 18 px do not fit the network"):
        train_run(recipe, 0, RunFolder(tmp_path / "run"))
    assert not (tmp_path / "cache" / "judges").exists()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.trains
def test_a_judge_that_has_failed_is_rejected_before_anything_is_trained_for_it(
    stroke_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISTHMUS_CACHE", str(tmp_path / "cache"))
    recipe = with_settings(load_plan(stroke_recipe).recipe, SHORT | {"measure.judge_epochs": 1})
    assert isinstance(recipe, GenerateRecipe)
    store, run = task_of(recipe).open_store(recipe.data), RunFolder(tmp_path / "run")
    places = (tmp_path / "judges", cache_folder() / "judges")
    place, cached = (judge_folder(judge_recipe(recipe), store, shared) for shared in places)
    cached.finish(run_result(status="failed", reason="classifies every image as level"))
    assert error_of(lambda: train_run(recipe, 0, run, shared=tmp_path / "judges")) == (
        f"{place.path}: the training of the judge failed (classifies every image as level), but most "
        "metrics need the judge; increase measure.judge_epochs in another folder with --out, or delete that "
        f"folder and {cached.path} to train the judge again"
    )
    assert not run.epoch_table.exists()
    for folder in (place, cached):
        shutil.rmtree(folder.path)
    assert train_run(recipe, 0, run, shared=tmp_path / "judges").judge


def by_ink(judge: LoadedJudge, images: np.ndarray) -> np.ndarray:
    """Labels that change with every two pixels of ink, where a judge that has learned may say one of all."""
    return (images.sum(axis=(1, 2, 3)) // 2).astype(np.int64) % 3


@pytest.mark.trains
def test_a_conditioned_encoder_is_conditioned_the_wrong_label_in_the_second_protocol(
    stroke_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both protocols and both ELBOs again, from the network itself."""
    monkeypatch.setattr(LoadedJudge, "labels", by_ink)
    settings = SHORT | {
        "train.epochs": 6,
        "model.condition_on": "both",
        "model.conditioning": "concat",
        "model.label_dropout": 0.0,
        "objective.likelihood": "bernoulli-threshold",
    }
    recipe = with_settings(load_plan(stroke_recipe).recipe, settings)
    assert isinstance(recipe, GenerateRecipe)
    metrics = train_run(recipe, 0, RunFolder(tmp_path)).metrics
    with np.load(RunFolder(tmp_path).image_metrics) as arrays:
        of_run = dict(arrays)

    store = task_of(recipe).open_store(recipe.data)
    test = split_for(recipe, store, 0).test
    images, labels = images_of(store, test)
    assert (of_run["label"] == labels).all()
    network, judge = load_vae(tmp_path).vae.network, load_judge(recipe, store, tmp_path / "shared")
    target = torch.from_numpy((images >= 0.5).astype(np.float32))
    given = torch.from_numpy(of_run["given"])
    noise = torch.randn(len(labels), 4, generator=torch_draws(0, "elbo"))
    judged, elbo = {}, {}
    with torch.inference_mode():
        for encoded_with, label in (("true", torch.from_numpy(labels)), ("wrong", given)):
            mu, log_sigma = network.encode(target, label)
            outputs = network.decode(mu, given).sigmoid().numpy()
            judged[encoded_with] = judge.labels(outputs)
            params = network.decode(mu + log_sigma.exp() * noise, given)
            log_prob = network.likelihood.log_prob(params, target)
            elbo[encoded_with] = log_prob - kl_nats(mu, log_sigma, *network.prior(given)).sum(1)

    for protocol, said in judged.items():
        np.testing.assert_array_equal(of_run[f"swap_encoded_{protocol}_judged"], said)
        swapped = (said == given.numpy()).mean()
        assert metrics[f"swap_encoded_{protocol}"] == pytest.approx(swapped)
    assert (judged["true"] != judged["wrong"]).any(), "a wrong label misleads the encoder"
    np.testing.assert_allclose(of_run["elbo_wrong_nats"], elbo["wrong"], rtol=1e-3)
    gap = of_run["elbo_nats"].mean()
    assert metrics["elbo_gap_nats"] == pytest.approx(gap - float(elbo["wrong"].mean()), rel=1e-3)
    assert abs(float((elbo["wrong"] - elbo["true"]).mean())) > 1, "else the gap tells no difference"


@pytest.mark.trains
def test_swap_draws_my_own_images_again(finished: Path, strokes: Path, tmp_path: Path) -> None:
    out = tmp_path / "swapped.png"
    run = finished / "runs" / "told" / "seed-0"
    images = [str(strokes / "level" / "00.png"), str(strokes / "upright" / "01.png")]
    assert main(["swap", str(run), *images, "--true", "level", "--out", str(out)]) == 0
    with Image.open(out) as sample_grid:
        assert sample_grid.width > 100


@pytest.mark.trains
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["generate", "RUN", "--labels", "uprigt"],
            "label uprigt: this model has no such label; did you mean upright?",
        ),
        (["generate"], "generate needs the folder of a trained VAE"),
        (["swap", "RUN"], "swap needs the folder of a trained VAE and images"),
        (["generate", "NOWHERE"], "a model is the folder of a finished run"),
    ],
)
def test_a_wrong_request_gets_its_sentence(
    words: list[str], sentence: str, finished: Path, tmp_path: Path, capsys
) -> None:
    run = str(finished / "runs" / "told" / "seed-0")
    places = {"RUN": run, "NOWHERE": str(tmp_path / "nowhere")}
    assert main([places.get(word, word) for word in words]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"data.colour": "rgb"}, "only grey images can be binarised"),
        (
            {"data.name": "cifar10"},
            "objective.likelihood = 'bernoulli-dynamic' with data.name = 'cifar10': only images like "
            "ink on paper can be binarised, not photographs; use gaussian or discretised-logistic",
        ),
        ({"objective.invariance": "hsic"}, "a penalty needs a weight"),
        (
            {"objective.label_consistency_noise": 0.2},
            "objective.label_consistency_noise = 0.2 does nothing without objective.label_consistency_weight",
        ),
        (
            {"objective.importance_samples": 5, "objective.beta": 4.0},
            "an importance-weighted bound has no KL term; set beta = 1",
        ),
        (
            {
                "objective.importance_samples": 5,
                "objective.importance_from": 0.1,
                "objective.kl_warmup": 0.2,
            },
            "kl_warmup to at most importance_from",
        ),
        (
            {"objective.importance_from": 0.5},
            "objective.importance_from = 0.5 does nothing with objective.importance_samples = 1",
        ),
        ({"data.name": "classes"}, "data.folder is missing"),
        (
            {"data.name": "mnist", "data.folder": "mine"},
            'data.folder has no effect with data.name = "mnist": only "classes" uses it',
        ),
        ({"data.shift_px": 40}, "a shift is at least 0 and smaller than data.size_px"),
        (
            {"objective.label_consistency_weight": 1.0, "model.condition_on": "both"},
            "objective.label_consistency_weight does nothing for model.condition_on = 'both': it needs an "
            "auxiliary classifier; set",
        ),
        ({"model.conditioning": "ad"}, "did you mean add?"),
    ],
)
def test_a_wrong_recipe_gets_its_sentence(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence.replace("?", r"\?")):
        with_settings(GenerateRecipe(), settings)


@pytest.mark.trains
def test_a_loaded_vae_draws_the_same_again(finished: Path) -> None:
    from isthmus.tasks.generate.draw import generated

    run = finished / "runs" / "told" / "seed-0"
    labels = np.array([0, 1, 2])
    first = generated(load_vae(run), labels, seed=3)
    again = generated(load_vae(run), labels, seed=3)
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, generated(load_vae(run), labels, seed=4))


def test_what_is_decoded_is_read_without_teaching_the_auxiliary_classifier(
    stroke_recipe: Path,
) -> None:
    """The word on swapped images moves the decoder; all other noise stays what it was."""
    batch = {"image": torch.rand(8, 1, 28, 28), "label": torch.arange(8) % 3}
    gradients = []
    for weight in (None, 5.0):
        model = VAE(body="resnet18", width=8, latent=4, label_dropout=0.5)
        recipe = GenerateRecipe(model=model, objective=Objective(label_consistency_weight=weight))
        torch.manual_seed(0)
        module = Generator(vae_for(recipe, 3), recipe, steps=1)
        module(batch, "train")[0].backward()
        state = torch.get_rng_state()
        auxiliary_classifier = [
            *module.network.auxiliary_classifier.parameters(),
            *module.network.auxiliary_classifier.buffers(),
        ]
        gradients.append(
            (
                [of.grad if of.grad is not None else of for of in auxiliary_classifier],
                [of.grad for of in module.network.decoder.parameters()],
                [state],
            )
        )
    (readers, decoders, states) = zip(*gradients, strict=True)
    for without, with_it in (readers, states):
        assert all(torch.equal(a, b) for a, b in zip(without, with_it, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(*decoders, strict=True))


def test_batch_norm_keeps_statistics_of_real_images_alone() -> None:
    """Neither wrong labels nor noisy images move what the network is evaluated with."""
    batch = {"image": torch.rand(8, 1, 28, 28), "label": torch.arange(8) % 3}
    seen = []
    for objective in (
        Objective(),
        Objective(label_consistency_weight=5.0, label_consistency_noise=0.3),
    ):
        model = VAE(body="resnet18", width=8, latent=4)
        recipe = GenerateRecipe(model=model, objective=objective)
        torch.manual_seed(0)
        module = Generator(vae_for(recipe, 3), recipe, steps=1)
        module(batch, "train")[0].backward()
        seen.append(list(module.network.buffers()))
    assert any(torch.equal(of, torch.tensor(1)) for of in seen[0]), "batch norm has seen a batch"
    assert all(torch.equal(a, b) for a, b in zip(*seen, strict=True))


def test_a_auxiliary_classifier_that_reads_under_noise_changes_no_other_draw() -> None:
    """It learns from noisy images, and reads what is decoded under noise; the ELBO knows nothing of it."""
    batch = {"image": torch.rand(8, 1, 28, 28), "label": torch.arange(8) % 3}
    seen = []
    for noise in (0.0, 0.3):
        objective = Objective(label_consistency_weight=5.0, label_consistency_noise=noise)
        recipe = GenerateRecipe(model=VAE(width=8, latent=4), objective=objective)
        torch.manual_seed(0)
        module = Generator(vae_for(recipe, 3), recipe, steps=1)
        loss, sums = module(batch, "train")
        loss.backward()
        parts = module.network.auxiliary_classifier, module.network.decoder
        auxiliary_classifier, decoder = ([of.grad for of in part.parameters()] for part in parts)
        elbo = float(sums["elbo_nats"])
        seen.append((torch.get_rng_state(), elbo, auxiliary_classifier, decoder))
    states, elbos, readers, decoders = zip(*seen, strict=True)
    assert torch.equal(*states)
    assert elbos[0] == elbos[1]
    for gradients in (readers, decoders):
        assert not all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize(
    "objective",
    [
        Objective(invariance="hsic", invariance_weight=1e3),
        Objective(invariance="mmd", invariance_weight=1e3),
        Objective(invariance="adversary", invariance_weight=1e3),
        Objective(label_consistency_weight=1e3),
    ],
    ids=["hsic", "mmd", "adversary", "label consistency"],
)
@pytest.mark.parametrize(("label_dropout", "is_penalised"), [(0.0, True), (0.9999, False)])
def test_only_a_label_that_is_conditioned_is_kept_out_of_z(
    objective: Objective, label_dropout: float, *, is_penalised: bool
) -> None:
    """Where it is hidden, z is all that the decoder has."""
    model = VAE(width=4, latent=4, condition_on="classifier", label_dropout=label_dropout)
    batch = {"image": torch.rand(8, 1, 28, 28), "label": torch.arange(8) % 2}
    losses = []
    for asked in (objective, Objective()):
        recipe = GenerateRecipe(model=model, objective=asked)
        torch.manual_seed(0)
        module = Generator(vae_for(recipe, 2), recipe, steps=1)
        torch.manual_seed(1)
        losses.append(module(batch, "train")[0].item())
    assert (losses[0] > losses[1]) == is_penalised
    assert is_penalised or losses[0] == losses[1]


@pytest.mark.trains
@pytest.mark.parametrize("momentum", [None, 0.5])
def test_the_schedule_leaves_the_momentum_that_was_asked_for(momentum: float | None) -> None:
    train = Train(optimiser="rmsprop", momentum=momentum)
    optimiser = optimiser_for(train, [torch.nn.Parameter(torch.zeros(1))])
    schedule = schedule_for(train, optimiser, 100)
    for _ in range(50):
        optimiser.step()
        schedule.step()
    assert optimiser.param_groups[0]["momentum"] == (momentum or 0.0)


@pytest.mark.trains
@pytest.mark.parametrize("steps", range(1, 25))
def test_a_run_of_few_steps_has_a_schedule(steps: int) -> None:
    train = GenerateTrain(warmup=0.1, lr=1.0)
    optimiser = optimiser_for(train, [torch.nn.Parameter(torch.zeros(1))])
    schedule = schedule_for(train, optimiser, steps)
    rates = [schedule.get_last_lr()[0]]
    for _ in range(steps - 1):
        optimiser.step()
        schedule.step()
        rates += schedule.get_last_lr()
    assert all(0 < rate <= 1.0 + 1e-9 for rate in rates)
    assert max(rates) > 0.5
