"""The answer in words: what to take, as far as these seeds can tell, and what the factors do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isthmus.metrics.metric import decimals_for
from isthmus.metrics.wording import counted, interval_text, listed, seconds_text, signed_text
from isthmus.study.folder import StudyFolder
from isthmus.study.records import Recommendation, Verdict

MOST_ROWS = 12
"""Pairs beside the answer; all are in the table of verdicts."""

_FEW = 3
"""Variants that the answer itself names."""

NO_VERDICTS = "No verdicts: this folder has no verdicts.csv, or nothing is in it."


def recommended(study: StudyFolder) -> Recommendation | None:
    """What the pair verdicts on the judged metric recommend; None with nothing to compare.

    Never a winner over overlapping evidence: a variant is taken alone only if every other one
    is worse. Where pairs cannot tell, factors may: they average over more runs. The best mean
    is where to start from, not a verdict.
    """
    if len(study.record.variants) < 2:
        return None
    pairs = best_pairs(study)
    if not pairs:
        return Recommendation(text=NO_VERDICTS)
    best, metric = pairs[0].a, study.record.judged.title
    missing = int((~study.runs["status"].isin(("finished", "failed"))).sum())
    if len(study.record.seeds) == 1 and not missing:
        return Recommendation(
            text="One seed cannot tell which variant is better.",
            start=best,
            details=(
                f"{best} has the best {metric} here, and that may be luck.",
                "To learn it, run the study again with --seeds 5: what is trained is kept.",
            ),
        )
    beaten = [pair for pair in pairs if pair.verdict == "better"]
    equal_ones = [pair.b for pair in pairs if pair.verdict == "equivalent"]
    open_ones = [pair.b for pair in pairs if pair.verdict not in ("better", "equivalent")]
    taken: list[str] = []
    details: list[str] = []
    if len(open_ones) == len(pairs) and missing:
        text = f"No verdict before all runs are done; {missing} of {len(study.runs)} are not."
    elif open_ones:
        taken, (text, *details) = _among(study, best, open_ones)
        if not any(pair.has_interval for pair in pairs):
            details.insert(0, pairs[0].sentence)
    elif equal_ones:
        text = f"Take {best} or, equivalent to it, {listed(equal_ones)}."
        taken = [best, *equal_ones]
        details = _cheapest(study, taken)
    else:
        text = f"Take {best}: better than {_counted(beaten)}{_by_how_much(beaten)}."
        taken = [best]
    details += _survivors(study, taken)
    if open_ones or equal_ones:
        details += _rest(best, beaten, equal_ones if open_ones else [])
    if not missing:
        details += _by_other_metrics(study, best, pairs[0].b)
    compared = {best, *(pair.b for pair in pairs)}
    if left_out := [name for name in study.record.variants if name not in compared]:
        details.append(f"Not compared: {listed(left_out)}.")
    start = taken[0] if taken else best
    return Recommendation(text=text, details=tuple(details), variants=tuple(taken), start=start)


def best_pairs(study: StudyFolder) -> tuple[Verdict, ...]:
    """The best mean against every other variant, nearest rival first, by the judged metric.

    A mean is over the seeds that its variant has finished, a pair over those that both have: a
    mean that rests on easier seeds can be best and worse than another, and is passed over then.
    """
    pairs = [v for v in _of_kind(study, "pair") if np.isfinite(v.difference)]
    seen: dict[str, dict[str, Verdict]] = {}
    for pair in pairs:
        for name in (pair.a, pair.b):
            of_name = pair.seen_from(name)
            seen.setdefault(name, {})[of_name.b] = of_name
    ranked = [name for name in study.by_judged_metric if name in seen]
    if not ranked:
        return ()
    unbeaten = (n for n in ranked if all(of.verdict != "worse" for of in seen[n].values()))
    best = seen[next(unbeaten, ranked[0])]
    return tuple(best[name] for name in ranked if name in best)


def shown_effects(study: StudyFolder) -> tuple[Verdict, ...]:
    """The verdicts beside the answer: of every factor, or of the best mean where there is none."""
    return _of_kind(study, "factor") or best_pairs(study)[:MOST_ROWS]


def interacting(study: StudyFolder) -> tuple[str, ...]:
    """Sentences on the factors whose effect depends on another one."""
    found = (v for v in _of_kind(study, "interaction") if v.verdict == "interacts")
    return tuple(verdict.sentence or f"{verdict.factor}: interacts." for verdict in found)


def decimals_of(verdicts: Sequence[Verdict]) -> int:
    """Decimals for differences of one metric: what the usual simultaneous interval can tell."""
    halves = [(v.family_high - v.family_low) / 2 for v in verdicts if v.has_interval]
    sizes = halves or [abs(v.difference) for v in verdicts]
    known = [size for size in sizes if np.isfinite(size)]
    return decimals_for(float(np.median(known))) if known else 3


def _of_kind(study: StudyFolder, kind: str) -> tuple[Verdict, ...]:
    metric = study.record.judged.name
    return tuple(v for v in study.verdicts if v.kind == kind and v.metric == metric)


def _among(study: StudyFolder, best: str, open_ones: list[str]) -> tuple[list[str], list[str]]:
    """What to take of variants that pairs cannot tell apart, by what the factors tell, and why."""
    beaten = _beaten_by_factors(study)
    candidates = [best, *open_ones]
    kept = [name for name in candidates if not any(name in of for of in beaten.values())]
    levels = _left_of(study, kept, list(beaten))
    if best not in kept or len(kept) == len(candidates) or not levels:
        condition = f"Cannot tell {best} from {listed(open_ones, most=3)}"
        if len(candidates) == len(study.record.variants):
            condition = f"Cannot tell which of the {len(candidates)} variants is best"
        return [], [f"{condition}: any of them may be best.", *_cheapest(study, candidates)]
    start = f"Take {levels}"
    pairs = f"Pair by pair, {best} cannot be told from {counted(len(open_ones), 'other')}."
    if len(kept) == 1:
        only = f"{start}: of the variants that may be best, only {best} has all of that."
        return kept, [only, pairs]
    names = f": {listed(kept)}" if len(kept) <= _FEW else ""
    return kept, [
        f"{start}. Which of the {len(kept)} variants left is best, these seeds cannot tell{names}.",
        *_cheapest(study, kept),
        pairs,
    ]


def _beaten_by_factors(study: StudyFolder) -> dict[str, set[str]]:
    """For each field, the variants that a better level of it would better, on average.

    Only those that the verdict itself has set against their like. Where what a field does
    depends on another one, only if it is better in every setting: an average that hides a
    reversal is no reason to leave a level out.
    """
    depending = [v.factor for v in _of_kind(study, "interaction") if v.verdict == "interacts"]
    beaten: dict[str, set[str]] = {}
    for verdict in _of_kind(study, "factor"):
        condition = verdict if verdict.verdict == "better" else verdict.seen_from(verdict.b)
        if condition.verdict != "better":
            continue
        depends = any(condition.factor in of.split(" x ") for of in depending)
        if not (depends and _is_reversed(study, condition)):
            beaten.setdefault(condition.field, set()).update(worse for _, worse in condition.pairs)
    return beaten


def _is_reversed(study: StudyFolder, verdict: Verdict) -> bool:
    """Whether the better level lies behind in some pair of variants."""
    sign = 1.0 if study.record.judged.higher_is_better else -1.0
    pairs = {(of.a, of.b): of for v in _of_kind(study, "pair") for of in (v, v.seen_from(v.b))}
    return any(sign * pairs[pair].difference < 0 for pair in verdict.pairs if pair in pairs)


def _left_of(study: StudyFolder, kept: list[str], fields: list[str]) -> str:
    """The levels that these variants have of each field of which the study has others too, in words."""
    left = {field: _levels(study, kept, field) for field in fields}
    condition = {f: of for f, of in left.items() if of != _levels(study, study.record.variants, f)}
    return listed([f"{' or '.join(sorted(of))} ({field})" for field, of in condition.items()])


def _levels(study: StudyFolder, names: Sequence[str], field: str) -> set[str]:
    return {_level(study, name, field) for name in names}


def _level(study: StudyFolder, variant: str, field: str) -> str:
    levels = dict(zip(study.record.factors, study.settings_of(variant), strict=True))
    return levels.get(field) or "none"


def _rest(best: str, beaten: list[Verdict], equal_ones: list[str]) -> list[str]:
    """How the best mean stands to the variants that were told from it."""
    said = []
    if beaten:
        said.append(f"{best} is better than {_counted(beaten)}{_by_how_much(beaten)}.")
    if equal_ones:
        said.append(f"{best} is equivalent to {listed(equal_ones)}.")
    return said


def _survivors(study: StudyFolder, names: list[str]) -> list[str]:
    """Which of the variants that are taken have failed runs, for their metrics are of the others."""
    failed = study.runs[study.runs["status"] == "failed"]["variant"].value_counts()
    seeds = len(study.record.seeds)
    said = [f"{name} ({failed[name]} of {seeds})" for name in names if name in failed]
    return [f"Of the runs that did not fail; failed: {listed(said)}."] if said else []


def _by_other_metrics(study: StudyFolder, best: str, rival: str) -> list[str]:
    """What the best mean gives or costs beside its nearest rival, by the other metrics judged."""
    others, two = study.record.analysis.metrics[1:], {best, rival}
    pairs = [v for v in study.verdicts if v.kind == "pair" and {v.a, v.b} == two]
    found = [pair.seen_from(best) for pair in pairs if pair.metric in others]
    title_of = study.record.title_of
    return [f"{title_of(v.metric)} against {rival}: {v.verdict}, {_sized(v)}." for v in found]


def _sized(verdict: Verdict) -> str:
    """A difference with its interval, where it has one."""
    shown = verdict.has_interval
    decimals = decimals_for((verdict.high - verdict.low) / 2) if shown else decimals_of([verdict])
    size = signed_text(verdict.difference, decimals)
    between = interval_text(verdict.low, verdict.high, decimals)
    return f"{size} {between}" if shown else size


def _cheapest(study: StudyFolder, names: list[str]) -> list[str]:
    """Which of these trains in the least time; nothing if a time is not known."""
    costs = {name: study.mean(name, "train_seconds") for name in names}
    if not np.isfinite(list(costs.values())).all():
        return []
    name = min(costs, key=costs.__getitem__)
    return [f"Cheapest to train of them: {name} ({seconds_text(costs[name])} a run)."]


def _counted(beaten: list[Verdict]) -> str:
    """One name; of more, how many, for the table of pairs names them."""
    return beaten[0].b if len(beaten) == 1 else counted(len(beaten), "other")


def _by_how_much(beaten: list[Verdict]) -> str:
    """How far the beaten ones lie behind."""
    sizes = [abs(pair.difference) for pair in beaten]
    decimals = decimals_of(beaten)
    ends = [signed_text(size, decimals).lstrip("+") for size in (min(sizes), max(sizes))]
    return f" by {ends[0] if ends[0] == ends[1] else ' to '.join(ends)}"
