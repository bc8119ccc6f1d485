"""Scores and worth of pictures of the embedded world by a model, for simulations.

A picture's score is the world's utility (`embedded/world.py`) of a scene whose unnamed
attributes come from the picture's seed; an effect of each clause's own; the luck of the naive
picture; and noise. The spreads are those of 1,697 comparisons of real runs
(docs/decisions/0025).
"""

from __future__ import annotations

import random
from functools import cache
from typing import Any, NamedTuple

from bigpe.agents.evidence.terms import words
from bigpe.services.core.values import digest
from embedded_world.embedded import world

POINTS = 0.05
"""Score units for a logit of utility."""
KNOWN, UNKNOWN = 0.008, 0.012
"""Spread of what a clause does beyond that, score units: of one whose words the world knows, and of
another."""
LUCK, NOISE = 0.05, 0.05
"""Spread of what all rewrites of a prompt gain at one picture seed, and of a single picture."""
PARTS = {
    "golden": ("light", "golden"),
    "canvas": ("style", "oil"),
    "brushwork": ("style", "oil"),
    "comic": ("style", "comic"),
    "shading": ("style", "comic"),
    "pixel": ("style", "pixel"),
    "glowing": ("light", "neon"),
    "lighting": ("light", "dramatic"),
    "grain": ("grain", 2),
}
"""Words of longer terms that work by themselves."""


class Stated(NamedTuple):
    """What a prompt says, by attribute."""

    attribute: str
    value: Any


@cache
def _terms() -> list[tuple[str, Stated]]:
    found: list[tuple[str, Stated]] = []
    tables = (("light", world.LIGHTS), ("style", world.STYLES), ("framing", world.FRAMINGS))
    for attribute, table in tables:
        found += [(t, Stated(attribute, v)) for v, terms in table.items() for t in terms]
    for band, table in ((2, world.HIGH), (0, world.LOW)):
        found += [(t, Stated(a, band)) for a, terms in table.items() for t in terms]
    found += [(word, Stated(*message)) for word, message in PARTS.items()]
    return sorted(found, key=lambda item: -len(item[0].split()))


@cache
def stated(prompt: str) -> tuple[Stated, ...]:
    """The attributes that the prompt names, the longest terms first."""
    have = f" {' '.join(words(prompt))} "
    found: list[Stated] = []
    for term, message in _terms():
        if f" {term} " in have:
            found.append(message)
            have = have.replace(f" {term} ", " . ", 1)
    return tuple(found)


def taste(prompt: str, seed: int) -> float:
    """The utility of the prompt's scene at this seed, logits."""
    rng = random.Random(seed)
    scene = world.sample_scene(rng)
    drawn: dict[str, list[float]] = {
        "light": [world.LIGHT_TASTE[scene.light]],
        "style": [world.STYLE_TASTE[scene.style]],
        "framing": [world.FRAMING_TASTE[scene.framing]],
    }
    for name, weight in world.SCALAR_TASTE.items():
        drawn[name] = [2 * weight * (getattr(scene, name) - 0.5)]
    terms: dict[str, list[float]] = {}
    tables = {
        "light": world.LIGHT_TASTE,
        "style": world.STYLE_TASTE,
        "framing": world.FRAMING_TASTE,
    }
    for attribute, value in stated(prompt):
        if attribute in tables:
            worth = tables[attribute][value]
        else:
            worth = 2 * world.SCALAR_TASTE[attribute] * (sum(world.BANDS[value]) / 2 - 0.5)
        terms.setdefault(attribute, []).append(worth)
    return sum(sum(values) / len(values) for values in (drawn | terms).values())


@cache
def place_of(prompt: str) -> str | None:
    """The place that the prompt names."""
    have = f" {' '.join(words(prompt))} "
    found = (p for p, terms in world.PLACES.items() if any(f" {term} " in have for term in terms))
    return next(found, None)


@cache
def own_effect(clause: str) -> float:
    """What the clause does beyond what the world's taste says of it, score units."""
    spread = KNOWN if stated(clause) else UNKNOWN
    return random.Random(digest(["clause", clause])).gauss(0, spread)


def worth(naive: str, prompt: str, seed: int) -> float:
    """The picture's score without luck and noise; the naive prompt's own is its taste."""
    if prompt == naive:
        return POINTS * taste(prompt, seed)
    moved = place_of(naive) is not None and place_of(prompt) != place_of(naive)
    lost = (world.PLACE_TASTE[0] - world.PLACE_TASTE[1]) * moved
    clauses = {" ".join(words(part)) for part in prompt.split(",")[1:]}
    return POINTS * (taste(prompt, seed) - lost) + sum(own_effect(c) for c in sorted(clauses))


def score(naive: str, prompt: str, seed: int) -> float:
    """The modelled score of a picture."""
    if prompt == naive:
        return worth(naive, prompt, seed)
    luck = random.Random(digest(["luck", naive, seed])).gauss(0, LUCK)
    noise = random.Random(digest([prompt, seed])).gauss(0, NOISE)
    return worth(naive, prompt, seed) + luck + noise
