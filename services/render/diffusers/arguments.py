"""The arguments of a pipeline's call: made from `[render]`, and checked against its signature."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from bigpe.services.core.errors import ConfigError
from bigpe.services.core.values import Json
from bigpe.services.render.config import RenderConfig
from bigpe.services.render.families import Family
from bigpe.services.render.prompt_profile import NEGATIVE_SETTING

Parameters = Mapping[str, inspect.Parameter]
"""By name. What only `**kwargs` would take has no effect: pipelines ignore it."""
NEGATIVE = "negative_prompt"
STEPS = "num_inference_steps"
GUIDANCE = ("guidance_scale", "true_cfg_scale", "distilled_guidance_scale")
TRUE_CFG = "true_cfg_scale"
REWRITING: dict[str, Any] = {
    "enable_prompt_rewrite": False,
    "use_pe": False,
    "complex_human_instruction": None,
    "caption_upsample_temperature": None,
    "prompt_upsampling": False,
}
"""Arguments by which pipelines rewrite prompts themselves, and what switches that off."""
REWRITES = re.compile(r"rewrit|enhanc|upsampl|expand_prompt|prompt_expan|recaption")
"""Such arguments of pipelines that nobody has read yet."""
SET_ELSEWHERE = {
    STEPS: "[render] steps",
    "width": "[render] width",
    "height": "[render] height",
    NEGATIVE: "[render] negative_prompt",
    "prompt": "the run",
    "generator": "the run, by its seeds",
}
"""Arguments that bigpe sets, and what sets them."""
CLOSED = re.compile(
    r"(negative_)?prompt_\d|.*embeds|.*_mask|.*latents|.*image.*|callback.*|output_type|return_dict"
    r"|.*prior_token.*"
)
"""Arguments that would add texts or pictures to every call, or change the form of its result."""


class Call(NamedTuple):
    """What each call of a pipeline is given, besides prompts, negative prompts and seeds."""

    arguments: Json
    takes_negative: bool
    guidance: str | None
    """The argument that holds `[render] guidance`; None: there is none."""
    blank_negative: str | None
    """The negative prompt of prompts that have none; None: the pipeline's own default."""


def call_of(config: RenderConfig, kind: str, parameters: Parameters, family: Family | None) -> Call:
    """The arguments of the calls of a pipeline.

    Args:
        config: The section `[render]`.
        kind: The pipeline's class, for error messages.
        parameters: Of the pipeline's `__call__`.
        family: The row of the table; None: not in it.

    Raises:
        ConfigError: A setting does not reach the pipeline, or it would rewrite prompts.
    """
    if STEPS not in parameters:
        raise ConfigError(f"a {kind} takes no {STEPS}, which [render] steps sets")
    guidance = _guidance(config, kind, parameters, family)
    arguments: Json = {STEPS: config.steps} | _size(config, kind, parameters)
    if guidance:
        arguments[guidance] = config.guidance
    arguments |= _without_rewriting(kind, parameters)
    for name, value in config.call.items():
        _require_open(name, kind, parameters, guidance)
        arguments[name] = value
    takes_negative = NEGATIVE in parameters
    _require_negative(config, kind, arguments, family, takes_negative=takes_negative)
    blank = family.blank_negative if family and takes_negative else None
    return Call(arguments, takes_negative, guidance, blank)


def usual_parameters(family: Family) -> Parameters:
    """The parameters that the table knows of a family's pipelines."""
    names = [STEPS, "width", "height", family.guidance, family.rewriting]
    if family.negative_by != "nothing":
        names.append(NEGATIVE)
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return {name: inspect.Parameter(name, kind) for name in names if name}


def sets_guidance(config: RenderConfig) -> bool:
    """Whether `[render] guidance` is set and asks for guidance."""
    return config.guidance != RenderConfig().guidance and config.guidance > 1.0


def idle_guidance(kind: str) -> ConfigError:
    """The error for a guidance that does not reach the painter."""
    return ConfigError(
        f"[render] guidance has no effect: this {kind} takes no guidance; take it out"
    )


def _guidance(
    config: RenderConfig, kind: str, parameters: Parameters, family: Family | None
) -> str | None:
    first = (family.guidance,) if family else ()
    found = next((name for name in (*first, *GUIDANCE) if name in parameters), None)
    if found is None and sets_guidance(config):
        raise idle_guidance(kind)
    return found


