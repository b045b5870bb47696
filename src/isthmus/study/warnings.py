"""The warnings of a study: the limits of what its results can show; and its headline."""

from __future__ import annotations

import pandas as pd

from isthmus.engine.run_result import Remark, TaskNotes
from isthmus.metrics.wording import counted, listed, metric_text, title
from isthmus.study.study_folder import StudyFolder

ENOUGH_SEEDS = 5
"""With fewer, the standard deviation over seeds is itself uncertain."""

FAR_OFF = 0.5
"""A finished run below this share of the median metric gets a warning."""


def headline(study: StudyFolder, notes: TaskNotes) -> str:
    """How many runs have finished, on how many images they were evaluated, and the task's own headline."""
    record = study.record
    product = (
        f"{counted(len(record.variants), 'variant')} with {counted(len(record.seeds), 'seed')}"
    )
    ran = f"{len(study.finished)} of {counted(len(study.runs), 'run')} finished"
    images = record.images.get("test")
    evaluated = f", each evaluated once on {counted(images, 'test image')}" if images else ""
    return f"{product} each: {ran}{evaluated}. {notes.headline}".rstrip()


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
    record = study.record
    if len(record.variants) < 2:
        return Remark(text="One variant: there is nothing to compare it with.")
    if len(record.seeds) == 1:
        return Remark(
            text="One seed: differences below may be luck, and nothing can be said of them."
        )
    wide = (
        "verdicts are given, but their intervals are wide and rest on the assumption that seeds "
        "scatter normally."
    )
    if len(record.seeds) < ENOUGH_SEEDS:
        return Remark(text=f"{counted(len(record.seeds), 'seed')}: {wide}")
    first = record.judged.name
    short = [v for v in record.variants if study.values(v, first).size < ENOUGH_SEEDS]
    if not short:
        return None
    return Remark(
        text=f"Fewer than {ENOUGH_SEEDS} finished seeds for these variants: {wide}",
        details=tuple(short),
    )


def _late_seeds(study: StudyFolder) -> Remark | None:
    seen = [count for count in study.record.looked_last if count < len(study.record.seeds)]
    if not seen or len(study.record.variants) < 2:
        return None
    return Remark(
        text=f"Verdicts on {' and '.join(map(str, seen))} seeds had been seen, and no further look was planned, "
        "when more seeds were added: a false claim is likelier than 5 % (7 to 11 % in simulations, "
        "docs/statistics.md). Name study.looks before the first verdict, or begin with --stop-width."
    )


def _unfinished(study: StudyFolder, status: str, then: str = "") -> Remark | None:
    runs = study.runs[study.runs["status"] == status]
    if runs.empty:
        return None
    lines = []
    for (variant, reason), of in runs.groupby(["variant", "reason"], sort=False):
        seeds = f"seed{'s' if len(of) > 1 else ''} {', '.join(map(str, of['seed']))}"
        lines.append(f"{variant}, {seeds}{f': {reason}' if reason else ''}")
    of_all = f"{len(runs)} of {counted(len(study.runs), 'run')}"
    return Remark(
        text=f"{status.capitalize()}: {of_all}, kept out of every mean{then}.", details=tuple(lines)
    )


def _far_off(study: StudyFolder) -> Remark | None:
    """Single runs far below the median; if more than a quarter are, the recipe is at fault, not a run."""
    metric = study.record.judged
    if not metric.higher_is_better or metric.name not in study.finished or len(study.finished) < 3:
        return None
    values = pd.to_numeric(study.finished[metric.name], errors="coerce")
    usual = values.median()
    far = study.finished[values < FAR_OFF * usual]
    if far.empty or len(far) > len(study.finished) / 4:
        return None
    lines = tuple(
        f"{run['variant']}, seed {run['seed']}: {metric_text(float(run[metric.name]))}"
        for _, run in far.iterrows()
    )
    return Remark(
        text=f"Far below the others: less than {FAR_OFF} of the median {metric.title} of all runs, "
        f"{metric_text(float(usual))}. Look at these before you believe their variants.",
        details=lines,
    )


def _no_better_than_floor(study: StudyFolder) -> Remark | None:
    first = study.record.judged
    sign = 1.0 if first.higher_is_better else -1.0
    lines = [
        f"{variant}: no better than {floor.name}"
        for floor in study.record.baselines
        if floor.is_floor and first.name in floor.metrics
        for variant in study.record.variants
        if sign * study.mean(variant, first.name) <= sign * floor.metrics[first.name]
    ]
    if not lines:
        return None
    return Remark(
        text=f"No better than what has learned nothing, by {first.title}:", details=tuple(lines)
    )


def _different_losses(study: StudyFolder) -> Remark | None:
    if not study.record.loss_differs:
        return None
    word = study.record.loss_title.lower()
    untuned = (
        " Nothing was tuned for each: with another learning rate of its own, the order of two may be "
        "another; study.tune tunes it."
    )
    ranking = f"The variants differ in what they minimise: the {word} cannot rank them."
    return Remark(text=ranking + (untuned if study.tuning.empty else ""))


def _different_machines(study: StudyFolder) -> Remark | None:
    if not study.record.mixed:
        return None
    fields = listed([title(field).lower() for field in study.record.mixed], most=9)
    return Remark(
        text=f"The runs were not all trained alike; they differ in {fields}: differences between variants may "
        "be of that, and times do not compare. Train them again on one machine to be sure."
    )


def _late_variants(study: StudyFolder) -> Remark | None:
    seen = study.record.variants_seen
    late = tuple(name for name in study.record.variants if seen and name not in seen)
    if not late:
        return None
    return Remark(
        text="Added after verdicts had been seen: whatever is said of these variants, or of a factor whose mean "
        "they enter, is a second question that no correction counts. A study of its own is free of that.",
        details=late,
    )
