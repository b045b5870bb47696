"""Metrics of masks against torchmetrics, a brute-force boundary F, and cases done by hand."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_confusion_matrix,
    multiclass_jaccard_index,
)
from torchmetrics.functional.segmentation import dice_score, mean_iou

from isthmus.errors import UserError
from isthmus.metrics.segmentation import (
    EMPTY_MASK_RULE,
    METRICS,
    boundary_f,
    confusion,
    dice,
    iou,
    pixel_accuracy,
    segmentation_metrics,
)
from isthmus.recipe.rules import IGNORE_INDEX

NAMES = ["pet", "background", "border", "never"]


def masks(seed, images=5, classes=4, size=12, ignored=0.0):
    """Blocky random truth and a prediction that errs; the last class is in no image,
    and every image lacks some other class."""
    draw = np.random.default_rng(seed)
    truth = np.kron(draw.integers(classes - 1, size=(images, 3, 3)), np.ones((1, 4, 4)))
    truth = truth[:, :size, :size].astype(np.uint8)
    truth[np.arange(images) % 2 == 0] %= 2
    wrong = draw.random(truth.shape) < 0.2
    drawn = draw.integers(classes - 1, size=truth.shape).astype(np.uint8)
    prediction = np.where(wrong, drawn, truth)
    prediction[0], truth[1] = 0, 0  # one empty prediction, one empty truth
    truth[draw.random(truth.shape) < ignored] = IGNORE_INDEX
    return truth, prediction


def tensors(*arrays):
    return [torch.from_numpy(a.astype(np.int64)) for a in arrays]


def assert_same(ours, theirs):
    np.testing.assert_allclose(ours, np.asarray(theirs), rtol=1e-5, atol=1e-7)


# Against torchmetrics


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ignored", [0.0, 0.3])
def test_set_metrics_equal_torchmetrics(seed, ignored):
    truth, prediction = masks(seed, ignored=ignored)
    t, p = tensors(truth, prediction)
    ours = confusion(truth, prediction, 4).sum(axis=0)
    given = {"num_classes": 4, "ignore_index": IGNORE_INDEX}
    assert_same(ours, multiclass_confusion_matrix(p, t, **given))
    assert_same(pixel_accuracy(ours), multiclass_accuracy(p, t, average="micro", **given))
    # torchmetrics gives 0 to the class that is in neither mask, and leaves it out of its mean.
    theirs = multiclass_jaccard_index(p, t, average="none", **given)
    assert_same(iou(ours)[:3], theirs[:3])
    assert np.isnan(iou(ours)[3])
    metrics = segmentation_metrics(truth, prediction, NAMES).over_set
    assert_same(metrics["mean_iou"], multiclass_jaccard_index(p, t, average="macro", **given))


@pytest.mark.parametrize("seed", range(3))
def test_dice_equals_torchmetrics_over_the_set_and_per_image(seed):
    truth, prediction = masks(seed)
    t, p = tensors(truth, prediction)
    given = {"num_classes": 4, "input_format": "index"}
    matrices = confusion(truth, prediction, 4)
    over_set = dice_score(p, t, average="none", aggregation_level="global", **given)
    assert_same(dice(matrices.sum(axis=0)), over_set[0])
    assert_same(dice(matrices), dice_score(p, t, average="none", **given))
    metrics = segmentation_metrics(truth, prediction, NAMES)
    assert_same(metrics.per_image["mean_dice"], dice_score(p, t, average="macro", **given))
    assert_same(
        metrics.over_set["mean_dice"],
        dice_score(p, t, average="macro", aggregation_level="global", **given)[0],
    )


@pytest.mark.parametrize("seed", range(3))
def test_iou_per_image_equals_torchmetrics(seed):
    truth, prediction = masks(seed)
    t, p = tensors(truth, prediction)
    theirs = mean_iou(p, t, num_classes=4, per_class=True, input_format="index").numpy()
    absent = theirs < 0  # how torchmetrics marks a class that is in neither mask
    ours = iou(confusion(truth, prediction, 4))
    np.testing.assert_array_equal(np.isnan(ours), absent)
    assert_same(ours[~absent], theirs[~absent])
    metrics = segmentation_metrics(truth, prediction, NAMES).per_image
    assert_same(metrics["mean_iou"], np.nanmean(ours, axis=1))
    assert_same(metrics["iou_border"], ours[:, 2])


# Boundary F against its definition, pixel by pixel


def brute_force_boundary(mask, truth, index):
    """Pixels of the class with a counted 4-neighbour of another class."""
    height, width = mask.shape
    edge = []
    for y, x in itertools.product(range(height), range(width)):
        beside = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        inside = [(b, a) for b, a in beside if 0 <= b < height and 0 <= a < width]
        counted = [mask[place] for place in inside if truth[place] != IGNORE_INDEX]
        is_of_class = mask[y, x] == index and truth[y, x] != IGNORE_INDEX
        if is_of_class and any(other != index for other in counted):
            edge.append((y, x))
    return edge


def brute_force_f(truth, prediction, index, tolerance_px):
    true = brute_force_boundary(truth, truth, index)
    predicted = brute_force_boundary(prediction, truth, index)
    if not true and not predicted:
        return np.nan

    def share_near(edge, other):
        near = [any(np.hypot(y - b, x - a) <= tolerance_px for b, a in other) for y, x in edge]
        return np.mean(near) if near else 0.0

    precision, recall = share_near(predicted, true), share_near(true, predicted)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    ignored=st.sampled_from([0.0, 0.2]),
    tolerance_px=st.sampled_from([0.0, 1.0, 1.5, 2.0]),
)
def test_boundary_f_equals_its_definition(seed, ignored, tolerance_px):
    truth, prediction = masks(seed, images=2, size=9, ignored=ignored)
    expected = [
        [brute_force_f(t, p, index, tolerance_px) for index in range(4)]
        for t, p in zip(truth, prediction, strict=True)
    ]
    np.testing.assert_allclose(boundary_f(truth, prediction, 4, tolerance_px), expected)


def halves(at, size=16):
    """Class 0 left of column ``at``, class 1 from there on."""
    mask = np.zeros((1, size, size), np.uint8)
    mask[:, :, at:] = 1
    return mask


@pytest.mark.parametrize(("shift", "expected"), [(0, 1.0), (2, 1.0), (3, 0.0), (-2, 1.0)])
def test_boundary_f_tolerates_two_pixels(shift, expected):
    assert boundary_f(halves(8), halves(8 + shift), 2).tolist() == [[expected, expected]]


def test_boundary_f_of_absent_classes():
    plain = np.zeros((1, 16, 16), np.uint8)
    np.testing.assert_array_equal(boundary_f(plain, plain, 2), [[np.nan, np.nan]])
    np.testing.assert_array_equal(boundary_f(plain, halves(8), 2), [[0.0, 0.0]])
    np.testing.assert_array_equal(boundary_f(halves(8), plain, 2), [[0.0, 0.0]])


def test_ignored_pixels_have_no_boundary():
    truth = np.zeros((1, 16, 16), np.uint8)
    truth[:, 4:12, 4:12] = IGNORE_INDEX
    prediction = np.zeros_like(truth)
    prediction[:, 4:12, 4:12] = 1
    np.testing.assert_array_equal(boundary_f(truth, prediction, 2), [[np.nan, np.nan]])


# Common properties


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), ignored=st.sampled_from([0.0, 0.5, 1.0]))
def test_metrics_ignore_ignored_pixels_and_lie_in_0_to_1(seed, ignored):
    truth, prediction = masks(seed, ignored=ignored)
    metrics = segmentation_metrics(truth, prediction, NAMES)
    other = np.where(truth == IGNORE_INDEX, 3 - prediction, prediction).astype(np.uint8)
    again = segmentation_metrics(truth, other, NAMES)
    np.testing.assert_equal(again.over_set, metrics.over_set)
    np.testing.assert_equal(again.per_image, metrics.per_image)
    values = np.concatenate([list(metrics.over_set.values()), *metrics.per_image.values()])
    present = values[~np.isnan(values)]
    assert ((present >= 0) & (present <= 1)).all()
    assert len(present) or ignored == 1.0


def test_a_perfect_prediction_has_the_value_1_where_there_is_one():
    truth, _ = masks(0)
    metrics = segmentation_metrics(truth, truth, NAMES)
    for values in (*metrics.over_set.values(), *metrics.per_image.values()):
        assert np.all(np.isnan(values) | (np.asarray(values) == 1.0))
    assert np.isnan(metrics.over_set["iou_never"])
    assert metrics.over_set["mean_iou"] == 1.0


def test_pixels_of_the_set_are_counted_together_but_boundary_f_is_a_mean_over_images():
    truth = np.concatenate([halves(8), halves(15), np.zeros((1, 16, 16), np.uint8)])
    prediction = np.concatenate([halves(8), halves(11), np.zeros((1, 16, 16), np.uint8)])
    metrics = segmentation_metrics(truth, prediction, ["left", "right"])
    # Class right: true 8 + 1 columns, predicted 8 + 5, in common 8 + 1.
    assert metrics.over_set["iou_right"] == pytest.approx(9 / 13)
    assert metrics.over_set["dice_right"] == pytest.approx(18 / 22)
    assert metrics.over_set["pixel_accuracy"] == pytest.approx(1 - 4 / 48)
    np.testing.assert_allclose(metrics.per_image["iou_right"], [1.0, 1 / 5, np.nan])
    np.testing.assert_allclose(metrics.per_image["boundary_f"], [1.0, 0.0, np.nan])
    assert metrics.over_set["boundary_f_left"] == pytest.approx(0.5)
    assert metrics.over_set["boundary_f"] == pytest.approx(0.5)


def test_names_and_order_of_the_metrics():
    truth, prediction = masks(0)
    metrics = segmentation_metrics(truth, prediction, NAMES)
    named = [metric.name for metric in METRICS]
    kinds = ["iou", "dice", "boundary_f"]
    assert named == ["mean_iou", "mean_dice", "pixel_accuracy", "boundary_f"]
    assert list(metrics.over_set) == named + [f"{k}_{n}" for k in kinds for n in NAMES]
    assert list(metrics.per_image) == named + [f"iou_{n}" for n in NAMES]
    assert all(type(value) is float for value in metrics.over_set.values())
    assert all(metric.definition.endswith(".") and metric.higher_is_better for metric in METRICS)
    assert EMPTY_MASK_RULE.endswith(".")
    assert "2 px" in METRICS[3].definition


# Errors


def error_of(truth, prediction, names):
    with pytest.raises(UserError) as caught:
        segmentation_metrics(truth, prediction, names)
    return str(caught.value)


def test_masks_that_do_not_fit_are_rejected():
    truth, prediction = masks(0)
    assert error_of(truth, prediction, ["pet"] * 2) == (
        "class pet is there twice: class names must be unique; rename one"
    )
    truth[0, 0, 0] = 9
    assert error_of(truth, prediction, NAMES) == (
        "truth has class 9 but there are 4 classes: a counted pixel is 0 .. 3; "
        "correct the masks or the number of classes"
    )
    truth[0, 0, 0] = IGNORE_INDEX
    prediction[0, 0, 0] = 9
    segmentation_metrics(truth, prediction, NAMES)  # ignored
    prediction[0, 0, 1] = 9
    assert error_of(truth, prediction, NAMES).startswith("prediction has class 9 but")
