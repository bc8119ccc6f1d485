"""Write the packaged prompt sets: prompts/data/naive_world.txt and prompts/data/professional.jsonl.

    python scripts embedded_world.make_prompt_sets

Scenes (prompt_scenes.txt) and phrases (prompt_phrases.txt) beside this script are written by hand;
naive_general.txt is written by hand altogether. Seeded: the same files every time. Each light,
style, framing and quality term of the embedded world is dealt from a deck, as often as any other,
liked or not, so that the professional prompts give away nothing about the world's taste.
"""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

from embedded_world.embedded.world import FRAMINGS, HIGH, LIGHTS, LOW, PLACES, STYLES, SUBJECTS

HERE = Path(__file__).resolve().parent
OUT = HERE.parents[1] / "prompts" / "data"
SEED = 20261124
NAIVE_ROUNDS = 2
"""Prompts of every subject at every place; two more a subject name no place."""

WHERE = {
    "beach": "on the beach", "seaside": "at the seaside", "shore": "on the shore",
    "coast": "by the coast", "forest": "in the forest", "woods": "in the woods",
    "jungle": "in the jungle", "woodland": "in a woodland", "mountains": "in the mountains",
    "mountain": "on a mountain", "alpine peaks": "in the alpine peaks", "hills": "in the hills",
    "city": "in the city", "street": "on the street", "skyline": "near a skyline",
    "town": "in town", "desert": "in the desert", "dunes": "on the dunes",
    "sand dunes": "on sand dunes", "space": "in space", "outer space": "in outer space",
    "galaxy": "in a galaxy", "cosmos": "in the cosmos", "snow": "in the snow",
    "snowy landscape": "in a snowy landscape", "winter": "in winter", "ice": "on ice",
    "underwater": "underwater", "ocean": "in the ocean", "under the sea": "under the sea",
    "deep sea": "in the deep sea",
}  # fmt: skip
PLACED = (
    "{a} {noun} {where}", "{a} {noun} {where}", "{a} {noun} {where}", "{noun} {where}",
    "{noun} {where}", "the {noun} {where}", "{noun}, {place}", "my {noun} {where}",
    "picture of {a} {noun} {where}", "{old} {noun} {where}",
)  # fmt: skip
UNPLACED = ("{a} {noun}", "{noun}", "the {noun}", "picture of {a} {noun}", "{old} {noun}")
ADJECTIVES = ("a big", "a little", "an old", "a small", "a lonely")

HANDS = {
    "plain": "camera", "photo": "camera", "oil": "oil", "comic": "comic", "sketch": "sketch",
    "pixel": "pixel",
}  # fmt: skip
"""For the value of a style: the group of its craft phrases."""
CRAFT = ("composition", "palette", "material", "movement", "purpose", "weather")
UNMADE = {"photo": {"movement"}, "plain": {"movement", "purpose"}, "sketch": {"palette"}}
UNMADE["pixel"] = {"material", "movement", "purpose"}
"""For the value of a style: the groups that do not suit it."""
LENS_TERMS = {"bokeh", "film grain", "out of focus"}
UNDRAWN = {"pixel", "sketch", "comic"}
"""Styles that no lens term goes with."""

OF_STYLES = (
    "snapshot", "simple picture", "photograph", "photo", "dslr photo", "oil painting", "painting",
    "cartoon", "illustration", "pencil sketch", "sketch", "line drawing", "black and white drawing",
)  # fmt: skip
"""Terms that may open a prompt: "an oil painting of ..."."""


def read_groups(path: Path) -> dict[str, list[str]]:
    """The lines of each "== NAME" group."""
    groups: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in path.read_text("utf-8").splitlines():
        if line.startswith("== "):
            lines = groups.setdefault(line[3:], [])
        elif line and not line.startswith("#"):
            lines.append(line)
    return groups


def article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"


# -- naive prompts of the world --------------------------------------------------------------------


def naive_world(rng: random.Random) -> list[str]:
    """Every subject at every place, and without one; subjects and phrasings well mixed."""
    found: dict[frozenset[str], str] = {}
    subjects = {key: Deck(names, rng) for key, names in SUBJECTS.items()}
    places = {key: Deck(names, rng) for key, names in PLACES.items()}
    forms, bare, adjectives = Deck(PLACED, rng), Deck(UNPLACED, rng), Deck(ADJECTIVES, rng)
    for _ in range(NAIVE_ROUNDS):
        pairs: list[tuple[str, str | None]] = [(s, p) for s in SUBJECTS for p in [*PLACES, None]]
        rng.shuffle(pairs)
        for subject, place in pairs:
            noun = subjects[subject].deal()
            where = places[place].deal() if place else ""
            form = (forms if place else bare).deal()
            if form.startswith("my") and subject in ("castle", "dragon", "wizard", "rocket"):
                form = PLACED[0]
            old = adjectives.deal() if "{old}" in form else ""
            text = form.format(
                a=article(noun), noun=noun, where=WHERE.get(where, ""), place=where, old=old
            )
            found.setdefault(content(text), text)
    return list(found.values())


