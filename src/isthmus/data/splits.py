"""Splits into training, validation and test images: stratified and seeded."""

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
    """Rows of a store in ascending order, for each split."""

    train: Int[np.ndarray, " train"]
    validation: Int[np.ndarray, " validation"]
    test: Int[np.ndarray, " test"]


def stratified_cut(
    groups: Sequence[str] | Indices, share: float, rng: np.random.Generator
) -> tuple[Int[np.ndarray, " kept"], Int[np.ndarray, " held_out"]]:
    """Positions kept and positions held out, both ascending, stratified by group.

    Systematic sampling (Madow and Madow 1944): the items are ordered by group, shuffled within each
    group, and every (1 / share)-th item is held out, from a random start. So the number of items held
    out of a group, or of several consecutive groups, is ``share`` times its size, rounded up or down: of
    a hundred groups of one image each, twenty images are held out if ``share`` is 0.2, whereas splitting
    each group separately would hold out none or all.

    The total number held out is ``share`` times the number of items, rounded; at least one item is held
    out and at least one is kept.

    Args:
        groups: The group of each item; at least two items.
        share: Fraction to hold out, above 0 and below 1.
        rng: Generator that draws the order within groups and the start.

    >>> kept, held_out = stratified_cut(list("aaaabbbb"), 0.25, np.random.default_rng(0))
    >>> ["aaaabbbb"[i] for i in held_out]
    ['a', 'b']
    """
    total = len(groups)
    if total < 2 or not 0 < share < 1:
        raise ValueError(f"cannot hold out a fraction of {share} of {total} items")
    shuffled = rng.permutation(total)
    in_row = shuffled[np.argsort(np.asarray(groups)[shuffled], kind="stable")]
    count = min(max(round(share * total), 1), total - 1)
    # In integers, so that exactly `count` of the steps cross a multiple of `total`.
    steps = (np.arange(total + 1) * count + rng.integers(total)) // total
    is_held_out = np.diff(steps) == 1
    return np.sort(in_row[~is_held_out]), np.sort(in_row[is_held_out])


def in_proportion(
    groups: Sequence[str] | Indices, count: int, rng: np.random.Generator
) -> Int[np.ndarray, " drawn"]:
    """A sample of ``count`` positions, or all if there are no more; ascending, stratified by group.

    Args:
        groups: The group of each item.
        count: Size of the sample.
        rng: Generator that draws the sample. All items are equally likely to be drawn, so the mean of
            the sample is unbiased for groups of any size.

    >>> groups = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    >>> groups[in_proportion(groups, 4, np.random.default_rng(0))].tolist()
    [0, 0, 0, 1]
    """
    if count >= len(groups):
        return np.arange(len(groups))
    return stratified_cut(groups, count / len(groups), rng)[1]


def drawn_parts(groups: Sequence[str], test_share: float) -> list[Part]:
    """The split, training or test, of each item of a source without splits; depends on groups alone."""
    rng = np.random.default_rng(_TEST_CUT_SEED)
    _, test = stratified_cut(groups, test_share, rng)
    in_test = set(test.tolist())
    return ["test" if row in in_test else "train" for row in range(len(groups))]


def split_of(
    store: Store, validation: float | None, limit: int | None, rng: np.random.Generator
) -> Split:
    """The training, validation and test sets of a store.

    Args:
        store: The images. Those marked "test" are the test set, for every ``rng``.
        validation: Fraction of the training images held out to choose the epoch. If None, the test set
            is also the validation set, as in the reference study.
        limit: Largest number of training images, including those held out for validation; they are
            sampled stratified by group.
        rng: Generator that draws the sample and the images held out.

    Raises:
        UserError: If a set would be empty.
    """
    parts = np.asarray(store.parts)
    train, test = np.flatnonzero(parts == "train"), np.flatnonzero(parts == "test")
    for name, rows in (("train", train), ("test", test)):
        if len(rows) == 0:
            raise UserError(
                f"{store.label_scheme}: no images in the {name} set: the train and test sets both need "
                "images; add images"
            )
    if limit is not None:
        train = train[in_proportion(_groups(store, train), limit, rng)]
    if validation is None:
        return Split(train, test, test)
    if len(train) < 2:
        raise UserError(
            f"{store.label_scheme}: only one training image: training and validation need one image each; "
            "raise data.limit or add images"
        )
    kept, held_out = stratified_cut(_groups(store, train), validation, rng)
    return Split(train[kept], train[held_out], test)


def _groups(store: Store, rows: Indices) -> list[str]:
    return [store.groups[row] for row in rows]
