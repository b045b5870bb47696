"""VAEs as users train and use them: studies, the wrong-label benchmark, generate and swap."""

from __future__ import annotations

import dataclasses
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

from isthmus import build
from isthmus import recipe as r
from isthmus.cli import main
from isthmus.refusal import Refusal
from isthmus.report.notices import notices
from isthmus.report.read import Study, read_study
from isthmus.runs import train as runs_train
from isthmus.runs.classifier import ClassifierModule
from isthmus.runs.folder import RunFolder
from isthmus.runs.generator import Generator
from isthmus.runs.judge import LoadedJudge, judge_folder, judge_recipe, load_judge
from isthmus.runs.module import TaskModule
from isthmus.runs.score_classifier import score_classifier
from isthmus.runs.score_generator import _test_part, _use_of_z, pictures_of
from isthmus.runs.seeds import numpy_draws, torch_draws
from isthmus.runs.tasks import module_for
from isthmus.runs.train import train_run, tune_run
from isthmus.runs.trained import Trained
from isthmus.runs.vae_on_arrays import VAEOnArrays
from isthmus.scoring.generation import kl_nats
from isthmus.use.vae import load_vae


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
def test_the_told_vae_obeys_and_the_untold_one_does_not(finished: Path) -> None:
    results = results_of(finished)
    assert set(results["status"]) == {"finished"}
    assert (results["judge_accuracy"] > 0.9).all(), "strokes are easy to tell apart"
    told, untold = results.loc["told"], results.loc["not_told"]
    assert told["prior_fidelity"] > 0.6, "seen .86 and more; without its label .31 to .39"
    assert told["swap_encoded_true"] > untold["swap_encoded_true"] + 0.4
    assert untold["swap_encoded_true"] < 0.2, "what knows no label cannot obey it"
    assert untold["elbo_gap_nats"] == 0.0
    assert untold["elbo_null_nats"] == untold["elbo_nats"]
    assert told["elbo_gap_nats"] > 5


@pytest.mark.trains
def test_both_protocols_are_one_where_the_encoder_is_not_told(finished: Path) -> None:
    results = results_of(finished)
    assert (results["swap_encoded_true"] == results["swap_encoded_wrong"]).all()


@pytest.mark.trains
def test_every_interval_holds_its_score(finished: Path) -> None:
    results = results_of(finished)
    for name in ("swap_encoded_true", "swap_encoded_wrong", "prior_fidelity", "stay_encoded_true"):
        assert (results[f"{name}_low"] <= results[name]).all()
        assert (results[name] <= results[f"{name}_high"]).all()
        assert (results[f"{name}_high"] - results[f"{name}_low"] > 0.05).all(), "36 test pictures"


@pytest.mark.trains
def test_importance_sampling_tightens_the_elbo(finished: Path) -> None:
    per_picture = pd.read_parquet(finished / "per_picture.parquet").dropna(subset="nll_nats")
    assert len(per_picture) == 2 * 30
    gap = -per_picture["nll_nats"] - per_picture["elbo_nats"]
    assert gap.mean() > 0, "the bound with 20 samples lies above that with one, by 5.5 on average"


@pytest.mark.trains
def test_wrong_labels_are_wrong_and_the_same_for_every_variant(finished: Path) -> None:
    per_picture = pd.read_parquet(finished / "per_picture.parquet")
    assert (per_picture["given"] != per_picture["label"]).all()
    assert set(per_picture["given"]) == {0, 1, 2}
    by_variant = per_picture.groupby("variant")["given"].apply(tuple)
    assert by_variant.nunique() == 1


