"""The table of painters' families: how a prompt should be, and what diffusers' pipelines take.

`docs/reference/painters.md` shows it. Read in the pipelines of diffusers 0.42.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from bigpe.services.render.config import PromptForm

NegativeBy = Literal["guidance", "true-cfg", "nothing"]
"""What gives a negative prompt its effect: the guidance scale, diffusers' `true_cfg_scale` (which
has no effect itself without a negative prompt), or nothing: the family takes none."""
GuidedIf = Literal["always", "guidance_embeds", "not is_distilled"]
Frame = Literal[
    "plain", "chat", "thinking", "flux2", "encode", "prefix", "ovis", "lumina", "quoted"
]
"""The text that a pipeline puts around a prompt before it is read, see `truncation`."""
ARGUMENT = "max_sequence_length"
TOKENIZER = ""
"""The limit is that of the tokenizer itself."""


class Reads(NamedTuple):
    """A text encoder that reads a prompt, and how much of it."""

    tokenizer: str = "tokenizer"
    """The pipeline's component."""
    limit: int | str = ARGUMENT
    """Tokens with special ones and the frame, or the argument of the call that sets them."""
    frame: Frame = "plain"


CLIP = (Reads("tokenizer", 77),)


class Family(NamedTuple):
    """Painters that read their prompts alike."""

    names: str
    """Regular expression for pipeline classes, hub ids and checkpoints."""
    form: PromptForm
    max_tokens: int | None = None
    """What its pipeline reads by default, tokens without special ones; None: not stated."""
    negative_by: NegativeBy = "guidance"
    off_at: float = 1.0
    """Guidance is off, and with it the negative prompt, up to this scale."""
    note: str = ""
    """A further sentence for the language model."""
    pipelines: tuple[str, ...] = ()
    """The classes of diffusers; a hub id that is not here yet has the first."""
    guidance: str = "guidance_scale"
    """The argument that `[render] guidance` sets."""
    reads: tuple[Reads, ...] | None = None
    """The encoders whose cuts lose a part of the prompt; None: all, by their tokenizers."""
    guided_if: GuidedIf = "always"
    """When guidance has an effect: only if the transformer's configuration has `guidance_embeds`,
    or only if the pipeline's has no `is_distilled`."""
    rewriting: str = ""
    """The argument by which its pipeline rewrites prompts itself; bigpe switches that off."""
    remark: str = ""
    """What a user of bigpe has to know; the reference shows it."""
    blank_negative: str | None = None
    """What a batch without negative prompts is given, where the pipeline's own default fails."""
    seeds_batch: bool = False
    """Whether the first seed of a batch affects all its pictures, so that each is painted alone."""


