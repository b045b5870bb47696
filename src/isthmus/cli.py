"""Words on the command line -> one function call. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from isthmus.errors import UserError, nearest_name

if TYPE_CHECKING:
    from isthmus.recipe import AnyRecipe, StudyPlan
    from isthmus.requests import RunRequest
    from isthmus.study.stopping_rule import StoppingRule

Words = Sequence[str]

DEMO = ("recipes/demo.toml", "recipes/demo_digits.toml")
"""The studies of the demo: one a half."""


def demo(words: Words) -> int:
    """Six U-Nets and three VAEs on real handwriting: small, offline; ends with two reports."""
    from isthmus import flags
    from isthmus.requests import DemoRequest

    request = flags.parse_flags(DemoRequest(), words, "isthmus demo")
    return max([study([recipe, "--out", str(request.out / Path(recipe).stem)]) for recipe in DEMO])


def study(words: Words) -> int:
    """Run a study or go on with it: isthmus study RECIPE.toml."""
    from isthmus import flags
    from isthmus.requests import StudyRequest

    plan, rest = _plan_named(words, "study")
    recipe, request = flags.parse_with_recipe(
        plan.recipe, StudyRequest(), rest, "isthmus study RECIPE"
    )
    plan = _with_flags(plan, recipe)
    if request.seeds is not None:
        plan = dataclasses.replace(plan, seeds=tuple(range(request.seeds)))
    rule = None
    if request.stop_width is not None or request.budget_minutes is not None:
        from isthmus.study.stopping_rule import StoppingRule

        rule = StoppingRule(request.stop_width, request.budget_minutes, request.max_seeds)
    if request.dry_run:
        from isthmus.study.claim import claimed_plan
        from isthmus.study.forecast import print_forecast

        folder = _folder_of(plan, request)
        plan = claimed_plan(plan, folder)
        print_forecast(rule.looked_at(plan) if rule else plan, folder, request.data_root)
        return 0
    return _run(plan, request, ["study", *words], rule)


def train(words: Words) -> int:
    """Train one variant with one seed: isthmus train RECIPE.toml."""
    from isthmus import flags
    from isthmus.requests import TrainRequest

    plan, rest = _plan_named(words, "train")
    recipe, request = flags.parse_with_recipe(
        plan.recipe, TrainRequest(), rest, "isthmus train RECIPE"
    )
    plan = _with_flags(plan, recipe)
    names = [variant.name for variant in plan.variants]
    if request.variant is None and len(names) > 1:
        raise UserError(
            f"this recipe has {len(names)} variants and train takes one: "
            f"name it with --variant ({', '.join(names)}), or use isthmus study"
        )
    if request.variant is not None and request.variant not in names:
        raise UserError(
            f"--variant {request.variant}: unknown; {nearest_name(request.variant, names)}"
        )
    chosen = tuple(v for v in plan.variants if request.variant in (None, v.name))
    plan = dataclasses.replace(plan, variants=chosen, seeds=(request.seed,))
    return _run(plan, request, ["train", *words], only=True)


def report(words: Words) -> int:
    """Write the report of a study folder again: isthmus report STUDY."""
    from isthmus.report.page import write_report

    if len(words) != 1 or words[0].startswith("-"):
        raise UserError("report takes one word, the folder of a study: isthmus report studies/NAME")
    print(write_report(Path(words[0])))  # noqa: T201
    return 0


def compare(words: Words) -> int:
    """Two runs, or two studies, against each other: isthmus compare A B."""
    if len(words) != 2 or any(word.startswith("-") for word in words):
        raise UserError("compare takes two runs or two studies: isthmus compare A B")

    from isthmus.engine.run_folder import RunFolder
    from isthmus.study.compare import compare_runs, compare_studies

    a, b = map(Path, words)
    are_runs = [RunFolder(path).is_claimed for path in (a, b)]
    if are_runs[0] != are_runs[1]:
        raise UserError(f"{a} and {b}: one is a run and one is not; name two runs or two studies")
    found = compare_runs(a, b) if all(are_runs) else compare_studies(a, b)
    print(f"A: {a}\nB: {b}\nscored on: {found.evaluated_on}")  # noqa: T201
    print(f"differ in: {', '.join(found.differing) or 'nothing'}")  # noqa: T201
    print("\n".join(found.sentences))  # noqa: T201
    return 0


def generate(words: Words) -> int:
    """Draw images by label: isthmus generate RUN --labels 3,7."""
    from isthmus import flags
    from isthmus.requests import GenerateRequest

    leading, rest = _leading(words)
    request = flags.parse_flags(GenerateRequest(), rest, "isthmus generate RUN")
    if len(leading) != 1:
        raise UserError(
            "generate takes one model: isthmus generate studies/NAME/runs/VARIANT/seed-0"
        )

    import numpy as np

    from isthmus.data.store import as_bytes
    from isthmus.report.sample_grids import label_columns, sample_grid_figure
    from isthmus.report.page import write_figure
    from isthmus.tasks.generate.draw import drawn_sample_grid, generated
    from isthmus.tasks.generate.sample_grids import conditioned_sides
    from isthmus.tasks.generate.trained_vae import load_vae

    model = load_vae(Path(leading[0]))
    names = _named(request.labels) or model.class_names
    labels = model.labels_named(names)
    if request.grid == "labels":
        columns = [generated(model, np.full(request.count, of), request.seed) for of in labels]
        sides = conditioned_sides(model.recipe.model)
        figure = label_columns(as_bytes(np.stack(columns, axis=1)), names, conditioned_sides=sides)
    else:
        arrays = drawn_sample_grid(model, request.grid, np.array(labels), request.seed)
        figure = sample_grid_figure(request.grid, arrays, model.class_names)
    print(write_figure(figure, request.out))  # noqa: T201
    return 0


def swap(words: Words) -> int:
    """Draw images again under other labels: isthmus swap RUN PICTURES... --labels 3,7."""
    from isthmus import flags
    from isthmus.requests import SwapRequest

    leading, rest = _leading(words)
    request = flags.parse_flags(SwapRequest(), rest, "isthmus swap RUN PICTURES...")
    if len(leading) < 2:
        raise UserError("swap takes a model and images: isthmus swap RUN PICTURE.png ...")

    from isthmus.data.store import as_bytes
    from isthmus.report.sample_grids import label_columns, sample_grid_figure
    from isthmus.report.page import write_figure
    from isthmus.tasks.generate.redraw import read_images, redrawn_sample_grid, swapped_images
    from isthmus.tasks.generate.sample_grids import conditioned_sides
    from isthmus.tasks.generate.trained_vae import load_vae

    model = load_vae(Path(leading[0]))
    names = _named(request.labels) or model.class_names
    labels = model.labels_named(names)
    files = [Path(word) for word in leading[1:]]
    images = read_images(model, files, _named(request.true))
    if request.grid == "labels":
        rows = as_bytes(swapped_images(model, images, labels, request.seed))
        sources, sides = as_bytes(images.images), conditioned_sides(model.recipe.model)
        figure = label_columns(
            rows, names, sources, images.row_names(model), conditioned_sides=sides
        )
    else:
        arrays = redrawn_sample_grid(model, request.grid, images, request.seed)
        figure = sample_grid_figure(request.grid, arrays, model.class_names)
    print(write_figure(figure, request.out))  # noqa: T201
    return 0


def _leading(words: Words) -> tuple[Words, Words]:
    """The words before the first flag, and the rest."""
    first = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    return words[:first], words[first:]


def _named(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


COMMANDS: dict[str, Callable[[Words], int]] = {
    function.__name__: function
    for function in (demo, study, train, report, compare, generate, swap)
}
EXTRAS = ("train", "demo", "track")
"""What may be missing, the smallest first."""

DISTRIBUTIONS = {"skimage": "scikit-image"}
"""What a module is called where one installs it, if that is another name."""


def main(argv: Words | None = None) -> int:
    """Run one command; returns its exit status: 0 done, 1 the work failed, 2 the request was wrong."""
    words = [word for word in (sys.argv[1:] if argv is None else argv) if word != "--debug"]
    wants_traceback = len(words) < len(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(_help())
        return 0 if words else 2
    if words[0] == "--version":
        from importlib.metadata import version

        sys.stdout.write(f"isthmus {version('isthmus')}\n")
        return 0
    try:
        if words[0] not in COMMANDS:
            raise UserError(f"{words[0]}: unknown command; {nearest_name(words[0], COMMANDS)}")
        command = COMMANDS[words[0]]
        if command in (report, compare) and words[1:] in (["-h"], ["--help"]):  # they have no flags
            sys.stdout.write(f"{command.__doc__}\n")
            return 0
        return command(words[1:])
    except UserError as error:
        status, sentence = 2, str(error)
    except KeyboardInterrupt:
        status, sentence = 1, "stopped; the same command goes on where it stopped"
    except BrokenPipeError:  # whoever read our output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ModuleNotFoundError as error:
        extra = _extra_with((error.name or "").partition(".")[0])
        if extra is None or wants_traceback:
            raise
        status = 2
        sentence = f"{words[0]} needs {error.name}: install it with pip install 'isthmus[{extra}]'"
    except Exception as error:
        if wants_traceback:
            raise
        status, sentence = 1, f"{words[0]} failed: {error} (--debug shows where)"
    sys.stderr.write(f"isthmus: {sentence}\n")
    return status


def _extra_with(module: str) -> str | None:
    """The smallest extra of this package that brings a module; None if none does."""
    from importlib.metadata import requires

    wanted = DISTRIBUTIONS.get(module, module)
    bringing = [of for of in requires("isthmus") or () if re.split(r"[^\w.-]", of)[0] == wanted]
    return next((extra for extra in EXTRAS if any(f"'{extra}'" in of for of in bringing)), None)


def _help() -> str:
    lines = [f"  {name:<8} {function.__doc__}" for name, function in COMMANDS.items()]
    return (
        "isthmus trains encoder-decoder image models and compares them honestly.\n\n"
        "usage: isthmus COMMAND ...\n\n"
        + "\n".join(lines)
        + "\n\nisthmus COMMAND --help lists the flags; every recipe field is one (--model.width 8),\n"
        "and isthmus study RECIPE --help lists those of that recipe.\n"
        "--debug anywhere shows where a command failed; isthmus --version says which one this is.\n"
    )


def _plan_named(words: Words, command: str) -> tuple[StudyPlan, Words]:
    """The plan in the file that the first word names, and the other words."""
    from isthmus.recipe import SegmentRecipe, StudyPlan, Variant, load_plan, shipped_recipe

    if words and words[0] in ("-h", "--help"):
        plan = StudyPlan(
            name="any", recipe=SegmentRecipe(), variants=(Variant(name="any", settings={}),)
        )
        return plan, words
    if not words or words[0].startswith("-"):
        raise UserError(
            f"{command} needs a recipe as its first word: isthmus {command} RECIPE.toml"
        )
    return load_plan(shipped_recipe(Path(words[0]))), words[1:]


def _with_flags(plan: StudyPlan, recipe: AnyRecipe) -> StudyPlan:
    """The plan with the recipe fields that the flags changed."""
    from isthmus.recipe import differing_fields, with_data_from

    recipe = with_data_from(Path.cwd(), recipe)
    for key in differing_fields(plan.recipe, recipe):
        if key in (*plan.factors, *plan.tune):
            owner = "variants set" if key in plan.factors else "tuning sets"
            raise UserError(
                f"--{key}: this study's {owner} it, so the flag would do nothing; "
                "change it in the recipe"
            )
    return dataclasses.replace(plan, recipe=recipe)


def _folder_of(plan: StudyPlan, request: RunRequest) -> Path:
    return request.out or Path("studies") / plan.name


def _run(
    plan: StudyPlan,
    request: RunRequest,
    words: Words,
    rule: StoppingRule | None = None,
    *,
    only: bool = False,
) -> int:
    """Run the plan, with more seeds while the rule asks for them; write its report."""
    import shlex

    from isthmus.report.page import write_report
    from isthmus.study.planned_runs import planned_runs
    from isthmus.study.run import run_study

    study = _folder_of(plan, request)
    whole = run_study(
        plan,
        study,
        only=only,
        rule=rule,
        data_root=request.data_root,
        logger=request.logger,
        command=shlex.join(["isthmus", *words]),
    )
    print(write_report(study))  # noqa: T201
    folders = [run.folder for run in planned_runs(plan if only else whole, study)]
    is_complete = all(f.is_finished and f.result()["status"] == "finished" for f in folders)
    return 0 if is_complete else 1


if __name__ == "__main__":
    sys.exit(main())
