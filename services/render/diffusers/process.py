"""The process of the renderer: a diffusers text-to-image pipeline from a folder or the hub."""

from __future__ import annotations

import inspect
import io
import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as Pictures

from bigpe.services.core.errors import BigpeError, ConfigError, ModerationError, RenderError
from bigpe.services.core.values import Json, digest
from bigpe.services.processes.devices import pick_device, pick_dtype
from bigpe.services.render.config import RenderConfig
from bigpe.services.render.diffusers.arguments import call_of
from bigpe.services.render.diffusers.loaded import paints_alone, require_valid, set_guidance
from bigpe.services.render.diffusers.loading import (
    diffusers,
    identity_of,
    load_pipeline,
    place_of,
    set_scheduler,
)
from bigpe.services.render.diffusers.loras import load_loras, lora_identities
from bigpe.services.render.diffusers.memory import (
    compile_net,
    place_on,
    require_quantized,
    set_slices,
)
from bigpe.services.render.diffusers.truncation import Truncation
from bigpe.services.render.families import family_named
from bigpe.services.render.prompt_profile import NEGATIVE_SETTING, family_of
from bigpe.services.store.blobs import BlobStore

NO_PART = {"max_batch", "call_timeout_s", "backend", "options", "http", "prompt", "call", "lora"}
"""Settings that do not affect images, and those with an entry of their own."""
ADDED = (
    "width", "height", "base", "transformer", "quantization", "offload", "compile",
    "attention_slicing", "vae_slicing", "vae_tiling",
)  # fmt: skip
"""Settings that came later: they are part of the fingerprint once they are set."""
FIRST_ARGUMENTS = {"num_inference_steps", "guidance_scale", "width", "height"}
"""Arguments that settings determine which are part of the fingerprint themselves."""


