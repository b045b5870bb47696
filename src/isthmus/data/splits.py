"""Which images train, which choose the epoch, which metric: stratified cuts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from isthmus.data.store import Part, Store
from isthmus.errors import UserError

_TEST_CUT_SEED = 20120616

Indices = Int[np.ndarray, " n"]


@dataclass(frozen=True)
class Split:
    """Rows of a store, each part in ascending order."""

    train: Int[np.ndarray, " train"]
    validation: Int[np.ndarray, " validation"]
    test: Int[np.ndarray, " test"]


def stratified_cut(
    groups: Sequence[str] | Indices, share: float, rng: np.random.Generator
) -> tuple[Int[np.ndarray, " kept"], Int[np.ndarray, " held_out"]]:
    """Positions kept and positions held out, both ascending, each group in proportion.

    Systematic sampling (Madow and Madow 1944): items stand in a row, group after group and
    shuffled within each, and every (1 / share)-th is held out from a random start on. So a
    group gives its share rounded up or down, and so does any run of neighbouring groups:
    hundred groups of one image at share 0.2 give twenty, where a cut group by group
    would give none or all.

    The number held out is ``share`` of the whole, rounded, and at least one item is left
    on each side.

    Args:
        groups: The group of each item; at least two items.
        share: Share to hold out, above 0 and below 1.
        rng: Draws the order within groups and the start.

    >>> kept, held_out = stratified_cut(list("aaaabbbb"), 0.25, np.random.default_rng(0))
    >>> ["aaaabbbb"[i] for i in held_out]
    ['a', 'b']
    """
    total = len(groups)
    if total < 2 or not 0 < share < 1:
        raise ValueError(f"cannot hold out a share of {share} of {total} items")
    shuffled = rng.permutation(total)
    in_row = shuffled[np.argsort(np.asarray(groups)[shuffled], kind="stable")]
    count = min(max(round(share * total), 1), total - 1)
    # Whole numbers, so that exactly `count` of the steps cross a multiple of `total`.
    steps = (np.arange(total + 1) * count + rng.integers(total)) // total
    is_held_out = np.diff(steps) == 1
    return np.sort(in_row[~is_held_out]), np.sort(in_row[is_held_out])


def in_proportion(
    groups: Sequence[str] | Indices, count: int, rng: np.random.Generator
) -> Int[np.ndarray, " drawn"]:
    """At most ``count`` positions, ascending, each group in proportion: a cut, or all there are.

    Args:
        groups: The group of each item.
        count: How many to draw; all where there are no more.
        rng: Draws them: every item is as likely as any other, so a mean over those drawn is
            unbiased, however uneven the groups.

    >>> groups = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    >>> groups[in_proportion(groups, 4, np.random.default_rng(0))].tolist()
    [0, 0, 0, 1]
    """
    if count >= len(groups):
        return np.arange(len(groups))
    return stratified_cut(groups, count / len(groups), rng)[1]


def drawn_parts(groups: Sequence[str], test_share: float) -> list[Part]:
    """The part of each item where no folder says so: a cut that the groups alone decide."""
    rng = np.random.default_rng(_TEST_CUT_SEED)
    _, test = stratified_cut(groups, test_share, rng)
    in_test = set(test.tolist())
    return ["test" if row in in_test else "train" for row in range(len(groups))]


def split_of(
    store: Store, validation: float | None, limit: int | None, rng: np.random.Generator
) -> Split:
    """The split of a store: its test part, and its training part cut in two.

    Args:
        store: Its test part is the test set, whatever ``rng`` draws.
        validation: Share of the training images held out to choose the epoch; None: the
            test part is the validation part too, as in the reference study.
        limit: At most so many training images, chosen by groups before validation is cut.
        rng: Draws both cuts.

    Raises:
        UserError: If a part would be empty.
    """
    parts = np.asarray(store.parts)
    train, test = np.flatnonzero(parts == "train"), np.flatnonzero(parts == "test")
    for name, rows in (("train", train), ("test", test)):
        if len(rows) == 0:
            raise UserError(
                f"{store.label_scheme}: no image in the {name} part: "
                "training and test both need some; add images"
            )
    if limit is not None:
        train = train[in_proportion(_groups(store, train), limit, rng)]
    if validation is None:
        return Split(train, test, test)
    if len(train) < 2:
        raise UserError(
            f"{store.label_scheme}: one training image cannot be cut into training and validation: "
            "at least two are needed; raise data.limit or add images"
        )
    kept, held_out = stratified_cut(_groups(store, train), validation, rng)
    return Split(train[kept], train[held_out], test)


def _groups(store: Store, rows: Indices) -> list[str]:
    return [store.groups[row] for row in rows]
