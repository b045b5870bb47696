"""Images as files, and as data URIs inside the page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from isthmus.engine.run_folder import write_atomically

_WEBP_QUALITY = 75
"""Of an image that is too large without loss."""


@dataclass(frozen=True)
class Drawing:
    """One figure as data URIs, for light and for dark screens; empty where there is none."""

    light: str
    dark: str


def data_uri(content: bytes, kind: str) -> str:
    """An image as an address that holds it; nothing stays nothing."""
    if not content:
        return ""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def as_webp(png: bytes, most: int) -> bytes:
    """A PNG as WebP: without loss if that takes at most so many bytes, else with some."""
    if not png:
        return b""
    with Image.open(io.BytesIO(png)) as opened:
        image = opened.convert("RGB")
    exact = io.BytesIO()
    image.save(exact, "WEBP", lossless=True, quality=60, method=4)
    if exact.tell() <= most:
        return exact.getvalue()
    lossy = io.BytesIO()
    image.save(lossy, "WEBP", quality=_WEBP_QUALITY, method=4)
    return min(exact.getvalue(), lossy.getvalue(), key=len)


def write_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; no content leaves no file."""
    if content:
        write_atomically(path, lambda file: file.write_bytes(content))
    else:
        path.unlink(missing_ok=True)
