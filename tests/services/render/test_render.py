"""The renderer on a tiny pipeline of the real format."""

from __future__ import annotations

import io
import shutil
import weakref
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pictures
from pydantic import ValidationError
from support.tiny_models import TEST_ENV, make_pipeline

from bigpe.services.core.errors import ConfigError, RenderError, StoreError
from bigpe.services.core.values import Image, RenderRequest, digest
from bigpe.services.render.config import PromptConfig, RenderConfig
from bigpe.services.render.diffusers.loading import identity_of
from bigpe.services.render.diffusers.process import DiffusersBackend
from bigpe.services.render.diffusers.truncation import Truncation
from bigpe.services.render.service import DiffusersRenderer, RenderService
from bigpe.services.store.blobs import BlobStore
from bigpe.services.store.call_cache import InMemoryCallCache


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pipeline(tmp_path_factory.mktemp("tiny") / "pipeline")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def config_of(model: Path | str, **settings: Any) -> RenderConfig:
    chosen: dict[str, Any] = {"steps": 2, "threads": 1, "device": "cpu", **settings}
    return RenderConfig(model=str(model), **chosen)


def item(prompt: str = "a red fox", seed: int = 1) -> dict[str, Any]:
    return {"prompt": prompt, "seed": seed}


def painted(backend: DiffusersBackend, *items: dict[str, Any]) -> list[dict[str, Any]]:
    return backend.handle("render", {"items": list(items)})["items"]


def test_equal_requests_give_equal_pictures(pipeline: Path, tmp_path: Path) -> None:
    backend = DiffusersBackend(config_of(pipeline), tmp_path)
    again = DiffusersBackend(config_of(pipeline), tmp_path / "other")
    [first, other_seed, other_prompt] = painted(
        backend, item(), item(seed=2), item(prompt="a boat")
    )
    assert len({first["digest"], other_seed["digest"], other_prompt["digest"]}) == 3
    # Whatever its company and its place in the batch, and in another process.
    assert painted(again, item(seed=7), item(seed=8), item())[2] == first
    assert backend.fingerprint() == again.fingerprint()
    with Pictures.open(BlobStore(tmp_path).path(first["digest"])) as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (16, 16))
    assert first["truncated_tokens"] == {}


def test_in_a_batch_company_changes_little(pipeline: Path, tmp_path: Path) -> None:
    alone = DiffusersBackend(config_of(pipeline), tmp_path)
    batched = DiffusersBackend(config_of(pipeline, deterministic=False), tmp_path)
    items = [item(seed=seed) for seed in range(4)]
    for first, many in zip(painted(alone, *items), painted(batched, *items), strict=True):
        difference = pixels(tmp_path, first).astype(int) - pixels(tmp_path, many)
        assert np.abs(difference).max() <= 1
    assert alone.fingerprint() != batched.fingerprint()


def pixels(folder: Path, result: dict[str, Any]) -> np.ndarray:
    with Pictures.open(io.BytesIO(BlobStore(folder).read(result["digest"]))) as picture:
        return np.asarray(picture)


def test_settings_reach_the_pipeline(pipeline: Path, tmp_path: Path) -> None:
    turbo = config_of(
        pipeline,
        width=32,
        height=24,
        guidance=2.0,
        scheduler="EulerAncestralDiscreteScheduler",
        timestep_spacing="trailing",
        negative_prompt="blur",
        vae=str(pipeline / "vae"),
    )
    backend = DiffusersBackend(turbo, tmp_path)
    [result] = painted(backend, item())
    assert (result["width"], result["height"]) == (32, 24)
    scheduler = backend._pipeline.scheduler
    assert type(scheduler).__name__ == "EulerAncestralDiscreteScheduler"
    assert scheduler.config.timestep_spacing == "trailing"
    assert backend.fingerprint() != DiffusersBackend(config_of(pipeline), tmp_path).fingerprint()


def test_a_fingerprint_is_of_content_not_of_place(pipeline: Path, tmp_path: Path) -> None:
    def fingerprint() -> str:
        return DiffusersBackend(config_of(copy), tmp_path).fingerprint()

    copy = shutil.copytree(pipeline, tmp_path / "copy")
    before = fingerprint()
    assert fingerprint() == before
    make_pipeline(copy, broken=0.1)
    assert fingerprint() != before


