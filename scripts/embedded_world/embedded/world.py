"""A small captioned world with a known ground truth: vocabulary, scenes, captions, utility.

A `Scene` is a set of attributes. `painting.paint` draws it, `caption` describes some of it, and
`utility` says how much a (simulated) person likes it for a naive prompt. Attributes that a prompt
leaves out come from `sample_scene`'s prior, which is dull on average: that is what prompt
refinement can win. The dictionaries below are the single truth; nothing else names an attribute.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

SIZE = 64
"""Width and height of every picture, in pixels."""

SUBJECTS: dict[str, tuple[str, ...]] = {
    "cat": ("cat", "kitten", "feline", "kitty"),
    "fox": ("fox", "vixen"),
    "owl": ("owl",),
    "penguin": ("penguin",),
    "elephant": ("elephant",),
    "dragon": ("dragon", "wyrm"),
    "butterfly": ("butterfly",),
    "robot": ("robot", "android", "droid"),
    "wizard": ("wizard", "sorcerer", "mage"),
    "castle": ("castle", "fortress", "palace"),
    "car": ("car", "automobile"),
    "rocket": ("rocket", "spaceship", "spacecraft"),
    "ship": ("ship", "boat", "sailboat", "sailing boat"),
    "sunflower": ("sunflower", "flower"),
    "apple": ("apple",),
    "guitar": ("guitar",),
}
PLACES: dict[str, tuple[str, ...]] = {
    "beach": ("beach", "seaside", "shore", "coast"),
    "forest": ("forest", "woods", "jungle", "woodland"),
    "mountains": ("mountains", "mountain", "alpine peaks", "hills"),
    "city": ("city", "street", "skyline", "town"),
    "desert": ("desert", "dunes", "sand dunes"),
    "space": ("space", "outer space", "galaxy", "cosmos"),
    "snow": ("snow", "snowy landscape", "winter", "ice"),
    "underwater": ("underwater", "ocean", "under the sea", "deep sea"),
}
LIGHTS: dict[str, tuple[str, ...]] = {
    "overcast": ("overcast", "grey sky", "flat light", "cloudy"),
    "daylight": ("daylight", "bright sunlight", "noon", "sunny"),
    "golden": ("golden hour", "sunset", "warm light", "golden light", "sunrise"),
    "night": ("night", "moonlight", "starry night", "dark"),
    "neon": ("neon lights", "neon", "cyberpunk lighting", "glowing neon"),
    "dramatic": (
        "dramatic lighting",
        "cinematic lighting",
        "rim light",
        "chiaroscuro",
        "volumetric light",
    ),
}
STYLES: dict[str, tuple[str, ...]] = {
    "plain": ("snapshot", "simple picture"),
    "photo": ("photograph", "photo", "photorealistic", "dslr photo", "realistic"),
    "oil": ("oil painting", "painting", "impasto", "oil on canvas"),
    "comic": ("comic book art", "comic", "anime", "cartoon", "illustration"),
    "pixel": ("pixel art", "8-bit", "retro game art"),
    "sketch": ("pencil sketch", "sketch", "line drawing", "black and white drawing"),
}
FRAMINGS: dict[str, tuple[str, ...]] = {
    "wide": ("wide shot", "distant view", "far away", "panorama"),
    "medium": ("medium shot",),
    "close": ("close-up", "close up", "portrait", "centered composition"),
}
HIGH: dict[str, tuple[str, ...]] = {
    "sharp": ("sharp focus", "sharp", "crisp", "8k", "4k", "high resolution", "uhd"),
    "vivid": ("vivid colors", "vibrant colors", "vibrant", "colorful", "rich colors"),
    "detail": (
        "highly detailed",
        "intricate details",
        "intricate",
        "detailed",
        "ultra detailed",
        "masterpiece",
    ),
    "clutter": ("busy background", "cluttered", "crowded", "messy"),
    "grain": ("grainy", "noisy", "film grain"),
}
LOW: dict[str, tuple[str, ...]] = {
    "sharp": ("blurry", "out of focus", "soft focus"),
    "vivid": ("muted colors", "desaturated", "pale", "pastel colors"),
    "detail": ("minimalist", "plain", "simple"),
    "clutter": ("clean background", "uncluttered", "minimal background", "bokeh"),
    "grain": ("clean", "noise free", "smooth"),
}

LIGHT_TASTE = {
    "overcast": -0.6,
    "daylight": 0.0,
    "golden": 0.7,
    "night": -0.2,
    "neon": 0.3,
    "dramatic": 0.6,
}
STYLE_TASTE = {
    "plain": -0.5,
    "photo": 0.4,
    "oil": 0.6,
    "comic": 0.1,
    "pixel": -0.4,
    "sketch": -0.6,
}
FRAMING_TASTE = {"wide": -0.4, "medium": 0.0, "close": 0.4}
SCALAR_TASTE = {"sharp": 1.0, "vivid": 0.9, "detail": 0.8, "clutter": -0.8, "grain": -0.7}
SUBJECT_TASTE = (1.5, -2.5)
"""Utility when the subject that the prompt names is shown, and when it is not."""
PLACE_TASTE = (0.8, -1.2)
"""The same for the place."""

LIGHT_PRIOR = {
    "overcast": 3.0,
    "daylight": 3.0,
    "golden": 2.0,
    "night": 2.0,
    "neon": 1.8,
    "dramatic": 1.8,
}
STYLE_PRIOR = {
    "plain": 3.0,
    "photo": 2.5,
    "oil": 2.0,
    "comic": 1.8,
    "pixel": 1.5,
    "sketch": 1.7,
}
FRAMING_PRIOR = {"wide": 1.0, "medium": 1.8, "close": 1.2}
SCALAR_PRIOR = {
    "sharp": (0.3, 0.4, 0.3),
    "vivid": (0.3, 0.4, 0.3),
    "detail": (0.35, 0.35, 0.3),
    "clutter": (0.6, 0.22, 0.18),
    "grain": (0.72, 0.13, 0.15),
}
"""Weights of a scalar being low, middling, high (see `BANDS`)."""
BANDS = ((0.0, 0.3), (0.3, 0.7), (0.7, 1.0))

_BARE_PLACES = ("underwater", "under the sea")


@dataclass(frozen=True)
class Scene:
    """Everything that is true of one picture; `seed` decides what no attribute does."""

    subject: str
    place: str
    light: str
    style: str
    framing: str
    sharp: float
    vivid: float
    detail: float
    clutter: float
    grain: float
    seed: int


class Naive(NamedTuple):
    """A short prompt that a newcomer would type, and the place it names, if any."""

    text: str
    place: str | None


def sample_scene(rng: random.Random) -> Scene:
    """Draw a scene from the prior."""

    def weighted(prior: dict[str, float]) -> str:
        return rng.choices(list(prior), weights=list(prior.values()))[0]

    scalars = {
        name: rng.uniform(*rng.choices(BANDS, weights=weights)[0])
        for name, weights in SCALAR_PRIOR.items()
    }
    return Scene(
        subject=rng.choice(list(SUBJECTS)),
        place=rng.choice(list(PLACES)),
        light=weighted(LIGHT_PRIOR),
        style=weighted(STYLE_PRIOR),
        framing=weighted(FRAMING_PRIOR),
        **scalars,
        seed=rng.randrange(2**31),
    )


def utility(scene: Scene, subject: str | None = None, place: str | None = None) -> float:
    """How much `scene` pleases someone whose prompt named `subject` and `place` (in logits)."""
    total = LIGHT_TASTE[scene.light] + STYLE_TASTE[scene.style] + FRAMING_TASTE[scene.framing]
    total += sum(w * (getattr(scene, name) - 0.5) * 2 for name, w in SCALAR_TASTE.items())
    if subject is not None:
        total += SUBJECT_TASTE[scene.subject != subject]
    if place is not None:
        total += PLACE_TASTE[scene.place != place]
    return total


def naive(scene: Scene, rng: random.Random, with_place: float = 0.75) -> Naive:
    """A newcomer's prompt for `scene`."""
    subject = rng.choice(SUBJECTS[scene.subject])
    article = "an" if subject[0] in "aeiou" else "a"
    if rng.random() >= with_place:
        forms = (f"{article} {subject}", subject, f"a picture of {article} {subject}")
        return Naive(rng.choice(forms), None)
    place = rng.choice(PLACES[scene.place])
    prepositions = ("in the ", "in a ", "at the ", "near the ", "in ", "on the ", "on a ")
    where = place if place in _BARE_PLACES else rng.choice(prepositions) + place
    forms = (f"{article} {subject} {where}", f"{subject} {where}", f"{subject}, {place}")
    return Naive(rng.choice(forms), scene.place)


