"""Loads the pipeline of `[render]`, and identifies its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers as _diffusers
import torch
from huggingface_hub import try_to_load_from_cache

from bigpe.services.core.errors import ConfigError
from bigpe.services.core.values import Json
from bigpe.services.models import embedded
from bigpe.services.models.fingerprints import file_fingerprint, folder_fingerprint
from bigpe.services.render.config import RenderConfig
from bigpe.services.render.diffusers.memory import quantization_options
from bigpe.services.render.diffusers.single_file import is_checkpoint, load_checkpoint, load_net
from bigpe.services.render.service import require_folder

diffusers: Any = _diffusers  # type checkers do not see its names


def place_of(model: str) -> str:
    """The folder or hub id of `[render] model`."""
    return str(embedded.pipeline_path()) if model == "embedded" else model


def load_pipeline(config: RenderConfig, dtype: torch.dtype) -> Any:
    """The pipeline, on the CPU. Raises ConfigError if it cannot be loaded."""
    options: Json = {"torch_dtype": dtype}
    options |= {"vae": _load_vae(config.vae, dtype)} if config.vae else {}
    options |= load_net(config, dtype) if config.transformer else {}
    options |= quantization_options(config.quantization)
    if is_checkpoint(config.model):
        return load_checkpoint(config, options)
    require_folder(config.model)
    place = place_of(config.model)
    options |= {"revision": config.revision} if config.revision else {}
    options |= {"variant": config.variant} if config.variant else {}
    if config.model == "embedded":
        # The auto pipeline gives the same class, but imports every pipeline that diffusers has.
        return diffusers.DiffusionPipeline.from_pretrained(place, **options)
    try:
        try:
            return diffusers.AutoPipelineForText2Image.from_pretrained(place, **options)
        except ValueError:
            # The auto pipeline lacks the class; model_index.json names it.
            return diffusers.DiffusionPipeline.from_pretrained(place, **options)
    except (OSError, ValueError, AttributeError, KeyError) as error:
        raise ConfigError(
            f"[render] model = {config.model!r} cannot be loaded: {str(error)[:400]}. Name a "
            "folder with a model_index.json, or a hub id that this machine can reach or has cached "
            "(without internet: copy the folder here and name its path)"
        ) from error


def _load_vae(place: str, dtype: torch.dtype) -> Any:
    """The VAE of the class that its config.json names, for example a tiny VAE."""
    try:
        return diffusers.AutoModel.from_pretrained(place, torch_dtype=dtype)
    except (OSError, ValueError, AttributeError, KeyError) as error:
        raise ConfigError(
            f"[render] vae = {place!r} cannot be loaded: {str(error)[:400]}. Name a folder with a "
            "diffusers autoencoder (config.json and weights), or its hub id"
        ) from error


def set_scheduler(pipeline: Any, config: RenderConfig) -> None:
    """Set the scheduler and its spacing from the configuration."""
    kind = type(pipeline.scheduler)
    if config.scheduler:
        kind = getattr(diffusers, config.scheduler, None)
        if kind is None or not issubclass(kind, diffusers.SchedulerMixin):
            raise ConfigError(
                f"[render] scheduler = {config.scheduler!r}: diffusers has no scheduler so named"
            )
    spacing = {"timestep_spacing": config.timestep_spacing} if config.timestep_spacing else {}
    if config.scheduler or spacing:
        pipeline.scheduler = kind.from_config(pipeline.scheduler.config, **spacing)


def identity_of(place: str, revision: str | None = None) -> str:
    """The digest of a file or of a folder's content, or the commit of a loaded hub id."""
    if Path(place).is_file():
        return file_fingerprint(Path(place))
    if Path(place).is_dir():
        return folder_fingerprint(Path(place))
    for name in ("model_index.json", "config.json"):
        # A branch moves; the name of the local copy's folder is its commit.
        copy = try_to_load_from_cache(place, name, revision=revision)
        if isinstance(copy, str):
            return f"{place}@{Path(copy).parent.name}"
    return f"{place}@{revision or 'main'}"
