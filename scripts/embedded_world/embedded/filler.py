"""Phrases that mean nothing in this world, so that models learn to ignore what they do not know."""

from __future__ import annotations

import json
import random
from pathlib import Path

from embedded_world.embedded import world

PHRASES = (
    "award winning", "trending this week", "by a famous artist", "fan favourite",
    "limited edition", "made with love", "commissioned work", "concept piece",
    "as seen in a gallery", "from an unknown master", "inspired by folklore",
    "digital render", "octane engine", "unreal engine", "ray traced", "studio quality",
    "symmetrical", "rule of thirds", "leading lines", "golden ratio", "balanced",
    "epic", "majestic", "whimsical", "serene", "mysterious", "playful", "elegant",
    "nostalgic mood", "heroic pose", "dynamic pose", "looking left", "looking at viewer",
    "wearing a hat", "wearing a red scarf", "holding a lantern", "reading a letter",
    "drinking tea", "playing chess", "dancing", "sleeping", "jumping", "running fast",
    "very happy", "slightly sad", "surprised", "proud", "curious", "brave", "gentle giant",
    "ancient ruins", "steampunk machinery", "art deco poster", "baroque ornament",
    "gothic arches", "renaissance master", "victorian era", "medieval tale", "futuristic",
    "surreal", "dreamlike", "fantasy", "mythical", "legendary", "enchanted", "magical",
    "for a museum", "album cover", "movie still", "wallpaper", "stock image", "postcard",
    "35mm lens", "wide aperture", "long exposure", "macro lens", "aerial drone",
    "isometric", "low poly", "voxel", "papercraft", "origami", "stained glass", "mosaic",
    "silk texture", "marble surface", "wooden frame", "copper accents", "feathers",
    "floating particles", "ribbons", "confetti", "fireflies", "soap bubbles", "rain drops",
    "tribal patterns", "geometric shapes", "spirals", "fractal", "kaleidoscope",
    "best quality", "professional", "perfect composition", "breathtaking", "stunning",
    "beautiful", "gorgeous", "amazing", "incredible", "captivating", "atmospheric",
    "emotional", "story telling", "thought provoking", "timeless", "iconic", "unique",
)  # fmt: skip

_SYLLABLES = "ka lo mi ter ven dra su pel or in ash wen bri qu ol fen zar ith um go".split()


def pseudo_words(count: int, seed: int) -> list[str]:
    """Words of no language: a tokenizer's crumbs must be harmless too."""
    rng = random.Random(seed)
    return ["".join(rng.choices(_SYLLABLES, k=rng.randint(2, 4))) for _ in range(count)]


def known_words() -> set[str]:
    """Every word that names something in this world."""
    return {
        word
        for group in world.vocabulary().values()
        for phrases in group.values()
        for phrase in phrases
        for word in phrase.replace("-", " ").split()
    } - {"in", "the", "of", "on", "and", "under", "far", "away", "book", "up"}


def means_nothing(phrase: str) -> bool:
    """Whether no word of `phrase` (a plural counts as its singular) is known here."""
    existing = known_words()
    words = phrase.lower().replace("-", " ").split()
    return not any(word in existing or word.removesuffix("s") in existing for word in words)


def phrases_from(path: Path, limit: int = 6000) -> list[str]:
    """Meaningless phrases of the prompts in a JSON-lines file, for training only."""
    found = set()
    for line in path.read_text(encoding="utf-8").splitlines():
        for piece in json.loads(line)["prompt"].lower().split(","):
            phrase = " ".join(piece.split())
            if 3 < len(phrase) < 50 and phrase.isascii() and means_nothing(phrase):
                found.add(phrase)
    return sorted(found)[:limit]


def all_filler(extra: Path | None, seed: int) -> list[str]:
    """Our own phrases, pseudo-words, and those of `extra` when there is such a file."""
    own = [phrase for phrase in PHRASES if means_nothing(phrase)] + pseudo_words(120, seed)
    if extra is None or not extra.exists():
        return own
    return own + phrases_from(extra)
