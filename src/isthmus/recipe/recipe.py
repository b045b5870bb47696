"""What every recipe has, whatever the network learns."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic.dataclasses import dataclass

from isthmus.recipe.parsing import settings_of
from isthmus.recipe.rules import STRICT
from isthmus.recipe.train import Train


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Recipe:
    """All that decides a run except its seed; each task has its own kind."""

    task: str
    """What the network learns."""
    data: Any
    train: Train = Train()

    @property
    def hash(self) -> str:
        """Twelve hex digits that differ whenever any field differs."""
        return settings_hash(settings_of(self))


def settings_hash(settings: Mapping[str, Any]) -> str:
    """Twelve hex digits that differ whenever any setting differs."""
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
