"""Backends for the child process, and tiny models of the real formats, made on the spot."""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from bigpe.services.core import errors
from support.paths import import_path

TEST_ENV = {"PYTHONPATH": import_path(), "OMP_NUM_THREADS": "1"}
"""Lets a child import this module."""


class Scripted:
    """Does what the payload says."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config

    def handle(self, method: str, payload: dict[str, Any]) -> dict[str, Any]:
        return getattr(self, f"do_{method}")(**payload)

    def do_echo(self, **payload: Any) -> dict[str, Any]:
        return payload

    def do_config(self) -> dict[str, Any]:
        return {"config": self._config, "env": os.environ.get("OMP_NUM_THREADS")}

    def do_collection(self) -> dict[str, Any]:
        return {"enabled": gc.isenabled(), "frozen": gc.get_freeze_count()}

    def do_fingerprint(self) -> dict[str, Any]:
        return self.do_pid()

    def do_pid(self) -> dict[str, Any]:
        return {"pid": os.getpid()}

    def do_fail(self, kind: str, **given: Any) -> dict[str, Any]:
        existing: Any = (
            getattr(errors, kind, None) or {"ValueError": ValueError, "New": NewError}[kind]
        )
        raise existing("it broke", **given)

    def do_noise(self) -> dict[str, Any]:
        sys.stdout.write("hello from python\n")
        sys.stdout.flush()
        os.write(1, b"hello from C\n")
        return {}

    def do_shout(self, bytes: int) -> dict[str, Any]:
        sys.stderr.write(("x" * 99 + "\n") * (bytes // 100))
        return {}

    def do_sleep(self, seconds: float) -> dict[str, Any]:
        time.sleep(seconds)
        return {}

    def do_exit(self, code: int) -> dict[str, Any]:
        os.write(2, b"last words\n")
        os._exit(code)

    def do_lose_device(self) -> dict[str, Any]:
        raise RuntimeError("CUDA error: device-side assert triggered")

    def do_nan(self) -> dict[str, Any]:
        return {"value": float("nan")}


class NewError(errors.BigpeError):
    """Not a class that the parent knows."""

    transient = True


def scripted(config: dict[str, Any]) -> Scripted:
    """The factory of `Scripted`; refuses to start, or takes long to, when told to."""
    if "starts_s" in config:
        Path(config["note"]).write_text(str(os.getpid()))
        time.sleep(config["starts_s"])
    if kind := config.get("refuse"):
        raise getattr(errors, kind)("not like this")
    return Scripted(config)


def make_pipeline(folder: Path, *, broken: float | None = None) -> Path:
    """A random StableDiffusionPipeline of 16x16 pictures; a VAE whose last bias is `broken`."""
    import torch
    from diffusers import (
        AutoencoderTiny,
        DDIMScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    from bigpe.services.models import embedded

    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(embedded.pipeline_path() / "tokenizer")
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=32,
        attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )
    vae = AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    )
    if broken is not None:
        last: Any = list(vae.decoder.parameters())[-1]
        torch.nn.init.constant_(last, broken)
    pipeline = StableDiffusionPipeline(
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=unet,
        vae=vae,
        scheduler=DDIMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


def make_scorer(folder: Path, **preprocess: Any) -> Path:
    """A random CLIPModel for 32x32 pictures, with its tokenizer and preprocessor."""
    import torch
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    from bigpe.services.models import embedded

    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(embedded.scorer_path())
    small = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = CLIPConfig(
        text_config={**small, **ids, "vocab_size": len(tokenizer)},
        vision_config={**small, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    result = {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": 32},
        "crop_size": {"height": 32, "width": 32},
        "do_center_crop": True,
        "resample": 3,
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.2, 0.3, 0.4],
        **preprocess,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(result))
    return folder
