"""Losses against MONAI and torch.nn.functional, and properties common to all of them."""

import importlib.util
import inspect
import math
import pickle
import re
import tomllib
import typing

import monai.losses
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (conventional name)
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import error_of, moved
from isthmus import losses
from isthmus.errors import UserError
from isthmus.losses import (
    LOSSES,
    bce_loss,
    ce_loss,
    dice_loss,
    focal_loss,
    loss_named,
    loss_range,
    tversky_loss,
)
from isthmus.metrics.collapse import collapse_reason
from isthmus.recipe.rules import IGNORE_INDEX
from isthmus.tasks.segment.recipe import Loss as LossRecipe

RECIPE_NAMES = typing.get_args(typing.get_type_hints(LossRecipe)["name"])
every_loss = pytest.mark.parametrize("name", RECIPE_NAMES)


def scene(seed=0, batch=2, classes=3, size=8, spread=3.0, ignored=0.0):
    """Random logits and target; a share of the target's pixels is ignored."""
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(batch, classes, size, size, generator=generator)
    target = torch.randint(classes, (batch, size, size), generator=generator)
    hidden = torch.rand(target.shape, generator=generator) < ignored
    return logits, target.masked_fill(hidden, IGNORE_INDEX)


def value_and_gradient(loss, logits, target):
    logits = logits.clone().requires_grad_()
    value = loss(logits, target)
    value.backward()
    return value.detach(), logits.grad


# Against independent implementations


def test_ce_equals_torch_also_with_ignored_pixels():
    logits, target = scene(ignored=0.3)
    torch.testing.assert_close(
        ce_loss(logits, target), F.cross_entropy(logits, target, ignore_index=IGNORE_INDEX)
    )


def test_bce_equals_torch_on_one_hot_targets():
    logits, target = scene()
    one_hot = F.one_hot(target, 3).movedim(-1, 1).float()
    torch.testing.assert_close(
        bce_loss(logits, target), F.binary_cross_entropy_with_logits(logits, one_hot)
    )


def test_bce_with_ignored_pixels_is_the_mean_over_the_others():
    logits, target = scene(ignored=0.4)
    kept = target != IGNORE_INDEX
    torch.testing.assert_close(
        bce_loss(logits, target),
        F.binary_cross_entropy_with_logits(
            logits.movedim(1, -1)[kept], F.one_hot(target[kept], 3).float()
        ),
    )


@pytest.mark.parametrize("smooth", [1e-5, 1.0, 20.0])
def test_dice_equals_monai(smooth):
    logits, target = scene()
    theirs = monai.losses.DiceLoss(
        softmax=True, to_onehot_y=True, batch=True, smooth_nr=smooth, smooth_dr=smooth
    )
    torch.testing.assert_close(
        dice_loss(logits, target, smooth=smooth), theirs(logits, target[:, None])
    )


@pytest.mark.parametrize(("alpha", "beta"), [(0.3, 0.7), (1.0, 0.0), (0.5, 0.5)])
def test_tversky_equals_monai(alpha, beta):
    logits, target = scene()
    theirs = monai.losses.TverskyLoss(
        softmax=True,
        to_onehot_y=True,
        batch=True,
        alpha=alpha,
        beta=beta,
        smooth_nr=1.0,
        smooth_dr=1.0,
    )
    torch.testing.assert_close(
        tversky_loss(logits, target, alpha=alpha, beta=beta), theirs(logits, target[:, None])
    )


@pytest.mark.parametrize("gamma", [0.5, 2.0, 3.0])
def test_focal_equals_monai_times_the_number_of_classes(gamma):
    """MONAI's mean also divides by the number of classes, although only the true class contributes."""
    logits, target = scene()
    theirs = monai.losses.FocalLoss(use_softmax=True, to_onehot_y=True, gamma=gamma)
    torch.testing.assert_close(
        focal_loss(logits, target, gamma=gamma), 3 * theirs(logits, target[:, None])
    )


@pytest.mark.parametrize("loss", [dice_loss, tversky_loss])
def test_overlap_losses_with_an_ignored_band_equal_those_of_the_cropped_image(loss):
    """An ignored band at the edge is the same as a smaller image."""
    logits, target = scene()
    cut = loss(logits[..., 2:], target[..., 2:])
    target[..., :2] = IGNORE_INDEX
    torch.testing.assert_close(loss(logits, target), cut)


