"""The form of prompts that a painter takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bigpe.services.render.prompt_form import form_of, is_embedded
from bigpe.services.render.service import RenderConfig


@pytest.mark.parametrize(
    ("backend", "model", "form"),
    [
        ("diffusers", "embedded", "tags"),
        ("diffusers", "stabilityai/sdxl-turbo", "tags"),
        ("diffusers", "stabilityai/stable-diffusion-xl-base-1.0", "tags"),
        ("diffusers", "stable-diffusion-v1-5/stable-diffusion-v1-5", "tags"),
        ("diffusers", "stabilityai/sd-turbo", "tags"),
        ("diffusers", "stabilityai/stable-diffusion-3.5-large", "prose"),
        ("diffusers", "black-forest-labs/FLUX.1-schnell", "prose"),
        ("diffusers", "Qwen/Qwen-Image", "prose"),
        ("diffusers", "Tongyi-MAI/Z-Image-Turbo", "prose"),
        ("diffusers", "somebody/a-model-of-mine", None),
        ("openai-images", "gpt-image-1", "prose"),
        ("openai-images", "embedded", "prose"),
        ("a1111", "sd_xl_base_1.0.safetensors", "tags"),
        ("a1111", "flux1-dev-fp8", "prose"),
        ("a1111", "embedded", None),
        ("comfyui", "embedded", None),
        ("bigpe", "embedded", None),
    ],
)
def test_names_tell_the_form(backend: str, model: str, form: str | None) -> None:
    painter = RenderConfig(backend=backend, model=model)
    assert form_of(painter) == form
    assert is_embedded(painter) == (backend == "diffusers" and model == "embedded")


@pytest.mark.parametrize(
    ("index", "form"),
    [
        ({"_class_name": "StableDiffusionXLPipeline"}, "tags"),
        ({"_class_name": "StableDiffusion3Pipeline"}, "prose"),
        ({"_class_name": "FluxPipeline"}, "prose"),
        ({"_class_name": "ZImagePipeline"}, "prose"),
        ({"_class_name": "MinePipeline"}, None),
        ({}, None),
        ([], None),
    ],
)
def test_a_folder_is_known_by_its_pipeline_class(
    index: object, form: str | None, tmp_path: Path
) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    assert form_of(RenderConfig(model=str(tmp_path))) == form
