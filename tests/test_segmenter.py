"""A segmentation network in training: its confusion matrix and its metrics over an epoch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.metrics.segmentation import confusion, segmentation_metrics
from isthmus.recipe import with_settings
from isthmus.recipe.rules import IGNORE_INDEX
from isthmus.tasks.segment.module import Segmenter, as_u8, confusion_of, unet_for
from isthmus.tasks.segment.recipe import SegmentRecipe


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)),
    num_classes=st.integers(2, 255),
    ignored=st.sampled_from([0.0, 0.3, 1.0]),
    truth_dtype=st.sampled_from([torch.uint8, torch.int64]),
)
def test_the_confusion_matrix_of_a_batch_equals_that_of_numpy(
    seed, shape, num_classes, ignored, truth_dtype
):
    """Of bytes and of integers, also of images of which all pixels are ignored."""
    rng = np.random.default_rng(seed)
    truth, predicted = rng.integers(0, num_classes, (2, *shape)).astype(np.uint8)
    truth[rng.random(shape) < ignored] = IGNORE_INDEX
    counts = confusion_of(
        torch.from_numpy(truth).to(truth_dtype), torch.from_numpy(predicted).long(), num_classes
    )
    assert counts.dtype == torch.int64
    assert np.array_equal(counts, confusion(truth, predicted, num_classes))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_class_ids_become_bytes(dtype):
    mask = torch.tensor([[0, 1], [254, 255]], dtype=dtype)
    assert as_u8(mask).dtype == np.uint8
    assert as_u8(mask).tolist() == [[0, 1], [254, 255]]


def segmenter(loss: str = "ce") -> Segmenter:
    small = {"model.width": 4, "model.depth": 2, "loss.name": loss, "data.size_px": 16}
    recipe = with_settings(SegmentRecipe(), small)
    assert isinstance(recipe, SegmentRecipe)
    torch.manual_seed(0)
    network = unet_for(recipe.model, 3, 3)
    for weight in network.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.5)  # else it predicts one class
    return Segmenter(network, recipe, 3, steps=10).eval()


def batch_of(n: int, ignored: float = 0.0) -> dict[str, torch.Tensor]:
    draws = torch.Generator().manual_seed(n)
    mask = torch.randint(0, 2, (n, 16, 16), generator=draws, dtype=torch.uint8)
    mask[torch.rand(mask.shape, generator=draws) < ignored] = IGNORE_INDEX
    image = torch.rand(n, 3, 16, 16, generator=draws)
    return {"image": image, "mask": mask, "index": torch.arange(n)}


def test_the_sums_of_a_batch_are_those_of_its_images():
    module, batch = segmenter(), batch_of(5)
    loss, sums = module(batch, "train")
    assert loss.requires_grad
    assert not any(of.requires_grad for of in sums.values())
    singly = [
        module({name: of[row : row + 1] for name, of in batch.items()}, "train") for row in range(5)
    ]
    torch.testing.assert_close(sums["loss"], torch.stack([of.detach() for of, _ in singly]).sum())
    torch.testing.assert_close(sums["loss"], 5 * loss.detach())
    assert torch.equal(sums["confusion"], sum(of["confusion"] for _, of in singly))


def test_metrics_of_sums_equal_those_of_the_predicted_masks():
    """Over batches of different sizes, with ignored pixels and a class that the truth lacks."""
    module = segmenter("ce+dice")
    batches = [batch_of(n, ignored=0.2) for n in (4, 4, 1)]
    results = [module(batch, "validation") for batch in batches]
    sums = {name: sum(of[name] for _, of in results) for name in ("loss", "confusion")}
    metrics = module.metrics(sums, 9)
    truth = np.concatenate([batch["mask"].numpy() for batch in batches])
    with torch.inference_mode():
        predicted = np.concatenate(
            [as_u8(module.network(batch["image"]).argmax(dim=1)) for batch in batches]
        )
    assert len(np.unique(predicted)) > 1
    expected = segmentation_metrics(truth, predicted, ["a", "b", "c"]).over_set
    for name in ("pixel_accuracy", "mean_iou"):
        assert metrics[name] == pytest.approx(expected[name])
    losses = [n * loss.item() for n, (loss, _) in zip((4, 4, 1), results, strict=True)]
    assert metrics["loss"] == pytest.approx(math.fsum(losses) / 9)