# Relations between losses


def test_focal_at_gamma_0_is_cross_entropy():
    logits, target = scene(ignored=0.2)
    torch.testing.assert_close(focal_loss(logits, target, gamma=0.0), ce_loss(logits, target))


def test_symmetric_tversky_is_dice_with_twice_the_smooth():
    logits, target = scene(ignored=0.2)
    torch.testing.assert_close(
        tversky_loss(logits, target, alpha=0.5, beta=0.5, smooth=1.0),
        dice_loss(logits, target, smooth=2.0),
    )


def test_plus_is_the_plain_sum():
    logits, target = scene()
    torch.testing.assert_close(
        loss_named("bce+dice", smooth=3.0)(logits, target),
        bce_loss(logits, target) + dice_loss(logits, target, smooth=3.0),
    )


# Common properties


@every_loss
@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    classes=st.integers(2, 4),
    spread=st.sampled_from([0.0, 1.0, 100.0, 1e4]),
    ignored=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_value_is_in_range_and_gradient_finite(name, seed, classes, spread, ignored):
    logits, target = scene(seed, classes=classes, size=4, spread=spread, ignored=ignored)
    value, gradient = value_and_gradient(loss_named(name), logits, target)
    least, largest = loss_range(name)
    assert least - 1e-6 <= value <= largest + 1e-6
    assert math.isfinite(value)
    assert gradient.isfinite().all()


@every_loss
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), filler=st.sampled_from([-50.0, 1e30, math.inf, math.nan]))
def test_ignored_pixels_change_neither_value_nor_gradient(name, seed, filler):
    logits, target = scene(seed, size=4, ignored=0.4)
    hidden = (target == IGNORE_INDEX)[:, None].expand_as(logits)
    value, gradient = value_and_gradient(loss_named(name), logits, target)
    changed = value_and_gradient(loss_named(name), logits.masked_fill(hidden, filler), target)
    assert torch.equal(value, changed[0])
    assert torch.equal(gradient, changed[1])
    assert (gradient[hidden] == 0).all()
    assert (gradient[~hidden] != 0).any() or hidden.all()


@every_loss
def test_value_and_gradient_are_0_if_all_pixels_are_ignored(name):
    logits, target = scene(ignored=1.0)
    value, gradient = value_and_gradient(loss_named(name), logits, target)
    assert value == 0
    assert (gradient == 0).all()


@every_loss
def test_another_ignore_index_works_the_same(name):
    logits, target = scene(ignored=0.3)
    renamed = target.masked_fill(target == IGNORE_INDEX, -1)
    assert torch.equal(
        loss_named(name)(logits, target), loss_named(name, ignore_index=-1)(logits, renamed)
    )


@every_loss
def test_loss_is_invariant_to_renaming_classes_and_rotating_images(name):
    logits, target = scene(ignored=0.2)
    loss = loss_named(name)
    order = torch.tensor([2, 0, 1])  # new class i was order[i]
    renamed = torch.where(target == IGNORE_INDEX, target, order.argsort()[target.clamp(max=2)])
    torch.testing.assert_close(loss(logits[:, order], renamed), loss(logits, target))
    torch.testing.assert_close(loss(logits.flip(-1), target.flip(-1)), loss(logits, target))
    torch.testing.assert_close(loss(logits.mT, target.mT), loss(logits, target))


@every_loss
def test_a_confident_correct_prediction_costs_almost_0_and_a_wrong_one_more(name):
    _, target = scene()
    right = 100.0 * F.one_hot(target, 3).movedim(-1, 1) - 50.0
    loss = loss_named(name)
    assert loss(right, target) == pytest.approx(0.0, abs=1e-5)
    assert loss(right.roll(1, dims=1), target) > 0.5


@pytest.mark.trains
@every_loss
def test_gradient_descent_on_the_logits_recovers_the_mask(name):
    logits, target = scene(moved(0), spread=0.1)
    logits.requires_grad_()
    optimiser = torch.optim.Adam([logits], lr=0.5)
    for _ in range(15):
        optimiser.zero_grad()
        loss_named(name)(logits, target).backward()
        optimiser.step()
    assert torch.equal(logits.argmax(1), target)