EMBEDDED = Family(
    "",
    "tags",
    75,
    note="It is small: it paints 64x64 pixels and has a small vocabulary of everyday words, for "
    "sixteen common subjects and for places, light, style, framing, sharpness, colours and "
    "detail. Other words mean nothing to it.",
    reads=CLIP,
)
SERVICE = Family("", "prose", negative_by="nothing")
_T5_2 = (Reads("tokenizer_2"),)
FAMILIES: tuple[Family, ...] = (
    # The first that is found decides: "stable-diffusion-3" before "stable-diffusion".
    Family(
        r"stable-?diffusion-?v?3|sd-?3(?!\d)",
        "prose",
        256,
        pipelines=("StableDiffusion3Pipeline",),
        reads=(*CLIP, Reads("tokenizer_2", 77), Reads("tokenizer_3")),
    ),
    Family(
        r"flux-?2-?klein",
        "prose",
        512,
        "nothing",
        remark="Distilled models take no guidance. "
        "The prompt shares the limit with the chat frame.",
        pipelines=("Flux2KleinPipeline",),
        reads=(Reads(frame="chat"),),
        guided_if="not is_distilled",
    ),
    Family(
        r"flux-?2",
        "prose",
        512,
        "nothing",
        remark="Its processor needs the package torchvision. The prompt shares the limit with the "
        "pipeline's own frame.",
        pipelines=("Flux2Pipeline",),
        rewriting="caption_upsample_temperature",
        reads=(Reads(frame="flux2"),),
        guided_if="guidance_embeds",
    ),
    # The first encoder of FLUX.1 reads 77 tokens for one summary vector: no cut of the prompt.
    Family(
        r"flux",
        "prose",
        512,
        "true-cfg",
        remark="Negative prompts need `[render.call] true_cfg_scale` above 1, and `[render] "
        "negative_prompt`.",
        pipelines=("FluxPipeline",),
        reads=_T5_2,
        guided_if="guidance_embeds",
    ),
    Family(
        r"qwen-?image-?2-?1",
        "prose",
        None,
        "true-cfg",
        remark='Guidance needs a negative prompt, even " ". Its processor needs the package '
        "torchvision. It reads the whole prompt.",
        pipelines=("QwenImage21Pipeline",),
        guidance="true_cfg_scale",
        reads=(),
    ),
    Family(
        r"qwen-?image",
        "prose",
        512,
        "true-cfg",
        remark='Guidance needs a negative prompt, even " ".',
        pipelines=("QwenImagePipeline",),
        guidance="true_cfg_scale",
        reads=(Reads(frame="encode"),),
    ),
    Family(
        r"z-?image",
        "prose",
        512,
        off_at=0.0,
        remark="Scale 0 is no guidance.",
        pipelines=("ZImagePipeline",),
        reads=(Reads(frame="thinking"),),
    ),
    Family(
        r"krea",
        "prose",
        512,
        off_at=0.0,
        remark="Scale 0 is no guidance.",
        pipelines=("Krea2Pipeline",),
        reads=(Reads(frame="prefix"),),
    ),
    Family(
        r"longcat",
        "prose",
        512,
        remark="Its processor needs the package torchvision. Quoted text is read letter by letter.",
        pipelines=("LongCatImagePipeline",),
        rewriting="enable_prompt_rewrite",
        reads=(Reads("tokenizer", 512, "quoted"),),
        blank_negative="",
    ),
    Family(r"chroma", "prose", 512, pipelines=("ChromaPipeline",), reads=(Reads(),)),
    Family(r"kandinsky-?5", "prose", 512),
    Family(
        r"hidream",
        "prose",
        128,
        remark="It paints pictures of one area, whatever the size; another size is an error.",
        pipelines=("HiDreamImagePipeline",),
        reads=(Reads("tokenizer_3"), Reads("tokenizer_4")),
    ),
    Family(
        r"sana-?sprint",
        "prose",
        300,
        "nothing",
        pipelines=("SanaSprintPipeline",),
        rewriting="complex_human_instruction",
        reads=(Reads(),),
    ),
    Family(
        r"sana",
        "prose",
        300,
        pipelines=("SanaPipeline",),
        rewriting="complex_human_instruction",
        reads=(Reads(),),
    ),
    Family(r"pixart-?sigma", "prose", 300, pipelines=("PixArtSigmaPipeline",), reads=(Reads(),)),
    Family(r"pixart", "prose", 120, pipelines=("PixArtAlphaPipeline",), reads=(Reads(),)),
    Family(r"cogview-?4", "prose", 1024, pipelines=("CogView4Pipeline",), reads=(Reads(),)),
    Family(r"cogview-?3", "prose", 224, pipelines=("CogView3PlusPipeline",), reads=(Reads(),)),
    Family(
        r"lumina-?(?:image-?)?2",
        "prose",
        256,
        pipelines=("Lumina2Pipeline",),
        reads=(Reads(frame="lumina"),),
    ),
    Family(r"lumina|auraflow|kolors", "prose", 256),
    Family(
        r"ovis",
        "prose",
        256,
        pipelines=("OvisImagePipeline",),
        reads=(Reads(frame="ovis"),),
    ),
    # Its language model reads the whole prompt; the limit of 2,048 is for quoted text.
    Family(
        r"glm-?image",
        "prose",
        2048,
        "nothing",
        remark="Pictures are painted one by one: the first seed of a batch affects all.",
        pipelines=("GlmImagePipeline",),
        reads=(),
        seeds_batch=True,
    ),
    Family(
        r"hunyuan-?image",
        "prose",
        1000,
        remark="Without distilled guidance, its guiders get `[render] guidance`.",
        pipelines=("HunyuanImagePipeline",),
        guidance="distilled_guidance_scale",
        reads=(Reads("tokenizer", 1000, "encode"),),
    ),
    Family(
        r"ernie",
        "prose",
        pipelines=("ErnieImagePipeline",),
        rewriting="use_pe",
        reads=(Reads(limit=TOKENIZER),),
    ),
    Family(
        r"prx",
        "prose",
        256,
        remark="It deletes Chinese characters and long numbers, unless `[render.call] "
        "skip_text_cleaning` is true.",
        pipelines=("PRXPipeline",),
        reads=(Reads(limit="tokenizer_max_length"),),
    ),
    Family(r"fibo", "json", 3000),
    Family(r"ideogram", "json", 2048, "nothing"),
    Family(r"omnigen", "prose", negative_by="nothing"),
    Family(r"qwen|hunyuan|bria", "prose"),
    Family(
        r"latent-?consistency|lcm-dreamshaper",
        "tags",
        75,
        "nothing",
        pipelines=("LatentConsistencyModelPipeline",),
        reads=CLIP,
    ),
    Family(
        r"stable-?diffusion-?xl|sd-?xl|ssd-?1b|segmind|playground-v|animagine|illustrious|pony"
        r"|noob-?ai|juggernaut",
        "tags",
        75,
        pipelines=("StableDiffusionXLPipeline",),
        reads=(*CLIP, Reads("tokenizer_2", 77)),
    ),
    Family(
        r"stable-?diffusion|sd-?(?:v?[12]|turbo)|v1-5|v2-1|dreamshaper",
        "tags",
        75,
        pipelines=("StableDiffusionPipeline",),
        reads=CLIP,
    ),
)
"""By what their text encoders were trained on: CLIP alone reads tags; T5 and language models read
sentences. Lengths are the defaults of the pipelines in diffusers 0.42."""


def is_guided(family: Family | None, index: Mapping[str, Any], net: Mapping[str, Any]) -> bool:
    """Whether a model takes guidance, by the configurations of its pipeline and its transformer."""
    if family is None or family.guided_if == "always":
        return True
    if family.guided_if == "guidance_embeds":
        return bool(net.get("guidance_embeds", True))
    return not index.get("is_distilled", False)


def family_named(name: str) -> Family | None:
    """The family of a pipeline class, a hub id or a checkpoint; None: not in the table."""
    spelled = re.sub(r"[\s_.]+", "-", name)
    found = (f for f in FAMILIES if re.search(rf"(?<![a-z])(?:{f.names})", spelled, re.IGNORECASE))
    return next(found, None)
