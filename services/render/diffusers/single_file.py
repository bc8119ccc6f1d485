"""Weights in one file: whole checkpoints, and transformers or UNets that replace the model's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers as _diffusers
import torch
from diffusers.loaders.single_file_utils import fetch_diffusers_config
from safetensors import SafetensorError, safe_open

from bigpe.services.core.errors import ConfigError
from bigpe.services.core.values import Json
from bigpe.services.render.config import CHECKPOINT, RenderConfig

diffusers: Any = _diffusers
NETS = ("transformer", "unet")
"""The parts that paint, by their names in a pipeline."""


def is_checkpoint(model: str) -> bool:
    """Whether `[render] model` names a file."""
    return model.endswith(CHECKPOINT)


def load_checkpoint(config: RenderConfig, options: Json) -> Any:
    """The pipeline of a checkpoint.

    Args:
        config: The section `[render]`.
        options: Arguments of diffusers' loader, such as "torch_dtype".

    Raises:
        ConfigError: The file is missing or no checkpoint that diffusers reads.
    """
    file = Path(config.model)
    if not file.is_file():
        raise ConfigError(f"[render] model = {config.model!r}: there is no such file")
    base = config.base or _usual_base(file)
    try:
        kind = diffusers.DiffusionPipeline.load_config(base)["_class_name"]
        loader = getattr(diffusers, kind).from_single_file
        return loader(str(file), config=base, **options)
    except (OSError, ValueError, AttributeError, KeyError, RuntimeError, TypeError) as error:
        raise ConfigError(
            f"[render] model = {config.model!r} cannot be loaded with the configuration of {base}: "
            f"{str(error)[:400]}. Set [render] base to the folder or hub id of the model that it "
            "was made from"
        ) from error


def load_net(config: RenderConfig, dtype: torch.dtype) -> Json:
    """The part that `[render] transformer` replaces, by its name in the pipeline.

    Raises:
        ConfigError: The file is missing, or does not fit the model.
    """
    assert config.transformer is not None
    file = Path(config.transformer)
    if not file.is_file():
        raise ConfigError(f"[render] transformer = {config.transformer!r}: there is no such file")
    base = config.base if is_checkpoint(config.model) else config.model
    if base is None:
        raise ConfigError("[render] transformer needs [render] base beside a checkpoint; set it")
    try:
        index = diffusers.DiffusionPipeline.load_config(base)
        name = next(name for name in NETS if name in index)
        quantized = {}
        if file.suffix == ".gguf":
            quantized["quantization_config"] = diffusers.GGUFQuantizationConfig(compute_dtype=dtype)
        loader = getattr(diffusers, index[name][1]).from_single_file
        net = loader(str(file), config=base, subfolder=name, torch_dtype=dtype, **quantized)
        return {name: net}
    except StopIteration:
        raise ConfigError(
            f"[render] transformer: {base} has neither transformer nor UNet"
        ) from None
    except ImportError as error:
        raise ConfigError(
            f"[render] transformer = {config.transformer!r}: {error}; install bigpe[quantization]"
        ) from error
    except (OSError, ValueError, AttributeError, KeyError, RuntimeError, TypeError) as error:
        raise ConfigError(
            f"[render] transformer = {config.transformer!r} cannot be loaded for {base}: "
            f"{str(error)[:400]}. Name weights of the same architecture"
        ) from error


def _usual_base(file: Path) -> str:
    """The hub id whose configuration diffusers takes for a checkpoint, by its tensors' names."""
    try:
        with safe_open(file, framework="pt") as tensors:
            # Shapes suffice; the weights are read once, later.
            shapes = {
                name: torch.empty(tensors.get_slice(name).get_shape(), device="meta")
                for name in tensors.keys()
            }
    except SafetensorError as error:
        raise ConfigError(
            f"[render] model = {str(file)!r} is no safetensors file: {error}"
        ) from error
    return str(fetch_diffusers_config(shapes)["pretrained_model_name_or_path"])
