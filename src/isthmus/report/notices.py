"""What must be known before any number: what ran, and what limits what may be said of it."""

from __future__ import annotations

from dataclasses import dataclass

from isthmus.report.look import counted, title
from isthmus.report.read import Study

ENOUGH_SEEDS = 5
"""With fewer, the spread over seeds is itself too uncertain for a verdict."""


@dataclass(frozen=True)
class Notice:
    """A limit of the study; ``details`` has a line for each run or variant it concerns."""

    text: str
    details: tuple[str, ...] = ()


def headline(study: Study) -> str:
    """One sentence: what ran, and on how many pictures it was scored."""
    about = study.about
    product = f"{counted(len(about.variants), 'variant')} with {counted(len(about.seeds), 'seed')}"
    ran = f"{len(study.finished)} of {counted(len(study.runs), 'run')} finished"
    pictures = about.pictures.get("test")
    scored = f", each scored once on {counted(pictures, 'test picture')}" if pictures else ""
    return f"{product} each: {ran}{scored}."


def notices(study: Study) -> tuple[Notice, ...]:
    """Every limit that holds for this study; none is a good sign."""
    found = (
        _few_seeds(study),
        _unfinished(study, "failed"),
        _unfinished(study, "missing"),
        _no_better_than_constant(study),
        _different_losses(study),
    )
    return tuple(notice for notice in found if notice)


def _few_seeds(study: Study) -> Notice | None:
    about = study.about
    if len(about.variants) < 2:
        return Notice("One variant: there is nothing to compare it with.")
    luck = "differences below may be luck; no verdict is given."
    if len(about.seeds) < ENOUGH_SEEDS:
        count = "One seed" if len(about.seeds) == 1 else counted(len(about.seeds), "seed")
        return Notice(f"{count}: {luck}")
    first = about.scores[0].name
    short = [v for v in about.variants if study.values(v, first).size < ENOUGH_SEEDS]
    if not short:
        return None
    return Notice(
        f"Fewer than {ENOUGH_SEEDS} finished seeds for these variants: {luck}", tuple(short)
    )


def _unfinished(study: Study, status: str) -> Notice | None:
    runs = study.runs[study.runs["status"] == status]
    if runs.empty:
        return None
    lines = (
        f"{run['variant']}, seed {run['seed']}: {run['reason'] or 'no reason given'}"
        for _, run in runs.iterrows()
    )
    of_all = f"{len(runs)} of {counted(len(study.runs), 'run')}"
    return Notice(f"{status.capitalize()}: {of_all}, kept out of every mean.", tuple(lines))


def _no_better_than_constant(study: Study) -> Notice | None:
    first = study.about.scores[0]
    sign = 1.0 if first.higher_is_better else -1.0
    constant = sign * study.baseline(first.name)
    low = [v for v in study.about.variants if sign * study.mean(v, first.name) <= constant]
    if not low:
        return None
    return Notice(f"No better than the constant prediction by {title(first.name)}:", tuple(low))


def _different_losses(study: Study) -> Notice | None:
    if not study.about.loss_differs:
        return None
    return Notice(
        "The variants minimise different losses: a loss value cannot rank them. "
        "Compare loss curves within one loss only."
    )
