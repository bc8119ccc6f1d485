"""Checks and settings of a loaded pipeline, before its first picture."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any

from bigpe.services.core.errors import ConfigError
from bigpe.services.core.values import Json
from bigpe.services.render.config import RenderConfig
from bigpe.services.render.diffusers.arguments import Call, idle_guidance, sets_guidance
from bigpe.services.render.families import Family, is_guided

ANY_SIZE = 1024
"""Stands for a size that is not configured; a multiple of every factor."""
GUIDERS = ("guider", "ocr_guider")


def set_guidance(pipeline: Any, call: Call, config: RenderConfig, family: Family | None) -> None:
    """Let `[render] guidance` reach the pipeline.

    Raises:
        ConfigError: This model takes none, and the setting asks for it.
    """
    kind = type(pipeline).__name__
    net = getattr(pipeline, "transformer", None)
    net_config: Any = net.config if net is not None else {}
    guiders = [name for name in GUIDERS if getattr(pipeline, name, None) is not None]
    if guiders and not net_config.get("guidance_embeds", False):
        for name in guiders:
            guider = getattr(pipeline, name).new(guidance_scale=config.guidance)
            setattr(pipeline, name, guider)
    elif not is_guided(family, pipeline.config, net_config):
        if sets_guidance(config):
            raise idle_guidance(kind)
        if call.guidance:
            del call.arguments[call.guidance]


def require_valid(pipeline: Any, arguments: Json) -> None:
    """Raise ConfigError for what the pipeline's own check of its inputs refuses or warns of.

    Pipelines warn where they would paint another size, or ignore an argument.
    """
    check = getattr(pipeline, "check_inputs", None)
    if check is None:
        return
    given = {"prompt": "a", "width": ANY_SIZE, "height": ANY_SIZE} | arguments
    values = {
        name: given.get(name)
        for name, parameter in inspect.signature(check).parameters.items()
        if name in given or parameter.default is inspect.Parameter.empty
    }
    # A check of another form ends in a TypeError; the call itself will tell.
    with logged_warnings() as warnings, suppress(TypeError):
        try:
            check(**values)
        except ValueError as error:
            warnings.append(str(error))
    if warnings:
        settings = ", ".join(f"{key} = {value!r}" for key, value in sorted(arguments.items()))
        raise ConfigError(
            f"[render]: the {type(pipeline).__name__} says: {'; '.join(warnings)} "
            f"(it is given {settings}). Change that setting of [render] or [render.call]"
        )


def paints_alone(config: RenderConfig, device: str, kind: str, family: Family | None) -> bool:
    """Whether pictures are painted one by one. ConfigError if a batch would mix their seeds."""
    if family and family.seeds_batch:
        if config.deterministic is False:
            raise ConfigError(
                f"[render] deterministic = false: the first seed of a batch affects all pictures "
                f"of a {kind}; take it out"
            )
        return True
    return device == "cpu" if config.deterministic is None else config.deterministic


@contextmanager
def logged_warnings() -> Generator[list[str]]:
    """The warnings that diffusers logs meanwhile."""
    found: list[str] = []
    logger = logging.getLogger("diffusers")

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    handler, level = Keep(logging.WARNING), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
