"""The headline of a study, and its warnings about the limits of its results."""

from __future__ import annotations

import pandas as pd

from isthmus.engine.run_result import Remark, TaskNotes
from isthmus.metrics.wording import counted, listed, metric_text, title
from isthmus.study.study_folder import StudyFolder

ENOUGH_SEEDS = 5
"""With fewer seeds, the estimate of the standard deviation over seeds is itself uncertain."""

FAR_OFF = 0.5
"""A finished run gets a warning if its primary metric is below this fraction of the median."""


def headline(study: StudyFolder, notes: TaskNotes) -> str:
    """How many runs have finished, on how many images they were evaluated, and the task's own headline."""
    record = study.record
    runs = f"{counted(len(record.variants), 'variant')} with {counted(len(record.seeds), 'seed')}"
    ran = f"{len(study.finished)} of {counted(len(study.runs), 'run')} finished"
    images = record.images.get("test")
    evaluated = f", each evaluated once on {counted(images, 'test image')}" if images else ""
    return f"{runs} each: {ran}{evaluated}. {notes.headline}".rstrip()


def study_warnings(study: StudyFolder) -> tuple[Remark, ...]:
    """The warnings that apply to this study, whatever its task."""
    found = (
        _few_seeds(study),
        _unfinished(study, "failed"),
        _unfinished(study, "missing"),
        _unfinished(study, "broken off", then="; the same command tries them again"),
        _far_off(study),
        _no_better_than_floor(study),
        _different_losses(study),
        _different_machines(study),
        _late_variants(study),
        _late_seeds(study),
    )
    return tuple(warning for warning in found if warning)


def _few_seeds(study: StudyFolder) -> Remark | None:
    record, seeds = study.record, len(study.record.seeds)
    wide = (
        "verdicts are given, but their intervals are wide and rest on the assumption that differences "
        "between variants are normally distributed over seeds."
    )
    if len(record.variants) < 2:
        return Remark(text="One variant: there is nothing to compare it with.")
    if seeds == 1:
        return Remark(
            text="One seed: the differences below may be due to chance, and there are no verdicts on them."
        )
    if seeds < ENOUGH_SEEDS:
        return Remark(text=f"{counted(seeds, 'seed')}: {wide}")
    sizes = {name: study.values(name, record.primary.name).size for name in record.variants}
    short = tuple(name for name, size in sizes.items() if size < ENOUGH_SEEDS)
    text = f"Fewer than {ENOUGH_SEEDS} finished seeds for these variants: {wide}"
    return Remark(text=text, details=short) if short else None


def _unfinished(study: StudyFolder, status: str, then: str = "") -> Remark | None:
    runs = study.runs[study.runs["status"] == status]
    if runs.empty:
        return None
    lines = []
    for (variant, reason), of in runs.groupby(["variant", "reason"], sort=False):
        seeds = f"seed{'s' if len(of) > 1 else ''} {', '.join(map(str, of['seed']))}"
        lines.append(f"{variant}, {seeds}{f': {reason}' if reason else ''}")
    of_all = f"{len(runs)} of {counted(len(study.runs), 'run')}"
    heading = "Stopped with an error" if status == "broken off" else status.capitalize()
    return Remark(text=f"{heading}: {of_all}, left out of every mean{then}.", details=tuple(lines))


def _far_off(study: StudyFolder) -> Remark | None:
    """A warning about single runs far below the median.

    There is none if more than a quarter of the runs are: the cause is then the recipe, not single runs.
    """
    metric, finished = study.record.primary, study.finished
    if not metric.higher_is_better or metric.name not in finished or len(finished) < 3:
        return None
    values = pd.to_numeric(finished[metric.name], errors="coerce")
    median = float(values.median())
    far = finished[values < FAR_OFF * median]
    if far.empty or len(far) > len(finished) / 4:
        return None
    lines = tuple(
        f"{run['variant']}, seed {run['seed']}: {metric_text(float(run[metric.name]))}"
        for _, run in far.iterrows()
    )
    return Remark(
        text=f"Runs far below the others: {metric.title} is less than {FAR_OFF} times the median of all "
        f"runs, {metric_text(median)}. Check these runs before you trust results on their variants.",
        details=lines,
    )


def _no_better_than_floor(study: StudyFolder) -> Remark | None:
    first = study.record.primary
    sign = 1.0 if first.higher_is_better else -1.0
    lines = tuple(
        f'{variant}: no better than the baseline "{floor.name}"'
        for floor in study.record.baselines
        if floor.is_floor and first.name in floor.metrics
        for variant in study.record.variants
        if sign * study.mean(variant, first.name) <= sign * floor.metrics[first.name]
    )
    text = (
        f"Variants that are no better than a baseline that has learned nothing, on {first.title}:"
    )
    return Remark(text=text, details=lines) if lines else None


def _different_losses(study: StudyFolder) -> Remark | None:
    if not study.record.loss_differs:
        return None
    loss = study.record.loss_title.lower()
    untuned = (
        " No hyperparameter was tuned for each variant: with the best learning rate for each, their order "
        "may change; study.tune tunes it."
    )
    text = f"The variants minimise different quantities, so the {loss} cannot be used to rank them."
    return Remark(text=text + (untuned if study.tuning.empty else ""))


def _different_machines(study: StudyFolder) -> Remark | None:
    if not study.record.mixed:
        return None
    fields = listed([title(field).lower() for field in study.record.mixed], most=9)
    return Remark(
        text=f"The runs were not all trained in the same environment; they differ in {fields}: this may "
        "explain differences between variants, and times are not comparable. To be sure, train all runs "
        "again on one machine, with one version of isthmus and its packages."
    )


def _late_variants(study: StudyFolder) -> Remark | None:
    seen = study.record.variants_seen
    late = tuple(name for name in study.record.variants if seen and name not in seen)
    text = (
        "Variants added after verdicts had been seen: verdicts on these variants, and on the factors in "
        "which they differ, are not corrected for that. Compare these variants in a separate study."
    )
    return Remark(text=text, details=late) if late else None


def _late_seeds(study: StudyFolder) -> Remark | None:
    seen = [count for count in study.record.looked_last if count < len(study.record.seeds)]
    if not seen or len(study.record.variants) < 2:
        return None
    return Remark(
        text=f"Seeds were added after verdicts on {' and '.join(map(str, seen))} seeds had been seen, with "
        "no further look planned: the probability of a false claim is higher than 5 % (7 to 11 % in "
        "simulations, docs/statistics.md). Set study.looks before the first verdict, or start with "
        "--stop-width."
    )