def test_prompts_of_any_kind_are_painted(pipeline: Path, tmp_path: Path) -> None:
    backend = DiffusersBackend(config_of(pipeline), tmp_path)
    long = "fox " * 1250
    result = painted(backend, item(long), item("狐 🦊 é"), item("a\x00b\x1b[31m"), item(""))
    assert all("digest" in single for single in result)
    assert result[0]["truncated_tokens"]["tokenizer"] >= 1250 + 2 - 77
    assert [entry["truncated_tokens"] for entry in result[1:]] == [{}, {}, {}]


class Wide:
    """A tokenizer that could read more than its pipeline passes on."""

    model_max_length = 10**30

    def __call__(self, prompt: str, **_: Any) -> Any:
        return SimpleNamespace(input_ids=prompt.split())


@pytest.mark.parametrize(
    ("words", "cut"),
    [(60, {}), (100, {}), (101, {"tokenizer": 101 + 2 - 77, "tokenizer_2": 1})],
)
def test_what_one_encoder_reads_whole_is_not_cut(
    pipeline: Path, tmp_path: Path, words: int, cut: dict[str, int]
) -> None:
    config = config_of(pipeline, prompt=PromptConfig(max_tokens=100))
    clip = DiffusersBackend(config, tmp_path)._pipeline.tokenizer
    unknown = SimpleNamespace(tokenizer=clip, tokenizer_2=Wide())
    assert Truncation(unknown, None, {}, most=100).cut("fox " * words) == cut


@pytest.mark.parametrize(("bias", "cause"), [(float("nan"), "not numbers"), (-1e4, "all black")])
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
def test_broken_pictures_are_failures(tmp_path: Path, bias: float, cause: str) -> None:
    backend = DiffusersBackend(config_of(make_pipeline(tmp_path / "p", broken=bias)), tmp_path)
    [result] = painted(backend, item())
    assert cause in result["error"]
    assert list(BlobStore(tmp_path).digests()) == []