@pytest.mark.trains
def test_both_controls_land_where_theory_says(finished: Path) -> None:
    baselines = json.loads((finished / "about.json").read_text())["baselines"]
    of = {baseline["name"]: baseline["scores"] for baseline in baselines}
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

    def counting(fresh: Any, recipe: r.AnyRecipe, *of_run: Any, **how: Any) -> TaskModule:
        trained.append(recipe.task)
        return fit(fresh, recipe, *of_run, **how)

    monkeypatch.setattr(runs_train, "fit", counting)
    plan = r.load_plan(stroke_recipe)
    quick = {"train.epochs": 1, "measure.judge_epochs": 4}
    for seed, variant in enumerate(plan.variants):
        recipe = r.with_settings(plan.recipe_of(variant), quick)
        train_run(recipe, seed, RunFolder(tmp_path / variant.name))
    assert trained == ["classify", "generate", "generate"]


@pytest.mark.trains
@pytest.mark.parametrize(
    ("of_whom", "sentence"),
    [
        (
            ["told", "not_told"],
            "the judge in the cache, {ours}, is not {ours}-too, which scores the other runs: two "
            "judges differ by points; put that one back into {cache}/judges, or choose another --out",
        ),
        (
            ["told"],
            "{study}: its runs were scored by the judges {ours} and {ours}-too: two judges differ by "
            "points; delete the runs of one, or choose another --out",
        ),
    ],
)
def test_a_study_has_one_judge(
    of_whom: list[str],
    sentence: str,
    finished: Path,
    stroke_recipe: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    study = shutil.copytree(finished, tmp_path / "study")
    for variant in of_whom:
        result = RunFolder(study / "runs" / variant / "seed-0").path / "result.json"
        said = json.loads(result.read_text())
        ours = said["judge"]["name"]
        said["judge"]["name"] += "-too"
        result.write_text(json.dumps(said))
    capsys.readouterr()
    assert main(["study", str(stroke_recipe), "--out", str(study), "--seeds", "2"]) == 2
    words = sentence.format(ours=ours, study=study, cache=build.cache_folder())
    assert capsys.readouterr().err.strip().splitlines()[-1] == f"isthmus: {words}"
    assert not list(study.glob("runs/*/seed-1/metrics.csv"))


def test_a_judge_is_scored_as_it_judges(stroke_recipe: Path, tmp_path: Path) -> None:
    """In float32, whatever it has trained in."""
    recipe = r.load_plan(stroke_recipe).recipe
    assert isinstance(recipe, r.GenerateRecipe)
    of_judge, store = judge_recipe(recipe), build.store_for(recipe.data)
    split = build.split_for(recipe.data, store, numpy_draws(0, "split"))
    module = module_for(of_judge, store, steps=1)
    kinds: set[torch.dtype] = set()
    module.network.head.register_forward_hook(lambda _net, _in, out: kinds.add(out.dtype))
    trained = Trained(module, 1, of_judge, 0, RunFolder(tmp_path), store, split, "bf16")
    score_classifier(trained)
    assert kinds == {torch.float32}


def test_another_path_to_the_same_pictures_has_the_same_judge(
    stroke_recipe: Path, strokes: Path, tmp_path: Path
) -> None:
    moved = shutil.copytree(strokes, tmp_path / "moved")
    here = r.load_plan(stroke_recipe).recipe
    there = r.with_settings(here, {"data.folder": str(moved)})
    longer = r.with_settings(here, {"measure.judge_epochs": 11})
    of_here, of_there, of_longer = (
        judge_folder(judge_recipe(recipe), build.store_for(recipe.data)).path
        for recipe in (here, there, longer)
    )
    assert of_here == of_there != of_longer


@pytest.mark.trains
def test_sheets_say_which_label_went_in(finished: Path) -> None:
    with np.load(RunFolder(finished / "runs" / "told" / "seed-0").sheets) as sheets:
        assert len(sheets["swap_output"]) == len(sheets["swap_given"]) == 25
        assert (sheets["swap_true"] != sheets["swap_given"]).all()
        assert sheets["random_output"].shape == (25, 1, 16, 16)
        assert set(sheets["random_given"]) == {0, 1, 2}
        assert len(sheets["style_output"]) == 10 * 3
        assert len(sheets["interpolation_output"]) == 3 * 10
        assert sheets["null_output"].shape == (25, 1, 16, 16), "it was trained without labels, too"


@pytest.mark.trains
def test_the_report_shows_listening_and_sheets(finished: Path) -> None:
    html = (finished / "report.html").read_text(encoding="utf-8")
    assert "Does it listen?" in html
    assert "class medoids (control)" in html
    assert (finished / "figures" / "told_swap.png").exists()


def hiding(study: Study) -> list[tuple[str, ...]]:
    """The variants of the notice on labels that are hidden from the decoder alone."""
    start = "Labels are hidden from the decoder alone"
    return [notice.details for notice in notices(study) if notice.text.startswith(start)]


@pytest.mark.trains
def test_labels_that_are_hidden_from_the_decoder_alone_are_a_notice(finished: Path) -> None:
    study = read_study(finished)
    assert hiding(study) == [("told",)]
    for was, remedy in (("null_rate = 0.1", "null_rate = 0.0"), ('"decoder"', '"read"')):
        assert was in study.plan
        assert hiding(dataclasses.replace(study, plan=study.plan.replace(was, remedy))) == []


@pytest.mark.trains
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {
            "model.where": "read",
            "objective.listening_weight": 3.0,
            "objective.importance_samples": 2,
            "objective.importance_from": 0.6,
        },
    ],
    ids=["plain", "bound and reader"],
)
def test_a_vae_cut_short_ends_as_if_it_had_not_been(
    settings: dict[str, object], stroke_recipe: Path, tmp_path: Path
) -> None:
    """The same weights, whether or not training was interrupted after three of six epochs."""
    from isthmus.runs.train import train_run

    plan = r.load_plan(stroke_recipe)
    short = {"train.epochs": 6, "train.batch": 16, "train.keep": "last"}
    recipe = r.with_settings(plan.recipe, short | settings)
    whole, cut = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "cut")
    train_run(recipe, 0, whole)

    class Cut(Exception):
        pass

    def watch(done: int, of: int, _words: str) -> None:
        if done > of / 2 + 1 and not (cut.path / "was_cut").exists():
            (cut.path / "was_cut").touch()
            raise Cut

    with pytest.raises(Cut):
        train_run(recipe, 0, cut, watch=watch)
    train_run(recipe, 0, cut, watch=watch)
    assert whole.result()["scores"] == cut.result()["scores"]


