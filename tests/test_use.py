"""Sample grids of any VAE and of one's own images: what goes in, what comes out, and what they say."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from isthmus.cli.main import main
from isthmus.data.store import as_bytes
from isthmus.engine.run_folder import RunFolder
from isthmus.errors import UserError
from isthmus.recipe import recipe_as_toml, with_settings
from isthmus.report import page
from isthmus.report.sample_grids import KINDS, sample_grid, sample_grid_figure
from isthmus.report.svg import Drawing
from isthmus.tasks.generate.draw import (
    OwnImages,
    drawn_sample_grid,
    generated,
    read_images,
    redrawn_sample_grid,
    swapped_images,
)
from isthmus.tasks.generate.label_swap import TestPart
from isthmus.tasks.generate.module import vae_for
from isthmus.tasks.generate.recipe import GenerateRecipe
from isthmus.tasks.generate.sample_grids import UNKNOWN_LABEL, sample_grids_of
from isthmus.tasks.generate.trained_vae import TrainedVAE, load_vae

NAMES = ("frog", "newt", "toad")
SAME = "This decoder is not conditioned on the label: all columns show the same image."


def make_run(folder: Path, names: tuple[str, ...] = NAMES, **settings: object) -> Path:
    """A run of a small VAE that nobody has trained; its z says something of the image."""
    small = {"model.width": 4, "model.latent": 3, "data.size_px": 16, "train.precision": "float32"}
    recipe = with_settings(GenerateRecipe(), small | settings)
    assert isinstance(recipe, GenerateRecipe)
    torch.manual_seed(0)
    network = vae_for(recipe, len(names))
    torch.nn.init.normal_(network.posterior.weight, std=0.5)
    about = {"recipe": recipe_as_toml(recipe), "class_names": names}
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {"isthmus": json.dumps(about)}
    save_file(network.state_dict(), RunFolder(folder).weights, metadata)
    return folder


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    """Three images: two in a folder that is named as a label, one in a folder that is not."""
    rng = np.random.default_rng(0)
    files = [tmp_path / "newt" / "a.png", tmp_path / "mine" / "b.png", tmp_path / "newt" / "c.png"]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (21, 20), np.uint8)).save(file)
    return [str(file) for file in files]


Say = Callable[..., list[str]]


@pytest.fixture
def say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """Run a command; the words on its sample grid, or its error."""

    def said(*words: str) -> list[str]:
        drawn: list[Drawing] = []
        write = page.write_figure
        with monkeypatch.context() as patched:
            patched.setattr(page, "write_figure", lambda f, path: drawn.append(f) or write(f, path))
            status = main([*words, "--out", str(tmp_path / "sample_grid.png")])
        if status == 2:
            return [capsys.readouterr().err.removeprefix("isthmus: ").strip()]
        assert status == 0
        assert (tmp_path / "sample_grid.png").is_file()
        return words_on(drawn[0])

    return said


def words_on(drawing: Drawing) -> list[str]:
    """Its words; the lines of its note, and of each caption, as one."""
    found = re.findall(
        r'<text x="[\d.]+" y="[\d.]+" fill="([^"]+)"[^>]*>(.*?)</text>', drawing.inline()
    )
    title, *rest = [(ink, html.unescape(text)) for ink, text in found]
    note = " ".join(text for ink, text in rest if ink == "var(--quiet)")
    return [title[1], *([note] if note else []), *(t for ink, t in rest if ink != "var(--quiet)")]


def redrawn(model: TrainedVAE, sample_grid: str, images: OwnImages) -> dict[str, np.ndarray]:
    """The arrays of a sample grid, with their order checked against the seed."""
    arrays, again = (redrawn_sample_grid(model, sample_grid, images, seed=3) for _ in range(2))
    assert all(np.array_equal(arrays[name], again[name]) for name in arrays)
    return arrays


def of_network(model: TrainedVAE, images: OwnImages, condition: list[int], given: list[int]):
    """What the network itself makes of images, as bytes."""
    network = model.vae.network
    target = model.vae.target(images.images, torch.Generator().manual_seed(3))
    with torch.inference_mode():
        mu, _ = network.encode(torch.from_numpy(target), torch.tensor(condition))
        return as_bytes(network.likelihood.mean(network.decode(mu, torch.tensor(given))).numpy())


# generate


def test_random_draws_say_which_label_each_got(tmp_path: Path, say: Say) -> None:
    run = str(make_run(tmp_path / "run"))
    title, note, *captions = say("generate", run, "--grid", "random")
    assert (title, note) == (
        "Generated from the prior, each with a label",
        "Below: the given label, chosen at random.",
    )
    assert len(captions) == 25
    assert set(captions) == set(NAMES)
    assert captions == say("generate", run, "--grid", "random")[2:]
    assert captions != say("generate", run, "--grid", "random", "--seed", "1")[2:]
    few = say("generate", run, "--grid", "random", "--labels", "toad", "none")[2:]
    assert set(few) == {"toad", "no label"}


@pytest.mark.parametrize("prior", ["standard", "per-label"])
def test_with_labels_and_without_the_same_noise_is_drawn(tmp_path: Path, prior: str) -> None:
    """Where nothing hears the label, so nothing at all differs."""
    settings = {"model.condition_on": "none", "model.prior": prior}
    model = load_vae(make_run(tmp_path, **settings))  # a prior's table starts as the standard one
    labels = np.arange(len(NAMES))
    random = drawn_sample_grid(model, "random", labels, seed=1)["random_output"]
    without = drawn_sample_grid(model, "unconditional", labels, seed=1)["unconditional_output"]
    np.testing.assert_array_equal(random, without)
    assert (random != drawn_sample_grid(model, "random", labels, seed=2)["random_output"]).any()
    images = np.random.default_rng(0).random((9, 1, 16, 16), np.float32)
    test = TestPart(images, images, labels.repeat(3), (labels.repeat(3) + 1) % 3)
    of_run = sample_grids_of(model.vae, test, torch.Generator().manual_seed(0), model.recipe.model)
    np.testing.assert_array_equal(of_run["random_output"], of_run["unconditional_output"])


def test_the_first_styles_are_the_same_however_many_are_drawn(tmp_path: Path) -> None:
    model = load_vae(make_run(tmp_path, **{"model.latent": 8}))
    three, five = (generated(model, np.zeros(count, int), seed=0) for count in (3, 5))
    np.testing.assert_allclose(three, five[:3], atol=1e-6)


def test_a_label_with_one_test_image_has_no_line(tmp_path: Path) -> None:
    model, rng = load_vae(make_run(tmp_path)), np.random.default_rng(0)
    for labels, lines in (([0, 1, 2], None), ([0, 0, 1, 2, 2], [0, 2])):
        images, of = rng.random((len(labels), 1, 16, 16), np.float32), np.array(labels)
        test = TestPart(images, images, of, (of + 1) % 3)
        sample_grids = sample_grids_of(model.vae, test, torch.Generator(), model.recipe.model)
        shown = sample_grids.get("interpolation_label")
        assert (shown if shown is None else shown.tolist()) == lines


def test_draws_without_a_label_need_a_network_that_knows_none(tmp_path: Path, say: Say) -> None:
    knows = str(make_run(tmp_path / "run"))
    assert say("generate", knows, "--grid", "unconditional")[2:] == ["no label"] * 25
    never = str(make_run(tmp_path / "never", **{"model.label_dropout": 0.0}))
    assert say("generate", never, "--grid", "unconditional") == [
        "--grid unconditional: this model cannot generate images without a label, because it was "
        "trained without label dropout (model.label_dropout = 0); use --grid random"
    ]
    assert len(say("generate", never, "--grid", "random")[2:]) == 25


@pytest.mark.parametrize(
    ("command", "grid", "flag", "readers"),
    [
        ("generate", "unconditional", "--labels toad", "labels or random"),
        ("generate", "random", "--count 3", "labels"),
        ("swap", "swap", "--labels toad", "labels"),
    ],
)
def test_a_flag_that_a_sample_grid_does_not_read_is_rejected_until_one_is_left_out(
    command: str, grid: str, flag: str, readers: str, tmp_path: Path, images: list[str], say: Say
) -> None:
    words = [command, str(make_run(tmp_path / "run")), *(images[:1] if command == "swap" else ())]
    assert say(*words, "--grid", grid, *flag.split()) == [
        f"{flag.split()[0]} has no effect with --grid {grid}: only --grid {readers} uses it; remove one of "
        "the two flags"
    ]
    assert len(say(*words, "--grid", grid)) > 1
    assert len(say(*words, *flag.split())) > 1


def test_a_command_without_its_model_or_images_says_what_it_takes(
    tmp_path: Path, images: list[str], say: Say
) -> None:
    run = str(make_run(tmp_path / "studies" / "NAME" / "runs" / "VARIANT" / "seed-0"))
    assert say("generate") == [
        "generate needs the folder of a trained VAE: isthmus generate "
        "studies/NAME/runs/VARIANT/seed-0"
    ]
    assert say("generate", str(tmp_path)) == [
        f"{tmp_path}: this folder has no model.safetensors: a model is the folder of a finished run; name "
        "such a folder, for example studies/NAME/runs/VARIANT/seed-0"
    ]
    assert len(say("generate", run)) > 1
    assert say("swap", run) == [
        "swap needs the folder of a trained VAE and images: isthmus swap RUN IMAGE.png ..."
    ]
    assert len(say("swap", run, *images)) > 1


def test_a_misspelt_label_gets_the_nearest_name(tmp_path: Path, say: Say) -> None:
    run = str(make_run(tmp_path / "run"))
    assert say("generate", run, "--labels", "newt", "tod") == [
        "label tod: this model has no such label; did you mean toad?"
    ]
    assert say("generate", run, "--labels", "newt", "toad")[1:3] == ["newt", "toad"]


def test_labels_that_hold_commas_and_spaces_can_be_named(
    tmp_path: Path, images: list[str], say: Say
) -> None:
    run = str(make_run(tmp_path / "run", names=("a, b", "c", "d e")))
    assert say("generate", run, "--labels", "a, b", "c")[1:3] == ["a, b", "c"]
    assert say("swap", run, *images, "--true", "a, b", "d e", "c")[-3:] == [
        "a (a, b)",
        "b (d e)",
        "c (c)",
    ]


# swap


def test_a_swap_says_true_and_given_beside_its_source(
    tmp_path: Path, images: list[str], say: Say
) -> None:
    run = str(make_run(tmp_path / "run"))
    title, note, *captions = say("swap", run, *images, "--grid", "swap", "--true", "frog")
    assert title == "Decoded with a wrong label", "this encoder hears none"
    assert note == (
        "Left: an image; right: the output of the network. Below: true label → given label."
    )
    assert len(captions) == 3
    assert {caption.split(" → ")[0] for caption in captions} == {"frog"}
    assert {caption.split(" → ")[1] for caption in captions} <= {"newt", "toad"}
    each = say("swap", run, *images, "--grid", "swap", "--true", "newt", "toad", "frog")[2:]
    assert [caption.split(" → ")[0] for caption in each] == ["newt", "toad", "frog"]


def test_a_image_can_be_said_to_show_no_label(tmp_path: Path, images: list[str], say: Say) -> None:
    run = str(make_run(tmp_path / "run"))
    assert say("swap", run, images[0], "--true", "none")[-1].endswith("(none)")


def test_a_folder_named_as_a_label_says_it(tmp_path: Path, images: list[str], say: Say) -> None:
    run = str(make_run(tmp_path / "run"))
    a, b, c = images
    captions = say("swap", run, a, c, "--grid", "swap")[2:]
    assert {caption.split(" → ")[0] for caption in captions} == {"newt"}
    captions = say("swap", run, a, c, "--grid", "swap", "--true", "toad")[2:]
    assert {caption.split(" → ")[0] for caption in captions} == {"toad"}, "--true says it first"
    assert say("swap", run, a, b, "--grid", "swap") == [
        f"{b}: the label of this image is not known, but a wrong label must differ from it; name the true "
        "label with --true, or move the image into a folder of that name"
    ]
    assert say("swap", run, a, b, "--grid", "swap", "--true", "newt", "frog")[3].startswith("frog")
    named = Path(b).parent.with_name("frog") / "b.png"
    named.parent.mkdir()
    named.write_bytes(Path(b).read_bytes())
    assert say("swap", run, a, str(named), "--grid", "swap")[3].startswith("frog")
    title, _, *captions = say("swap", run, a, b, "--grid", "reconstruction")
    assert (title, captions) == (
        "Reconstructed with the true label, where it is known",
        ["newt"],  # and nothing under the other
    )
    assert say("swap", run, a, b)[-2:] == ["a (newt)", "b"]


def test_labels_that_fit_no_number_of_images_are_rejected(
    tmp_path: Path, images: list[str], say: Say
) -> None:
    run = str(make_run(tmp_path / "run"))
    assert say("swap", run, *images, "--true", "frog", "newt") == [
        "--true has 2 labels, but there are 3 images: it takes one label for all images or one label per "
        "image; name 1 or 3 labels"
    ]
    assert len(say("swap", run, *images, "--true", "frog", "newt", "frog")) > 1
    assert say("swap", run, images[0], "--grid", "interpolation") == [
        f"--grid interpolation: {images[0]} is the only image, but each row leads from one image to the "
        "next; name two or more images"
    ]
    assert len(say("swap", run, *images[:2], "--grid", "interpolation")) > 1


def test_sample_grids_hold_what_the_network_makes(tmp_path: Path, images: list[str]) -> None:
    """Every array again from the network itself; an encoder that is told has two protocols."""
    model = load_vae(make_run(tmp_path / "run", **{"model.condition_on": "both"}))
    files = [Path(image) for image in images]
    own = read_images(model, files, ("frog", "toad", "newt"))
    true = [0, 2, 1]
    swap = redrawn(model, "swap", own)
    given = swap["swap_given"].tolist()
    assert all(one != other for one, other in zip(true, given, strict=True))
    assert np.array_equal(swap["swap_true"], true)
    assert np.array_equal(swap["swap_source"], as_bytes(own.images))
    assert np.array_equal(swap["swap_output"], of_network(model, own, true, given))
    assert np.array_equal(swap["swap_wrong_output"], of_network(model, own, given, given))
    assert not np.array_equal(swap["swap_output"], swap["swap_wrong_output"])

    whole = of_network(model, own, true, true)
    assert np.array_equal(redrawn(model, "reconstruction", own)["reconstruction_output"], whole)
    lines = redrawn(model, "interpolation", own)["interpolation_output"].reshape(2, 10, 1, 16, 16)
    assert np.array_equal(lines[:, 0], whole[:2])
    assert np.array_equal(lines[:, -1], whole[1:])
    moved = redrawn(model, "traversal", own)
    assert sorted(moved["traversal_unit"]) == [0, 1, 2]
    assert moved["traversal_output"].shape == (30, 1, 16, 16)

    columns = swapped_images(model, own, [2, 0], seed=3)
    for column, label in zip(columns.swapaxes(0, 1), [2, 0], strict=True):
        assert np.array_equal(as_bytes(column), of_network(model, own, true, [label] * 3))


def test_a_line_between_labels_changes_the_label_half_way(
    tmp_path: Path, images: list[str], say: Say
) -> None:
    one_z = {"objective.likelihood": "bernoulli-threshold"}  # an image twice has it twice
    run = make_run(tmp_path / "run", **one_z, **{"model.condition_on": "decoder"})
    asked = ("swap", str(run), *images, "--grid", "interpolation")
    words = say(*asked, "--true", "frog", "toad", "toad")
    assert words[1] == (
        "z moves in a straight line; 0 % and 100 % are the reconstructions of two images; "
        "the label changes half-way."
    )
    assert words[12:] == ["frog → toad", "toad"]
    assert say(*asked)[12:] == [], "nobody said what the second shows"
    model = load_vae(run)
    files = [Path(images[0])] * 2  # one z under two labels
    line = redrawn(model, "interpolation", read_images(model, files, ("frog", "toad")))
    output = line["interpolation_output"].astype(int)
    assert (abs(output[:5] - output[0]) <= 1).all()
    assert (abs(output[5:] - output[9]) <= 1).all()
    assert (abs(output[0] - output[9]) > 1).any()


@pytest.mark.parametrize(
    ("settings", "condition"),
    [
        ({"model.condition_on": "classifier"}, 3),
        ({"model.condition_on": "decoder"}, 3),
        ({"model.condition_on": "none"}, 3),
        ({"model.condition_on": "none", "model.label_dropout": 0.0}, 0),
    ],
)
def test_a_label_that_nobody_said_is_the_null_label(
    settings: dict[str, object], condition: int, tmp_path: Path, images: list[str]
) -> None:
    model = load_vae(make_run(tmp_path / "run", **settings))
    own = read_images(model, [Path(images[1])])
    assert own.true.tolist() == [UNKNOWN_LABEL]
    sample_grid = redrawn(model, "reconstruction", own)
    assert np.array_equal(
        sample_grid["reconstruction_output"], of_network(model, own, [condition], [condition])
    )


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"model.condition_on": "both"},
            "--true is missing: the encoder of this model (model.condition_on = 'both') is "
            "conditioned on the label of an image; name the label",
        ),
        (
            {"model.condition_on": "decoder", "model.label_dropout": 0.0},
            "--true is missing: this model (model.condition_on = 'decoder', model.prior = 'standard') is "
            "conditioned on the label of an image and was trained without label dropout "
            "(model.label_dropout = 0); name the label",
        ),
    ],
)
def test_a_label_that_is_needed_is_asked_for(
    settings: dict[str, object], sentence: str, tmp_path: Path, images: list[str], say: Say
) -> None:
    run = str(make_run(tmp_path / "run", **settings))
    assert say("swap", run, *images, "--grid", "traversal") == [sentence]
    assert len(say("swap", run, *images, "--grid", "traversal", "--true", "newt")) > 1


def test_the_second_protocol_is_drawn_where_it_is_another(
    tmp_path: Path, images: list[str], say: Say
) -> None:
    words = ["--grid", "swap_wrong", "--true", "toad"]
    condition = make_run(tmp_path / "told", **{"model.condition_on": "both"})
    assert (
        say("swap", str(condition), *images, *words)[0] == "Encoded and decoded with a wrong label"
    )
    read = make_run(tmp_path / "classifier")
    assert say("swap", str(read), *images, *words) == [
        "--grid swap_wrong: the encoder of this model (model.condition_on = 'classifier') is not "
        "conditioned on the given label, so swap_wrong would equal swap; use --grid swap"
    ]
    assert len(say("swap", str(read), *images, "--grid", "swap", *words[2:])) > 1


# What is not told


def test_a_decoder_that_is_not_conditioned_heads_no_column_with_a_label(
    tmp_path: Path, images: list[str], say: Say
) -> None:
    run = str(make_run(tmp_path / "run", **{"model.condition_on": "none"}))
    assert say("generate", run, "--count", "1") == [
        "One style per row, one label per column",
        SAME,
        "z 1",
    ]
    assert say("swap", run, images[0])[1:] == [SAME, "image", "a (newt)"]
    assert say("generate", run, "--grid", "random")[1:] == [
        "This decoder is not conditioned on the label, so no labels are shown."
    ]
    said = say("swap", run, images[0], "--grid", "swap")[1]
    assert said.endswith("true label → given label. This decoder is not conditioned on the label.")


def test_a_prior_of_each_label_hears_it(tmp_path: Path, images: list[str], say: Say) -> None:
    settings = {"model.condition_on": "none", "model.prior": "per-label"}
    run = str(make_run(tmp_path / "run", **settings))
    assert say("generate", run, "--count", "1")[1:] == [*NAMES, "noise 1"]
    assert say("swap", run, images[0])[1] == SAME, "what is decoded is not drawn from it"


# The sample grids of a run


@pytest.mark.parametrize("where", ["both", "classifier"])
def test_only_a_conditioned_encoder_has_a_sample_grid_of_the_second_protocol(
    where: str, tmp_path: Path
) -> None:
    model = load_vae(make_run(tmp_path / "run", **{"model.condition_on": where}))
    labels = np.arange(7) % 3
    images = np.random.default_rng(0).random((7, 1, 16, 16), dtype=np.float32)
    test = TestPart(images, images, labels, (labels + 1) % 3)
    arrays = sample_grids_of(model.vae, test, torch.Generator(), model.recipe.model)
    figure = sample_grid("swap_wrong", arrays, NAMES)
    if where == "classifier":
        assert figure is None
        return
    assert figure is not None
    title, note, *captions = words_on(figure)
    assert title == "Encoded and decoded with a wrong label"
    assert note.startswith("Left: a test image;")
    assert captions == words_on(sample_grid_figure("swap", arrays, NAMES))[2:]
    mosaics = [sample_grid_figure(kind, arrays, NAMES) for kind in ("swap", "swap_wrong")]
    shown, wrong = (re.search('href="([^"]+)"', of.inline())[1] for of in mosaics)
    assert shown != wrong
    assert all(sample_grid(kind, arrays, NAMES) is not None for kind in KINDS)
    assert words_on(sample_grid_figure("interpolation", arrays, NAMES))[-3:] == [*NAMES]


# One's own images


def test_images_take_the_models_size_and_colours(tmp_path: Path, images: list[str]) -> None:
    model = load_vae(make_run(tmp_path / "run"))
    colours = tmp_path / "colours.png"
    Image.new("RGB", (40, 40), (255, 0, 0)).save(colours)
    own = read_images(model, [Path(images[0]), colours])
    assert own.images.shape == (2, 1, 16, 16)
    assert own.images[1] == pytest.approx(76 / 255), "red as luma"


def test_a_image_that_would_be_squeezed_is_rejected(tmp_path: Path) -> None:
    model = load_vae(make_run(tmp_path / "run"))
    wide = tmp_path / "wide.png"
    Image.new("L", (23, 20)).save(wide)
    with pytest.raises(UserError) as caught:
        read_images(model, [wide])
    assert str(caught.value) == (
        f"{wide}: 23 x 20 px: the model generates square images, and an image whose sides differ by more "
        "than a factor of 1.1 would be distorted; crop it to a square"
    )
    Image.new("L", (22, 20)).save(wide)
    assert read_images(model, [wide]).images.shape == (1, 1, 16, 16)


def test_weights_of_another_version_are_rejected(tmp_path: Path, say: Say) -> None:
    weights = RunFolder(make_run(tmp_path)).weights
    with safe_open(weights, "pt") as file:
        about = file.metadata()
        content = {name.replace("gather", "flat"): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(content, weights, about)
    assert say("generate", str(tmp_path)) == [
        f"{weights}: these weights do not fit the network of their recipe: they were written by "
        "another version of isthmus; train the run again, or use that version"
    ]
    before = {"recipe": json.loads(about["isthmus"])["recipe"], "class_names": "\n".join(NAMES)}
    for metadata in (before, None):
        save_file(content, weights, metadata)
        assert say("generate", str(tmp_path)) == [
            f"{weights}: its recipe cannot be read: another version of isthmus has written this file; "
            "train the run again, or use that version"
        ]
