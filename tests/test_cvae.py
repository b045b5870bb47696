"""The label-conditioned VAE and its parts: shapes, gradients, conditioning, cost, errors."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from isthmus.errors import UserError
from isthmus.nn.conditioning import (
    CONDITION_ON,
    CONDITIONINGS,
    EMBEDDING_DIM,
    NOWHERE,
    Add,
    FiLM,
    Unmodulated,
)
from isthmus.nn.cvae import PRIORS, ConditionalVAE, LabelPrior, softly_bounded
from isthmus.nn.stages import (
    Level,
    doubling_conv,
    halved_sizes_px,
    maps_to_vector,
    vector_to_maps,
)
from isthmus.nn.vae_blocks import BODIES, AuxiliaryClassifier, decoder_body, encoder_body
from isthmus.recipe import with_settings
from isthmus.tasks.generate.module import vae_for
from isthmus.tasks.generate.recipe import GenerateRecipe

NUM_LABELS = 4
LATENT = 12
LABELS = torch.arange(NUM_LABELS + 1)  # the unconditional label is the last


def vae_of(
    body: str = "conv",
    conditioning: str = "concat",
    condition_on: str = "both",
    prior: str = "standard",
    size_px: int = 28,
    channels: int = 1,
    width: int = 4,
) -> ConditionalVAE:
    """A small network of named parts, always with the same weights."""
    torch.manual_seed(0)
    encoder_side, decoder_side = CONDITION_ON[condition_on](CONDITIONINGS[conditioning])
    kind = BODIES[body]
    encoder = encoder_body(channels, size_px, width, kind, encoder_side.modulate)
    decoder = decoder_body(LATENT, 2 * channels, size_px, width, kind, decoder_side.modulate)
    return ConditionalVAE(
        encoder,
        decoder,
        encoder_side.enter(encoder.features, NUM_LABELS),
        decoder_side.enter(LATENT, NUM_LABELS),
        PRIORS[prior](LATENT, NUM_LABELS),
        nn.Identity(),
        latent=LATENT,
        num_labels=NUM_LABELS,
        auxiliary_classifier=AuxiliaryClassifier(
            encoder_body(channels, size_px, width, kind), NUM_LABELS
        )
        if condition_on == "classifier"
        else None,
    )


def inputs(size_px: int = 28, channels: int = 1, count: int = NUM_LABELS + 1) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, channels, size_px, size_px, generator=generator)


def noise() -> Tensor:
    return torch.randn(NUM_LABELS + 1, LATENT, generator=torch.Generator().manual_seed(2))


def all_differ(outputs: Sequence[Tensor]) -> bool:
    return all(not torch.equal(a, b) for a, b in itertools.combinations(outputs, 2))


def all_equal(outputs: Sequence[Tensor]) -> bool:
    """To the last bit."""
    return all(torch.equal(outputs[0], output) for output in outputs)


SIZES = list(itertools.product(BODIES, ["add", "film"], [28, 32, 64], [1, 3]))
ENTRIES = [
    ("conv", conditioning, 28, 1, condition_on, prior)
    for conditioning, condition_on, prior in itertools.product(CONDITIONINGS, CONDITION_ON, PRIORS)
]


@pytest.mark.parametrize(
    ("body", "conditioning", "size_px", "channels", "condition_on", "prior"),
    [(*row, "both", "per-label") for row in SIZES] + ENTRIES,
)
def test_every_combination_has_the_right_shapes_and_a_gradient_in_every_weight(
    body: str, conditioning: str, size_px: int, channels: int, condition_on: str, prior: str
) -> None:
    vae = vae_of(body, conditioning, condition_on, prior, size_px, channels)
    outcome = vae(inputs(size_px, channels), LABELS, noise())
    assert outcome.params.shape == (len(LABELS), 2 * channels, size_px, size_px)
    *parts, class_logits = outcome
    latents = (*outcome[:3], outcome.prior_mu, outcome.prior_log_sigma)
    assert all(latent.shape == (len(LABELS), LATENT) for latent in latents)
    if condition_on == "classifier":
        assert class_logits.shape == (len(LABELS), NUM_LABELS)
        parts.append(class_logits)
    sum(part.square().mean() + part.mean() for part in parts).backward()
    for name, weight in vae.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        assert weight.grad.abs().max() > 0, name


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_bfloat16_and_channels_last_have_gradients_and_agree_with_float32(
    body: str, conditioning: str
) -> None:
    vae = vae_of(body, conditioning).eval()
    plain = vae(inputs(), LABELS, noise())
    vae = vae.to(memory_format=torch.channels_last)
    images = inputs().to(memory_format=torch.channels_last)
    torch.testing.assert_close(vae(images, LABELS, noise()), plain, atol=1e-4, rtol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = vae(images, LABELS, noise())
        outcome = vae.train()(images, LABELS, noise())
    assert outcome.mu.dtype == outcome.log_sigma.dtype == outcome.z.dtype == torch.float32
    error = rounded.params.float() - plain.params
    assert error.norm() < 0.03 * plain.params.norm()
    sum(part.float().square().mean() for part in outcome[:-1]).backward()
    for name, weight in vae.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
@pytest.mark.parametrize("condition_on", CONDITION_ON)
def test_the_label_changes_only_the_sides_it_conditions(
    conditioning: str, condition_on: str
) -> None:
    """One image and one z under each label, the unconditional one included."""
    vae, image, z = vae_of("residual", conditioning, condition_on), inputs(count=1), noise()[:1]
    with torch.no_grad():
        posteriors = [torch.cat(vae.encode(image, label)) for label in LABELS.split(1)]
        params = [vae.decode(z, label) for label in LABELS.split(1)]
    if condition_on == "classifier":  # the encoder sees whether there is a label, not which
        *posteriors, unconditional = posteriors
        assert not torch.equal(unconditional, posteriors[0])
    encoder_is_conditioned = condition_on in ("encoder", "both")
    assert (all_differ if encoder_is_conditioned else all_equal)(posteriors)
    decoder_is_conditioned = condition_on in ("decoder", "both", "classifier")
    assert (all_differ if decoder_is_conditioned else all_equal)(params)


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
@pytest.mark.parametrize("prior", PRIORS)
def test_the_unconditional_label_differs_only_in_its_weights(conditioning: str, prior: str) -> None:
    """With the weights of label 2 copied over its own, it gives the outputs of label 2."""
    vae = vae_of("conv", conditioning, "both", prior)
    two = torch.tensor([2])
    with torch.no_grad():
        for part in vae.modules():
            if isinstance(part, nn.Embedding):
                part.weight[vae.unconditional_label] = part.weight[2]
            if isinstance(part, Add):
                one_hot_weight = part.embedding[0].weight
                one_hot_weight[:, vae.unconditional_label] = one_hot_weight[:, 2]
        image, draw = inputs(count=1), noise()[:1]
        labelled = vae(image, two, draw)
        unlabelled = vae(image, torch.full_like(two, vae.unconditional_label), draw)
    assert all(torch.equal(a, b) for a, b in zip(labelled[:-1], unlabelled[:-1], strict=True))


def test_forward_encodes_adds_the_noise_decodes_and_draws_nothing() -> None:
    vae, images = vae_of(prior="per-label"), inputs()
    state = torch.get_rng_state()
    outcome = vae(images, LABELS, noise())
    assert torch.equal(torch.get_rng_state(), state)
    mu, log_sigma = vae.encode(images, LABELS)
    z = torch.distributions.Normal(mu, log_sigma.exp()).icdf(
        torch.distributions.Normal(0.0, 1.0).cdf(noise())
    )
    torch.testing.assert_close(outcome.z, z)
    torch.testing.assert_close(outcome.params, vae.decode(outcome.z, LABELS))


@pytest.mark.parametrize("body", BODIES)
def test_the_first_kl_is_nearly_zero(body: str) -> None:
    vae = vae_of(body, "film", "both", "per-label", width=16)
    mu, log_sigma, _, _, *prior = vae(inputs(), LABELS, noise())
    posterior = torch.distributions.Normal(mu, log_sigma.exp())
    truth = torch.distributions.Normal(prior[0], prior[1].exp())
    kl_nats = torch.distributions.kl_divergence(posterior, truth).sum(dim=1)
    assert 0 < kl_nats.max() < 0.01


def test_learned_priors_differ_by_label() -> None:
    prior = LabelPrior(LATENT, NUM_LABELS)
    assert all((part == 0).all() for part in prior(LABELS))
    nn.init.normal_(prior.table.weight)
    assert all(all_differ(part.unbind()) for part in prior(LABELS))


@given(raw=st.floats(-1e6, 1e6, width=32))
def test_log_sigma_is_bounded_and_keeps_sign_and_order(raw: float) -> None:
    bounded, above = softly_bounded(torch.tensor([raw, raw + 0.5]))
    assert -6 <= bounded <= above <= 6
    if abs(raw) < 0.5:
        torch.testing.assert_close(bounded, torch.tensor(raw), atol=2e-3, rtol=0)


def test_log_sigma_beyond_its_bound_has_a_gradient() -> None:
    raw = torch.tensor([-20.0, 20.0], requires_grad=True)
    softly_bounded(raw).sum().backward()
    assert raw.grad is not None
    assert (raw.grad > 1e-3).all()


def test_film_scales_and_shifts_each_channel() -> None:
    film = FiLM(2)
    with torch.no_grad():
        film.linear.weight.zero_()
        film.linear.bias.copy_(torch.tensor([0.5, -1.0, 3.0, 7.0]))  # scales - 1, shifts
    x = torch.randn(3, 2, 4, 4)
    expected = torch.stack([1.5 * x[:, 0] + 3, torch.full_like(x[:, 1], 7.0)], dim=1)
    torch.testing.assert_close(film(x, torch.randn(3, EMBEDDING_DIM)), expected)


def test_parts_of_two_conditionings_are_rejected() -> None:
    x, condition = torch.zeros(1, 2, 4, 4), torch.zeros(1, EMBEDDING_DIM)
    with pytest.raises(UserError, match=r"a stage with FiLM received no condition: .*; take both"):
        FiLM(2)(x, None)
    with pytest.raises(
        UserError, match=r"a stage without FiLM received a condition, .*; take both"
    ):
        Unmodulated()(x, condition)


def test_add_has_the_layers_of_the_reference_study() -> None:
    """10 labels and the unconditional one: 11 -> 10 -> 256, then 256 -> 128 -> 256, by hand."""
    by_hand = (11 * 10 + 10) + (10 * 256 + 256) + (256 * 128 + 128) + (128 * 256 + 256)
    assert parameters(Add(256, 10)) == by_hand == 68_856
    vector, add = torch.randn(2, 8), Add(8, 3)
    conditioned = add(vector, torch.tensor([1, 3]))
    embedded = add.embedding(torch.tensor([[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]))
    torch.testing.assert_close(conditioned, add.mixing(vector + embedded))


def parameters(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


@pytest.mark.parametrize("channels", [1, 3])
def test_resnet18_encoder_equals_torchvision(channels: int) -> None:
    """With torchvision's weights, in order, it gives the same features."""
    truth = torchvision.models.resnet18()
    truth.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    truth.maxpool, truth.fc = nn.Identity(), nn.Identity()
    encoder = encoder_body(channels, 32, 64, BODIES["resnet18"])
    assert parameters(encoder) == parameters(truth) == 11_167_104 + 64 * 9 * channels
    theirs = truth.state_dict().values()
    encoder.load_state_dict(dict(zip(encoder.state_dict(), theirs, strict=True)))
    images = inputs(32, channels, count=2)
    torch.testing.assert_close(encoder.eval()(images), truth.eval()(images))


