"""The words that the embedded world likes most."""

from __future__ import annotations

from embedded_world.embedded import world
from embedded_world.world_reach import liked
from embedded_world.world_truth import effects


def test_the_words_are_the_most_liked_of_each_attribute_the_largest_effect_first() -> None:
    existing, words = effects(), liked()
    sizes = [existing[names[0]] for names in words]
    assert sizes == sorted(sizes, reverse=True) and min(sizes) > 0
    assert len({names[0] for names in words}) == 3 + len(world.SCALAR_TASTE)
    for table in (world.LIGHTS, world.STYLES, world.FRAMINGS):
        (best,) = (names for names in words if names in table.values())
        assert existing[best[0]] == max(existing[names[0]] for names in table.values())
