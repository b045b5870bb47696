"""Sentences of the report about VAEs: the variants whose label swaps succeed, and limits of the metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from isthmus.engine.run_result import Baseline, Remark, TaskNotes
from isthmus.metrics.wording import counted, metric_text, range_text
from isthmus.tasks.generate.recipe import GenerateRecipe

OBEYED = 0.9
"""A run obeys the label if the lower end of the interval of its swap success is above this fraction of
the judge's accuracy."""

GOOD_JUDGE = 0.9
"""If the accuracy of the judge is lower, the report warns."""

CONTROL = 0.99
"""If the swap success of the class medoids (a control) is not higher, the report warns."""

PROTOCOLS = ("swap_encoded_true", "swap_encoded_wrong")
_GROUPS = {
    (True, True): "Under both protocols:",
    (True, False): "Only when encoded with the true label:",
    (False, True): "Only when encoded with the wrong label:",
    (False, False): "Under neither protocol:",
}


def generation_notes(
    finished: pd.DataFrame, recipes: Mapping[str, GenerateRecipe], baselines: Sequence[Baseline]
) -> TaskNotes:
    """Headline, warnings, reference values and groups of variants of a study of VAEs.

    Args:
        finished: One row per finished run, with the columns of ``results.csv``.
        recipes: Variant -> recipe, in the order of the study.
        baselines: The two controls; empty if they were not measured.
    """
    runs = _Runs(finished, recipes)
    return TaskNotes(
        headline=_headline(runs),
        warnings=tuple(_warnings(runs, baselines)),
        references=_references(runs),
        groups=_groups(runs),
        hidden_metrics=runs.hidden_metrics,
    )


@dataclass(frozen=True)
class _Runs:
    """The finished runs and their recipes."""

    table: pd.DataFrame
    recipes: Mapping[str, GenerateRecipe]

    def values(self, column: str, variant: str | None = None) -> Float[np.ndarray, " run"]:
        """Finite values of a column, for one variant, or for all variants if ``variant`` is None."""
        if column not in self.table:
            return np.empty(0)
        table = self.table if variant is None else self.table[self.table["variant"] == variant]
        numbers = np.asarray(pd.to_numeric(table[column], errors="coerce"), dtype=np.float64)
        return numbers[np.isfinite(numbers)]

    def obeys(self, variant: str) -> tuple[bool, bool]:
        """For each protocol, whether every finished run of the variant obeys the label."""
        least = OBEYED * self.values("judge_accuracy", variant)
        true, wrong = (self.values(f"{protocol}_low", variant) for protocol in PROTOCOLS)
        return _all_above(true, least), _all_above(wrong, least)

    @property
    def hidden_metrics(self) -> tuple[str, ...]:
        """Metrics of the second protocol, if they equal the metrics of the first in every run."""
        if any(recipe.model.encoder_is_conditioned for recipe in self.recipes.values()):
            return ()
        true, wrong = (self.values(protocol) for protocol in PROTOCOLS)
        if not true.size or not np.array_equal(true, wrong):
            return ()
        return tuple(str(key) for key in self.table if str(key).endswith("_encoded_wrong"))


def _all_above(values: Float[np.ndarray, " run"], least: Float[np.ndarray, " run"]) -> bool:
    return bool(values.size) and bool((values > least).all())


def _headline(runs: _Runs) -> str:
    count = sum(all(runs.obeys(variant)) for variant in runs.recipes)
    verb = "obeys" if count == 1 else "obey"
    accuracy = runs.values("judge_accuracy")
    judge = f" (judge accuracy on real images: {range_text(accuracy)})" if accuracy.size else ""
    of = counted(len(runs.recipes), "variant")
    return f"{count} of {of} {verb} a wrong label under both protocols{judge}."


def _groups(runs: _Runs) -> tuple[Remark, ...]:
    """Variants with finished runs, grouped by the protocols in which every run obeys the label."""
    finished = [variant for variant in runs.recipes if runs.values(PROTOCOLS[0], variant).size]
    groups = {
        text: tuple(variant for variant in finished if runs.obeys(variant) == protocols)
        for protocols, text in _GROUPS.items()
    }
    return tuple(Remark(text=text, details=of) for text, of in groups.items() if of)


def _references(runs: _Runs) -> tuple[str, ...]:
    """Reference values for the metrics, such as the distance between sets of real images, if measured."""
    measure = next(iter(runs.recipes.values())).measure
    sampled = f"k = {measure.importance_samples}, at most {measure.nll_images} test images"
    counts = runs.values("frechet_images")
    in_each = f", {counts.min():.0f} images in each" if counts.size else ""
    cas_images = next((n for of in runs.recipes.values() if (n := of.measure.cas_images)), None)
    trained_on = f"CAS: its classifier is trained on {cas_images} generated images."
    sentences = {
        "cas": trained_on if cas_images else "",
        "cas_real": "CAS of as many real training images: {}.",
        "nll_standard_error": f"NLL: its standard error over images is {{}} nats; {sampled}.",
        "frechet_floor": f"Fréchet distance of training to test images: {{}}{in_each}.",
        "style_encoded_true_shuffled": "Style kept: pairs drawn at random give {}.",
    }
    found = ((sentence, runs.values(column)) for column, sentence in sentences.items())
    one_protocol = "No encoder here is given the label: both protocols are one, and stand once."
    return (
        *((one_protocol,) if runs.hidden_metrics else ()),
        *(
            sentence.format(range_text(values))
            for sentence, values in found
            if sentence and values.size
        ),
    )


def _warnings(runs: _Runs, baselines: Sequence[Baseline]) -> Iterator[Remark]:
    """Warnings about the judge, and about settings that prevent comparison or the use of the label."""
    accuracy = min((1.0, *runs.values("judge_accuracy")))
    if accuracy < GOOD_JUDGE:
        yield Remark(
            text=f"The judge classifies only {metric_text(accuracy)} of the real test images correctly; the "
            "labels that it assigns to generated ones are no more reliable."
        )
    swaps = [of.metrics.get("swap_encoded_true", 1.0) for of in baselines if not of.is_floor]
    if (swap := min(swaps, default=1.0)) <= CONTROL:
        yield Remark(
            text=f"The control of class medoids has a swap success of {metric_text(swap)} where theory "
            "says 1: the judge misclassifies a medoid, which is a real training image."
        )
    if len({recipe.objective.likelihood for recipe in runs.recipes.values()}) > 1:
        yield Remark(
            text="The variants have different likelihoods, whose probabilities are of different events: NLL, "
            "ELBO and bits/dim compare only within one likelihood."
        )
    dropping = tuple(
        variant
        for variant, recipe in runs.recipes.items()
        if recipe.model.condition_on == "decoder" and recipe.model.label_dropout > 0
    )
    if dropping:
        yield Remark(
            text='Label dropout with a label in the decoder alone (model.condition_on = "decoder"): the '
            "encoder cannot know which labels are dropped and keeps all of them in z, and a decoder that "
            "finds them there need not use the label it is given; set model.label_dropout = 0, or "
            'model.condition_on = "classifier".',
            details=dropping,
        )
