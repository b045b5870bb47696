"""The U-Net and its parts: shapes, parameter counts, and the computation of each part."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from isthmus.nn.blocks import (
    DROPOUTS,
    NORMS,
    BlurPool,
    PartMaker,
    bilinear_upsample,
)
from isthmus.nn.unet import UNet
from isthmus.recipe.registry import DOWN, UP
from isthmus.tasks.segment.module import unet_for
from isthmus.tasks.segment.recipe import Model


@pytest.mark.parametrize(
    ("down", "up", "parameters"),
    [
        ("max-pool", "transposed", 7_775_299),
        ("strided", "transposed", 8_124_899),
        ("strided", "bilinear", 7_603_619),
    ],
)
def test_parameter_counts_of_the_reference_study(down: str, up: str, parameters: int) -> None:
    network = unet_for(Model(down=down, up=up, width=32), 3, 3)  # type: ignore[arg-type]
    assert sum(weight.numel() for weight in network.parameters()) == parameters


@pytest.mark.parametrize("down", DOWN.names)
@pytest.mark.parametrize("up", UP.names)
@pytest.mark.parametrize("norm", NORMS)
def test_every_combination_keeps_an_odd_size_and_has_finite_gradients(
    down: str, up: str, norm: str
) -> None:
    network = UNet(
        channels_in=2,
        num_classes=4,
        width=4,
        depth=3,
        down=DOWN.load(down),
        up=UP.load(up),
        make=PartMaker(NORMS[norm]),
    )
    logits = network(torch.rand(2, 2, 21, 30))
    assert logits.shape == (2, 4, 21, 30)
    logits.square().mean().backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name


@settings(max_examples=25, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), depth=st.integers(2, 4))
def test_logits_have_the_size_of_the_image(height: int, width: int, depth: int) -> None:
    network = UNet(channels_in=1, num_classes=2, width=2, depth=depth).eval()
    assert network(torch.zeros(1, 1, height, width)).shape == (1, 2, height, width)


def test_padding_is_cropped_from_the_side_it_was_added_to() -> None:
    """An image padded before the call gives the same logits."""
    network = UNet(channels_in=1, num_classes=2, width=4, depth=3).eval()
    image = torch.rand(1, 1, 13, 18)
    padded = nn.functional.pad(image, (0, 2, 0, 3), mode="replicate")
    torch.testing.assert_close(network(image), network(padded)[..., :13, :18])


def test_upsampling_commutes_with_its_1x1_convolution() -> None:
    """The reference up-samples first; our order gives the same at a quarter of the cost."""
    stage = bilinear_upsample(PartMaker(norm=lambda _channels: nn.Identity()), 8)
    convolution, upsample, activated = stage
    x = torch.randn(2, 8, 5, 7)
    torch.testing.assert_close(stage(x), activated(convolution(upsample(x))))


def test_blur_pool_keeps_a_constant_and_halves_a_size() -> None:
    pooled = BlurPool(3)(torch.full((1, 3, 8, 6), 2.5))
    torch.testing.assert_close(pooled, torch.full((1, 3, 4, 3), 2.5))


def test_blur_pool_changes_less_than_max_pool_under_a_shift() -> None:
    image = torch.rand(1, 1, 33, 33)
    here, there = image[..., :32, :32], image[..., :32, 1:]
    blurred = (BlurPool(1)(here) - BlurPool(1)(there)).abs().mean()
    plain = (nn.MaxPool2d(2)(here) - nn.MaxPool2d(2)(there)).abs().mean()
    assert blurred < plain


def test_dropout_removes_elements_or_complete_channels() -> None:
    x = torch.ones(4, 16, 8, 8)
    element, channel = DROPOUTS["element"](0.5)(x), DROPOUTS["channel"](0.5)(x)
    assert 0 < (element == 0).float().mean() < 1
    by_channel = (channel == 0).flatten(2).float().mean(dim=2)
    assert set(by_channel.unique().tolist()) == {0.0, 1.0}
    assert DROPOUTS["none"](0.5)(x) is x


def test_skips_reach_the_decoder_of_their_own_level() -> None:
    """With the deepest level set to zero, a change of the image still reaches the logits."""
    torch.manual_seed(0)  # some narrow networks have only dead ReLUs
    network = UNet(channels_in=1, num_classes=2, width=8, depth=3).eval()
    with torch.no_grad():
        for weight in network.ups[0].parameters():
            weight.zero_()
    a, b = network(torch.randn(2, 1, 8, 8)).unbind()
    assert (a - b).abs().max() > 0


def test_odd_width_is_rejected() -> None:
    with pytest.raises(ValueError, match="width 5 is odd"):
        UNet(channels_in=1, num_classes=2, width=5)


def test_golden_logits() -> None:
    """Regression: the same seed and image give the same logits as before."""
    torch.manual_seed(0)
    network = UNet(channels_in=1, num_classes=2, width=2, depth=2).eval()
    image = torch.linspace(0, 1, 16).reshape(1, 1, 4, 4)
    golden = torch.tensor([0.2469, 0.6147])
    torch.testing.assert_close(network(image)[0, :, 1, 2], golden, atol=1e-4, rtol=0)