class DiffusersBackend:
    """A loaded pipeline."""

    def __init__(self, config: RenderConfig, images: Path) -> None:
        self._config = config
        self._blobs = BlobStore(images)
        self._device = pick_device(config.device)
        self._dtype = pick_dtype(config.dtype, self._device)
        torch.set_num_threads(config.threads)
        self._pipeline: Any = load_pipeline(config, self._dtype)
        set_scheduler(self._pipeline, config)
        kind = type(self._pipeline)
        family = family_named(kind.__name__) or family_of(config)
        parameters = inspect.signature(kind.__call__).parameters
        self._call = call_of(config, kind.__name__, parameters, family)
        require_quantized(self._pipeline, config.quantization)
        load_loras(self._pipeline, config)
        set_guidance(self._pipeline, self._call, config, family)
        require_valid(self._pipeline, self._call.arguments)
        self._alone = paints_alone(config, self._device, kind.__name__, family)
        defaults = {name: p.default for name, p in parameters.items()}
        self._truncation = Truncation(
            self._pipeline,
            family.reads if family else None,
            defaults | self._call.arguments,
            config.prompt.max_tokens,
        )
        place_on(self._pipeline, config, self._device)
        set_slices(self._pipeline, config)
        compile_net(self._pipeline, config)
        self._pipeline.set_progress_bar_config(disable=True)
        unet = getattr(self._pipeline, "unet", None)  # newer families have a transformer instead
        if self._device == "cpu" and unet is not None and config.quantization is None:
            unet.to(memory_format=torch.channels_last)

    def handle(self, method: str, payload: Json) -> Json:
        """Methods: `fingerprint`; `render` with "items" of `RenderRequest.content`."""
        if method == "fingerprint":
            return {
                "fingerprint": self.fingerprint(),
                "fingerprint_inputs": self.fingerprint_inputs,
            }
        if method != "render":
            raise RenderError(f"the renderer has no method {method!r}")
        items: list[Json] = payload["items"]
        if any(item.get("negative") for item in items) and not self._config.prompt.negative:
            raise RenderError(
                f"a request has a negative prompt: set {NEGATIVE_SETTING} for this renderer"
            )
        if self._alone:
            return {"items": [self._render([item])[0] for item in items]}
        done: dict[int, Json] = {}
        # None and "" are not the same to every pipeline: an image must not depend on its batch.
        for has_one in (False, True):
            places = [n for n, item in enumerate(items) if bool(item.get("negative")) == has_one]
            rendered = self._render([items[n] for n in places]) if places else []
            done.update(zip(places, rendered, strict=True))
        return {"items": [done[n] for n in range(len(items))]}

    def fingerprint(self) -> str:
        """A digest of everything that affects images."""
        return digest(self.fingerprint_inputs)

    @cached_property
    def fingerprint_inputs(self) -> Json:
        """Everything that affects images besides prompt and seed."""
        plain = RenderConfig()
        unset = {key for key in ADDED if getattr(self._config, key) == getattr(plain, key)}
        settings = self._config.model_dump(mode="json", exclude=NO_PART | unset)
        arguments = self._call.arguments
        further = {key: arguments[key] for key in sorted(arguments.keys() - FIRST_ARGUMENTS)}
        more: Json = {"arguments": further} if further else {}
        more |= {"lora": lora_identities(self._config)} if self._config.lora else {}
        if self._config.transformer:
            more["transformer"] = identity_of(self._config.transformer)
        return more | {
            "weights": identity_of(place_of(self._config.model), self._config.revision),
            "vae": identity_of(self._config.vae) if self._config.vae else "",
            "settings": settings | {"device": self._device, "dtype": str(self._dtype)},
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
        }

    def _render(self, items: Sequence[Json]) -> list[Json]:
        """Render a batch. A batch that does not fit in memory is halved, down to one image."""
        try:
            pictures = self._forward(items)
            self._require_size(pictures)
            return [self._keep(*pair) for pair in zip(items, pictures, strict=True)]
        except (TypeError, ValueError) as error:
            kind = type(self._pipeline).__name__
            failure = _failure(f"the {kind} refuses: {error}; check [render] and [render.call]")
            return [failure] * len(items)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            text = str(error) or type(error).__name__
        # Outside of the except block: the error's frames hold the memory.
        torch.cuda.empty_cache()
        if len(items) == 1:
            remedy = "lower [render] size, or use a smaller dtype"
            return [_failure(f"out of memory for one picture: {text}; {remedy}")]
        half = len(items) // 2
        return self._render(items[:half]) + self._render(items[half:])

    @torch.inference_mode()
    def _forward(self, items: Sequence[Json]) -> np.ndarray:
        """Images as floats in 0..1 (or not finite), [n, height, width, 3]."""
        usual = self._config.negative_prompt
        usual = self._call.blank_negative if usual is None else usual
        negatives = [item.get("negative") or usual for item in items]
        negative = {} if None in negatives else {"negative_prompt": negatives}
        # One CPU generator per image: noise depends on neither the batch nor the device.
        generators = [torch.Generator("cpu").manual_seed(int(item["seed"])) for item in items]
        result = self._pipeline(
            prompt=[str(item["prompt"]) for item in items],
            generator=generators,
            output_type="np",
            **self._call.arguments,
            **negative,
        )
        return np.asarray(result.images)

    def _require_size(self, pictures: np.ndarray) -> None:
        """Raise ConfigError if the pipeline paints another size than the configured one."""
        height, width = pictures.shape[1:3]
        wanted = self._config.dimensions
        if wanted and wanted != (width, height):
            raise ConfigError(
                f"[render] width and height: the {type(self._pipeline).__name__} painted "
                f"{width}x{height} in place of {wanted[0]}x{wanted[1]}; set a size that it takes"
            )

    def _black(self) -> Json:
        if getattr(self._pipeline, "safety_checker", None) is not None:
            text = "the pipeline's safety checker has blackened the picture"
            return {"error": text, "kind": ModerationError.__name__}
        return _failure(
            "the picture is all black; the likely cause is a float16 VAE that overflowed: set "
            '[render] dtype = "float32", or name an fp16-safe vae'
        )

    def _keep(self, item: Json, picture: np.ndarray) -> Json:
        if not np.isfinite(picture).all():
            return _failure(
                "the picture holds values that are not numbers; the likely cause is a float16 VAE: "
                'set [render] dtype = "float32", or name an fp16-safe vae'
            )
        if not picture.any():
            return self._black()
        pixels = (picture * 255).round().clip(0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Pictures.fromarray(pixels).save(buffer, "PNG")
        try:
            name = self._blobs.put(buffer.getvalue())
        except BigpeError as error:
            return {"error": str(error), "kind": type(error).__name__}
        height, width = pixels.shape[:2]
        return {
            "digest": name,
            "width": width,
            "height": height,
            "truncated_tokens": self._truncation.cut(str(item["prompt"])),
        }


def _is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out. Only CUDA has an exception class for it."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        "MPS backend out of memory" in text or "DefaultCPUAllocator: can't allocate" in text
    )


def _failure(text: str) -> Json:
    return {"error": text, "kind": "RenderError"}


def open_backend(config: Json) -> DiffusersBackend:
    """The factory that the worker process calls."""
    diffusers.utils.logging.set_verbosity_error()
    print(f"loading {config['render']['model']}", file=sys.stderr)  # noqa: T201 - the worker's log
    return DiffusersBackend(RenderConfig.model_validate(config["render"]), Path(config["images"]))
