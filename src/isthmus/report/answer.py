"""The answer in words: what to take, as far as these seeds can tell, and what the factors do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isthmus.report.look import counted, decimals_for, listed, seconds_text, signed_text
from isthmus.report.read import Study
from isthmus.report.verdicts import Verdict

MOST_ROWS = 12
"""Pairs beside the answer; all are in the table of verdicts."""

_FEW = 3
"""Variants that the answer itself names."""

NO_VERDICTS = "No verdicts: this folder has no verdicts.csv, or nothing is in it."


@dataclass(frozen=True)
class Answer:
    """What to take, in one sentence, and the sentences that it rests on."""

    text: str
    details: tuple[str, ...] = ()


def answer(study: Study) -> Answer | None:
    """What the pair verdicts on the judged score recommend; None with nothing to compare.

    Never a winner over overlapping evidence: a variant is taken alone only if every other one
    is worse. Where pairs cannot tell, factors may: they average over more runs. The best mean
    is where to start from, not a verdict.
    """
    if len(study.about.variants) < 2:
        return None
    pairs = best_pairs(study)
    if not pairs:
        return Answer(NO_VERDICTS)
    best, score = pairs[0].a, study.about.judged.title
    if not any(pair.has_interval for pair in pairs):
        return Answer(
            "One seed cannot tell which variant is better.",
            (
                f"{best} has the best {score} here, and that may be luck.",
                "To learn it, run the study again with --seeds 5: what is trained is kept.",
            ),
        )
    beaten = [pair for pair in pairs if pair.verdict == "better"]
    equal_ones = [pair.b for pair in pairs if pair.verdict == "equivalent"]
    open_ones = [pair.b for pair in pairs if pair.verdict not in ("better", "equivalent")]
    if len(open_ones) == len(pairs) and (missing := int((study.runs["status"] == "missing").sum())):
        text = f"No verdict before all runs are done; {missing} of {len(study.runs)} are missing."
        details = []
    elif open_ones:
        text, *details = _among(study, best, open_ones)
    elif equal_ones:
        text = f"Take {best} or, equivalent to it, {listed(equal_ones)}."
        details = _cheapest(study, [best, *equal_ones])
    else:
        text = f"Take {best}: better than {_counted(beaten)}{_by_how_much(beaten)}."
        details = []
    if open_ones or equal_ones:
        details += _rest(best, beaten, equal_ones if open_ones else [])
    compared = {best, *(pair.b for pair in pairs)}
    if left_out := [name for name in study.about.variants if name not in compared]:
        details.append(f"Not compared: {listed(left_out)}.")
    return Answer(text, tuple(details))


def best_pairs(study: Study) -> tuple[Verdict, ...]:
    """The best mean against every other variant, nearest rival first, by the judged score."""
    pairs = [v for v in _of_kind(study, "pair") if np.isfinite(v.difference)]
    compared = {name for pair in pairs for name in (pair.a, pair.b)}
    best = next((name for name in study.by_judged_score if name in compared), "")
    seen = {
        pair.seen_from(best).b: pair.seen_from(best) for pair in pairs if best in (pair.a, pair.b)
    }
    return tuple(seen[name] for name in study.by_judged_score if name in seen)


def shown_effects(study: Study) -> tuple[Verdict, ...]:
    """The verdicts beside the answer: of every factor, or of the best mean where there is none."""
    return _of_kind(study, "factor") or best_pairs(study)[:MOST_ROWS]


def interacting(study: Study) -> tuple[str, ...]:
    """Sentences on the factors whose effect depends on another one."""
    found = (v for v in _of_kind(study, "interaction") if v.verdict == "interacts")
    return tuple(verdict.sentence or f"{verdict.factor}: interacts." for verdict in found)


def decimals_of(verdicts: Sequence[Verdict]) -> int:
    """Decimals for differences of one score: what the usual simultaneous interval can tell."""
    halves = [(v.family_high - v.family_low) / 2 for v in verdicts if v.has_interval]
    sizes = halves or [abs(v.difference) for v in verdicts]
    known = [size for size in sizes if np.isfinite(size)]
    return decimals_for(float(np.median(known))) if known else 3


def _of_kind(study: Study, kind: str) -> tuple[Verdict, ...]:
    score = study.about.judged.name
    return tuple(v for v in study.verdicts if v.kind == kind and v.score == score)


def _among(study: Study, best: str, open_ones: list[str]) -> list[str]:
    """What to say of variants that pairs cannot tell apart, with what the factors do tell."""
    beaten = _beaten_by_factors(study)
    candidates = [best, *open_ones]
    kept = [name for name in candidates if not any(name in of for of in beaten.values())]
    if best not in kept or len(kept) == len(candidates):
        told = f"Cannot tell {best} from {listed(open_ones, most=3)}"
        if len(candidates) == len(study.about.variants):
            told = f"Cannot tell which of the {len(candidates)} variants is best"
        return [f"{told}: any of them may be best.", *_cheapest(study, candidates)]
    start = f"Take {_left_of(study, kept, list(beaten))}"
    pairs = f"Pair by pair, {best} cannot be told from {counted(len(open_ones), 'other')}."
    if len(kept) == 1:
        return [f"{start}: of the variants that may be best, only {best} has all of that.", pairs]
    names = f": {listed(kept)}" if len(kept) <= _FEW else ""
    return [
        f"{start}. Which of the {len(kept)} variants left is best, these seeds cannot tell{names}.",
        *_cheapest(study, kept),
        pairs,
    ]


def _beaten_by_factors(study: Study) -> dict[str, set[str]]:
    """For each field, the variants that a better level of it would better, on average.

    Only where the study has that other variant, with all else the same. Where what a field
    does depends on another one, only if it is better in every setting: an average that hides a
    reversal is no reason to leave a level out.
    """
    depending = [v.factor for v in _of_kind(study, "interaction") if v.verdict == "interacts"]
    beaten: dict[str, set[str]] = {}
    for verdict in _of_kind(study, "factor"):
        told = verdict if verdict.verdict == "better" else verdict.seen_from(verdict.b)
        if told.verdict != "better":
            continue
        matched = _matched(study, told)
        depends = any(told.factor in of.split(" x ") for of in depending)
        if not (depends and _is_reversed(study, matched)):
            beaten.setdefault(told.field, set()).update(worse for _, worse in matched)
    return beaten


def _matched(study: Study, verdict: Verdict) -> list[tuple[str, str]]:
    """Variants with the one and with the other level, and all else the same."""
    settings: dict[tuple[str, ...], dict[str, str]] = {}
    for name in study.about.variants:
        levels = _levels_of(study, name)
        others = tuple(of for field, of in levels.items() if field not in verdict.factor)
        settings.setdefault(others, {})[_level(study, name, verdict.field)] = name
    pairs = [(of.get(verdict.a), of.get(verdict.b)) for of in settings.values()]
    return [(better, worse) for better, worse in pairs if better and worse]


def _is_reversed(study: Study, matched: list[tuple[str, str]]) -> bool:
    """Whether the mean with the better level lies behind in some pair."""
    score = study.about.judged
    sign = 1.0 if score.higher_is_better else -1.0
    return any(
        sign * study.mean(better, score.name) < sign * study.mean(worse, score.name)
        for better, worse in matched
    )


def _left_of(study: Study, kept: list[str], fields: list[str]) -> str:
    """The levels that these variants have of each field of which the study has others too."""
    left = {field: _levels(study, kept, field) for field in fields}
    told = {f: of for f, of in left.items() if of != _levels(study, study.about.variants, f)}
    return listed([f"{' or '.join(sorted(of))} ({field})" for field, of in told.items()])


def _levels(study: Study, names: Sequence[str], field: str) -> set[str]:
    return {_level(study, name, field) for name in names}


def _level(study: Study, variant: str, field: str) -> str:
    return _levels_of(study, variant).get(field) or "none"


def _levels_of(study: Study, variant: str) -> dict[str, str]:
    return dict(zip(study.about.factors, study.settings_of(variant), strict=True))


def _rest(best: str, beaten: list[Verdict], equal_ones: list[str]) -> list[str]:
    """How the best mean stands to the variants that were told from it."""
    said = []
    if beaten:
        said.append(f"{best} is better than {_counted(beaten)}{_by_how_much(beaten)}.")
    if equal_ones:
        said.append(f"{best} is equivalent to {listed(equal_ones)}.")
    return said


def _cheapest(study: Study, names: list[str]) -> list[str]:
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
