"""What must be known before any number: what ran, and what limits what may be said of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from isthmus.report.formatting import counted, listed, metric_text, range_text, title
from isthmus.report.study_tables import Study

ENOUGH_SEEDS = 5
"""With fewer, the spread over seeds is itself uncertain, and a notice says so."""

OBEYED = 0.9
"""A run obeys the label where the lower end of the interval of its swap success lies above this
share of what the judge says rightly of real images."""

FAR_OFF = 0.5
"""A finished run with less than this share of the median metric is pointed at."""

GOOD_JUDGE = 0.9
"""A judge that is right less often has its accuracy said in a notice."""

CONTROL = 0.99
"""The control of class medoids swaps more often than this, or the judge is at fault."""

_ONE_PROTOCOL = "No encoder here is told the label: both protocols are one, and stand once."
PROTOCOLS = ("swap_encoded_true", "swap_encoded_wrong")
_OBEYING = {
    (True, True): "Under both protocols:",
    (True, False): "Only when encoded with the true label:",
    (False, True): "Only when encoded with the wrong label:",
    (False, False): "Under neither protocol:",
}


@dataclass(frozen=True)
class StudyWarning:
    """A limit of the study; ``details`` has a line for each run or variant it concerns."""

    text: str
    details: tuple[str, ...] = ()


def headline(study: Study) -> str:
    """What ran, and on how many images it was evaluated; for VAEs also how many obey the label."""
    about = study.about
    product = f"{counted(len(about.variants), 'variant')} with {counted(len(about.seeds), 'seed')}"
    ran = f"{len(study.finished)} of {counted(len(study.runs), 'run')} finished"
    images = about.images.get("test")
    evaluated = f", each evaluated once on {counted(images, 'test image')}" if images else ""
    sentence = f"{product} each: {ran}{evaluated}."
    return f"{sentence} {_obeying_sentence(study)}" if "label_use" in about.sections else sentence


def obeying(study: Study) -> tuple[StudyWarning, ...]:
    """The variants with finished runs, by the protocols under which every run obeys the label."""
    by_protocols: dict[tuple[bool, bool], list[str]] = {protocols: [] for protocols in _OBEYING}
    for variant in study.about.variants:
        if study.values(variant, PROTOCOLS[0]).size:
            by_protocols[_obeys(study, variant)].append(variant)
    return tuple(
        StudyWarning(_OBEYING[protocols], tuple(variants))
        for protocols, variants in by_protocols.items()
        if variants
    )


def yardsticks(study: Study) -> tuple[str, ...]:
    """What a VAE's metrics are to be read against, as far as the results say it."""
    recipe = study.recipe_of(study.about.variants[0]) if study.about.variants else {}
    k, images, drawn = (
        recipe.get(f"measure.{key}") for key in ("importance_samples", "nll_images", "cas_images")
    )
    sampled = f"; k = {k}, at most {images} test images" if k and images else ""
    sentences = {
        "cas": f"CAS: its classifier learns from {drawn} drawn images." if drawn else "",
        "cas_real": "CAS of as many real training images: {}.",
        "nll_standard_error": "NLL: its standard error over images is {} nats" + sampled + ".",
        "frechet_floor": "Fréchet distance: its floor, of training to test images, is {}"
        + _in_each(study)
        + ".",
        "style_encoded_true_shuffled": "Style kept: pairs drawn at random give {}.",
    }
    found = {
        sentence: np.concatenate([study.values(v, column) for v in study.about.variants])
        for column, sentence in sentences.items()
        if study.about.variants
    }
    said = (s.format(range_text(values)) for s, values in found.items() if s and values.size)
    return (_ONE_PROTOCOL, *said) if study.protocols_are_one else tuple(said)


def _in_each(study: Study) -> str:
    """Of how many images each set is whose Fréchet distance was taken; the fewest of all runs."""
    counts = pd.to_numeric(study.finished.get("frechet_images", pd.Series()), errors="coerce")
    return f", {counts.min():.0f} images in each" if counts.notna().any() else ""


