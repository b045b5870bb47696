"""What the report says of label-conditioned VAEs: who obeys the label, and what limits that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from isthmus.engine.run_result import Baseline, Remark, TaskNotes
from isthmus.metrics.wording import counted, metric_text, range_text
from isthmus.tasks.generate.recipe import GenerateRecipe

OBEYED = 0.9
"""A run obeys the label where the lower end of its swap success's interval lies above this share of
the judge's accuracy."""

GOOD_JUDGE = 0.9
"""A judge of lower accuracy is a warning."""

CONTROL = 0.99
"""The control of class medoids should swap more often than this."""

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
    """Headline, warnings, references and groups of a study of VAEs.

    Args:
        finished: A row a finished run, as ``results.csv`` has them.
        recipes: Variant -> recipe, in the order of the study.
        baselines: The two controls, if there are any.
    """
    runs = _Runs(finished, recipes)
    warnings = (
        _weak_judge(runs),
        _control_off(baselines),
        _different_likelihoods(runs),
        _hidden_labels(runs),
    )
    return TaskNotes(
        headline=_headline(runs),
        warnings=tuple(warning for warning in warnings if warning),
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
        """Finite values of a column, of one variant or of all."""
        if column not in self.table:
            return np.empty(0)
        table = self.table if variant is None else self.table[self.table["variant"] == variant]
        numbers = np.asarray(pd.to_numeric(table[column], errors="coerce"), dtype=np.float64)
        return numbers[np.isfinite(numbers)]

    def obeys(self, variant: str) -> tuple[bool, bool]:
        """For each protocol, whether every finished run of the variant obeys the label."""
        bar = OBEYED * self.values("judge_accuracy", variant)
        true, wrong = (self.values(f"{protocol}_low", variant) for protocol in PROTOCOLS)
        return _all_above(true, bar), _all_above(wrong, bar)

    @property
    def hidden_metrics(self) -> tuple[str, ...]:
        """The metrics of the second protocol where it equals the first in every run."""
        if any(recipe.model.encoder_is_conditioned for recipe in self.recipes.values()):
            return ()
        true, wrong = (self.values(protocol) for protocol in PROTOCOLS)
        if not true.size or not np.array_equal(true, wrong):
            return ()
        return tuple(str(key) for key in self.table if str(key).endswith("_encoded_wrong"))


def _all_above(ends: Float[np.ndarray, " run"], bar: Float[np.ndarray, " run"]) -> bool:
    return bool(ends.size) and bool((ends > bar).all())


def _headline(runs: _Runs) -> str:
    count = sum(all(runs.obeys(variant)) for variant in runs.recipes)
    verb = "obeys" if count == 1 else "obey"
    accuracy = runs.values("judge_accuracy")
    judge = f" (judge accuracy on real images: {range_text(accuracy)})" if accuracy.size else ""
    of = counted(len(runs.recipes), "variant")
    return f"{count} of {of} {verb} a wrong label under both protocols{judge}."


def _groups(runs: _Runs) -> tuple[Remark, ...]:
    """The variants with finished runs, by the protocols under which every run obeys the label."""
    by_protocols: dict[tuple[bool, bool], list[str]] = {protocols: [] for protocols in _GROUPS}
    for variant in runs.recipes:
        if runs.values(PROTOCOLS[0], variant).size:
            by_protocols[runs.obeys(variant)].append(variant)
    return tuple(
        Remark(text=_GROUPS[protocols], details=tuple(variants))
        for protocols, variants in by_protocols.items()
        if variants
    )


def _references(runs: _Runs) -> tuple[str, ...]:
    """What the metrics of a VAE are to be read against, as far as the results say it."""
    measure = next(iter(runs.recipes.values())).measure
    drawn = next((n for of in runs.recipes.values() if (n := of.measure.cas_images)), None)
    sampled = f"k = {measure.importance_samples}, at most {measure.nll_images} test images"
    counts = runs.values("frechet_images")
    in_each = f", {counts.min():.0f} images in each" if counts.size else ""
    sentences = {
        "cas": f"CAS: its classifier learns from {drawn} generated images." if drawn else "",
        "cas_real": "CAS of as many real training images: {}.",
        "nll_standard_error": f"NLL: its standard error over images is {{}} nats; {sampled}.",
        "frechet_floor": "Fréchet distance: its floor, of training to test images, is {}"
        + f"{in_each}.",
        "style_encoded_true_shuffled": "Style kept: pairs drawn at random give {}.",
    }
    one_protocol = (
        ("No encoder here is given the label: both protocols are one, and stand once.",)
        if runs.hidden_metrics
        else ()
    )
    found = {sentence: runs.values(column) for column, sentence in sentences.items()}
    said = (
        sentence.format(range_text(values))
        for sentence, values in found.items()
        if sentence and values.size
    )
    return (*one_protocol, *said)


def _weak_judge(runs: _Runs) -> Remark | None:
    accuracy = min((1.0, *runs.values("judge_accuracy")))
    if accuracy >= GOOD_JUDGE:
        return None
    return Remark(
        text=f"The judge names the true label of only {metric_text(accuracy)} of the real test images: "
        "what it says of generated ones is no surer than that."
    )


def _control_off(baselines: Sequence[Baseline]) -> Remark | None:
    """A judge that does not give every medoid, a real training image, its label."""
    swaps = [of.metrics.get("swap_encoded_true", 1.0) for of in baselines if not of.is_floor]
    if min(swaps, default=1.0) > CONTROL:
        return None
    return Remark(
        text=f"The control of class medoids has a swap success of {metric_text(min(swaps))} where theory "
        "says 1: the judge does not give every medoid, each a real training image, its label."
    )


def _different_likelihoods(runs: _Runs) -> Remark | None:
    if len({recipe.objective.likelihood for recipe in runs.recipes.values()}) < 2:
        return None
    return Remark(
        text="The variants have different likelihoods, which measure different events: NLL, ELBO and "
        "bits/dim compare only within one likelihood."
    )


def _hidden_labels(runs: _Runs) -> Remark | None:
    """Variants whose decoder is not given some labels, which their encoder cannot know."""
    hiding = tuple(
        variant
        for variant, recipe in runs.recipes.items()
        if recipe.model.condition_on == "decoder" and recipe.model.label_dropout > 0
    )
    if not hiding:
        return None
    return Remark(
        text='Label dropout with a label in the decoder alone (model.condition_on = "decoder"): the '
        "encoder cannot know which labels are dropped and keeps them all in z, and a decoder that "
        "finds them there need not use the label; set model.label_dropout = 0, or "
        'model.condition_on = "classifier".',
        details=hiding,
    )
