"""What a painter's calls will be, before it is loaded: for `bigpe config check`."""

from __future__ import annotations

import inspect
import json
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from bigpe.services.core.values import Json
from bigpe.services.render.config import RenderConfig
from bigpe.services.render.diffusers.arguments import (
    call_of,
    idle_guidance,
    sets_guidance,
    usual_parameters,
)
from bigpe.services.render.families import family_named, is_guided
from bigpe.services.render.prompt_profile import family_of, is_embedded
from bigpe.services.render.service import require_folder


class Plan(NamedTuple):
    """The calls of a pipeline that is not loaded."""

    kind: str
    """The pipeline's class."""
    arguments: Json
    takes_negative: bool

    def described(self) -> str:
        """One line: the class and the arguments of its calls."""
        given = ", ".join(f"{key}={value!r}" for key, value in self.arguments.items())
        negative = "" if self.takes_negative else "; it takes no negative prompt"
        return f"{self.kind}({given}){negative}"


def planned_call(painter: RenderConfig) -> Plan | None:
    """The calls that `[render]` leads to; None where no class of diffusers is known by name.

    Raises:
        ConfigError: As `call_of` does.
    """
    if painter.backend != "diffusers":
        return None
    require_folder(painter.model)
    model = painter.base or painter.model
    index = _json(model, "model_index.json")
    family = family_named(str(index.get("_class_name", ""))) or family_of(painter)
    kind = str(index.get("_class_name") or next(iter(family.pipelines if family else ()), ""))
    if family and not painter.call:
        parameters = usual_parameters(family)
    else:
        found = _class_named("StableDiffusionPipeline" if is_embedded(painter) else kind)
        if found is None:
            return None
        parameters = inspect.signature(found.__call__).parameters
    call = call_of(painter, kind or painter.model, parameters, family)
    net = _json(model, "transformer/config.json")
    if not is_guided(family, index, net):
        if sets_guidance(painter):
            raise idle_guidance(kind)
        call.arguments.pop(call.guidance or "", None)
    return Plan(kind or painter.model, call.arguments, call.takes_negative)


def _class_named(kind: str) -> Any:
    diffusers: Any = import_module("diffusers")  # takes seconds
    found: Any = getattr(diffusers, kind, None) if kind else None
    base: Any = diffusers.DiffusionPipeline
    return found if isinstance(found, type) and issubclass(found, base) else None


def _json(model: str, name: str) -> Json:
    """A file of a folder, or of a hub id that this machine has; empty if there is none."""
    from huggingface_hub import try_to_load_from_cache

    try:
        place: Any = Path(model) / name
        if not Path(model).is_dir():
            place = try_to_load_from_cache(model, name)
        found = json.loads(Path(place).read_text("utf-8"))
    except (OSError, ValueError, TypeError):  # also for what is no hub id
        return {}
    return found if isinstance(found, dict) else {}
