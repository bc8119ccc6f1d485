"""The known effects of the embedded world's terms, as `bigpe experiment run --truth` reads them.

Adding a term replaces what the prior would have drawn: the effect is the taste for what the term
says less the mean taste under the prior, in the units of `world.utility` (logits).
"""

from __future__ import annotations

import json

from embedded_world.embedded import world


def weighted(prior: dict[str, float], taste: dict[str, float]) -> float:
    return sum(prior[value] * taste[value] for value in prior) / sum(prior.values())


def band_mean(index: int) -> float:
    """The mean of a scalar in one of the world's bands."""
    return sum(world.BANDS[index]) / 2


def effects() -> dict[str, float]:
    found: dict[str, float] = {}
    for table, taste, prior in (
        (world.LIGHTS, world.LIGHT_TASTE, world.LIGHT_PRIOR),
        (world.STYLES, world.STYLE_TASTE, world.STYLE_PRIOR),
        (world.FRAMINGS, world.FRAMING_TASTE, world.FRAMING_PRIOR),
    ):
        mean = weighted(prior, taste)
        for value, terms in table.items():
            found |= {term: taste[value] - mean for term in terms}
    for name, weight in world.SCALAR_TASTE.items():
        shares = world.SCALAR_PRIOR[name]
        mean = sum(share * band_mean(band) for band, share in enumerate(shares)) / sum(shares)
        for band, table in ((2, world.HIGH), (0, world.LOW)):
            found |= {term: 2 * weight * (band_mean(band) - mean) for term in table[name]}
    return {term: round(effect, 4) for term, effect in sorted(found.items())}


def main() -> None:
    result = {"how": "scripts/embedded_world/world_truth.py", "terms": effects()}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
