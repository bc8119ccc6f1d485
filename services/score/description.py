"""What each scorer rates, in words for a language model. One table for all of them."""

from __future__ import annotations

from pathlib import Path

from bigpe.services.core import plugins
from bigpe.services.score.service import ScoreConfig

_WORLD = (
    "a small model of human preference that comes with bigpe. It rates how well a picture of 64x64 "
    "pixels suits the short prompt, and how it pleases. The score is a cosine"
)
_PEOPLE = (
    "trained on people's choices between pictures of one prompt. It rates how well the picture "
    "suits the short prompt, and how it pleases"
)
_SCORERS = {
    "embedded": f"{_WORLD}.",
    "embedded-guard": f"{_WORLD}; it was trained apart from bigpe's other scorer.",
    "hpsv2": f"HPS v2, {_PEOPLE}. The score is a cosine, mostly between 0.2 and 0.3.",
    "hpsv2.1": f"HPS v2.1, {_PEOPLE}. The score is a cosine, mostly between 0.2 and 0.35.",
    "pickscore": f"PickScore, {_PEOPLE}. The score is a scaled cosine, mostly between 0.18 "
    "and 0.25.",
    "clipscore": "CLIPScore. It rates how well the picture shows what the short prompt says, not "
    "how it pleases. The score is 2.5 times a cosine, mostly between 0.5 and 1.",
}
"""By `[score] model`."""
_HIGHER = "Higher is better."


def described_scorer(config: ScoreConfig) -> str:
    """What the scorer rates and on which scale, in plain sentences."""
    if config.backend in ("clip", "hpsv2-package"):
        own = f"the CLIP model {Path(config.model).name}. It compares the picture with the short "
        text = _SCORERS.get(config.model, f"{own}prompt. The score is a cosine.")
    elif config.backend == "bigpe":
        text = "a scorer on another machine. It rates a picture for the short prompt."
    else:
        text = f"{config.backend}, a scorer of another package. {_about(config)}"
    return f"{text} {_HIGHER}"


def _about(config: ScoreConfig) -> str:
    return plugins.summary_of("scorers", config.backend)