@every_loss
def test_gradient_equals_finite_differences(name):
    logits, target = scene(batch=1, size=2, spread=1.0, ignored=0.3)
    torch.autograd.gradcheck(
        lambda x: loss_named(name)(x, target), logits.double().requires_grad_()
    )


@every_loss
def test_loss_is_float32_under_bf16_autocast(name):
    logits, target = scene(size=16)
    logits = logits.bfloat16()
    plain = loss_named(name)(logits.float(), target)
    with torch.autocast("cpu", torch.bfloat16):
        cast = loss_named(name)(logits, target)
    assert cast.dtype == torch.float32
    assert torch.equal(cast, plain)


@every_loss
def test_losses_can_be_exported_and_pickled(name):
    loss = loss_named(name)
    logits, target = scene(ignored=0.2)

    class Head(torch.nn.Module):
        def forward(self, logits, target):
            return loss(logits, target)

    exported = torch.export.export(Head(), (logits, target)).module()
    other = scene(seed=1, ignored=0.5)
    torch.testing.assert_close(exported(*other), loss(*other))
    assert torch.equal(pickle.loads(pickle.dumps(loss))(*other), loss(*other))


# Edge cases in the docstrings


def test_every_pixel_predicted_as_an_absent_class_costs_dice():
    target = torch.zeros(1, 4, 4, dtype=torch.int64)
    given = target.clone()
    given[0, 0, :3] = 1
    logits = 200.0 * F.one_hot(given, 2).movedim(-1, 1)
    background = (2 * 13 + 1) / (13 + 16 + 1)
    absent = 1 / (3 + 1)
    expected = 1 - (background + absent) / 2
    assert dice_loss(logits, target).item() == pytest.approx(expected, rel=1e-6)


def test_dice_without_softmax_leaves_its_range_and_is_detected():
    target = torch.tensor([[[0, 1, 1, 0]]])
    logits = torch.tensor([[[[3.0, -2.0, 1.0, 4.0]], [[-4.0, 2.0, 1.0, -3.9]]]])
    # class 0: 1 - (2 * 7 + 1) / (6 + 2 + 1); class 1: 1 - (2 * 3 + 1) / (-4.9 + 2 + 1)
    expected = torch.tensor([1 - 15 / 9, 1 - 7 / -1.9]).mean()
    value = dice_loss(logits, target, softmax=False)
    torch.testing.assert_close(value, expected)
    assert collapse_reason(np.diag([2, 2]), [float(value)], loss_range("dice")) == (
        "loss 1 of 1 is 2.00877: it must lie in 0 .. 1"
    )


def test_tversky_weights_false_negatives_by_beta():
    target = torch.tensor([[[1, 1, 0, 0]]])
    misses = 200.0 * F.one_hot(torch.tensor([[[1, 0, 0, 0]]]), 2).movedim(-1, 1)
    alarms = 200.0 * F.one_hot(torch.tensor([[[1, 1, 1, 0]]]), 2).movedim(-1, 1)
    # Class 1: 1 hit, 1 miss. Class 0: 2 hits, 1 false alarm.
    expected = 1 - ((1 + 1) / (1 + 0.7 + 1) + (2 + 1) / (2 + 0.3 + 1)) / 2
    assert tversky_loss(misses, target).item() == pytest.approx(expected, rel=1e-6)
    # The other way round: class 1 has 2 hits, 1 alarm; class 0 has 1 hit, 1 miss.
    assert tversky_loss(alarms, target).item() == pytest.approx(expected, rel=1e-6)
    one_sided = tversky_loss(misses, target, alpha=0.0, beta=1.0).item()
    assert one_sided == pytest.approx(1 - (2 / 3 + 1) / 2, rel=1e-6)


@pytest.mark.parametrize("gamma", [0.25, 0.5, 1.0])
def test_focal_gradient_is_finite_for_a_confident_network(gamma):
    logits = torch.tensor([300.0, 0.0]).reshape(1, 2, 1, 1)
    value, gradient = value_and_gradient(
        loss_named("focal", gamma=gamma), logits, torch.zeros(1, 1, 1, dtype=torch.int64)
    )
    assert value == 0
    assert gradient.isfinite().all()


