"""The process of the renderer: a diffusers text-to-image pipeline from a folder or the hub."""

from __future__ import annotations

import inspect
import io
import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import diffusers as _diffusers
import numpy as np
import torch
from huggingface_hub import try_to_load_from_cache
from PIL import Image as Pictures

from bigpe.services.core.errors import BigpeError, ConfigError, RenderError
from bigpe.services.core.values import Json, digest
from bigpe.services.models import embedded
from bigpe.services.models.fingerprints import folder_fingerprint
from bigpe.services.processes.devices import pick_device, pick_dtype
from bigpe.services.render.prompt_profile import NEGATIVE_SETTING, profile_of
from bigpe.services.render.service import RenderConfig, require_folder
from bigpe.services.store.blobs import BlobStore

diffusers: Any = _diffusers  # type checkers do not see its names
NO_PART = {"max_batch", "call_timeout_s", "backend", "options", "http", "prompt"}
"""Settings that do not affect images."""
CLIP_TOKENS = 77
"""With the two special ones."""


class DiffusersBackend:
    """A loaded pipeline."""

    def __init__(self, config: RenderConfig, images: Path) -> None:
        self._config = config
        self._blobs = BlobStore(images)
        self._device = pick_device(config.device)
        self._dtype = pick_dtype(config.dtype, self._device)
        torch.set_num_threads(config.threads)
        deterministic = config.deterministic
        self._alone = self._device == "cpu" if deterministic is None else deterministic
        self._pipeline: Any = _load(config, self._dtype)
        _adapt(self._pipeline, config)
        if config.prompt.negative:
            _require_negative(self._pipeline)
        self._profile = profile_of(config, type(self._pipeline).__name__)
        self._pipeline.to(self._device)
        self._pipeline.set_progress_bar_config(disable=True)
        unet = getattr(self._pipeline, "unet", None)  # newer families have a transformer instead
        if self._device == "cpu" and unet is not None:
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
        settings = self._config.model_dump(mode="json", exclude=NO_PART)
        return {
            "weights": _identity(_place(self._config.model), self._config.revision),
            "vae": _identity(self._config.vae) if self._config.vae else "",
            "settings": settings | {"device": self._device, "dtype": str(self._dtype)},
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
        }

    def _render(self, items: Sequence[Json]) -> list[Json]:
        """Render a batch. A batch that does not fit in memory is halved, down to one image."""
        try:
            pictures = self._forward(items)
            return [self._keep(*pair) for pair in zip(items, pictures, strict=True)]
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
        config = self._config
        size = {} if config.size is None else {"width": config.size, "height": config.size}
        negatives = [item.get("negative") or config.negative_prompt for item in items]
        negative = {} if None in negatives else {"negative_prompt": negatives}
        # One CPU generator per image: noise depends on neither the batch nor the device.
        generators = [torch.Generator("cpu").manual_seed(int(item["seed"])) for item in items]
        result = self._pipeline(
            prompt=[str(item["prompt"]) for item in items],
            num_inference_steps=config.steps,
            guidance_scale=config.guidance,
            generator=generators,
            output_type="np",
            **size,
            **negative,
        )
        return np.asarray(result.images)

    def _keep(self, item: Json, picture: np.ndarray) -> Json:
        if not np.isfinite(picture).all():
            return _failure(
                "the picture holds values that are not numbers; the likely cause is a float16 VAE: "
                'set [render] dtype = "float32", or name an fp16-safe vae'
            )
        if not picture.any():
            return _failure(
                "the picture is all black; the likely cause is the pipeline's safety checker, or "
                "a float16 VAE that overflowed"
            )
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
            "truncated_tokens": self._truncated(str(item["prompt"])),
        }

    def _truncated(self, prompt: str) -> dict[str, int]:
        """Number of tokens that each of the pipeline's tokenizers cuts off.

        Empty if one of them reads the whole prompt: then nothing of it is lost.
        """
        cut: dict[str, int] = {}
        for name in ("tokenizer", "tokenizer_2", "tokenizer_3", "tokenizer_4"):
            tokenizer = getattr(self._pipeline, name, None)
            if tokenizer is not None:
                count = len(tokenizer(prompt, truncation=False, verbose=False).input_ids)
                limit = int(tokenizer.model_max_length)
                if limit > CLIP_TOKENS:  # the pipeline passes fewer on than the encoder could read
                    limit = min(limit, self._profile.max_tokens or limit)
                cut[name] = max(0, count - limit)
        return cut if all(cut.values()) else {}


def _is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out. Only CUDA has an exception class for it."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        "MPS backend out of memory" in text or "DefaultCPUAllocator: can't allocate" in text
    )


def _failure(text: str) -> Json:
    return {"error": text, "kind": "RenderError"}


def _place(model: str) -> str:
    return str(embedded.pipeline_path()) if model == "embedded" else model


def _load(config: RenderConfig, dtype: torch.dtype) -> Any:
    require_folder(config.model)
    place = _place(config.model)
    options: dict[str, Any] = {"torch_dtype": dtype}
    options |= {"revision": config.revision} if config.revision else {}
    options |= {"variant": config.variant} if config.variant else {}
    if config.vae:
        options["vae"] = _load_vae(config.vae, dtype)
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


def _adapt(pipeline: Any, config: RenderConfig) -> None:
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


def _require_negative(pipeline: Any) -> None:
    if "negative_prompt" not in inspect.signature(pipeline.__call__).parameters:
        raise ConfigError(
            f"{NEGATIVE_SETTING}: a {type(pipeline).__name__} takes no negative prompt; take it out"
        )


def _identity(place: str, revision: str | None = None) -> str:
    """The digest of a folder's content, or the commit of a loaded hub id."""
    if Path(place).is_dir():
        return folder_fingerprint(Path(place))
    for name in ("model_index.json", "config.json"):
        # A branch moves; the name of the local copy's folder is its commit.
        copy = try_to_load_from_cache(place, name, revision=revision)
        if isinstance(copy, str):
            return f"{place}@{Path(copy).parent.name}"
    return f"{place}@{revision or 'main'}"


def open_backend(config: Json) -> DiffusersBackend:
    """The factory that the worker process calls."""
    diffusers.utils.logging.set_verbosity_error()
    print(f"loading {config['render']['model']}", file=sys.stderr)  # noqa: T201 - the worker's log
    return DiffusersBackend(RenderConfig.model_validate(config["render"]), Path(config["images"]))