@pytest.mark.trains
@pytest.mark.parametrize("labels", ["upright,level", "none"])
def test_generate_writes_a_sheet(labels: str, finished: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "drawn.png"
    run = finished / "runs" / "told" / "seed-0"
    assert main(["generate", str(run), "--labels", labels, "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    with Image.open(out) as sheet:
        assert sheet.width > 100


SHORT: dict[str, object] = {"train.epochs": 2, "measure.judge_epochs": 10}


@pytest.mark.trains
@pytest.mark.parametrize(
    "settings",
    [
        {"objective.likelihood": "gaussian", "objective.listening_weight": 3.0},
        {"objective.likelihood": "discretised-logistic", "model.where": "both"},
        {"objective.likelihood": "continuous-bernoulli", "model.prior": "per-label"},
        {
            "objective.likelihood": "bernoulli-threshold",
            "objective.invariance": "mmd",
            "objective.invariance_weight": 10.0,
            "model.where": "encoder",
            "model.body": "residual",
        },
    ],
    ids=lambda settings: str(settings["objective.likelihood"]),
)
def test_every_likelihood_is_scored_and_used(
    settings: dict[str, object], stroke_recipe: Path, strokes: Path, tmp_path: Path, capsys
) -> None:
    """Scores are finite; none comes from a null label that training has never shown."""
    null_rate = {"model.null_rate": 0.0}
    recipe = r.with_settings(r.load_plan(stroke_recipe).recipe, SHORT | null_rate | settings)
    scores = train_run(recipe, 0, RunFolder(tmp_path))["scores"]
    assert np.isfinite(list(scores.values())).all()
    assert "elbo_null_nats" not in scores
    assert scores["frechet_pictures"] == 36
    with np.load(RunFolder(tmp_path).sheets) as sheets:
        assert "null_output" not in sheets
    picture, out = tmp_path / "mine.png", str(tmp_path / "swapped.png")
    picture.write_bytes((strokes / "level" / "00.png").read_bytes())  # in no folder of its label
    is_told = settings.get("model.where") in ("both", "encoder")
    assert main(["swap", str(tmp_path), str(picture), "--out", out]) == (2 if is_told else 0)
    sentence = (
        f"--true is missing: the encoder of this model (model.where = {recipe.model.where!r}) is told what a "
        "picture shows; name its label"
    )
    assert (sentence in capsys.readouterr().err) == is_told
    assert main(["generate", str(tmp_path), "--labels", "none", "--out", out]) == 2
    assert "label none: this model has none of that name" in capsys.readouterr().err


@pytest.mark.trains
def test_a_network_that_has_diverged_is_failed_and_counted(
    stroke_recipe: Path, tmp_path: Path
) -> None:
    wild = {"train.lr": 1e6, "train.schedule": "constant", "model.where": "read"}
    recipe = r.with_settings(r.load_plan(stroke_recipe).recipe, SHORT | wild)
    result = train_run(recipe, 0, RunFolder(tmp_path))
    assert result["status"] == "failed"
    is_of_loss = result["reason"].endswith("a sound one is finite")
    assert is_of_loss or result["reason"] == "the ELBO is not finite"


@pytest.mark.trains
@pytest.mark.parametrize("task", ["generate", "classify", "tuning"])
def test_a_loss_that_breaks_after_a_sound_epoch_fails_the_run(
    task: str, stroke_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights that were kept are sound, and are scored; yet the recipe went wrong."""
    asked = SHORT | {"objective.likelihood": "continuous-bernoulli"}
    of_vae = r.with_settings(r.load_plan(stroke_recipe).recipe, asked)
    assert isinstance(of_vae, r.GenerateRecipe)
    is_judge = task == "classify"
    recipe = judge_recipe(of_vae) if is_judge else of_vae
    broken = ClassifierModule if is_judge else Generator
    step = broken.step

    def breaking(self: Any, batch: dict[str, Any], part: str) -> torch.Tensor:
        if part == "train" and self.current_epoch:
            batch = batch | {"image": math.nan * batch["image"]}
        return step(self, batch, part)

    monkeypatch.setattr(broken, "step", breaking)
    run = tune_run if task == "tuning" else train_run
    result = run(recipe, 0, RunFolder(tmp_path))
    assert result["status"] == "failed"
    assert result["reason"] == "loss 2 of 2 is nan: a sound one is finite"
    scores = result.get("scores") or {"score": result["score"]}
    assert np.isfinite(list(scores.values())).all()


@pytest.mark.trains
def test_a_network_that_says_nothing_in_z_has_collapsed(
    stroke_recipe: Path, tmp_path: Path
) -> None:
    recipe = r.with_settings(r.load_plan(stroke_recipe).recipe, SHORT | {"objective.beta": 1e4})
    result = train_run(recipe, 0, RunFolder(tmp_path))
    assert result["status"] == "failed"
    assert result["reason"] == "collapsed: no unit of z says anything of the picture"
    assert result["scores"]["active_units"] == 0
    assert RunFolder(tmp_path).sheets.exists(), "what it draws can be looked at"


@pytest.mark.trains
@pytest.mark.parametrize("prior", ["standard", "per-label"])
def test_what_the_noise_of_z_hides_is_not_read_in_it(
    prior: str, stroke_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mean that whispers the label tells no decoder, one that shouts it does, whatever the prior."""
    recipe = r.with_settings(r.load_plan(stroke_recipe).recipe, {"model.prior": prior})
    assert isinstance(recipe, r.GenerateRecipe)
    store = build.store_for(recipe.data)
    module = module_for(recipe, store, steps=1)
    network = module.network.requires_grad_(requires_grad=False)
    split = build.split_for(recipe.data, store, numpy_draws(0, "split"))
    trained = Trained(module, 1, recipe, 0, RunFolder(tmp_path), store, split, "float32")
    if prior == "per-label":
        torch.nn.init.normal_(network.prior.table.weight, std=3.0)
    vae = VAEOnArrays(network, "float32")
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


def test_a_size_that_no_network_fits_is_refused_before_the_judge_is_trained(
    stroke_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISTHMUS_CACHE", str(tmp_path / "cache"))
    recipe = r.with_settings(r.load_plan(stroke_recipe).recipe, {"data.size_px": 18})
    before = torch.get_rng_state()
    with pytest.raises(r.plan.Refusal, match="pictures of 18 px do not fit the network"):
        train_run(recipe, 0, RunFolder(tmp_path / "run"))
    assert not (tmp_path / "cache" / "judges").exists()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_judge_that_has_failed_is_refused_before_anything_is_trained_for_it(
    stroke_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISTHMUS_CACHE", str(tmp_path / "cache"))
    recipe = r.load_plan(stroke_recipe).recipe
    assert isinstance(recipe, r.GenerateRecipe)
    judge = judge_folder(judge_recipe(recipe), build.store_for(recipe.data))
    judge.finish({"status": "failed", "reason": "says level of every picture"})
    with pytest.raises(Refusal) as caught:
        train_run(recipe, 0, RunFolder(tmp_path / "run"))
    assert str(caught.value) == (
        f"{judge.path}: the judge of these pictures has failed (says level of every picture), and what it "
        "says would be in every score; raise measure.judge_epochs, or delete that folder to try again"
    )
    assert not RunFolder(tmp_path / "run").metrics.exists()


def by_ink(judge: LoadedJudge, images: np.ndarray) -> np.ndarray:
    """Labels that change with every two pixels of ink, where a judge that has learned may say one of all."""
    return (images.sum(axis=(1, 2, 3)) // 2).astype(np.int64) % 3


@pytest.mark.trains
def test_a_told_encoder_is_told_the_wrong_label_in_the_second_protocol(
    stroke_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both protocols and both ELBOs again, from the network itself."""
    monkeypatch.setattr(LoadedJudge, "labels", by_ink)
    settings = SHORT | {
        "train.epochs": 6,
        "model.where": "both",
        "model.fusion": "concat",
        "model.null_rate": 0.0,
        "objective.likelihood": "bernoulli-threshold",
    }
    recipe = r.with_settings(r.load_plan(stroke_recipe).recipe, settings)
    assert isinstance(recipe, r.GenerateRecipe)
    scores = train_run(recipe, 0, RunFolder(tmp_path))["scores"]
    with np.load(RunFolder(tmp_path).scores) as arrays:
        of_run = dict(arrays)

    store = build.store_for(recipe.data)
    test = build.split_for(recipe.data, store, numpy_draws(0, "split")).test
    images, labels = pictures_of(store, test)
    assert (of_run["label"] == labels).all()
    network, judge = load_vae(tmp_path).vae.network, load_judge(recipe, store)
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
        assert scores[f"swap_encoded_{protocol}"] == pytest.approx(swapped)
    assert (judged["true"] != judged["wrong"]).any(), "a wrong label misleads the encoder"
    np.testing.assert_allclose(of_run["elbo_wrong_nats"], elbo["wrong"], rtol=1e-3)
    gap = of_run["elbo_nats"].mean()
    assert scores["elbo_gap_nats"] == pytest.approx(gap - float(elbo["wrong"].mean()), rel=1e-3)
    assert abs(float((elbo["wrong"] - elbo["true"]).mean())) > 1, "else the gap tells no difference"


@pytest.mark.trains
def test_swap_draws_my_own_pictures_again(finished: Path, strokes: Path, tmp_path: Path) -> None:
    out = tmp_path / "swapped.png"
    run = finished / "runs" / "told" / "seed-0"
    pictures = [str(strokes / "level" / "00.png"), str(strokes / "upright" / "01.png")]
    assert main(["swap", str(run), *pictures, "--true", "level", "--out", str(out)]) == 0
    with Image.open(out) as sheet:
        assert sheet.width > 100


@pytest.mark.trains
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["generate", "RUN", "--labels", "uprigt"],
            "label uprigt: this model has none of that name; did you mean upright?",
        ),
        (["generate"], "generate takes one model"),
        (["swap", "RUN"], "swap takes a model and pictures"),
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
        ({"data.colour": "rgb"}, "only grey pictures can be binarised"),
        (
            {"data.name": "cifar10"},
            "objective.likelihood = 'bernoulli-dynamic' with data.name = 'cifar10': only pictures of "
            "ink on paper can be binarised, not photographs; use gaussian or discretised-logistic",
        ),
        ({"objective.invariance": "hsic"}, "a penalty needs a weight"),
        (
            {"objective.listening_noise": 0.2},
            "objective.listening_noise = 0.2 does nothing without objective.listening_weight",
        ),
        (
            {"objective.importance_samples": 5, "objective.beta": 4.0},
            "an importance-weighted bound has no KL to weigh; leave beta at 1",
        ),
        (
            {
                "objective.importance_samples": 5,
                "objective.importance_from": 0.1,
                "objective.kl_warmup": 0.2,
            },
            "let kl_warmup end by importance_from",
        ),
        (
            {"objective.importance_from": 0.5},
            "objective.importance_from = 0.5 does nothing with objective.importance_samples = 1",
        ),
        ({"data.name": "classes"}, "data.folder is missing"),
        (
            {"data.name": "mnist", "data.folder": "mine"},
            'data.folder does nothing for data.name = "mnist": only "classes" reads it',
        ),
        ({"data.shift_px": 40}, "a shift lies between 0 and the side"),
        (
            {"objective.listening_weight": 1.0, "model.where": "both"},
            "objective.listening_weight does nothing for model.where = 'both': only a reader can read",
        ),
        ({"task": "paint"}, "task = 'paint': unknown"),
        ({"model.fusion": "ad"}, "did you mean add?"),
    ],
)
def test_a_wrong_recipe_gets_its_sentence(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(r.plan.Refusal, match=sentence.replace("?", r"\?")):
        r.with_settings(r.GenerateRecipe(), settings)


@pytest.mark.trains
def test_a_loaded_vae_draws_the_same_again(finished: Path) -> None:
    from isthmus.use.generate import generated

    run = finished / "runs" / "told" / "seed-0"
    labels = np.array([0, 1, 2])
    first = generated(load_vae(run), labels, seed=3)
    again = generated(load_vae(run), labels, seed=3)
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, generated(load_vae(run), labels, seed=4))


def test_what_is_decoded_is_read_without_teaching_the_reader(stroke_recipe: Path) -> None:
    """The word on swapped pictures moves the decoder; all other noise stays what it was."""
    batch = {"image": torch.rand(8, 1, 28, 28), "label": torch.arange(8) % 3}
    gradients = []
    for weight in (None, 5.0):
        model = r.VAE(body="resnet18", width=8, latent=4, null_rate=0.5)
        recipe = r.GenerateRecipe(model=model, objective=r.Objective(listening_weight=weight))
        torch.manual_seed(0)
        module = Generator(build.vae_for(recipe, 3), recipe, steps=1)
        module.on_train_epoch_start()
        module.step(batch, "train").backward()
        state = torch.get_rng_state()
        reader = [*module.network.reader.parameters(), *module.network.reader.buffers()]
        gradients.append(
            (
                [of.grad if of.grad is not None else of for of in reader],
                [of.grad for of in module.network.decoder.parameters()],
                [state],
            )
        )
    (readers, decoders, states) = zip(*gradients, strict=True)
    for without, with_it in (readers, states):
        assert all(torch.equal(a, b) for a, b in zip(without, with_it, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(*decoders, strict=True))


def test_batch_norm_keeps_statistics_of_real_pictures_alone() -> None:
    """Neither wrong labels nor noisy pictures move what the network is scored with."""
    batch = {"image": torch.rand(8, 1, 28, 28), "label": torch.arange(8) % 3}
    seen = []
    for objective in (r.Objective(), r.Objective(listening_weight=5.0, listening_noise=0.3)):
        model = r.VAE(body="resnet18", width=8, latent=4)
        recipe = r.GenerateRecipe(model=model, objective=objective)
        torch.manual_seed(0)
        module = Generator(build.vae_for(recipe, 3), recipe, steps=1)
        module.on_train_epoch_start()
        module.step(batch, "train").backward()
        seen.append(list(module.network.buffers()))
    assert any(torch.equal(of, torch.tensor(1)) for of in seen[0]), "batch norm has seen a batch"
    assert all(torch.equal(a, b) for a, b in zip(*seen, strict=True))


def test_a_reader_that_reads_under_noise_changes_no_other_draw() -> None:
    """It learns from noisy pictures, and reads what is decoded under noise; the ELBO knows nothing of it."""
    batch = {"image": torch.rand(8, 1, 28, 28), "label": torch.arange(8) % 3}
    seen = []
    for noise in (0.0, 0.3):
        objective = r.Objective(listening_weight=5.0, listening_noise=noise)
        recipe = r.GenerateRecipe(model=r.VAE(width=8, latent=4), objective=objective)
        torch.manual_seed(0)
        module = Generator(build.vae_for(recipe, 3), recipe, steps=1)
        module.on_train_epoch_start()
        module.step(batch, "train").backward()
        parts = module.network.reader, module.network.decoder
        reader, decoder = ([of.grad for of in part.parameters()] for part in parts)
        elbo = module.tallies["train"].numbers()["elbo_nats"]
        seen.append((torch.get_rng_state(), elbo, reader, decoder))
    states, elbos, readers, decoders = zip(*seen, strict=True)
    assert torch.equal(*states)
    assert elbos[0] == elbos[1]
    for gradients in (readers, decoders):
        assert not all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize(("null_rate", "is_penalised"), [(0.0, True), (0.9999, False)])
def test_only_a_label_that_is_told_is_kept_out_of_z(
    null_rate: float, *, is_penalised: bool
) -> None:
    """Where it is hidden, z is all that the decoder has."""
    model = r.VAE(width=4, latent=4, where="decoder", null_rate=null_rate)
    objective = r.Objective(invariance="hsic", invariance_weight=1e3)
    batch = {"image": torch.rand(8, 1, 28, 28), "label": torch.arange(8) % 2}
    losses = []
    for asked in (objective, r.Objective()):
        recipe = r.GenerateRecipe(model=model, objective=asked)
        torch.manual_seed(0)
        module = Generator(build.vae_for(recipe, 2), recipe, steps=1)
        module.on_train_epoch_start()
        losses.append(module.step(batch, "train").item())
    assert (losses[0] > losses[1]) == is_penalised


@pytest.mark.trains
@pytest.mark.parametrize("momentum", [None, 0.5])
def test_the_schedule_leaves_the_momentum_that_was_asked_for(momentum: float | None) -> None:
    train = r.Train(optimiser="rmsprop", momentum=momentum)
    optimiser = build.optimiser_for(train, [torch.nn.Parameter(torch.zeros(1))])
    schedule = build.schedule_for(train, optimiser, 100)
    for _ in range(50):
        optimiser.step()
        schedule.step()
    assert optimiser.param_groups[0]["momentum"] == (momentum or 0.0)


@pytest.mark.trains
@pytest.mark.parametrize("steps", range(1, 25))
def test_a_run_of_few_steps_has_a_schedule(steps: int) -> None:
    train = r.GenerateTrain(warmup=0.1, lr=1.0)
    optimiser = build.optimiser_for(train, [torch.nn.Parameter(torch.zeros(1))])
    schedule = build.schedule_for(train, optimiser, steps)
    rates = [schedule.get_last_lr()[0]]
    for _ in range(steps - 1):
        optimiser.step()
        schedule.step()
        rates += schedule.get_last_lr()
    assert all(0 < rate <= 1.0 + 1e-9 for rate in rates)
    assert max(rates) > 0.5
