"""Generation: VAEs conditioned on a label, and measurements of whether they use it."""

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
    """Label-conditioned VAEs, evaluated by a judge."""

    name = "generate"
    recipe = GenerateRecipe
    curve = "elbo_nats"
    loss_title = "Objective"
    loss_table = "objective"
    sections = ("label_use", "sample_grids", "designs")
    forecast_note = "training the judge once"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Metrics of label use, then of likelihood, then of the use of z."""
        from isthmus.tasks.generate.metric_table import METRICS

        return METRICS

    def new_module(self, recipe: GenerateRecipe, store: LabelledStore, steps: int) -> Generator:
        """A VAE with its objective."""
        from isthmus.tasks.generate.module import Generator, vae_for

        return Generator(vae_for(recipe, len(store.class_names)), recipe, steps)

    def evaluate(self, trained: Trained) -> Evaluation:
        """Likelihood, use of z and use of the label; writes sample grids too."""
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
        """Train the judge of these images, unless it is in ``shared`` or in the cache."""
        from isthmus.tasks.generate.cas import check_cas_images
        from isthmus.tasks.generate.judge import ensure_judge

        check_cas_images(recipe.measure, len(store.class_names))
        return {"judge": ensure_judge(recipe, store, shared, on_progress, device)}

    def verdict_metrics(self, recipes: Sequence[GenerateRecipe]) -> tuple[str, ...]:
        """Swap success and the NLL; first the harder swap protocol, if the two differ.

        It is harder to encode with the wrong label: the encoder may then put the true one into z.
        """
        differ = any(recipe.model.encoder_is_conditioned for recipe in recipes)
        harder = ("swap_encoded_wrong",) if differ else ()
        return (*harder, "swap_encoded_true", "nll_nats")

    def check_metrics(self, names: Sequence[str], recipes: Sequence[GenerateRecipe]) -> None:
        """Reject the unconditional ELBO without label dropout, and CAS without its images."""
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
        """Without nats and bits, if likelihoods differ: their probabilities are of different events."""
        if len({recipe.objective.likelihood for recipe in recipes}) < 2:
            return tuple(metrics)
        return tuple(m for m in metrics if not {"nats", "bits"} & set(m.name.split("_")))

    def baselines(
        self, recipe: GenerateRecipe, seed: int, store: LabelledStore, shared: Path
    ) -> tuple[Baseline, ...]:
        """Two decoders whose swap metrics are known in theory; none before there is a judge."""
        from isthmus.tasks.generate.label_swap import control_baselines

        return control_baselines(recipe, seed, store, shared)

    def phases(self, recipe: GenerateRecipe) -> tuple[tuple[float, GenerateRecipe], ...]:
        """One sample of z per step until ``importance_from``, all samples afterwards."""
        late = recipe.objective.importance_from
        if not late:
            return ((1.0, recipe),)
        single = {"objective.importance_samples": 1, "objective.importance_from": 0.0}
        return ((late, with_settings(recipe, single)), (1 - late, recipe))

    def drawn_by_seed(self, recipe: GenerateRecipe) -> tuple[str, ...]:
        """What every task draws, wrong labels, and binarised test images."""
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
        """Which variants obey the label, and limits of the judge."""
        from isthmus.tasks.generate.page import generation_notes

        return generation_notes(finished, recipes, baselines)
