"""The folders of data sets and of decoded images."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from isthmus.errors import UserError


def cache_folder() -> Path:
    """The folder of decoded images, downloads and judges: ISTHMUS_CACHE, or the user's cache folder."""
    return Path(os.environ.get("ISTHMUS_CACHE") or platformdirs.user_cache_dir("isthmus"))


def data_set_folder(data_root: Path | None) -> tuple[Path, bool]:
    """The folder that contains the data sets, and whether a missing data set may be downloaded into it.

    Args:
        data_root: The folder. If None, ISTHMUS_DATA or, if that is not set, the cache folder; data sets
            are downloaded only into the cache folder.

    Raises:
        UserError: If the named folder does not exist.
    """
    named = data_root or (Path(text) if (text := os.environ.get("ISTHMUS_DATA")) else None)
    if named is not None and not named.is_dir():
        raise UserError(
            f"data root {named} is not a folder: it must be a folder with the data sets; name another "
            "folder with --data-root or ISTHMUS_DATA, or set neither to download data sets"
        )
    return named or cache_folder(), named is None
