"""The runs of a study: which there are, where each is written, which are still to be trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from isthmus.engine.run_folder import RunFolder
from isthmus.errors import UserError
from isthmus.recipe import Recipe, with_settings
from isthmus.recipe.rules import Setting
from isthmus.study.plan import StudyPlan, Variant
from isthmus.study.study_folder import StudyFolder


@dataclass(frozen=True)
class PlannedRun:
    """One variant with one seed, and the folder of this run."""

    variant: Variant
    recipe: Recipe
    seed: int
    folder: RunFolder
    setting: Mapping[str, Setting] = field(default_factory=dict)
    """The values of the tuned hyperparameters that a tuning run tries; empty for other runs."""

    @property
    def words(self) -> str:
        """The setting of a tuning run, or the seed of another one."""
        tried = ", ".join(f"{key} {value}" for key, value in self.setting.items())
        return tried or f"seed {self.seed}"

    @property
    def is_sound(self) -> bool:
        """Whether the run has finished and did not fail."""
        return self.folder.is_finished and self.folder.result().status == "finished"


@dataclass(frozen=True)
class Schedule:
    """A plan and the folder that holds its runs; every answer is as of the call."""

    plan: StudyPlan
    folder: StudyFolder

    def runs(self) -> tuple[PlannedRun, ...]:
        """Every run, with what tuning has chosen; all variants of a seed come before the next seed."""
        recipes = [
            with_settings(self.plan.recipe_of(variant), self.chosen_setting(variant))
            for variant in self.plan.variants
        ]
        return tuple(
            PlannedRun(variant, recipe, seed, self.folder.run(variant.name, seed))
            for seed in self.plan.seeds
            for variant, recipe in zip(self.plan.variants, recipes, strict=True)
        )

    def tuning_runs(self, variant: Variant | None = None) -> tuple[PlannedRun, ...]:
        """One variant, or each, with every setting of the tuned hyperparameters and the first seed."""
        if not self.plan.tune:
            return ()
        return tuple(
            PlannedRun(
                of,
                with_settings(self.plan.recipe_of(of), setting),
                self.plan.seeds[0],
                self.folder.tuning_run(of.name, place),
                setting,
            )
            for of in ((variant,) if variant else self.plan.variants)
            for place, setting in enumerate(self.plan.tuning_grid)
        )

    def chosen_setting(self, variant: Variant) -> Mapping[str, Setting]:
        """The setting with the best validation metric; empty until all its settings were tried."""
        runs = self.tuning_runs(variant)
        if not all(run.folder.is_finished for run in runs):
            return {}
        results = [(run.folder.tuning_result(), run.setting) for run in runs]
        finished = [(of, setting) for of, setting in results if of.status == "finished"]
        if not finished:
            return {}
        best = max if finished[0][0].higher_is_better else min
        return best(finished, key=lambda of: of[0].value)[1]

    def untuned(self) -> frozenset[str]:
        """The variants for which some setting is still to be tried."""
        return frozenset(r.variant.name for r in self.tuning_runs() if not r.folder.is_finished)

    def untrainable(self) -> frozenset[str]:
        """The variants that failed with every setting."""
        if not self.plan.tune:
            return frozenset()
        may_train = {
            run.variant.name
            for run in self.tuning_runs()
            if not run.folder.is_finished or run.folder.tuning_result().status != "failed"
        }
        return frozenset(variant.name for variant in self.plan.variants) - may_train

    def to_come(self) -> tuple[PlannedRun, ...]:
        """The runs that the next call will train."""
        untrainable = self.untrainable()
        return tuple(
            run
            for run in self.runs()
            if not run.folder.is_finished and run.variant.name not in untrainable
        )

    def shared(self) -> dict[str, str]:
        """What all runs that have begun share: kind -> name, for example of their judge.

        Raises:
            UserError: If two runs have different ones.
        """
        found: dict[str, str] = {}
        for run in self.runs():
            begun = run.folder.begun_with()
            for what, name in (begun.prepared if begun else {}).items():
                first = found.setdefault(what, name)
                if first != name:
                    raise UserError(
                        f"{self.folder.path}: its runs were evaluated by two {what}s, {first} and {name}, "
                        f"which differ by points; delete the folders of the runs of one {what}, or choose "
                        "another --out"
                    )
        return found

    def check_content(self, content: str) -> None:
        """Reject images other than those of the runs that have finished.

        Args:
            content: Hash of the images, their truth, names and parts.

        Raises:
            UserError: If a finished run had others.
        """
        runs = (*self.tuning_runs(), *self.runs())
        begun = [run.folder.begun_with() for run in runs if run.folder.is_finished]
        if any(of is not None and of.content != content for of in begun):
            raise UserError(
                f"{self.folder.path}: its finished runs were made on other images than the data are now: "
                "runs of one study share their test set; put the data back, or choose another --out"
            )
