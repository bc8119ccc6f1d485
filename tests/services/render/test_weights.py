"""Checkpoints in one file, LoRAs, quantized and offloaded weights, on a tiny SDXL."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from support.tiny_families import family_pipeline, make_family
from support.weight_files import save_checkpoint, save_gguf, save_lora, tiny_sdxl

from bigpe.services.core.errors import ConfigError
from bigpe.services.render.config import RenderConfig
from bigpe.services.render.diffusers.process import DiffusersBackend
from bigpe.services.render.prompt_profile import profile_of


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pipeline, the same as a checkpoint, and its LoRAs."""
    folder = tmp_path_factory.mktemp("weights")
    pipeline = tiny_sdxl()
    pipeline.save_pretrained(folder / "base")
    save_checkpoint(pipeline, folder / "sdxl.safetensors")
    save_lora(pipeline, folder / "lora.safetensors")
    save_lora(pipeline, folder / "kohya.safetensors", kohya=True)
    return folder


@pytest.fixture(scope="module")
def plain(made: Path) -> DiffusersBackend:
    """The pipeline of the folder as it is."""
    return opened(made / "base", made / "images")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def opened(model: Path, images: Path, **settings: Any) -> DiffusersBackend:
    usual = {"steps": 1, "threads": 1, "device": "cpu", "width": 16, "height": 16}
    return DiffusersBackend(
        RenderConfig.model_validate({**usual, "model": str(model), **settings}), images
    )


def painted(backend: DiffusersBackend) -> np.ndarray:
    return backend._forward([{"prompt": "a red fox", "seed": 1}])


def test_a_checkpoint_paints_what_its_folder_paints(
    made: Path, plain: DiffusersBackend, tmp_path: Path
) -> None:
    single = opened(made / "sdxl.safetensors", tmp_path, base=str(made / "base"))
    np.testing.assert_allclose(painted(single), painted(plain), atol=1e-5)
    assert single.fingerprint() != plain.fingerprint()
    assert profile_of(single._config).form == "tags"


@pytest.mark.filterwarnings("ignore:.*local_dir_use_symlinks")
def test_a_checkpoint_whose_configuration_is_not_here(made: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="base"):  # diffusers knows it as SDXL, from the hub
        opened(made / "sdxl.safetensors", tmp_path)
    with pytest.raises(ConfigError, match="no such file"):
        opened(made / "other.safetensors", tmp_path)
    (tmp_path / "torn.safetensors").write_bytes(b"12345678{")
    with pytest.raises(ConfigError, match="no safetensors file"):
        opened(tmp_path / "torn.safetensors", tmp_path)


@pytest.mark.parametrize("file", ["lora.safetensors", "kohya.safetensors"])
def test_a_lora_changes_pictures_by_its_weight(
    file: str, made: Path, plain: DiffusersBackend, tmp_path: Path
) -> None:
    strong = opened(made / "base", tmp_path, lora=[{"model": str(made / file)}])
    weak = opened(made / "base", tmp_path, lora=[{"model": str(made / file), "weight": 0.001}])
    change = np.abs(painted(strong) - painted(plain)).max()
    assert change > 10 * np.abs(painted(weak) - painted(plain)).max() > 0
    prints = {backend.fingerprint() for backend in (plain, strong, weak)}
    assert len(prints) == 3


def test_two_loras_add_up(made: Path, tmp_path: Path) -> None:
    file = str(made / "lora.safetensors")
    twice = opened(made / "base", tmp_path, lora=[{"model": file, "weight": 0.5}] * 2)
    once = opened(made / "base", tmp_path, lora=[{"model": file}])
    np.testing.assert_allclose(painted(twice), painted(once), atol=1e-5)


def test_loras_that_do_not_fit(made: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        opened(made / "base", tmp_path, lora=[{"model": str(made / "none.safetensors")}])
    wide = {name: torch.cat([w, w], -1) for name, w in load_file(made / "lora.safetensors").items()}
    save_file(wide, tmp_path / "wide.safetensors")
    save_file({"unet.nothing.lora_A.weight": torch.ones(2, 2)}, tmp_path / "alien.safetensors")
    for name in ("wide", "alien"):
        with pytest.raises(ConfigError, match="lora"):
            opened(made / "base", tmp_path, lora=[{"model": str(tmp_path / f"{name}.safetensors")}])


@pytest.mark.parametrize(
    "settings",
    [
        {"model": "model.ckpt"},
        {"model": "a/folder", "base": "another"},
        {"model": "a/folder", "transformer": "net.bin"},
        {"model": "a/folder", "lora": [{"model": "lora.pt"}]},
        {"model": "a/folder", "lora": [{"model": "lora.safetensors", "weight": 0}]},
        {"model": "a/folder", "quantization": {"backend": "gguf"}},
    ],
)
def test_refused_when_the_configuration_is_read(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RenderConfig.model_validate(settings)


def test_another_unet(made: Path, plain: DiffusersBackend, tmp_path: Path) -> None:
    file = str(made / "sdxl.safetensors")
    swapped = opened(made / "base", tmp_path, transformer=file)
    np.testing.assert_allclose(painted(swapped), painted(plain), atol=1e-5)
    with pytest.raises(ConfigError, match="no such file"):
        opened(made / "base", tmp_path, transformer=str(made / "none.gguf"))


def test_a_gguf_file(tmp_path: Path) -> None:
    make_family("FluxPipeline", tmp_path / "flux")
    file = save_gguf(family_pipeline("FluxPipeline").transformer, tmp_path / "net.gguf")
    picture = painted(opened(tmp_path / "flux", tmp_path))
    quantized = painted(opened(tmp_path / "flux", tmp_path, transformer=str(file)))
    assert 0 < np.abs(quantized - picture).max() < 0.2


def test_quantized_weights(made: Path, plain: DiffusersBackend, tmp_path: Path) -> None:
    quantized = opened(
        made / "base", tmp_path, quantization={"backend": "quanto", "components": ["unet"]}
    )
    difference = np.abs(painted(quantized) - painted(plain)).max()
    assert 0 < difference < 0.2
    assert quantized.fingerprint() != plain.fingerprint()
    with pytest.raises(ConfigError, match="components"):
        opened(made / "base", tmp_path, quantization={"backend": "quanto"})
    with pytest.raises(ConfigError, match="options"):
        wrong = {"backend": "quanto", "components": ["unet"], "options": {"bits": 3}}
        opened(made / "base", tmp_path, quantization=wrong)


def test_slices_and_tiles(made: Path, plain: DiffusersBackend, tmp_path: Path) -> None:
    settings = {"attention_slicing": True, "vae_slicing": True, "vae_tiling": True}
    sliced = painted(opened(made / "base", tmp_path, **settings))
    np.testing.assert_allclose(sliced, painted(plain), atol=1e-4)


@pytest.mark.parametrize("offload", ["model", "sequential"])
def test_offloading_needs_a_gpu(offload: str, made: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="offload"):
        opened(made / "base", tmp_path, offload=offload)


def test_a_folder_that_moves_keeps_its_fingerprint(made: Path, tmp_path: Path) -> None:
    moved = shutil.copy(made / "lora.safetensors", tmp_path / "moved.safetensors")
    here = opened(made / "base", tmp_path, lora=[{"model": str(made / "lora.safetensors")}])
    there = opened(made / "base", tmp_path, lora=[{"model": str(moved)}])
    assert here.fingerprint() == there.fingerprint()
