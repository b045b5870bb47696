"""The recommendation of a study: which variant to take, and the verdicts behind it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isthmus.metrics.metric import decimals_for
from isthmus.metrics.wording import counted, interval_text, listed, seconds_text, signed_text
from isthmus.study.records import Recommendation, Verdict
from isthmus.study.study_folder import StudyFolder
from isthmus.study.verdicts import CANNOT_TELL

MOST_ROWS = 12
"""Largest number of pairs that the report shows beside the recommendation."""

_FEW = 3
"""Largest number of variants that the recommendation names."""

NO_VERDICTS = "There are no verdicts: verdicts.csv is missing or empty."


def recommended(study: StudyFolder) -> Recommendation | None:
    """What the verdicts on the primary metric recommend; None with fewer than two variants.

    A variant is recommended alone only if every other variant is worse. Where verdicts on pairs of
    variants do not decide, verdicts on factors may, since they average over more runs.
    """
    if len(study.record.variants) < 2:
        return None
    pairs = best_pairs(study)
    if not pairs:
        return Recommendation(text=NO_VERDICTS)
    best, metric = pairs[0].a, study.record.primary.title
    missing = int((~study.runs["status"].isin(("finished", "failed"))).sum())
    if len(study.record.seeds) == 1 and not missing:
        return Recommendation(
            text="One seed is not enough to decide which variant is best.",
            start=best,
            details=(
                f"{best} has the best {metric}, but this may be due to chance.",
                "To find out, run the study again with --seeds 5; finished runs are kept.",
            ),
        )
    worse = [pair for pair in pairs if pair.verdict == "better"]
    equivalent = [pair.b for pair in pairs if pair.verdict == "equivalent"]
    undecided = [pair.b for pair in pairs if pair.verdict not in ("better", "equivalent")]
    taken: list[str] = []
    details: list[str] = []
    if len(undecided) == len(pairs) and missing:
        text = f"There are no verdicts until all runs are done; {missing} of {len(study.runs)} runs are not."
    elif undecided:
        taken, (text, *details) = _among(study, best, undecided)
        if not any(pair.has_interval for pair in pairs):
            details.insert(0, pairs[0].sentence)
    elif equivalent:
        text = f"Take {best} or {_equivalents_text(equivalent)}."
        taken = [best, *equivalent]
        details = _cheapest(study, taken)
    else:
        text = f"Take {best}: it is better than {_one_or_count(worse)}{_by_how_much(worse)}."
        taken = [best]
    details += _failed_runs(study, taken)
    if worse and (undecided or equivalent):
        details.append(f"{best} is better than {_one_or_count(worse)}{_by_how_much(worse)}.")
    if equivalent and undecided:
        details.append(f"{best} is equivalent to {listed(equivalent)}.")
    if not missing:
        details += _by_other_metrics(study, best, pairs[0].b)
    compared = {best, *(pair.b for pair in pairs)}
    if left_out := [name for name in study.record.variants if name not in compared]:
        details.append(f"{listed(left_out)} {'were' if len(left_out) > 1 else 'was'} not compared.")
    start = taken[0] if taken else best
    return Recommendation(text=text, details=tuple(details), variants=tuple(taken), start=start)


def best_pairs(study: StudyFolder) -> tuple[Verdict, ...]:
    """The verdicts on the best variant against every other variant, best mean of the other first.

    A mean is over all finished seeds of a variant, but a pair is compared over the seeds that both
    variants have finished. So the variant with the best mean may be worse than another variant when
    the two are compared. The best variant is the one with the best mean of those that are worse than
    no other variant or, if there are none, of all.
    """
    seen: dict[str, dict[str, Verdict]] = {}
    for pair in _of_kind(study, "pair"):
        for name in (pair.a, pair.b) if np.isfinite(pair.difference) else ():
            of_name = pair.seen_from(name)
            seen.setdefault(name, {})[of_name.b] = of_name
    ranked = [name for name in study.by_primary_metric if name in seen]
    if not ranked:
        return ()
    unbeaten = (n for n in ranked if all(of.verdict != "worse" for of in seen[n].values()))
    best = seen[next(unbeaten, ranked[0])]
    return tuple(best[name] for name in ranked if name in best)


def shown_effects(study: StudyFolder) -> tuple[Verdict, ...]:
    """The verdicts to show beside the recommendation: on factors or, without any, on the best pairs."""
    return _of_kind(study, "factor") or best_pairs(study)[:MOST_ROWS]


def interacting(study: StudyFolder) -> tuple[str, ...]:
    """Sentences on the factors whose effect depends on another factor."""
    found = (v for v in _of_kind(study, "interaction") if v.verdict == "interacts")
    return tuple(verdict.sentence or f"{verdict.factor}: interacts." for verdict in found)


def decimals_of(verdicts: Sequence[Verdict]) -> int:
    """Number of decimals for differences of one metric, from the median width of their intervals."""
    halves = [(v.family_high - v.family_low) / 2 for v in verdicts if v.has_interval]
    sizes = halves or [abs(v.difference) for v in verdicts]
    known = [size for size in sizes if np.isfinite(size)]
    return decimals_for(float(np.median(known))) if known else 3


def _of_kind(study: StudyFolder, kind: str) -> tuple[Verdict, ...]:
    """The verdicts of one kind on the primary metric."""
    metric = study.record.primary.name
    return tuple(v for v in study.verdicts if v.kind == kind and v.metric == metric)


def _among(study: StudyFolder, best: str, undecided: list[str]) -> tuple[list[str], list[str]]:
    """Use verdicts on factors to choose among the variants that verdicts on pairs do not distinguish.

    Args:
        study: The study.
        best: The best variant.
        undecided: The variants that are neither worse than the best nor equivalent to it.

    Returns:
        The variants that remain, or none if factors do not narrow the choice; and the sentences.
    """
    worse = _worse_by_factor(study)
    candidates = [best, *undecided]
    kept = [name for name in candidates if not any(name in of for of in worse.values())]
    levels = _levels_text(study, kept, list(worse))
    if best not in kept or len(kept) == len(candidates) or not levels:
        text = f"{best} cannot be distinguished from {listed(undecided, most=3)}: any of them may be best."
        if len(candidates) == len(study.record.variants):
            text = f"These seeds cannot decide which of the {len(candidates)} variants is best."
        return [], [text, *_cheapest(study, candidates)]
    others = counted(len(undecided), "other variant")
    pairs = f"In pairwise comparisons, {best} cannot be distinguished from {others}."
    if len(kept) == 1:
        only = f"of the variants that may be best, it is the only one with {levels}."
        return kept, [f"Take {best}: {only}", pairs]
    names = f" ({listed(kept)})" if len(kept) <= _FEW else ""
    text = f"These seeds cannot decide which of the {len(kept)} remaining variants{names} is best."
    return kept, [f"Take {levels}. {text}", *_cheapest(study, kept), pairs]


def _worse_by_factor(study: StudyFolder) -> dict[str, set[str]]:
    """Field -> variants with a level of this field that is on average worse than another level.

    If the effect of a field depends on another field, a verdict counts only if the better level has the
    better mean in every pair of variants.
    """
    depending = [v.factor for v in _of_kind(study, "interaction") if v.verdict == "interacts"]
    worse: dict[str, set[str]] = {}
    for verdict in _of_kind(study, "factor"):
        found = verdict if verdict.verdict == "better" else verdict.seen_from(verdict.b)
        if found.verdict != "better":
            continue
        depends = any(found.factor in of.split(" x ") for of in depending)
        if not (depends and _is_reversed(study, found)):
            worse.setdefault(found.field, set()).update(variant for _, variant in found.pairs)
    return worse


def _is_reversed(study: StudyFolder, verdict: Verdict) -> bool:
    """Whether in some pair of variants the level with the better average has the worse mean."""
    sign = 1.0 if study.record.primary.higher_is_better else -1.0
    pairs = {(of.a, of.b): of for v in _of_kind(study, "pair") for of in (v, v.seen_from(v.b))}
    return any(sign * pairs[pair].difference < 0 for pair in verdict.pairs if pair in pairs)


def _levels_text(study: StudyFolder, kept: list[str], fields: list[str]) -> str:
    """The levels of each field that these variants have; a field is left out if they have every level."""
    levels_of = {
        name: dict(zip(study.record.factors, study.settings_of(name), strict=True))
        for name in study.record.variants
    }
    texts = []
    for field in fields:
        left, every = (
            {levels_of[name].get(field) or "none" for name in names}
            for names in (kept, study.record.variants)
        )
        if left != every:
            texts.append(f"{' or '.join(sorted(left))} ({field})")
    return listed(texts)


def _failed_runs(study: StudyFolder, names: list[str]) -> list[str]:
    """A sentence on the failed runs of these variants; an empty list if there are none."""
    failed = study.runs[study.runs["status"] == "failed"]["variant"].value_counts()
    seeds = len(study.record.seeds)
    said = [f"{name} ({failed[name]} of {seeds})" for name in names if name in failed]
    return [f"Failed runs are left out of the means: {listed(said)}."] if said else []


def _by_other_metrics(study: StudyFolder, best: str, rival: str) -> list[str]:
    """The verdicts on the best variant against its nearest rival on the other metrics."""
    others, two = study.record.analysis.metrics[1:], {best, rival}
    pairs = [v for v in study.verdicts if v.kind == "pair" and {v.a, v.b} == two]
    found = [pair.seen_from(best) for pair in pairs if pair.metric in others]
    words = {
        "equivalent": f"{best} and {rival} are equivalent",
        CANNOT_TELL: f"{best} and {rival} cannot be distinguished",
    }
    return [
        f"{study.record.title_of(v.metric)}: "
        f"{words.get(v.verdict, f'{best} is {v.verdict} than {rival}')}, difference {_size_text(v)}."
        for v in found
    ]


def _equivalents_text(names: list[str]) -> str:
    """The variants that are equivalent to the best one, as the end of a sentence."""
    if len(names) == 1:
        return f"{names[0]}, which is equivalent to it"
    return f"one of {listed(names)}, which are equivalent to it"


def _size_text(verdict: Verdict) -> str:
    """A difference with its interval, if it has one."""
    if not verdict.has_interval:
        return signed_text(verdict.difference, decimals_of([verdict]))
    decimals = decimals_for((verdict.high - verdict.low) / 2)
    between = interval_text(verdict.low, verdict.high, decimals)
    return f"{signed_text(verdict.difference, decimals)} {between}"


def _cheapest(study: StudyFolder, names: list[str]) -> list[str]:
    """A sentence on which of these variants trains fastest; an empty list if a time is not known."""
    costs = {name: study.mean(name, "train_seconds") for name in names}
    if not np.isfinite(list(costs.values())).all():
        return []
    name = min(costs, key=costs.__getitem__)
    return [f"The fastest of these to train is {name} ({seconds_text(costs[name])} per run)."]


def _one_or_count(worse: list[Verdict]) -> str:
    """The name of a single worse variant, or the number of several."""
    return worse[0].b if len(worse) == 1 else counted(len(worse), "other variant")


def _by_how_much(worse: list[Verdict]) -> str:
    """The smallest and the largest difference to the worse variants."""
    sizes = [abs(pair.difference) for pair in worse]
    decimals = decimals_of(worse)
    ends = [signed_text(size, decimals).lstrip("+") for size in (min(sizes), max(sizes))]
    return f" by {ends[0] if ends[0] == ends[1] else ' to '.join(ends)}"
