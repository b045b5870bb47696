"""Parse a recipe file and flags to a plan, and run the plan; used by study and train."""

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
from isthmus.trust import trusted

if TYPE_CHECKING:
    from isthmus.study.executors import Executor
    from isthmus.study.stopping_rule import StoppingRule

Options = TypeVar("Options", bound="RunOptions")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RunOptions:
    """Flags that study and train share."""

    out: Path | None = None
    """Folder of the study; if omitted, studies/NAME. Finished runs in the folder are kept."""
    data_root: Path | None = None
    """Folder that contains the data sets; if omitted, ISTHMUS_DATA or, if that is not set, the cache
    folder, into which missing data sets are downloaded."""
    device: DeviceName = "auto"
    """Where networks are trained and evaluated; auto: a CUDA GPU if there is one, else the CPU."""
    logger: LoggerName = "none"
    """An experiment tracker that also records every run."""
    json: bool = False
    """Print the study's record, verdicts and runs as JSON instead of a summary."""

    def folder(self, plan: StudyPlan) -> Path:
        """The folder of the study."""
        return self.out or Path("studies") / plan.name


def parse_plan(command: str, words: Sequence[str], options: Options) -> tuple[StudyPlan, Options]:
    """The plan in the recipe file that the first word names, and the options, both changed by the flags."""
    prog = f"isthmus {command} RECIPE"
    if words and words[0] in ("-h", "--help"):
        parse_flags((SegmentRecipe(), options), words, prog)  # prints the help and exits
    if not words or words[0].startswith("-"):
        raise UserError(
            f"{command} needs a recipe as its first argument: isthmus {command} RECIPE.toml"
        )
    plan = load_plan(shipped_recipe(Path(words[0])))
    recipe, options = parse_flags((plan.recipe, options), words[1:], prog)
    return _with_recipe(plan, with_data_from(Path.cwd(), recipe)), options


def _with_recipe(plan: StudyPlan, recipe: AnyRecipe) -> StudyPlan:
    for key in differing_fields(plan.recipe, recipe):
        if key in (*plan.factors, *plan.tune):
            owner = "the variants of this study set" if key in plan.factors else "study.tune sets"
            raise UserError(
                f"--{key}: {owner} this field, so the flag would have no effect; change it in the recipe"
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
    """Run the plan and write its report; return 0 if every run was successful, else 1.

    Args:
        plan: The plan.
        options: The flags that study and train share.
        words: The command line after "isthmus", which the record of the study repeats.
        rule: When to stop adding seeds. If None, no seed is added.
        only: Whether to run only the variants and seeds of ``plan``, not others planned in the folder.
        executor: How the runs are trained. If None, in as many processes as is fastest.
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
        command=shlex.join(
            ["isthmus", *words, *(of for name in trusted() for of in ("--trust", name))]
        ),
    )
    print_study(study, write_report(study), as_json=options.json)
    runs = Schedule(plan if only else whole, StudyFolder(study)).runs()
    return 0 if all(run.is_sound for run in runs) else 1


def print_study(study: Path, page: Path, *, as_json: bool) -> None:
    """Print a study: its record, verdicts and runs as JSON, or a summary of a few lines.

    Args:
        study: The study folder.
        page: The report of the study, whose path is the last line of the summary.
        as_json: Whether to print JSON instead of the summary.
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
