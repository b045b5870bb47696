"""The runs of a study: which runs there are, where they are stored, and which are still to be trained."""

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
    """One variant with one seed, and the folder of the run."""

    variant: Variant
    recipe: Recipe
    seed: int
    folder: RunFolder
    setting: Mapping[str, Setting] = field(default_factory=dict)
    """The values of the tuned hyperparameters that a tuning run tries; empty for other runs."""

    @property
    def words(self) -> str:
        """The setting of a tuning run, or the seed of any other run, as text."""
        tried = ", ".join(f"{key} {value}" for key, value in self.setting.items())
        return tried or f"seed {self.seed}"

    @property
    def is_sound(self) -> bool:
        """Whether the run was successful: it has finished and did not fail."""
        return self.folder.is_finished and self.folder.result().status == "finished"


@dataclass(frozen=True)
class Schedule:
    """A plan and the folder of its runs; every method looks at the folder as it is now."""

    plan: StudyPlan
    folder: StudyFolder

    def runs(self) -> tuple[PlannedRun, ...]:
        """Every run, with the hyperparameters that tuning has chosen; ordered by seed, then by variant."""
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
        """The tuning runs of one variant or, if None, of all: every setting with the first seed."""
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
        """The setting with the best validation metric.

        Empty until all settings of the variant have been tried, and if all of them failed.
        """
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
        """The variants for which not all settings have been tried yet."""
        return frozenset(r.variant.name for r in self.tuning_runs() if not r.folder.is_finished)

    def untrainable(self) -> frozenset[str]:
        """The variants whose tuning runs failed with every setting."""
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
        """Models that all runs that have started share, such as the judge: kind -> name.

        Raises:
            UserError: If two runs used different models of one kind.
        """
        found: dict[str, str] = {}
        for run in self.runs():
            begun = run.folder.begun_with()
            for what, name in (begun.prepared if begun else {}).items():
                first = found.setdefault(what, name)
                if first != name:
                    raise UserError(
                        f"{self.folder.path}: its runs were evaluated with two {what}s, {first} and {name}: "
                        f"the metrics of different {what}s differ by percentage points; delete the folders "
                        f"of the runs with one {what}, or choose another folder with --out"
                    )
        return found

    def check_content(self, content: str) -> None:
        """Reject images that differ from those of the finished runs.

        Args:
            content: Hash of the images, their masks or labels, names and splits.

        Raises:
            UserError: If a finished run used different images.
        """
        runs = (*self.tuning_runs(), *self.runs())
        begun = [run.folder.begun_with() for run in runs if run.folder.is_finished]
        if any(of is not None and of.content != content for of in begun):
            raise UserError(
                f"{self.folder.path}: the images have changed since its runs finished: all runs of a study "
                "must have the same test set; restore the data, or choose another folder with --out"
            )
