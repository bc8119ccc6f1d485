"""Terms of the embedded world's vocabulary, with their utility."""

from __future__ import annotations

import re

from embedded_world.embedded import world as WORLD


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