def _size(config: RenderConfig, kind: str, parameters: Parameters) -> Json:
    if config.dimensions is None:
        return {}
    width, height = config.dimensions
    if not {"width", "height"} <= parameters.keys():
        raise ConfigError(f"[render] size, width, height: a {kind} takes none; take them out")
    return {"width": width, "height": height}


def _without_rewriting(kind: str, parameters: Parameters) -> Json:
    """The arguments that keep a pipeline from rewriting: it would rewrite naive prompts, too."""
    for name, parameter in parameters.items():
        if name not in REWRITING and REWRITES.search(name) and parameter.default is True:
            raise ConfigError(
                f"a {kind} rewrites prompts itself ({name} = True), naive ones too, so that no "
                "comparison would hold; bigpe does not know how to switch that off safely. Report "
                "it, or use another pipeline"
            )
    return {name: off for name, off in REWRITING.items() if name in parameters}


def _require_open(name: str, kind: str, parameters: Parameters, guidance: str | None) -> None:
    """Raise ConfigError if `[render.call]` may not set an argument."""
    setting = "[render] guidance" if name == guidance else SET_ELSEWHERE.get(name)
    if setting:
        raise ConfigError(f"[render.call] {name}: {setting} sets it; take it out")
    if name in REWRITING or REWRITES.search(name):
        raise ConfigError(
            f"[render.call] {name}: the pipeline would rewrite prompts itself, naive ones too, so "
            "that no comparison would hold; bigpe keeps that switched off, take it out"
        )
    if CLOSED.fullmatch(name):
        raise ConfigError(
            f"[render.call] {name}: it would add texts or pictures to every call, or change the "
            "form of its result; take it out"
        )
    if name not in parameters:
        taken = sorted(n for n in parameters if not (CLOSED.fullmatch(n) or n in SET_ELSEWHERE))
        raise ConfigError(
            f"[render.call] {name}: a {kind} takes no such argument; it takes {', '.join(taken)}"
        )


def _require_negative(
    config: RenderConfig,
    kind: str,
    arguments: Json,
    family: Family | None,
    *,
    takes_negative: bool,
) -> None:
    """Raise ConfigError if a negative prompt has no effect, or a guidance needs one."""
    by = family.negative_by if family else "guidance"
    if by == "true-cfg" and takes_negative:
        return require_true_cfg(config, kind, float(arguments.get(TRUE_CFG, 1.0)))
    named = (
        (NEGATIVE_SETTING, config.prompt.negative),
        (
            "[render] negative_prompt",
            config.negative_prompt is not None,
        ),
    )
    setting = next((text for text, wanted in named if wanted), None)
    if setting is None:
        return None
    if not takes_negative:
        raise ConfigError(f"{setting}: a {kind} takes no negative prompt; take it out")
    if by == "nothing":
        raise ConfigError(f"{setting}: it has no effect on a {kind}; take it out")
    if config.guidance <= (off_at := family.off_at if family else 1.0):
        raise ConfigError(
            f"{setting}: a negative prompt has no effect with [render] guidance = "
            f"{config.guidance:g}; raise it above {off_at:g}, or take the setting out"
        )
    return None


def require_true_cfg(config: RenderConfig, kind: str, scale: float) -> None:
    """Raise ConfigError if a scale of diffusers' `true_cfg_scale` and negative prompts do not fit.

    Each has an effect only with the other.
    """
    own = TRUE_CFG in config.call
    setting = "[render.call] true_cfg_scale" if own else "[render] guidance"
    if scale > 1.0 and config.negative_prompt is None:
        wanted = f"{NEGATIVE_SETTING}: " if config.prompt.negative else ""
        raise ConfigError(
            f"{wanted}{setting} = {scale:g} has no effect on {kind} without a negative prompt; set "
            '[render] negative_prompt, for example to " ", so that naive pictures have it, too; '
            "or lower it to 1"
        )
    if scale <= 1.0 and (config.prompt.negative or config.negative_prompt is not None):
        wanted = NEGATIVE_SETTING if config.prompt.negative else "[render] negative_prompt"
        raise ConfigError(
            f"{wanted}: {kind} heeds it only with true_cfg_scale above 1; set that in "
            "[render.call] or, if it is what [render] guidance sets, there; or take it out"
        )