def study_warnings(study: Study) -> tuple[StudyWarning, ...]:
    """Every limit that holds for this study; none is a good sign."""
    found = (
        _few_seeds(study),
        _unfinished(study, "failed"),
        _unfinished(study, "missing"),
        _unfinished(study, "broken off", then="; the same command tries them again"),
        _far_off(study),
        _weak_judge(study),
        _control_off(study),
        _no_better_than_floor(study),
        _different_losses(study),
        _different_likelihoods(study),
        _hidden_unknown(study),
        _different_machines(study),
        _late_variants(study),
        _late_seeds(study),
    )
    return tuple(warning for warning in found if warning)


def _few_seeds(study: Study) -> StudyWarning | None:
    about = study.about
    if len(about.variants) < 2:
        return StudyWarning("One variant: there is nothing to compare it with.")
    if len(about.seeds) == 1:
        return StudyWarning(
            "One seed: differences below may be luck, and nothing can be said of them."
        )
    wide = (
        "verdicts are given, but their intervals are wide and rest on the assumption that seeds "
        "scatter normally."
    )
    if len(about.seeds) < ENOUGH_SEEDS:
        return StudyWarning(f"{counted(len(about.seeds), 'seed')}: {wide}")
    first = about.judged.name
    short = [v for v in about.variants if study.values(v, first).size < ENOUGH_SEEDS]
    if not short:
        return None
    return StudyWarning(
        f"Fewer than {ENOUGH_SEEDS} finished seeds for these variants: {wide}", tuple(short)
    )


def _late_seeds(study: Study) -> StudyWarning | None:
    seen = [count for count in study.about.looked_last if count < len(study.about.seeds)]
    if not seen or len(study.about.variants) < 2:
        return None
    return StudyWarning(
        f"Verdicts on {' and '.join(map(str, seen))} seeds had been seen, and no further look was planned, "
        "when more seeds were added: a false claim is likelier than 5 % (7 to 11 % in simulations, "
        "docs/statistics.md). Name study.looks before the first verdict, or begin with --stop-width."
    )


def _unfinished(study: Study, status: str, then: str = "") -> StudyWarning | None:
    runs = study.runs[study.runs["status"] == status]
    if runs.empty:
        return None
    lines = []
    for (variant, reason), of in runs.groupby(["variant", "reason"], sort=False):
        seeds = f"seed{'s' if len(of) > 1 else ''} {', '.join(map(str, of['seed']))}"
        lines.append(f"{variant}, {seeds}{f': {reason}' if reason else ''}")
    of_all = f"{len(runs)} of {counted(len(study.runs), 'run')}"
    return StudyWarning(
        f"{status.capitalize()}: {of_all}, kept out of every mean{then}.", tuple(lines)
    )


def _far_off(study: Study) -> StudyWarning | None:
    """Finished runs whose metric is a fraction of the usual one: a slip rather than a recipe."""
    metric = study.about.judged
    if not metric.higher_is_better or metric.name not in study.finished or len(study.finished) < 3:
        return None
    values = pd.to_numeric(study.finished[metric.name], errors="coerce")
    usual = values.median()
    far = study.finished[values < FAR_OFF * usual]
    if far.empty or len(far) > len(study.finished) / 4:  # many are no slip
        return None
    lines = tuple(
        f"{run['variant']}, seed {run['seed']}: {metric_text(float(run[metric.name]))}"
        for _, run in far.iterrows()
    )
    return StudyWarning(
        f"Far below the others: less than {FAR_OFF} of the median {metric.title} of all runs, "
        f"{metric_text(float(usual))}. Look at these before you believe their variants.",
        lines,
    )


def _no_better_than_floor(study: Study) -> StudyWarning | None:
    first = study.about.judged
    sign = 1.0 if first.higher_is_better else -1.0
    lines = [
        f"{variant}: no better than {floor.name}"
        for floor in study.about.baselines
        if floor.is_floor and first.name in floor.metrics
        for variant in study.about.variants
        if sign * study.mean(variant, first.name) <= sign * floor.metrics[first.name]
    ]
    if not lines:
        return None
    return StudyWarning(f"No better than what has learned nothing, by {first.title}:", tuple(lines))


