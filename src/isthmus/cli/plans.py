"""The plan that a recipe file and flags describe, and its run: what study and train share."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic.dataclasses import dataclass

from isthmus.cli.flags import parse_flags
from isthmus.engine.task import DeviceName, LoggerName
from isthmus.errors import UserError
from isthmus.recipe import AnyRecipe, differing_fields, with_data_from
from isthmus.recipe.rules import STRICT
from isthmus.study.plan import StudyPlan, load_plan, shipped_recipe
from isthmus.tasks.segment.recipe import SegmentRecipe

if TYPE_CHECKING:
    from isthmus.study.executors import Executor
    from isthmus.study.stopping_rule import StoppingRule

Options = TypeVar("Options", bound="RunOptions")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RunOptions:
    """Flags that study and train share."""

    out: Path | None = None
    """Folder of the study; left out: studies/NAME. What is finished there is kept."""
    data_root: Path | None = None
    """Where data sets lie; left out: ISTHMUS_DATA, or the cache folder, with download."""
    device: DeviceName = "auto"
    """Where networks are trained and evaluated; auto: a CUDA GPU if there is one, else the CPU."""
    logger: LoggerName = "none"
    """A tracker that follows every run too."""
    json: bool = False
    """Print the study's record, verdicts and runs as JSON in place of the path of its report."""

    def folder(self, plan: StudyPlan) -> Path:
        """The folder of the study."""
        return self.out or Path("studies") / plan.name


def parse_plan(command: str, words: Sequence[str], options: Options) -> tuple[StudyPlan, Options]:
    """The plan in the file that the first word names, and the options, as the flags change them."""
    prog = f"isthmus {command} RECIPE"
    if words and words[0] in ("-h", "--help"):
        parse_flags((SegmentRecipe(), options), words, prog)  # prints the help and exits
    if not words or words[0].startswith("-"):
        raise UserError(
            f"{command} needs a recipe as its first word: isthmus {command} RECIPE.toml"
        )
    plan = load_plan(shipped_recipe(Path(words[0])))
    recipe, options = parse_flags((plan.recipe, options), words[1:], prog)
    return _with_recipe(plan, with_data_from(Path.cwd(), recipe)), options


def _with_recipe(plan: StudyPlan, recipe: AnyRecipe) -> StudyPlan:
    for key in differing_fields(plan.recipe, recipe):
        if key in (*plan.factors, *plan.tune):
            owner = "variants set" if key in plan.factors else "tuning sets"
            raise UserError(
                f"--{key}: this study's {owner} it, so the flag would do nothing; "
                "change it in the recipe"
            )
    return dataclasses.replace(plan, recipe=recipe)


def run_plan(
    plan: StudyPlan,
    options: RunOptions,
    words: Sequence[str],
    rule: StoppingRule | None = None,
    *,
    only: bool = False,
    executor: Executor | None = None,
) -> int:
    """Run the plan and write its report; 0 if every run of it has finished, else 1.

    The study's record repeats the ``words`` of the command; ``rule`` says when to add seeds;
    ``only`` leaves alone what else the folder has planned; ``executor`` trains the runs.
    """
    from isthmus.report.page import write_report
    from isthmus.study.run import run_study
    from isthmus.study.schedule import Schedule
    from isthmus.study.study_folder import StudyFolder

    study = options.folder(plan)
    whole = run_study(
        plan,
        study,
        only=only,
        rule=rule,
        device=options.device,
        executor=executor,
        data_root=options.data_root,
        logger=options.logger,
        command=shlex.join(["isthmus", *words]),
    )
    print_study(study, write_report(study), as_json=options.json)
    runs = Schedule(plan if only else whole, StudyFolder(study)).runs()
    return 0 if all(run.is_sound for run in runs) else 1


def print_study(study: Path, page: Path, *, as_json: bool) -> None:
    """Print what the study says: its record, verdicts and runs as JSON, or a few lines for people.

    Args:
        study: Its folder.
        page: Its report, whose path is the last line for people.
        as_json: Which of the two.
    """
    from isthmus.study.study_folder import StudyFolder

    folder = StudyFolder(study)
    if as_json:
        print(folder.outcome().model_dump_json(indent=1))
        return
    record = folder.record
    lines = [record.headline, *(f"Warning: {warning.text}" for warning in record.warnings)]
    if record.recommendation is not None:
        lines.append(record.recommendation.text)
    print("\n".join([*filter(None, lines), str(page)]))