@pytest.mark.parametrize(
    ("body", "size_px", "channels", "width", "latent", "expected"),
    [
        ("conv", 28, 1, 32, 32, (836_448, 856_961)),
        ("residual", 28, 1, 32, 32, (1_021_152, 1_032_417)),
        ("residual", 32, 3, 64, 128, (4_806_080, 4_842_691)),
        ("resnet18", 32, 3, 64, 256, (11_168_832, 8_625_603)),
    ],
)  # all but the third were also summed by hand
def test_golden_parameter_counts(
    body: str, size_px: int, channels: int, width: int, latent: int, expected: tuple[int, int]
) -> None:
    encoder = encoder_body(channels, size_px, width, BODIES[body])
    decoder = decoder_body(latent, channels, size_px, width, BODIES[body])
    assert (parameters(encoder), parameters(decoder)) == expected


@pytest.mark.parametrize(
    ("condition_on", "multiply_adds"), [("decoder", 6_851_584), ("classifier", 9_444_864)]
)
def test_the_default_network_stays_cheap(condition_on: str, multiply_adds: int) -> None:
    """7 to 9.4 million multiply-adds an image, so that an epoch of MNIST takes seconds."""
    recipe = with_settings(
        GenerateRecipe(), {"data.name": "mnist", "model.condition_on": condition_on}
    )
    assert isinstance(recipe, GenerateRecipe)
    vae = vae_for(recipe, num_labels=10)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        vae(inputs(count=1), torch.tensor([3]), torch.zeros(1, vae.latent))
    assert counter.get_total_flops() / 2 == multiply_adds


