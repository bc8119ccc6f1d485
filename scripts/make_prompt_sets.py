"""Write the packaged prompt sets: prompts/naive_*.txt and prompts/professional.jsonl.

    python -P scripts/make_prompt_sets.py

Seeded: the same files every time. Every light, style, framing and quality word of the embedded
world is drawn equally often, liked or not, so that the professional prompts give away nothing
about the world's taste.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from embedded.world import FRAMINGS, HIGH, LIGHTS, LOW, PLACES, STYLES, SUBJECTS

OUT = Path(__file__).resolve().parent.parent / "prompts"
BARE_PLACES = ("underwater", "under the sea", "outer space", "deep sea")

DOING = """resting|waiting|seen from below|seen from behind|in profile|half hidden|at the edge of a path
|between two stones|under an arch|beside a ladder|next to a stack of crates|with a long shadow
|surrounded by drifting leaves|before a storm|after the rain|at a market stall|on a stone step
|framed by branches|with ribbons in the wind|reflected in a puddle""".replace("\n", "").split("|")
SURFACE = """weathered copper|polished brass|cracked leather|rough linen|carved walnut|wet slate
|hammered tin|old parchment|woven reeds|frosted glass|mossy stone|painted tiles|raw silk|rusted iron
|folded paper|glazed clay""".replace("\n", "").split("|")
CRAFT = """concept art|matte painting technique|storybook plate|museum print|art nouveau|bauhaus
|baroque|ukiyo-e|art deco poster|gouache|linocut|fresco|stained glass design|double exposure
|35mm lens|85mm lens|tilt-shift|long exposure|isometric layout|low angle|bird's-eye layout
|rule of thirds|negative space|diagonal composition|symmetrical layout|leading lines
|award-winning|trending on art forums|limited palette|complementary hues|layered textures
|hand-pulled ink|gold leaf accents|visible brushwork|paper texture""".replace("\n", "").split("|")
MOOD = """serene mood|melancholy mood|playful mood|ominous mood|nostalgic mood|triumphant mood
|dreamlike mood|quiet tension|whimsical|stately|lonely|festive|mysterious|tender""".replace(
    "\n", ""
).split("|")
GENERAL = """an old fisherman|a market square|a waterfall|two dancers|a street musician|a tea house
|a baker at work|a bowl of ramen|a loaf of bread|a glass of lemonade|a chess board|a violin maker
|a grandmother knitting|a child with a kite|a lighthouse|a cathedral|a stone bridge|a windmill
|a greenhouse|a library|a train station|a tram|a hot air balloon|a submarine|a tractor|a motorbike
|a wolf|a hummingbird|a jellyfish|an octopus|a snail|a peacock|a stag|a bear with cubs|a koi pond
|a bonsai tree|a field of lavender|a vineyard|a canyon|a glacier|a volcano|a rainbow|a meteor shower
|a thunderstorm|a mermaid|a knight|a samurai|a pirate|a ballerina|a blacksmith|a beekeeper
|an astronomer|a clockmaker|a floating island|a crystal cave|a haunted house|a treehouse
|a phoenix|a golem|a time machine|a steam engine|a typewriter|a pocket watch|a teapot|a lantern
|a pair of boots|a bouquet of tulips|a bowl of cherries|a wedding cake|a sushi platter
|a cup of coffee|a wooden toy|a marble statue|a mask|a carousel|a puppet theatre|a jazz band
|a boxing match|a marathon runner|a surfer|a climber on a cliff|a gondola|a night train
|a farmhouse|a desert caravan|a nomad camp|a palm tree|a frozen lake|a harbour|a salt flat
|abstract shapes|a spiral of colour|a maze|a portal|a map of an island|a paper crane|a snow globe
|an hourglass|a mushroom circle|a scarecrow|a weather vane|a stone circle|a rooftop garden
|a subway platform|a newspaper stand|a flower seller|a monk|a queen on a throne|a royal guard
|a deep well|a rope bridge|a coral reef""".replace("\n", "").split("|")


def article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def place_phrase(place: str, rng: random.Random) -> str:
    if place in BARE_PLACES:
        return place if place.startswith("under") else f"in {place}"
    if place in ("snow", "winter", "ice", "space"):
        return f"in {place}" if place != "ice" else "on the ice"
    preposition = {"beach": "on", "shore": "on", "coast": "on", "seaside": "by", "street": "on"}
    article_word = "a" if place in ("snowy landscape",) else "the"
    return f"{preposition.get(place, rng.choice(('in', 'near')))} {article_word} {place}"


def naive_world(rng: random.Random) -> list[str]:
    """At least one prompt for each subject and place, in mixed order and phrasing."""
    found: dict[str, None] = {}
    for index in range(3):
        pairs = [(s, p) for s in SUBJECTS for p in [*PLACES, None]]
        rng.shuffle(pairs)
        for subject, place in pairs:
            word = rng.choice(SUBJECTS[subject])
            noun = rng.choice((article(word), word, f"the {word}"))
            if place is None:
                adjective = rng.choice(("old", "little", "big", "lonely", "happy"))
                text = noun if index == 0 else article(f"{adjective} {word}")
            else:
                where = place_phrase(rng.choice(PLACES[place]), rng)
                text = rng.choice((f"{noun} {where}", f"{noun} {where}", f"{word}, {where}"))
            found.setdefault(text)
            if len(found) >= 260:
                return list(found)
    return list(found)


def naive_general() -> list[str]:
    return list(dict.fromkeys(part.strip() for part in GENERAL))


def world_terms() -> list[tuple[str, str]]:
    """Every (group, term) of the world, liked or not."""
    terms = [("light", t) for words in LIGHTS.values() for t in words]
    terms += [("style", t) for words in STYLES.values() for t in words]
    terms += [("framing", t) for words in FRAMINGS.values() for t in words]
    for table in (HIGH, LOW):
        terms += [(key, t) for key, words in table.items() for t in words]
    return terms


class Deck:
    """Deals every card once before any comes again."""

    def __init__(self, cards: list[tuple[str, str]], rng: random.Random) -> None:
        self._cards, self._rng, self._left = cards, rng, list[tuple[str, str]]()

    def deal(self, taken: set[str]) -> str | None:
        if not self._left:
            self._left = self._rng.sample(self._cards, len(self._cards))
        for index, (group, term) in enumerate(self._left):
            if group not in taken:
                taken.add(group)
                return self._left.pop(index)[1]
        return None


def professional(rng: random.Random) -> list[str]:
    deck = Deck(world_terms(), rng)
    prompts: dict[str, None] = {}
    subjects = [*SUBJECTS.items()] * 15
    rng.shuffle(subjects)
    for index, (_, names) in enumerate(subjects):
        place = rng.choice([w for words in PLACES.values() for w in words])
        head = article(rng.choice(names))
        if index % 4:
            head = f"{head} {place_phrase(place, rng)}"
        prompts.setdefault(dress(f"{head}, {rng.choice(DOING)}", deck, rng))
    for subject in GENERAL:
        prompts.setdefault(dress(f"{subject.strip()}, {rng.choice(DOING)}", deck, rng))
    return list(prompts)


def dress(head: str, deck: Deck, rng: random.Random) -> str:
    """A subject with words of the trade, two to four of them from the world's vocabulary."""
    taken: set[str] = set()
    parts = [term for _ in range(rng.randint(2, 4)) if (term := deck.deal(taken))]
    parts += rng.sample(CRAFT, rng.randint(1, 2))
    parts.append(rng.choice(MOOD))
    if rng.random() < 0.6:
        parts.append(rng.choice(SURFACE))
    rng.shuffle(parts)
    return ", ".join([head, *parts])


def main() -> None:
    rng = random.Random(20261124)
    (OUT / "naive_world.txt").write_text("\n".join(naive_world(rng)) + "\n", "utf-8")
    (OUT / "naive_general.txt").write_text("\n".join(naive_general()) + "\n", "utf-8")
    rows = [{"text": t, "source": "bigpe", "license": "CC0-1.0"} for t in professional(rng)]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (OUT / "professional.jsonl").write_text(lines, "utf-8")


if __name__ == "__main__":
    main()
