"""What painters want their prompts to be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bigpe.services.render.config import RenderConfig
from bigpe.services.render.prompt_profile import PromptProfile, form_of, is_embedded, profile_of

TABLE = [
    ("embedded", "tags", 75, 50),
    ("stabilityai/sdxl-turbo", "tags", 75, 50),
    ("stabilityai/stable-diffusion-xl-base-1.0", "tags", 75, 50),
    ("stable-diffusion-v1-5/stable-diffusion-v1-5", "tags", 75, 50),
    ("stabilityai/sd-turbo", "tags", 75, 50),
    ("stabilityai/stable-diffusion-3.5-large", "prose", 256, 175),
    ("black-forest-labs/FLUX.1-schnell", "prose", 512, 350),
    ("black-forest-labs/FLUX.1-Krea-dev", "prose", 512, 350),
    ("black-forest-labs/FLUX.2-dev", "prose", 512, 350),
    ("Qwen/Qwen-Image", "prose", 512, 350),
    ("Tongyi-MAI/Z-Image-Turbo", "prose", 512, 350),
    ("Efficient-Large-Model/Sana_1600M_1024px_diffusers", "prose", 300, 205),
    ("HiDream-ai/HiDream-I1-Full", "prose", 128, 85),
    ("briaai/FIBO", "json", 3000, 2040),
    ("somebody/a-model-of-mine", None, None, None),
]
CLASSES = [
    ("StableDiffusionXLPipeline", "tags"),
    ("StableDiffusionPipeline", "tags"),
    ("StableDiffusion3Pipeline", "prose"),
    ("FluxPipeline", "prose"),
    ("Flux2KleinPipeline", "prose"),
    ("ZImagePipeline", "prose"),
    ("QwenImagePipeline", "prose"),
    ("Ideogram4Pipeline", "json"),
    ("MinePipeline", None),
]
BACKENDS = [
    ("openai-images", "gpt-image-1", "prose"),
    ("openai-images", "embedded", "prose"),
    ("a1111", "sd_xl_base_1.0.safetensors", "tags"),
    ("a1111", "flux1-dev-fp8", "prose"),
    ("a1111", "embedded", None),
    ("comfyui", "embedded", None),
    ("bigpe", "embedded", None),
]


@pytest.mark.parametrize(("model", "form", "tokens", "words"), TABLE)
def test_names_of_models(
    model: str, form: str | None, tokens: int | None, words: int | None
) -> None:
    found = profile_of(RenderConfig(model=model))
    assert (found.form, found.max_tokens, found.max_words) == (form, tokens, words)
    assert is_embedded(RenderConfig(model=model)) == (model == "embedded")


@pytest.mark.parametrize(("backend", "model", "form"), BACKENDS)
def test_backends(backend: str, model: str, form: str | None) -> None:
    assert profile_of(RenderConfig(backend=backend, model=model)).form == form
    assert form_of(RenderConfig(backend=backend, model=model)) == form


@pytest.mark.parametrize(("name", "form"), CLASSES)
def test_pipeline_classes_of_folders_and_of_loaded_pipelines(
    name: str, form: str | None, tmp_path: Path
) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": name}))
    assert profile_of(RenderConfig(model=str(tmp_path))).form == form
    assert profile_of(RenderConfig(model="mine/model"), name).form == form


@pytest.mark.parametrize("index", [{}, [], {"_class_name": None}])
def test_a_folder_without_a_class(index: object, tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    assert profile_of(RenderConfig(model=str(tmp_path))).form is None


def of(model: str = "embedded", **own: Any) -> PromptProfile:
    return profile_of(RenderConfig.model_validate({"model": model, "prompt": own}))


def test_own_settings_override_the_table() -> None:
    assert of(form="prose", max_tokens=100).form == "prose"
    assert of(max_tokens=100).max_words == 70
    own = of(max_words=30)
    assert (own.max_words, own.most_words, own.max_tokens) == (30, 30, 75)
    assert of().most_words == 75, "an estimate is no strict limit"
    assert of("mine/model", form="json").form == "json"
    assert form_of(RenderConfig.model_validate({"prompt": {"form": "json"}})) == "prose"


def test_the_description_says_form_length_and_what_is_apart() -> None:
    sdxl = of("stabilityai/sdxl-turbo").described()
    assert all(word in sdxl for word in ("tags", "75 tokens", "50 words", "cut off"))
    flux = of("black-forest-labs/FLUX.1-dev").described()
    assert all(word in flux for word in ("sentences", "350 words", "512 tokens"))
    assert "vocabulary" in of().described()
    assert "vocabulary" not in sdxl
    assert "negative prompt" in of(negative=True).described()
    assert "negative prompt" not in of().described()
    assert "ohwx" in of(triggers=("ohwx",)).described()
    assert "tokens" not in of("mine/model").described()
    assert "90 words" in of("mine/model", max_words=90).described()
    assert "JSON object" in of(form="json").described()


def test_the_rule_about_language() -> None:
    assert of().language_rule == "Keep the language of the prompt."
    assert "Chinese" in of(language="Chinese").language_rule