def _different_losses(study: Study) -> StudyWarning | None:
    if not study.about.loss_differs:
        return None
    word = study.about.loss_title.lower()
    untuned = (
        " Nothing was tuned for each: with another learning rate of its own, the order of two may be "
        "another; study.tune tunes it."
    )
    ranking = f"The variants differ in what they minimise: the {word} cannot rank them."
    return StudyWarning(ranking + (untuned if study.tuning.empty else ""))


def _different_likelihoods(study: Study) -> StudyWarning | None:
    used = {study.recipe_of(v).get("objective.likelihood") for v in study.about.variants}
    if len(used) < 2:
        return None
    return StudyWarning(
        "The variants have different likelihoods, which metric different things of an image: NLL, ELBO "
        "and bits/dim compare only within one likelihood."
    )


def _different_machines(study: Study) -> StudyWarning | None:
    if not study.about.mixed:
        return None
    fields = listed([title(field).lower() for field in study.about.mixed], most=9)
    return StudyWarning(
        f"The runs were not all trained alike; they differ in {fields}: differences between variants may "
        "be of that, and times do not compare. Train them again on one machine to be sure."
    )


def _late_variants(study: Study) -> StudyWarning | None:
    seen = study.about.variants_seen
    late = tuple(name for name in study.about.variants if seen and name not in seen)
    if not late:
        return None
    return StudyWarning(
        "Added after verdicts had been seen: whatever is said of these variants, or of a factor whose mean "
        "they enter, is a second question that no correction counts. A study of its own is free of that.",
        late,
    )


def _hidden_unknown(study: Study) -> StudyWarning | None:
    """Variants whose decoder is not told some labels, which their encoder cannot know."""
    recipes = {variant: study.recipe_of(variant) for variant in study.about.variants}
    hiding = tuple(
        variant
        for variant, recipe in recipes.items()
        if recipe.get("model.condition_on") == "decoder"
        and recipe.get("model.label_dropout", 0) > 0
    )
    if not hiding:
        return None
    return StudyWarning(
        'Labels are hidden from the decoder alone (model.condition_on = "decoder", model.label_dropout above 0): an '
        "encoder that cannot know which ones keeps them all in z, and a decoder that finds them there "
        'need not listen; set model.label_dropout = 0, or model.condition_on = "classifier".',
        hiding,
    )


def _weak_judge(study: Study) -> StudyWarning | None:
    accuracies = [study.values(variant, "judge_accuracy") for variant in study.about.variants]
    accuracy = min(np.concatenate([[1.0], *accuracies]))
    if accuracy >= GOOD_JUDGE:
        return None
    return StudyWarning(
        f"The judge says the true label of only {metric_text(float(accuracy))} of the real test "
        "images: what it says of generated ones is no surer than that."
    )


def _control_off(study: Study) -> StudyWarning | None:
    """The judge on the control that swaps by definition: what it does not say of real images."""
    swaps = [
        control.metrics.get("swap_encoded_true", 1.0)
        for control in study.about.baselines
        if not control.is_floor
    ]
    if "label_use" not in study.about.sections or min(swaps, default=1.0) > CONTROL:
        return None
    return StudyWarning(
        f"The control of class medoids has a swap success of {metric_text(min(swaps))} where theory says "
        "1: the judge does not say the label of every medoid, each a real training image."
    )


def _obeys(study: Study, variant: str) -> tuple[bool, bool]:
    """For each protocol, whether every finished run of the variant obeys the label."""
    of_true, of_wrong = (study.values(variant, f"{protocol}_low") for protocol in PROTOCOLS)
    bar = OBEYED * study.values(variant, "judge_accuracy")
    return _all_above(of_true, bar), _all_above(of_wrong, bar)


def _all_above(ends: Float[np.ndarray, " run"], bar: Float[np.ndarray, " run"]) -> bool:
    return bool(ends.size) and bool((ends > bar).all())


def _obeying_sentence(study: Study) -> str:
    count = sum(all(_obeys(study, variant)) for variant in study.about.variants)
    verb = "obeys" if count == 1 else "obey"
    of = counted(len(study.about.variants), "variant")
    judge = study.about.judge
    condition = (
        f", says a judge that knows {metric_text(judge.accuracy)} of real ones" if judge else ""
    )
    return f"{count} of {of} {verb} a wrong label under both protocols{condition}."
