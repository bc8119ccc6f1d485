"""The prompt profile: in which form, how long and in which language a painter wants its prompt.

The table of `families` knows them. `[render.prompt]` overrides it.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Literal

from safetensors import SafetensorError, safe_open

from bigpe.services.core.values import Value
from bigpe.services.render.config import CHECKPOINT, PromptForm, RenderConfig
from bigpe.services.render.families import ARGUMENT, EMBEDDED, SERVICE, Family, family_named

NEGATIVE_SETTING = "[render.prompt] negative = true"
WORDS_PER_TOKEN = 0.68
"""Of English prompts, commas included: 75 tokens of CLIP hold about 50 words."""
SLACK = 1.5
"""How far a rewrite may exceed a number of words that was only estimated from tokens."""


class PromptProfile(Value):
    """What a painter wants its prompt to be."""

    form: PromptForm | None = None
    """None: not known."""
    max_tokens: int | None = None
    """Tokens that it reads; the others are cut off. None: not known."""
    max_words: int | None = None
    """About as many words; None: not known."""
    most_words: int | None = None
    """A longer rewrite is refused: your own `max_words`, or 1.5 times the estimated one."""
    negative: bool = False
    """Whether rewrites come with a negative prompt."""
    language: str = ""
    """The language of rewrites; "": that of the naive prompt."""
    triggers: tuple[str, ...] = ()
    note: str = ""

    def described(self) -> str:
        """The profile for a language model, in plain sentences."""
        parts = [_FORM[self.form].format(length=self._length()), self.note, self._about_lacks()]
        if self.triggers:
            words = ", ".join(self.triggers)
            parts.append(f"Its trigger words ({words}) stay as they are where a prompt has them.")
        return " ".join(part for part in parts if part)

    @property
    def language_rule(self) -> str:
        """The rule about the language of a rewrite, for a language model."""
        if not self.language:
            return "Keep the language of the prompt."
        return f"Write in {self.language}, whatever the language of the prompt; quoted text stays."

    def _length(self) -> str:
        cut = "; what comes later is cut off" if self.max_tokens else ""
        if self.max_words is None:
            return ""
        if self.max_tokens is None:
            return f", at most {self.max_words:,} words"
        if self.form == "tags":
            return f", at most {self.max_tokens:,} tokens (about {self.max_words:,} words){cut}"
        return f", up to about {self.max_words:,} words ({self.max_tokens:,} tokens){cut}"

    def _about_lacks(self) -> str:
        if self.negative:
            return "What the picture shall not show belongs in a negative prompt, apart."
        return "Write what the picture shows, not what it lacks."


_FORM: dict[PromptForm | None, str] = {
    "tags": "It reads comma-separated tags{length}. Put the subject first.",
    "prose": "It reads whole sentences{length}. Describe concretely what is visible, the subject "
    "first.",
    "json": "It reads one JSON object that describes the picture{length}. The finished prompt is "
    "that object.",
    None: "It is a text-to-image model of unknown kind, and gets the prompt as you write it"
    "{length}.",
}


def profile_of(painter: RenderConfig, pipeline_class: str = "") -> PromptProfile:
    """The profile of a painter by its settings and the table.

    Args:
        painter: The section `[render]`.
        pipeline_class: The class of the loaded diffusers pipeline, where it is loaded.
    """
    own, family = painter.prompt, family_of(painter, pipeline_class)
    tokens = own.max_tokens or painter.call.get(ARGUMENT) or (family.max_tokens if family else None)
    # To the nearest 5: the figure is an estimate.
    estimate = max(5, 5 * round(tokens * WORDS_PER_TOKEN / 5)) if tokens else None
    form = own.form if own.form != "auto" else family.form if family else None
    return PromptProfile(
        form=form,
        max_tokens=tokens,
        max_words=own.max_words or estimate,
        most_words=own.max_words or (math.ceil(SLACK * estimate) if estimate else None),
        negative=own.negative,
        language=own.language,
        triggers=painter.triggers,
        note=family.note if family else "",
    )


def family_of(painter: RenderConfig, pipeline_class: str = "") -> Family | None:
    """The painter's family; None: not known.

    A local folder is known by its pipeline class, a checkpoint by its tensors, another model by
    its name. Services take
    sentences; a user interface for checkpoints (a1111, comfyui) takes what its checkpoint takes.
    """
    if is_embedded(painter):
        return EMBEDDED
    if painter.backend == "openai-images":
        return SERVICE
    if painter.backend == "diffusers":
        model = painter.base or painter.model
        found = _class_in(Path(model)) or _class_of_tensors(Path(model))
        return family_named(found or model) or family_named(pipeline_class)
    return family_named(painter.model) if painter.model != RenderConfig().model else None


def is_embedded(painter: RenderConfig) -> bool:
    """Whether it is the picture model that comes with bigpe."""
    return painter.backend == "diffusers" and painter.model == "embedded"


def form_of(painter: RenderConfig) -> Literal["prose", "tags"] | None:
    """The form of texts that suit the painter: seed instructions and professional prompts.

    A painter that reads JSON gets those in prose, which its language model puts into JSON.
    """
    form = profile_of(painter).form
    return "prose" if form == "json" else form


def _class_in(folder: Path) -> str:
    try:
        index = json.loads((folder / "model_index.json").read_text("utf-8"))
        return str(index["_class_name"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""  # a hub id, or a folder that the renderer will refuse with its own words


TENSORS = (
    ("conditioner.embedders.1.", "StableDiffusionXLPipeline"),
    ("cond_stage_model.", "StableDiffusionPipeline"),
    ("joint_blocks.0.", "StableDiffusion3Pipeline"),
    ("double_blocks.0.", "FluxPipeline"),
)
"""Parts of tensors' names in checkpoints, and the pipelines that they are of."""


def _class_of_tensors(file: Path) -> str:
    """The pipeline class of a checkpoint; "" if it is none, or of another model."""
    if file.suffix != CHECKPOINT:
        return ""
    try:
        with safe_open(file, framework="np") as tensors:
            names = "\n".join(tensors.keys())
    except (OSError, SafetensorError):
        return ""  # the renderer will refuse it with its own words
    return next((kind for part, kind in TENSORS if part in names), "")
