"""Cuts and splits: their proportions, and what does not depend on the seed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.data.splits import split_of, stratified_cut
from isthmus.data.store import Store
from isthmus.errors import UserError

GROUPS = st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=80)
SHARES = st.floats(0.01, 0.99)
SEEDS = st.integers(0, 2**32 - 1)


def store_with(parts: list[str], groups: list[str]) -> Store:
    n = len(parts)
    return Store(
        images=np.zeros((n, 8, 8, 3), np.uint8),
        names=tuple(f"image-{i}" for i in range(n)),
        groups=tuple(groups),
        parts=tuple(parts),
        class_names=("background", "coin"),
        label_scheme="coins",
        content="0",
    )


@given(GROUPS, SHARES, SEEDS)
def test_a_cut_is_a_partition_with_the_share_in_every_group(groups, share, seed):
    kept, held_out = stratified_cut(groups, share, np.random.default_rng(seed))
    assert sorted([*kept, *held_out]) == list(range(len(groups)))
    assert np.all(np.diff(kept) > 0)
    assert np.all(np.diff(held_out) > 0)
    assert len(held_out) == min(max(round(share * len(groups)), 1), len(groups) - 1)
    in_held_out = Counter(groups[i] for i in held_out)
    for group, size in Counter(groups).items():
        assert abs(in_held_out[group] - size * len(held_out) / len(groups)) < 1


def test_groups_of_one_are_held_out_in_proportion():
    groups = [f"breed-{i}" for i in range(100)]
    _, held_out = stratified_cut(groups, 0.2, np.random.default_rng(0))
    assert len(held_out) == 20


def test_every_item_is_held_out_equally_often():
    groups = ["a"] * 3 + ["b"] * 7 + ["c"]
    draws = 3000
    counts = np.zeros(len(groups))
    rng = np.random.default_rng(0)
    for _ in range(draws):
        counts[stratified_cut(groups, 3 / 11, rng)[1]] += 1
    expected, sd = draws * 3 / 11, np.sqrt(draws * 3 / 11 * 8 / 11)
    assert np.abs(counts - expected).max() < 4.5 * sd


@pytest.mark.parametrize(("groups", "share"), [(["a"], 0.5), (["a", "b"], 0.0), (["a", "b"], 1.0)])
def test_a_cut_with_an_empty_side_is_an_error(groups, share):
    with pytest.raises(ValueError, match="cannot hold out a fraction"):
        stratified_cut(groups, share, np.random.default_rng(0))


def test_the_stores_test_part_is_kept_and_the_rest_is_cut():
    store = store_with(["train", "test"] * 20, ["a", "b", "c", "d"] * 10)
    split = split_of(store, 0.25, None, np.random.default_rng(0))
    assert split.test.tolist() == list(range(1, 40, 2))
    assert len(split.validation) == 5
    assert sorted([*split.train, *split.validation]) == list(range(0, 40, 2))


def test_limit_applies_before_validation_is_cut():
    store = store_with(["train"] * 40 + ["test"] * 5, ["a"] * 30 + ["b"] * 15)
    split = split_of(store, 0.2, 20, np.random.default_rng(0))
    assert (len(split.train), len(split.validation), len(split.test)) == (16, 4, 5)
    chosen = [store.groups[i] for i in [*split.train, *split.validation]]
    assert Counter(chosen) == {"a": 15, "b": 5}


def test_without_a_validation_share_the_test_part_is_the_validation_part():
    split = split_of(store_with(["train"] * 5 + ["test"] * 2, ["a"] * 7), None, 9, rng())
    assert split.validation.tolist() == split.test.tolist() == [5, 6]
    assert split.train.tolist() == [0, 1, 2, 3, 4]


def test_equal_seeds_give_equal_splits_and_others_do_not():
    store = store_with(["train"] * 60 + ["test"] * 3, ["a"] * 63)
    first, again, other = (split_of(store, 0.2, 40, rng(seed)).validation for seed in (1, 1, 2))
    assert first.tolist() == again.tolist() != other.tolist()


def test_empty_parts_are_named():
    with pytest.raises(UserError, match=r"^coins: no images in the test set: the train and test"):
        split_of(store_with(["train"] * 3, ["a"] * 3), 0.2, None, rng())
    with pytest.raises(UserError, match=r"^coins: only one training image: .* raise data\.limit"):
        split_of(store_with(["train", "train", "test"], ["a"] * 3), 0.2, 1, rng())


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)
