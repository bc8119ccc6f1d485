"""Loads the LoRAs of `[[render.lora]]` into a pipeline."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from bigpe.services.core.errors import ConfigError
from bigpe.services.core.values import Json
from bigpe.services.models.fingerprints import file_fingerprint
from bigpe.services.render.config import CHECKPOINT, LoraConfig, RenderConfig
from bigpe.services.render.diffusers.loaded import logged_warnings
from bigpe.services.render.diffusers.loading import identity_of


def load_loras(pipeline: Any, config: RenderConfig) -> None:
    """Load all LoRAs and set their weights.

    Raises:
        ConfigError: A file is missing, or the pipeline does not take it as it is.
    """
    if not config.lora:
        return
    kind = type(pipeline).__name__
    if not hasattr(pipeline, "load_lora_weights"):
        raise ConfigError(f"[[render.lora]]: a {kind} takes no LoRA; take it out")
    names = [f"lora_{place}" for place in range(len(config.lora))]
    for name, lora in zip(names, config.lora, strict=True):
        _load(pipeline, name, lora)
    pipeline.set_adapters(names, [lora.weight for lora in config.lora])


def lora_identities(config: RenderConfig) -> list[Json]:
    """What of each LoRA affects pictures, for the fingerprint."""
    return [{"weights": _identity(lora), "weight": lora.weight} for lora in config.lora]


def _load(pipeline: Any, name: str, lora: LoraConfig) -> None:
    setting = f"[[render.lora]] model = {lora.model!r}"
    place = Path(lora.model)
    if (place.is_absolute() or lora.model.startswith(".") or lora.model.endswith(CHECKPOINT)) and (
        not place.exists()
    ):
        raise ConfigError(f"{setting}: there is no such file or folder")
    options: Json = {"revision": lora.revision} if lora.revision else {}
    options |= {"weight_name": lora.file} if lora.file else {}
    try:
        with logged_warnings() as logged, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft warns of a second LoRA
            pipeline.load_lora_weights(
                lora.model, adapter_name=name, use_safetensors=True, **options
            )
    except ImportError as error:
        raise ConfigError(f"{setting}: {error}; install bigpe[lora]") from error
    except Exception as error:  # a file of another kind fails in many ways
        raise ConfigError(
            f"{setting} cannot be loaded: {str(error)[:400]}. Name a {CHECKPOINT} file that was "
            f"made for a {type(pipeline).__name__}"
        ) from error
    # A LoRA for the UNet alone lacks the text encoders' tensors, which diffusers mentions.
    faults = [text for text in logged if "safe to ignore" not in text]
    loaded = {each for adapters in pipeline.get_list_adapters().values() for each in adapters}
    if name not in loaded or faults:
        why = "; ".join(faults) or "none of its tensors fits"
        raise ConfigError(
            f"{setting} does not fit a {type(pipeline).__name__}: {why[:400]}. Name a LoRA that "
            "was made for this model"
        )


def _identity(lora: LoraConfig) -> str:
    place = Path(lora.model)
    file = place / lora.file if lora.file else place
    if file.is_file():
        return file_fingerprint(file)
    found = identity_of(lora.model, lora.revision)
    return f"{found}/{lora.file}" if lora.file else found
