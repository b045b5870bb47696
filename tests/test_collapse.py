"""Collapse: published patterns are detected, and networks that learned something pass."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.losses import loss_range
from isthmus.metrics.collapse import ONE_CLASS_SHARE, collapse_reason
from isthmus.metrics.segmentation import confusion, pixel_accuracy
from isthmus.recipe.rules import IGNORE_INDEX

DICE = loss_range("dice")
SOUND = [0.9, 0.5, 0.4]


def reason_for(prediction, truth, num_classes, losses, valid):
    return collapse_reason(confusion(truth, prediction, num_classes).sum(axis=0), losses, valid)


def truth_with_share(share, pixels=10_000, classes=3):
    """One row of pixels: class 1 on that share, the other classes alternate on the rest."""
    others = [0, 2] if classes == 3 else [0]
    truth = np.resize(np.array(others, np.uint8), pixels)
    truth[: round(share * pixels)] = 1
    return truth.reshape(1, 1, pixels)


def test_a_dice_run_stuck_at_the_majority_share_is_detected():
    """Published Dice runs of this task: all background, accuracy .5798 in every epoch."""
    truth = truth_with_share(0.5798)
    assert reason_for(np.ones_like(truth), truth, 3, SOUND, DICE) == (
        "all predicted pixels are class 1: pixel accuracy 0.5798 equals that class's proportion of the "
        "truth, 0.5798"
    )


def test_a_few_other_pixels_do_not_hide_the_collapse():
    truth = truth_with_share(0.5798)
    prediction = np.ones_like(truth)
    prediction[0, 0, -4:] = 0
    assert reason_for(prediction, truth, 3, SOUND, DICE) == (
        "99.96% of the predicted pixels are class 1: pixel accuracy 0.5800 equals that class's "
        "proportion of the truth, 0.5798"
    )


def test_collapse_to_a_minority_class_is_detected():
    truth = truth_with_share(0.5798)
    reason = reason_for(np.full_like(truth, 2), truth, 3, SOUND, DICE)
    assert reason is not None
    assert reason.startswith("all predicted pixels are class 2: pixel accuracy 0.2101 equals")


def test_a_dice_loss_on_raw_logits_is_detected():
    """A published "Dice loss" of -14,988, which a Dice loss cannot have."""
    truth = truth_with_share(0.5)
    assert reason_for(truth, truth, 3, [0.9, -14988.0], DICE) == (
        "loss 2 of 2 is -14988: it must lie in 0 .. 1"
    )
    assert reason_for(truth, truth, 3, [1.4, 0.3], DICE) == (
        "loss 1 of 2 is 1.4: it must lie in 0 .. 1"
    )
    assert reason_for(truth, truth, 3, [0.2, -0.1], loss_range("ce")) == (
        "loss 2 of 2 is -0.1: it must lie in 0 .. inf"
    )


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["dice", "ce"])
def test_losses_that_are_not_finite_are_detected(broken, name):
    truth = truth_with_share(0.5)
    assert reason_for(truth, truth, 3, [0.9, broken, 0.3], loss_range(name)) == (
        f"loss 2 of 3 is {broken}: it must be finite"
    )


def test_the_loss_is_reported_before_the_predictions():
    truth = truth_with_share(0.5)
    reason = reason_for(np.ones_like(truth), truth, 3, [math.nan], DICE)
    assert reason == "loss 1 of 1 is nan: it must be finite"


# No false alarms


def test_rounding_of_a_loss_is_not_collapse():
    truth = truth_with_share(0.5)
    assert reason_for(truth, truth, 3, [1.0 + 1e-6, -1e-7], DICE) is None


def test_large_losses_are_valid_if_the_range_has_no_upper_end():
    truth = truth_with_share(0.5)
    assert reason_for(truth, truth, 3, [1e6], loss_range("ce+dice")) is None


@pytest.mark.parametrize("recall", [1.0, 0.5, 0.1])
def test_a_network_that_finds_a_rare_class_passes(recall):
    """5 pixels in 10,000: the accuracy is within .001 of the majority share."""
    truth = truth_with_share(0.9995, pixels=100_000, classes=2)
    rare = np.flatnonzero(truth == 0)
    prediction = np.ones_like(truth)
    prediction[0, 0, rare[: round(recall * len(rare))]] = 0
    assert (prediction == 1).mean() > ONE_CLASS_SHARE
    assert reason_for(prediction, truth, 2, SOUND, DICE) is None


def test_a_network_that_never_finds_the_rare_class_does_not_pass():
    truth = truth_with_share(0.9995, pixels=100_000, classes=2)
    assert reason_for(np.ones_like(truth), truth, 2, SOUND, DICE) is not None


def test_a_truth_of_one_class_is_not_collapse():
    truth = np.ones((2, 8, 8), np.uint8)
    assert reason_for(truth, truth, 3, SOUND, DICE) is None


def test_accuracy_at_the_majority_share_by_chance_is_not_collapse():
    """Half of the minority class is found, with as many false positives."""
    truth = truth_with_share(0.6, classes=2)
    prediction = truth.copy()
    prediction[0, 0, :2000] = 0
    prediction[0, 0, -2000:] = 1
    matrix = confusion(truth, prediction, 2).sum(axis=0)
    assert pixel_accuracy(matrix) == pytest.approx(0.6)
    assert reason_for(prediction, truth, 2, SOUND, DICE) is None


def test_ignored_pixels_are_not_counted():
    truth = truth_with_share(0.5)
    prediction = np.ones_like(truth)
    prediction[0, 0, -1000:] = 0
    assert reason_for(prediction, truth, 3, SOUND, DICE) is None
    truth[0, 0, -1000:] = IGNORE_INDEX
    assert reason_for(prediction, truth, 3, SOUND, DICE) is not None
    truth[:] = IGNORE_INDEX
    assert reason_for(prediction, truth, 3, SOUND, DICE) is None


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    share=st.floats(0.05, 0.99),
    recall=st.floats(0.05, 1.0),
)
def test_any_network_that_finds_5_percent_of_the_others_passes(seed, share, recall):
    draw = np.random.default_rng(seed)
    truth = truth_with_share(share)
    prediction = np.where(draw.random(truth.shape) < recall, truth, 1).astype(np.uint8)
    others = truth != 1
    found = np.mean(prediction[others] == truth[others])
    if found >= 0.05:
        assert reason_for(prediction, truth, 3, SOUND, DICE) is None


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**31), share=st.floats(0.0, 1.0), stray=st.floats(0.0, 0.002))
def test_a_collapsed_network_has_the_accuracy_of_one_class(seed, share, stray):
    draw = np.random.default_rng(seed)
    truth = truth_with_share(share)
    strays = draw.random(truth.shape) < stray
    prediction = np.where(strays, draw.integers(3, size=truth.shape), 1).astype(np.uint8)
    if reason_for(prediction, truth, 3, SOUND, DICE) is not None:
        accuracy = np.mean(prediction == truth)
        assert abs(accuracy - np.mean(truth == 1)) <= 1 - ONE_CLASS_SHARE
