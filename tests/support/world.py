"""The embedded world's vocabulary: scripts/embedded/world.py, which is no part of the package."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType


def load_world() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "scripts/embedded/world.py"
    spec = importlib.util.spec_from_file_location("embedded_world_for_tests", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its dataclass looks its own module up while it is made.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


WORLD = load_world()


def utilities() -> dict[str, float]:
    """Each attribute term of the world with how much its taste likes it."""
    found: dict[str, float] = {}
    for taste, table in (
        (WORLD.LIGHT_TASTE, WORLD.LIGHTS),
        (WORLD.STYLE_TASTE, WORLD.STYLES),
        (WORLD.FRAMING_TASTE, WORLD.FRAMINGS),
        (WORLD.SCALAR_TASTE, WORLD.HIGH),
        ({key: -value for key, value in WORLD.SCALAR_TASTE.items()}, WORLD.LOW),
    ):
        found |= {term: taste[key] for key, terms in table.items() for term in terms}
    return found


UTILITY = utilities()


def matcher(terms: list[str]) -> re.Pattern[str]:
    """Finds whole-word occurrences of the terms, the longest first."""
    longest_first = sorted(terms, key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")
