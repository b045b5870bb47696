"""Where data sets lie and where decoded images are kept."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from isthmus.errors import UserError


def cache_folder() -> Path:
    """Where decoded images, downloads and judges are kept: ISTHMUS_CACHE, or the user's cache."""
    return Path(os.environ.get("ISTHMUS_CACHE") or platformdirs.user_cache_dir("isthmus"))


def data_set_folder(data_root: Path | None) -> tuple[Path, bool]:
    """Where named data sets lie, and whether a missing one may be downloaded there.

    Args:
        data_root: None: ISTHMUS_DATA, or the cache folder, into which is then downloaded.

    Raises:
        UserError: If the folder that was named is not there.
    """
    named = data_root or (Path(text) if (text := os.environ.get("ISTHMUS_DATA")) else None)
    if named is not None and not named.is_dir():
        raise UserError(
            f"data root {named} is not a folder: it must hold the data sets; "
            "name another with --data-root or ISTHMUS_DATA, or leave it out to download"
        )
    return named or cache_folder(), named is None