# Names and options


def test_ranges_of_sums_add():
    assert loss_range("dice") == (0.0, 1.0)
    assert loss_range("dice+tversky") == (0.0, 2.0)
    assert loss_range("ce+dice") == (0.0, math.inf)


@pytest.mark.parametrize("key", ["smooth", "gamma", "alpha", "beta", "softmax"])
@pytest.mark.parametrize("name", RECIPE_NAMES)
def test_recipe_and_losses_accept_the_same_options(name, key):
    value = key != "softmax" and 0.5
    takes = any(key in inspect.signature(LOSSES[term]).parameters for term in name.split("+"))
    if takes:
        assert LossRecipe(name=name, **{key: value}).options == {key: value}
        loss_named(name, **{key: value})
    else:
        with pytest.raises(ValueError, match=f"loss.{key} does nothing for"):
            LossRecipe(name=name, **{key: value})
        with pytest.raises(UserError, match="has no such option"):
            loss_named(name, **{key: value})


@pytest.mark.parametrize("key", ["smooth", "gamma", "alpha", "beta", "softmax"])
def test_the_help_of_a_recipe_states_the_defaults_of_the_losses(key):
    said = re.search(
        rf' {key}: .*?If left out: ([\w.]+)\.[ "]', inspect.getsource(LossRecipe), re.DOTALL
    )
    defaults = {
        signature[key].default
        for signature in (inspect.signature(loss).parameters for loss in LOSSES.values())
        if key in signature
    }
    assert {float(default) for default in defaults} == {float(tomllib.loads(f"x = {said[1]}")["x"])}


# Errors


def test_unknown_names_are_rejected():
    assert error_of(lambda: loss_named("ce+dise")) == (
        "ce+dise: 'dise' is not a loss; did you mean dice?"
    )
    assert error_of(lambda: loss_range("")) == (
        ": '' is not a loss; known: bce, ce, dice, focal, tversky"
    )
    assert error_of(lambda: loss_named("focal", gama=1.0)) == (
        "gama: loss focal has no such option; did you mean gamma?"
    )


def test_options_out_of_range_are_rejected_with_values_that_work():
    logits, target = scene()
    for loss in (dice_loss, tversky_loss):
        assert error_of(lambda loss=loss: loss(logits, target, smooth=0.0)) == (
            "smooth = 0.0: must be above 0, or an absent class would be 0/0; use 1"
        )
        assert loss(logits, target, smooth=1.0).isfinite()
    assert error_of(lambda: focal_loss(logits, target, gamma=-1.0)) == (
        "gamma = -1.0: must be 0 or more; use 2"
    )
    assert focal_loss(logits, target, gamma=2.0).isfinite()
    assert error_of(lambda: tversky_loss(logits, target, beta=math.nan)) == (
        "alpha = 0.3, beta = nan: must be 0 or more; use 0.3 and 0.7"
    )
    assert tversky_loss(logits, target, alpha=0.3, beta=0.7).isfinite()


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_logits_and_masks_that_do_not_fit_are_rejected(loss):
    logits, target = scene()
    assert error_of(lambda: loss(logits, target.masked_fill(target == 1, 7))) == (
        "target has class 7 but logits have 3 classes: a pixel is 0 .. 2 or 255 (ignored); "
        "correct the masks or the number of classes"
    )
    assert error_of(lambda: loss(logits[:, :1], torch.zeros_like(target))) == (
        "logits have 1 class: a loss needs at least 2, one of them the background; "
        "give the network one output channel per class"
    )


def test_shapes_that_would_broadcast_are_rejected():
    """Without the shape checks of the tests' import hook, which would raise first."""
    spec = importlib.util.spec_from_file_location("losses_unhooked", losses.__file__)
    unhooked = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(unhooked)
    logits, target = scene()
    with pytest.raises(UserError) as caught:
        unhooked.dice_loss(logits, target[:1])
    assert str(caught.value) == (
        "target has shape (1, 8, 8) but logits (2, 3, 8, 8): batch, height and width must "
        "agree; pass one mask per image, at the size of the logits"
    )
