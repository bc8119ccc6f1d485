"""How a pipeline fits in memory: quantization, offloading, slices and compilation."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

import diffusers as _diffusers

from bigpe.services.core.errors import ConfigError
from bigpe.services.core.values import Json
from bigpe.services.render.config import QuantizationConfig, Quantizer, RenderConfig
from bigpe.services.render.diffusers.single_file import NETS

diffusers: Any = _diffusers
_ALIKE: dict[Quantizer, Json] = {
    "bitsandbytes_4bit": {"load_in_4bit": True},
    "bitsandbytes_8bit": {"load_in_8bit": True},
    "torchao": {"quant_type": "Int8WeightOnlyConfig"},
}
USUAL_OPTIONS: dict[str, dict[Quantizer, Json]] = {
    "diffusers": {**_ALIKE, "quanto": {"weights_dtype": "int8"}},
    "transformers": {**_ALIKE, "quanto": {"weights": "int8"}},
}
"""By library. torchao takes an object, which its class's name stands for."""


def quantization_options(config: QuantizationConfig | None) -> Json:
    """The argument of diffusers' loader that quantizes parts of a pipeline.

    Raises:
        ConfigError: The backend is not installed, or refuses its options.
    """
    if config is None:
        return {}
    try:
        mapping = {name: _settings(config, name) for name in config.components}
        return {"quantization_config": diffusers.PipelineQuantizationConfig(quant_mapping=mapping)}
    except (ValueError, TypeError, AttributeError, ImportError) as error:
        raise ConfigError(
            f'[render.quantization] backend = "{config.backend}": {str(error)[:600]}; install '
            "bigpe[quantization], or change [render.quantization] options"
        ) from error


def _settings(config: QuantizationConfig, component: str) -> Any:
    """The settings of a part: diffusers and transformers have classes of their own."""
    library = "transformers" if component.startswith("text_encoder") else "diffusers"
    classes = import_module(f"{library}.quantizers.auto").AUTO_QUANTIZATION_CONFIG_MAPPING
    taken = inspect.signature(classes[config.backend]).parameters.keys() - {"kwargs"}
    if unknown := config.options.keys() - taken:  # kwargs would take it without effect
        raise TypeError(f"options {sorted(unknown)} are not among {sorted(taken)}")
    options = config.options or USUAL_OPTIONS[library][config.backend]
    if config.backend == "torchao" and isinstance(name := options.get("quant_type"), str):
        kind = getattr(import_module("torchao.quantization"), name)
        options = options | {"quant_type": kind()}
    return classes[config.backend](**options)


def require_quantized(pipeline: Any, config: QuantizationConfig | None) -> None:
    """Raise ConfigError if a named part was not there to be quantized."""
    for name in config.components if config else ():
        if getattr(pipeline, name, None) is None:
            parts = ", ".join(part for part in NETS if hasattr(pipeline, part))
            raise ConfigError(
                f"[render.quantization] components: a {type(pipeline).__name__} has no {name}; "
                f"it has {parts}"
            )


def place_on(pipeline: Any, config: RenderConfig, device: str) -> None:
    """Move the pipeline to its device, or let its parts come there when they are needed.

    Raises:
        ConfigError: Offloading without a GPU has no effect.
    """
    if config.offload == "none":
        pipeline.to(device)
    elif device == "cpu":
        raise ConfigError(
            f'[render] offload = "{config.offload}" has no effect on a CPU; take it out'
        )
    elif config.offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.enable_sequential_cpu_offload(device=device)


def set_slices(pipeline: Any, config: RenderConfig) -> None:
    """Slices and tiles. Raises ConfigError where the pipeline has none."""
    kind = type(pipeline).__name__
    parts = [getattr(pipeline, name, None) for name in NETS]
    if config.attention_slicing:
        if not any(hasattr(part, "set_attention_slice") for part in parts):
            raise ConfigError(f"[render] attention_slicing has no effect on a {kind}; take it out")
        pipeline.enable_attention_slicing()
    vae = getattr(pipeline, "vae", None)
    for wanted, setting, method in (
        (config.vae_slicing, "vae_slicing", "enable_slicing"),
        (config.vae_tiling, "vae_tiling", "enable_tiling"),
    ):
        if not wanted:
            continue
        try:
            getattr(vae, method)()
        except (AttributeError, NotImplementedError) as error:
            raise ConfigError(
                f"[render] {setting}: the VAE of this {kind} has none; take it out"
            ) from error


def compile_net(pipeline: Any, config: RenderConfig) -> None:
    """Compile the part that paints, at its first call. Raises ConfigError if there is none."""
    if not config.compile:
        return
    net = next((net for name in NETS if (net := getattr(pipeline, name, None)) is not None), None)
    if net is None:
        raise ConfigError(f"[render] compile has no effect on a {type(pipeline).__name__}")
    net.compile()
