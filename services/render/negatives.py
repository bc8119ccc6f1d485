"""Where a negative prompt of a rewrite has an effect. Elsewhere the setting is refused."""

from __future__ import annotations

from pathlib import Path

from bigpe.services.core.errors import ConfigError
from bigpe.services.render.config import RenderConfig
from bigpe.services.render.diffusers.arguments import TRUE_CFG, require_true_cfg
from bigpe.services.render.hosted.comfyui import Workflow
from bigpe.services.render.prompt_profile import NEGATIVE_SETTING as SETTING
from bigpe.services.render.prompt_profile import family_of


def require_negative(painter: RenderConfig, folder: Path) -> None:
    """Raise ConfigError if `[render.prompt] negative` is true and the painter cannot use it.

    Args:
        painter: The section `[render]`.
        folder: The project's folder, where the path of a workflow starts.
    """
    if not painter.prompt.negative:
        return
    if painter.backend == "openai-images":
        raise ConfigError(f"{SETTING}: OpenAI's Images API takes no negative prompt; take it out")
    if painter.backend == "comfyui" and painter.http.workflow:
        uses = Workflow(folder / painter.http.workflow).uses
        if "negative_prompt" not in uses:
            raise ConfigError(
                f'{SETTING}: the workflow has no "{{negative_prompt}}"; put it where the negative '
                "prompt belongs"
            )
        if "guidance" not in uses:
            return  # the workflow has a guidance of its own
    if painter.backend in ("diffusers", "a1111", "comfyui"):
        _require_effect(painter)


def require_reader(painter: RenderConfig, renderer: object) -> None:
    """Raise ConfigError if a renderer of another package or of a program ignores the setting."""
    if painter.prompt.negative and not getattr(renderer, "takes_negative", False):
        raise ConfigError(
            f"{SETTING}: the renderer {type(renderer).__name__} has no `takes_negative = True`; "
            "take the setting out, or use a renderer that reads `negative` of its requests"
        )


def _require_effect(painter: RenderConfig) -> None:
    family = family_of(painter)
    by = family.negative_by if family else "guidance"
    by_guidance = family is not None and family.guidance == TRUE_CFG
    if by == "true-cfg" and painter.backend == "diffusers":
        scale = painter.call.get(TRUE_CFG, painter.guidance if by_guidance else 1.0)
        return require_true_cfg(painter, painter.model, float(scale))
    if by == "nothing" or (by == "true-cfg" and not by_guidance):
        raise ConfigError(
            f"{SETTING}: {painter.model} takes no negative prompt that has an effect; take it out"
        )
    if painter.guidance <= (off_at := family.off_at if family else 1.0):
        raise ConfigError(
            f"{SETTING}: a negative prompt has no effect with [render] guidance = "
            f"{painter.guidance:g}; raise it above {off_at:g}, or take the setting out"
        )
    return None
