"""Generation: VAEs conditioned on a label, and measurements of whether they use the label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from isthmus.engine.run_result import Baseline, Evaluation, TaskNotes
from isthmus.errors import UserError
from isthmus.metrics.metric import Metric
from isthmus.recipe import with_settings
from isthmus.tasks.classify import LabelledTask
from isthmus.tasks.generate.recipe import GenerateRecipe

if TYPE_CHECKING:
    import pandas as pd

    from isthmus.data.store import LabelledStore
    from isthmus.engine.fit import Trained
    from isthmus.engine.task import DeviceName, ProgressCallback
    from isthmus.tasks.generate.module import Generator


class GenerateTask(LabelledTask):
    """Label-conditioned VAEs, evaluated by a judge (a classifier of real images)."""

    name = "generate"
    recipe = GenerateRecipe
    curve = "elbo_nats"
    loss_title = "Objective"
    loss_table = "objective"
    sections = ("label_use", "sample_grids", "designs")
    forecast_note = "training the judge once"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Metrics of the use of the label, of likelihood, and of the use of z."""
        from isthmus.tasks.generate.metric_table import METRICS

        return METRICS

    def new_module(self, recipe: GenerateRecipe, store: LabelledStore, steps: int) -> Generator:
        """A VAE with its objective."""
        from isthmus.tasks.generate.module import Generator, vae_for

        return Generator(vae_for(recipe, len(store.class_names)), recipe, steps)

    def evaluate(self, trained: Trained) -> Evaluation:
        """Measure likelihood, use of z and use of the label; also write sample grids."""
        from isthmus.tasks.generate.evaluate import evaluate_generator

        return evaluate_generator(trained)

    def prepare(
        self,
        recipe: GenerateRecipe,
        store: LabelledStore,
        shared: Path,
        on_progress: ProgressCallback,
        device: DeviceName,
    ) -> Mapping[str, str]:
        """Train the judge of these images, unless it is in ``shared`` or in the cache.

        Returns:
            "judge" -> name of the judge.
        """
        from isthmus.tasks.generate.cas import check_cas_images
        from isthmus.tasks.generate.judge import ensure_judge

        check_cas_images(recipe.measure, len(store.class_names))
        return {"judge": ensure_judge(recipe, store, shared, on_progress, device)}

    def verdict_metrics(self, recipes: Sequence[GenerateRecipe]) -> tuple[str, ...]:
        """Swap success and the NLL; if the two swap protocols differ, the harder protocol comes first.

        The harder protocol encodes with the wrong label: the encoder may then put the true label
        into z.
        """
        differ = any(recipe.model.encoder_is_conditioned for recipe in recipes)
        harder = ("swap_encoded_wrong",) if differ else ()
        return (*harder, "swap_encoded_true", "nll_nats")

    def check_metrics(self, names: Sequence[str], recipes: Sequence[GenerateRecipe]) -> None:
        """Reject metrics that are not measured: ELBO without a label, or CAS, if the recipe lacks them."""
        no_dropout = any(recipe.model.label_dropout == 0 for recipe in recipes)
        if "elbo_unconditional_nats" in names and no_dropout:
            raise UserError(
                "study.metrics: elbo_unconditional_nats is not measured without label dropout "
                "(model.label_dropout = 0): set it in every variant, or remove the metric"
            )
        if "cas" in names and any(recipe.measure.cas_images is None for recipe in recipes):
            raise UserError(
                "study.metrics: cas is not measured without measure.cas_images: "
                "set it, or remove cas"
            )

    def comparable(
        self, metrics: Sequence[Metric], recipes: Sequence[GenerateRecipe]
    ) -> tuple[Metric, ...]:
        """The metrics, without nats and bits if likelihoods differ.

        Nats and bits of different likelihoods refer to different events, so they cannot be compared.
        """
        if len({recipe.objective.likelihood for recipe in recipes}) < 2:
            return tuple(metrics)
        return tuple(m for m in metrics if not {"nats", "bits"} & set(m.name.split("_")))

    def baselines(
        self, recipe: GenerateRecipe, seed: int, store: LabelledStore, shared: Path
    ) -> tuple[Baseline, ...]:
        """Two controls, decoders whose swap metrics are known in theory; none if there is no judge yet."""
        from isthmus.tasks.generate.label_swap import control_baselines

        return control_baselines(recipe, seed, store, shared)

    def phases(self, recipe: GenerateRecipe) -> tuple[tuple[float, GenerateRecipe], ...]:
        """One sample of z per image until ``importance_from``, all samples afterwards."""
        late = recipe.objective.importance_from
        if not late:
            return ((1.0, recipe),)
        single = {"objective.importance_samples": 1, "objective.importance_from": 0.0}
        return ((late, with_settings(recipe, single)), (1 - late, recipe))

    def drawn_by_seed(self, recipe: GenerateRecipe) -> tuple[str, ...]:
        """What the seed determines: what it determines in every task, wrong labels, and binarisations."""
        weights, validation, order = super().drawn_by_seed(recipe)
        is_dynamic = recipe.objective.likelihood == "bernoulli-dynamic"
        binarised = ("binarisations of the test images",) if is_dynamic else ()
        return (weights, validation, "wrong labels", *binarised, order)

    def notes(
        self,
        finished: pd.DataFrame,
        recipes: Mapping[str, GenerateRecipe],
        baselines: Sequence[Baseline],
    ) -> TaskNotes:
        """The variants whose swaps succeed, and limits of the judge."""
        from isthmus.tasks.generate.page import generation_notes

        return generation_notes(finished, recipes, baselines)