def content(text: str) -> frozenset[str]:
    """What tells two naive prompts apart: a prompt that only varies its small words is left out."""
    return frozenset(re.findall(r"\w+", text)) - set(
        "a an the my in on at by near under picture of".split()
    )


class Deck:
    """Deals every card once, in random order, before any comes again."""

    def __init__(self, cards: tuple[str, ...], rng: random.Random) -> None:
        self._cards, self._rng = cards, rng
        self._left: list[str] = []

    def deal(self) -> str:
        if not self._left:
            self._left = self._rng.sample(self._cards, len(self._cards))
        return self._left.pop()


# -- professional prompts --------------------------------------------------------------------------


class Term:
    """A term of the world: its slot (a prompt has at most one term a slot), value and phrases."""

    def __init__(self, slot: str, value: str, name: str, phrases: list[str]) -> None:
        self.slot, self.value, self.name, self.phrases = slot, value, name, phrases


def world_terms(groups: dict[str, list[str]]) -> list[Term]:
    """Every term of the world with its phrases; fails when one has none."""
    phrases: dict[tuple[str, str], list[str]] = {}
    for group, lines in groups.items():
        for line in lines:
            name, *variants = line.split(" | ")
            phrases[group, name] = variants
    terms = [
        Term(slot, value, name, phrases[slot, name])
        for slot, table in (("light", LIGHTS), ("style", STYLES), ("framing", FRAMINGS))
        for value, names in table.items()
        for name in names
    ]
    terms += [
        Term(slot, slot + sign, name, phrases[slot + sign, name])
        for table, sign in ((HIGH, "+"), (LOW, "-"))
        for slot, names in table.items()
        for name in names
    ]
    return terms


class TermDeck:
    """Deals each term as often as any other: always the least used of those that fit."""

    def __init__(self, terms: list[Term], rng: random.Random) -> None:
        self._used = dict.fromkeys(terms, 0)
        self._rng = rng

    def deal(self, taken: list[Term]) -> Term:
        fitting = [term for term in self._used if fits(term, taken)]
        least = min(self._used[term] for term in fitting)
        term = self._rng.choice([term for term in fitting if self._used[term] == least])
        self._used[term] += 1
        return term


def fits(term: Term, taken: list[Term]) -> bool:
    """Whether `term` may stand in a prompt that has the terms `taken`."""
    together = [*taken, term]
    lens = any(t.name in LENS_TERMS for t in together)
    drawn = any(t.value in UNDRAWN for t in together)
    return term.slot not in {t.slot for t in taken} and not (lens and drawn)


def professional(rng: random.Random) -> list[str]:
    """One prompt a scene, in mixed order."""
    phrases = read_groups(HERE / "prompt_phrases.txt")
    scenes = [
        scene for lines in read_groups(HERE / "prompt_scenes.txt").values() for scene in lines
    ]
    rng.shuffle(scenes)
    terms = TermDeck(world_terms({k: v for k, v in phrases.items() if " | " in v[0]}), rng)
    extras = {k: Deck(tuple(v), rng) for k, v in phrases.items() if " | " not in v[0]}
    return [dress(scene, terms, extras, rng) for scene in scenes]


def dress(scene: str, deck: TermDeck, extras: dict[str, Deck], rng: random.Random) -> str:
    """A scene with words of the trade: two to five of the world's terms among others."""
    taken: list[Term] = []
    for _ in range(rng.choice((2, 3, 3, 4, 4, 5))):
        taken.append(deck.deal(taken))
    style = next((term for term in taken if term.slot == "style"), None)
    opening = style if style and style.name in OF_STYLES and rng.random() < 0.6 else None
    parts = [rng.choice(term.phrases) for term in taken if term is not opening]
    parts += craft(style, extras, rng)
    rng.shuffle(parts)
    if opening:
        medium = rng.choice([p for p in opening.phrases if p.endswith(opening.name)])
        if not medium.startswith(("a ", "an ")):
            medium = f"{article(medium)} {medium}"
        scene = f"{medium} of {scene}"
    return ", ".join([scene, *parts])


def craft(style: Term | None, extras: dict[str, Deck], rng: random.Random) -> list[str]:
    """One to four phrases beyond the world's terms, of different groups, that suit `style`."""
    value = style.value if style else ""
    fitting = [group for group in CRAFT if group not in UNMADE.get(value, ())]
    groups = rng.sample(fitting, rng.choice((1, 2, 2, 3)))
    if value and rng.random() < 0.7:
        groups[-1] = HANDS[value]
    if rng.random() < 0.6:
        groups.append("mood")
    return [extras[group].deal() for group in groups]


def main() -> None:
    rng = random.Random(SEED)
    (OUT / "naive_world.txt").write_text("\n".join(naive_world(rng)) + "\n", "utf-8")
    rows = [{"text": t, "license": "CC0-1.0", "source": "bigpe"} for t in professional(rng)]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (OUT / "professional.jsonl").write_text(lines, "utf-8")


if __name__ == "__main__":
    main()