@pytest.mark.parametrize("body", ["conv", "residual"])
def test_outputs_do_not_depend_on_the_rest_of_the_batch(body: str) -> None:
    vae = vae_of(body, "film").train()
    whole = vae(inputs(), LABELS, noise())
    alone = vae(inputs()[:1], LABELS[:1], noise()[:1])
    for ours, theirs in zip(alone[:-1], whole[:-1], strict=True):
        torch.testing.assert_close(ours, theirs[:1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("body", ["conv", "residual"])
def test_initial_weights_keep_the_scale_through_the_depth(body: str) -> None:
    torch.manual_seed(0)
    encoder = encoder_body(3, 64, 32, BODIES[body])
    decoder = decoder_body(32, 3, 64, 32, BODIES[body])
    with torch.no_grad():
        assert 0.3 < encoder(torch.randn(4, 3, 64, 64)).std() < 3
        assert 0.3 < decoder(torch.randn(4, 32)).std() < 3


def test_he_start_of_a_transposed_convolution() -> None:
    """Output variance = 2 x mean square of the input, away from the edge."""
    torch.manual_seed(0)
    y = doubling_conv(32, 64)(torch.randn(8, 32, 8, 8))[..., 1:-1, 1:-1]
    assert y.var().item() == pytest.approx(2, rel=0.05)


@settings(max_examples=50)
@given(size_px=st.integers(1, 300))
def test_a_size_is_accepted_if_halving_it_leads_to_4_to_7_px(size_px: int) -> None:
    if any(size_px == last * 2**times for last in (4, 5, 6, 7) for times in range(1, 8)):
        assert halved_sizes_px(size_px)[-1] in (4, 5, 6, 7)
    else:
        with pytest.raises(UserError, match=f"images of {size_px} px do not fit the network: "):
            halved_sizes_px(size_px)


@pytest.mark.parametrize("body", BODIES)
def test_a_size_that_cannot_be_halved_is_rejected_with_sizes_that_can(body: str) -> None:
    sentence = (
        "images of 30 px do not fit the network: halving their size must lead to "
        "4, 5, 6 or 7 px without a remainder; set data.size_px to 28, 32 or 64"
    )
    with pytest.raises(UserError, match=sentence):
        encoder_body(1, 30, 4, BODIES[body])
    with pytest.raises(UserError, match=sentence):
        decoder_body(LATENT, 1, 30, 4, BODIES[body])
    for size_px in (28, 32, 64):  # the remedy works
        encoder_body(1, size_px, 4, BODIES[body])


@pytest.mark.parametrize(("channels", "size_px"), [(3, 28), (1, 32)])
def test_images_of_another_shape_are_rejected(channels: int, size_px: int) -> None:
    sentence = (
        rf"images of {channels} x {size_px} x {size_px} \(channels, height, width\) do not fit "
        "this network: it takes 1 x 28 x 28 only; convert and resize them"
    )
    with pytest.raises(UserError, match=sentence):
        vae_of().encode(inputs(size_px, channels), LABELS)


@pytest.mark.parametrize("label", [-1, NUM_LABELS + 1])
def test_an_unknown_label_is_rejected(label: int) -> None:
    sentence = (
        f"label {label} is unknown: the labels of this network are 0 .. 3, and 4 for no label; pass one of "
        "these"
    )
    with pytest.raises(UserError, match=sentence):
        vae_of().encode(inputs(count=1), torch.tensor([label]))
    with pytest.raises(UserError, match=sentence):
        vae_of(condition_on="none").decode(noise()[:1], torch.tensor([label]))


def test_maps_to_vector_and_back_copies_nothing() -> None:
    maps = torch.rand(2, 3, 5, 5).contiguous(memory_format=torch.channels_last).requires_grad_()
    vector = nn.Sequential(*maps_to_vector())(maps)
    again = nn.Sequential(*vector_to_maps(Level(3, 5)))(vector)
    assert torch.equal(again, maps)
    assert vector.data_ptr() == again.data_ptr() == maps.data_ptr()
    (gradient,) = torch.autograd.grad(vector, maps, torch.rand(2, 75))
    assert gradient.is_contiguous(memory_format=torch.channels_last)


def test_a_side_without_conditioning_has_no_parameters() -> None:
    assert parameters(NOWHERE.enter(256, 10)) == parameters(NOWHERE.modulate(64)) == 0


def test_golden_outcome() -> None:
    """Regression: the same seed and image give the same numbers as before."""
    outcome = vae_of("residual", "film", width=2)(inputs(), LABELS, noise())
    golden = torch.tensor([1.0082, -0.1503, 1.3096])
    found = torch.stack([outcome.z[1, 0], *outcome.params[2, :, 3, 4]])
    torch.testing.assert_close(found, golden, atol=1e-4, rtol=0)


def test_the_auxiliary_classifiers_label_conditions_the_encoder() -> None:
    """For any label given, encode equals the same weights without the classifier given its label."""
    vae = vae_of("conv", "concat", "classifier")
    image, any_label = inputs(), torch.zeros(len(LABELS), dtype=torch.int64)
    with torch.no_grad():
        for bias, label in (
            (vae.auxiliary_classifier.head[1].bias, 3),
            (vae.auxiliary_classifier.head[1].bias, 1),
        ):
            bias.zero_()
            bias[label] = 1e3
            found = vae.encode(image, any_label)
            auxiliary_classifier, vae.auxiliary_classifier = vae.auxiliary_classifier, None
            expected = vae.encode(image, torch.full_like(any_label, label))
            vae.auxiliary_classifier = auxiliary_classifier
            assert torch.equal(found.mu, expected.mu)
            assert torch.equal(found.log_sigma, expected.log_sigma)
            with_label = vae.encode_with_label(image, torch.full_like(any_label, label))
            assert torch.equal(with_label.mu, expected.mu)
            assert not torch.equal(vae.encode_with_label(image, any_label).mu, expected.mu)


def test_the_likelihood_gives_the_auxiliary_classifier_no_gradient() -> None:
    """Its label is an argmax, so only its own cross-entropy has a gradient."""
    vae = vae_of("conv", "concat", "classifier")
    outcome = vae(inputs(), LABELS, noise())
    (outcome.params.square().sum() + outcome.mu.square().sum()).backward()
    assert all(weight.grad is None for weight in vae.auxiliary_classifier.parameters())
    nn.functional.cross_entropy(
        outcome.class_logits, LABELS[:-1].repeat(2)[: len(LABELS)]
    ).backward()
    assert all(weight.grad.abs().sum() > 0 for weight in vae.auxiliary_classifier.parameters())
