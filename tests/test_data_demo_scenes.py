"""Demo scenes: exact masks, disjoint parts, and scenes that do not depend on their number."""

from __future__ import annotations

import itertools
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest

from isthmus.data import demo_digits, demo_scenes
from isthmus.data.demo_scenes import DemoScenes, trimap
from isthmus.data.store import MaskedItem
from isthmus.errors import UserError


@pytest.fixture(scope="module")
def scenes() -> list[MaskedItem]:
    return list(DemoScenes(48))


def test_scenes_are_images_with_a_trimap_of_three_classes(scenes):
    source = DemoScenes(48)
    assert len(scenes) == len(source) == 48
    assert source.class_names == ("digit", "background", "border")
    for scene in scenes:
        assert scene.image.shape == (96, 96, 3)
        assert np.unique(scene.mask).tolist() == [0, 1, 2]
        assert scene.image.std() > 5
    assert len({scene.name for scene in scenes}) == 48
    assert len({scene.group for scene in scenes}) > 6


def test_a_quarter_of_the_scenes_is_the_test_part(scenes):
    assert sum(scene.part == "test" for scene in scenes) == 12


def test_a_higher_count_only_adds_scenes(scenes):
    for longer, shorter in zip(DemoScenes(60), itertools.islice(scenes, 5), strict=False):
        assert longer.name == shorter.name
        assert np.array_equal(longer.image, shorter.image)
        assert np.array_equal(longer.mask, shorter.mask)


def test_another_seed_gives_other_scenes(scenes):
    other = next(iter(DemoScenes(10, seed=1)))
    assert not np.array_equal(other.image, scenes[0].image)


def test_the_parts_share_no_digit_and_no_pixel_of_a_photograph():
    train, test = demo_scenes._material("train"), demo_scenes._material("test")
    as_bytes = [{digit.tobytes() for digit in part.digits} for part in (train, test)]
    assert not as_bytes[0] & as_bytes[1]
    assert len(train.digits) == 3750
    assert len(test.digits) == 1250
    assert train.photographs.keys() == test.photographs.keys()
    for left, right in zip(train.photographs.values(), test.photographs.values(), strict=True):
        assert not np.shares_memory(left, right)
        assert min(*left.shape[:2], *right.shape[:2]) >= 96


def test_the_border_equals_a_brute_force_search():
    inside = np.random.default_rng(0).random((24, 24)) < 0.5
    inside[4:20, 4:20] = True
    rows, columns = np.mgrid[:24, :24]
    expected = np.empty(inside.shape, int)
    for row, column in np.ndindex(inside.shape):
        others = inside != inside[row, column]
        distance = np.hypot(rows - row, columns - column)[others].min()
        near = distance <= (1.5 if inside[row, column] else 2.0)
        expected[row, column] = 2 if near else int(not inside[row, column])
    assert np.array_equal(trimap(inside), expected)


def test_the_border_of_a_straight_edge_is_three_pixels_wide():
    inside = np.zeros((20, 20), bool)
    inside[:, 10:] = True
    assert (trimap(inside) == 2).sum(axis=1).tolist() == [3] * 20


def test_every_class_has_a_moderate_share_of_pixels(scenes):
    share = np.bincount(np.concatenate([s.mask.ravel() for s in scenes])) / sum(
        s.mask.size for s in scenes
    )
    assert 0.04 < share[0] < 0.12
    assert 0.75 < share[1] < 0.92


def test_a_threshold_on_brightness_does_not_find_the_digits(scenes):
    # The best single threshold on grey, either way round, chosen with the truth in hand.
    grey = np.stack([scene.image.mean(-1) for scene in scenes]).ravel()
    truth = np.stack([scene.mask == 0 for scene in scenes]).ravel()
    cuts = [grey > level for level in range(10, 250, 10)]
    ious = [(guess & truth).sum() / (guess | truth).sum() for cut in cuts for guess in (cut, ~cut)]
    assert max(ious) < 0.15


def test_the_fingerprint_has_count_seed_and_package_versions():
    assert DemoScenes(10).fingerprint() == DemoScenes(10).fingerprint()
    assert DemoScenes(10).fingerprint() != DemoScenes(11).fingerprint()
    assert DemoScenes(10).fingerprint() != DemoScenes(10, seed=1).fingerprint()
    assert "mlxtend" in DemoScenes(10).fingerprint()["packages"]


def test_a_missing_package_is_rejected_with_the_extra_to_install(monkeypatch):
    def none_installed(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(demo_digits, "version", none_installed)
    with pytest.raises(UserError) as caught:
        DemoScenes(10)
    assert str(caught.value) == "demo-scenes needs the demo extra: pip install 'isthmus[demo]'"
