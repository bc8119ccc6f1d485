"""The user's own templates of requests: the folder that `[reasoning] templates` names."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from bigpe.agents.reasoning.rules import OwnTemplates, ReasoningConfig
from bigpe.prompts.templates import FREE_FORM_ROLES
from bigpe.services.core.errors import ConfigError


def with_templates(config: ReasoningConfig, project: Path) -> ReasoningConfig:
    """The section with the content of its files, so that a run keeps it if a file changes.

    ConfigError names the file and what is wrong with it.
    """
    if not isinstance(config.templates, str):
        return config
    return config.model_copy(update={"templates": _read(project / config.templates)})


def _read(folder: Path) -> OwnTemplates:
    names = [f"{role}.toml" for role in FREE_FORM_ROLES]
    try:
        found = sorted(path.name for path in folder.iterdir() if path.suffix == ".toml")
        if not found:
            raise ConfigError(
                f"[reasoning] templates: {folder} holds none of {', '.join(names)}; copy the "
                "packaged one that you want to change (docs/reasoning.md)"
            )
        if others := [name for name in found if name not in names]:
            raise ConfigError(
                f"[reasoning] templates: {folder / others[0]} is none of {', '.join(names)}; "
                "rename it, or take it out of the folder"
            )
        texts = {name[: -len(".toml")]: (folder / name).read_text("utf-8-sig") for name in found}
        return OwnTemplates(**texts)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"[reasoning] templates: {folder} cannot be read: {error}; name a folder of TOML files "
            "in UTF-8"
        ) from error
    except ValidationError as error:
        (problem,) = error.errors()
        fault = str(problem["msg"]).removeprefix("Value error, ")
        raise ConfigError(
            f"[reasoning] templates: {folder}: {fault}; fix it, or remove the file to use the "
            "packaged one"
        ) from error