def modifiers(scene: Scene, rng: random.Random, keep: float) -> list[str]:
    """Phrases that state attributes of `scene` beyond subject and place, each kept by chance."""
    phrases = [
        rng.choice(words[value])
        for value, words in (
            (scene.light, LIGHTS),
            (scene.style, STYLES),
            (scene.framing, FRAMINGS),
        )
        if rng.random() < keep
    ]
    for name in SCALAR_TASTE:
        value = getattr(scene, name)
        words = HIGH if value > BANDS[2][0] else LOW if value < BANDS[0][1] else None
        if words is not None and rng.random() < keep:
            phrases.append(rng.choice(words[name]))
    return phrases


def caption(scene: Scene, rng: random.Random, filler: Sequence[str] = ()) -> str:
    """A caption true of `scene`; half of them also hold phrases that mean nothing here."""
    base = naive(scene, rng).text
    phrases = modifiers(scene, rng, rng.choice((0.0, 0.35, 0.6, 0.9)))
    if filler and rng.random() < 0.5:
        phrases += rng.sample(list(filler), rng.randint(1, 4))
    rng.shuffle(phrases)
    if not phrases:
        return base
    form = rng.random()
    if form < 0.65:
        return ", ".join([base, *phrases])
    if form < 0.8:
        return ", ".join([f"{phrases[0]} of {base}", *phrases[1:]])
    if form < 0.9:
        return f"{base} with {' and '.join(phrases)}"
    return ", ".join([phrases[0], base, *phrases[1:]])


def vocabulary() -> dict[str, dict[str, tuple[str, ...]]]:
    """Every word group of the world, by name."""
    return {
        "subjects": SUBJECTS,
        "places": PLACES,
        "lights": LIGHTS,
        "styles": STYLES,
        "framings": FRAMINGS,
        "high": HIGH,
        "low": LOW,
    }
