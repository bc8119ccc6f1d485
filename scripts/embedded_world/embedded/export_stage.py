"""The `export` stage: folders in the ordinary formats, fp16 safetensors, replaced in one move."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file
from transformers import CLIPImageProcessor

from embedded_world.embedded.dataset import Painted
from embedded_world.embedded.networks import build_scheduler
from embedded_world.embedded.reader_stage import FILE, trained_reader
from embedded_world.embedded.scorer_stage import (
    GUARD_KIND,
    IMAGE_MEAN,
    IMAGE_STD,
    SCORER_KIND,
    Kind,
    trained_scorer,
)
from embedded_world.embedded.text_stage import trained_text
from embedded_world.embedded.unet_stage import trained_unet
from embedded_world.embedded.vae_stage import trained_vae
from embedded_world.embedded.world import SIZE

LIMIT_MB = 40


def export(work: Path, out: Path) -> None:
    """Write a folder of `out` for each stage that has run, in place of the one before."""
    data = Painted(work)
    out.mkdir(parents=True, exist_ok=True)
    made: dict[str, Callable[[], int]] = {
        "unet": lambda: _export_pipeline(work, data, out / "pipeline"),
        "scorer": lambda: _export_scorer(work, data, out / "scorer", SCORER_KIND),
        "guard": lambda: _export_scorer(work, data, out / "guard", GUARD_KIND),
        "reader": lambda: _export_reader(work, out / "reader"),
    }
    steps = {name: make() for name, make in made.items() if (work / f"{name}.pt").exists()}
    size = sum(f.stat().st_size for f in out.rglob("*") if f.is_file()) / 1e6
    if size > LIMIT_MB:
        raise ValueError(f"{out} holds {size:.1f} MB, more than {LIMIT_MB}")
    print(f"export: {json.dumps(steps)} steps, {size:.1f} MB in {out}", flush=True)


def _export_pipeline(work: Path, data: Painted, target: Path) -> int:
    unet, step = trained_unet(work)
    pipeline = StableDiffusionPipeline(
        vae=trained_vae(work),
        text_encoder=trained_text(work, data),
        tokenizer=data.tokenizer,
        unet=unet,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    partial = _fresh(target)
    pipeline.to(torch.float16).save_pretrained(partial, safe_serialization=True)
    _swap(partial, target)
    return step


def _export_reader(work: Path, target: Path) -> int:
    net, step = trained_reader(work)
    partial = _fresh(target)
    partial.mkdir()
    state = {name: value.contiguous().half() for name, value in net.state_dict().items()}
    save_file(state, partial / FILE)
    _swap(partial, target)
    return step


def _export_scorer(work: Path, data: Painted, target: Path, kind: Kind) -> int:
    scorer, step = trained_scorer(work, data, kind)
    processor = CLIPImageProcessor(
        size={"height": SIZE, "width": SIZE},
        do_center_crop=False,
        image_mean=IMAGE_MEAN,
        image_std=IMAGE_STD,
        resample=3,
    )
    partial = _fresh(target)
    scorer.half().save_pretrained(partial, safe_serialization=True)
    data.tokenizer.save_pretrained(partial)
    processor.save_pretrained(partial)
    _swap(partial, target)
    return step


def _fresh(target: Path) -> Path:
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    return partial


def _swap(partial: Path, target: Path) -> None:
    """Put the finished folder where the old one was."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    partial.rename(target)
    shutil.rmtree(old, ignore_errors=True)