def test_out_of_memory_halves_the_batch(
    pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = DiffusersBackend(config_of(pipeline, deterministic=False), tmp_path)
    forward, sizes = backend._forward, list[int]()

    def small(items: Sequence[dict[str, Any]]) -> np.ndarray:
        sizes.append(len(items))
        if len(items) > 1 or items[0]["seed"] == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(items)

    monkeypatch.setattr(backend, "_forward", small)
    result = painted(backend, *(item(seed=seed) for seed in range(4)))
    assert sizes == [4, 2, 1, 1, 2, 1, 1]
    assert ["error" in entry for entry in result] == [False, False, False, True]
    assert "CUDA out of memory; lower [render] size" in result[3]["error"]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
    ],
)
def test_what_did_not_fit_is_freed_before_less_is_tried(
    pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    backend = DiffusersBackend(config_of(pipeline, deterministic=False), tmp_path)
    forward, held = backend._forward, list[weakref.ref[np.ndarray]]()

    def greedy(items: Sequence[dict[str, Any]]) -> np.ndarray:
        assert all(reference() is None for reference in held), "an earlier try's memory is held"
        if len(items) == 1:
            return forward(items)
        memory = np.zeros(1)
        held.append(weakref.ref(memory))
        raise type(error)(*error.args)  # a new one, that nobody else holds

    monkeypatch.setattr(backend, "_forward", greedy)
    result = painted(backend, item(seed=0), item(seed=1))
    assert len(held) == 1 and ["error" in entry for entry in result] == [False, False]


def test_a_bug_is_not_taken_for_a_lack_of_memory(
    pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = DiffusersBackend(config_of(pipeline, deterministic=False), tmp_path)

    def broken(items: Sequence[dict[str, Any]]) -> np.ndarray:
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(backend, "_forward", broken)
    with pytest.raises(RuntimeError, match="device-side assert"):
        painted(backend, item())


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
def test_latents_that_are_no_numbers_spoil_one_picture_of_a_batch(
    pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = DiffusersBackend(config_of(pipeline, deterministic=False), tmp_path)
    decode = backend._pipeline.vae.decode

    def spoilt(latents: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        latents = latents.clone()
        latents[1] = float("nan")
        return decode(latents, *args, **kwargs)

    monkeypatch.setattr(backend._pipeline.vae, "decode", spoilt)
    result = painted(backend, *(item(seed=seed) for seed in range(3)))
    assert ["error" in entry for entry in result] == [False, True, False]
    assert "not numbers" in result[1]["error"] and "fp16-safe vae" in result[1]["error"]


@pytest.mark.filterwarnings("ignore:The `local_dir_use_symlinks` argument:UserWarning")
def test_models_that_cannot_be_loaded_are_told(pipeline: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    lfs = shutil.copytree(pipeline, tmp_path / "lfs")
    weights = lfs / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n")
    nameless = shutil.copytree(pipeline, tmp_path / "nameless")
    (nameless / "model_index.json").write_text("{}")
    for config, words in (
        (config_of(tmp_path / "nowhere"), "there is no such folder"),
        (config_of(tmp_path / "empty"), "model_index.json"),
        (config_of(lfs), "git-lfs"),
        (config_of(nameless), "cannot be loaded"),
        (config_of("someone/no-such-model"), "copy the folder here and name its path"),
        (config_of(pipeline, vae=str(tmp_path / "nowhere")), "vae = "),
        (config_of(pipeline, variant="fp16"), "variant"),
        (config_of(pipeline, scheduler="AutoencoderKL"), "no scheduler so named"),
    ):
        with pytest.raises(ConfigError, match=words):
            DiffusersBackend(config, tmp_path)


def test_a_hub_model_is_named_by_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert identity_of("someone/tiny") == "someone/tiny@main"
    folder = tmp_path / "models--someone--tiny"
    for commit in ("1" * 40, "2" * 40):
        (folder / "snapshots" / commit).mkdir(parents=True)
        (folder / "snapshots" / commit / "model_index.json").write_text("{}")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("1" * 40)
    assert identity_of("someone/tiny") == f"someone/tiny@{'1' * 40}"
    assert identity_of("someone/tiny", "2" * 40) == f"someone/tiny@{'2' * 40}"


def test_settings_are_checked() -> None:
    for wrong in ({"steps": 0}, {"size": 4}, {"guidance": -1}, {"stepps": 3}, {"device": "tpu"}):
        with pytest.raises(ValidationError):
            RenderConfig.model_validate(wrong)


class OneColour:
    """A renderer that counts."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self.painted: list[str] = []

    async def open(self) -> str:
        return "one colour"

    async def render(self, requests: Sequence[RenderRequest]) -> list[Image | Exception]:
        self.painted += [request.prompt for request in requests]
        return [
            RenderError("cannot")
            if request.prompt == "bad"
            else Image(digest=self._blobs.put(request.prompt.encode()), width=1, height=1)
            for request in requests
        ]

    async def close(self) -> None:
        """Nothing to close."""


async def test_the_service_paints_once_and_again_when_the_file_is_gone(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path)
    renderer = OneColour(blobs)
    service = RenderService(renderer, InMemoryCallCache(), blobs, RenderConfig())
    request = RenderRequest(prompt="fox", seed=1)
    image = await service.render(request)
    assert await service.render(request.model_copy(update={"priority": 9})) == image
    assert renderer.painted == ["fox"]
    blobs.path(image.digest).unlink()
    assert await service.render(request) == image
    assert renderer.painted == ["fox", "fox"]
    with pytest.raises(RenderError, match="cannot"):
        await service.render(RenderRequest(prompt="bad", seed=1))
    await service.close()


@pytest.mark.parametrize(
    ("settings", "cores", "parallelism"),
    [
        ({"threads": 1}, 2, 2),
        ({"threads": 2}, 2, 1),
        ({"threads": 1}, 1, 1),
        ({"threads": 1, "model": "some/hub-id"}, 2, 1),
    ],
)
async def test_the_embedded_model_alone_has_a_process_a_core(
    tmp_path: Path, settings: dict[str, Any], cores: int, parallelism: int
) -> None:
    renderer = DiffusersRenderer(RenderConfig(**settings), BlobStore(tmp_path), cores=cores)
    assert renderer.parallelism == parallelism
    await renderer.close()


async def test_the_child_paints(
    pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in TEST_ENV.items():
        monkeypatch.setenv(name, value)
    images = tmp_path / "images"
    images.mkdir()
    renderer = DiffusersRenderer(config_of(pipeline), BlobStore(images))
    try:
        fingerprint = await renderer.open()
        backend = DiffusersBackend(config_of(pipeline), tmp_path / "here")
        assert fingerprint == backend.fingerprint() == digest(renderer.fingerprint_inputs)
        assert renderer.fingerprint_inputs["torch"] == torch.__version__
        requests = [RenderRequest(prompt="a red fox", seed=seed) for seed in (1, 2)]
        [image, _] = await renderer.render(requests)
        assert isinstance(image, Image)
        assert image.digest == painted(backend, item())[0]["digest"]
        shutil.rmtree(images)
        images.write_text("not a folder")
        assert [type(request) for request in await renderer.render(requests)] == [
            StoreError,
            StoreError,
        ]
    finally:
        await renderer.close()
