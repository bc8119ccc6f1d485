"""The form of prompt that a painter reads best: whole sentences, or tags."""

from __future__ import annotations

import json
import re
from pathlib import Path

from bigpe.prompts.library import PromptForm
from bigpe.services.render.service import RenderConfig

_FAMILIES: tuple[tuple[re.Pattern[str], PromptForm], ...] = (
    # The first that is found decides: "stable-diffusion-3" before "stable-diffusion".
    (
        re.compile(
            r"(?<![a-z])(?:stable-?diffusion-?v?3|sd-?3(?!\d)|flux|krea|chroma|qwen|z-?image|hidream"
            r"|sana|pixart|hunyuan|lumina|cogview|glm-?image|longcat|ernie|auraflow|kolors"
            r"|omnigen|ovis|bria|fibo|ideogram)",
            re.IGNORECASE,
        ),
        "prose",
    ),
    (
        re.compile(
            r"(?<![a-z])(?:stable-?diffusion|sd-?(?:xl|v?[12]|turbo)|v1-5|v2-1|ssd-?1b|segmind"
            r"|playground-v|animagine|illustrious|pony|noob-?ai|juggernaut|dreamshaper)",
            re.IGNORECASE,
        ),
        "tags",
    ),
)
"""Names of pipeline classes, hub ids and checkpoints, by what their text encoders were trained on:
CLIP alone reads tags; T5 and language models read sentences."""


def is_embedded(painter: RenderConfig) -> bool:
    """Whether it is the picture model that comes with bigpe."""
    return painter.backend == "diffusers" and painter.model == "embedded"


def form_of(painter: RenderConfig) -> PromptForm | None:
    """The form of prompts for a painter, by its settings alone; None: not known.

    A local folder is known by its pipeline class, another model by its name. Services take
    sentences; a user interface for checkpoints (a1111, comfyui) takes what its checkpoint takes.
    """
    if is_embedded(painter):
        return "tags"
    if painter.backend == "openai-images":
        return "prose"
    if painter.backend == "diffusers":
        return _of_name(_pipeline_class(Path(painter.model)) or painter.model)
    named = painter.model != RenderConfig().model
    return _of_name(painter.model) if named else None


def _pipeline_class(folder: Path) -> str | None:
    try:
        index = json.loads((folder / "model_index.json").read_text("utf-8"))
        return str(index["_class_name"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # a hub id, or a folder that the renderer will refuse with its own words


def _of_name(name: str) -> PromptForm | None:
    spelled = re.sub(r"[\s_.]+", "-", name)
    return next((form for names, form in _FAMILIES if names.search(spelled)), None)
