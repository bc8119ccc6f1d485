"""The `check` stage: does the export steer, and does its scorer tell good words from bad?

Reads only the exported folders, with the ordinary loaders, and writes a contact sheet.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoPipelineForText2Image
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

from embedded_world.embedded import world
from embedded_world.embedded.networks import embeddings

STEPS, GUIDANCE = 16, 3.0
BATCH = 24
SUFFIXES = {
    "naive": "",
    "good": ", golden hour, oil painting, vivid colors, sharp focus, highly detailed, close-up",
    "bad": ", blurry, muted colors, sketch, cluttered",
    "filler": ", breathtaking, iconic, rain drops, by a famous artist, fantasy",
    "golden": ", golden hour",
    "overcast": ", overcast",
    "vivid": ", vivid colors",
    "muted": ", muted colors",
    "sharp": ", sharp focus",
    "blurry": ", blurry",
    "detailed": ", highly detailed",
    "minimalist": ", minimalist",
    "close": ", close-up",
    "wide": ", wide shot",
    "oil": ", oil painting",
    "snapshot": ", snapshot",
}
LOOKS = (
    "a cat on the beach, golden hour, vivid colors, sharp focus, close-up",
    "robot in the city, neon lights, sharp focus, vibrant",
    "castle in the mountains, oil painting",
    "dragon in space, dramatic lighting, highly detailed",
    "rocket in the desert, blurry, muted colors",
    "an owl in the forest, night, comic book art",
    "penguin in the snow, photograph",
    "a sailing boat, ocean, sunset, masterpiece",
    "wizard in the forest, pixel art",
    "apple on the beach, pencil sketch",
    "a car in the city at night, rain drops, epic",
    "an elephant in the desert, wide shot, overcast",
    "butterfly, outer space, close-up",
    "guitar underwater, colorful, uncluttered",
    "sunflower in the snow, daylight, crisp",
    "fox in the mountains, cluttered, grainy",
)


class Exported:
    """The exported models, as any user would load them."""

    def __init__(self, folder: Path, judge: str = "scorer") -> None:
        self.pipeline = AutoPipelineForText2Image.from_pretrained(
            folder / "pipeline", torch_dtype=torch.float32
        )
        self.pipeline.set_progress_bar_config(disable=True)
        self.scorer = CLIPModel.from_pretrained(folder / judge, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder / judge)
        self.processor = AutoImageProcessor.from_pretrained(folder / judge)

    def pictures(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        images: list[Image.Image] = []
        for start in range(0, len(prompts), BATCH):
            stop = start + BATCH
            images += self.pipeline(
                list(prompts[start:stop]),
                num_inference_steps=STEPS,
                guidance_scale=GUIDANCE,
                generator=[torch.Generator().manual_seed(s) for s in seeds[start:stop]],
            ).images
        return images

    @torch.no_grad()
    def scores(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
        """Cosine similarities times 100, as HPS is shown."""
        pixels = self.processor(images=list(images), return_tensors="pt").pixel_values
        tokens = self.tokenizer(
            list(prompts), padding="max_length", truncation=True, return_tensors="pt"
        )
        image, text = embeddings(self.scorer, pixels, tokens.input_ids)
        return (100 * (image * text).sum(-1)).numpy()


def naive_prompts(count: int) -> list[str]:
    """Subject and place pairs, spread evenly over the world."""
    pairs = list(itertools.product(world.SUBJECTS, world.PLACES))
    picked = [pairs[(i * 37) % len(pairs)] for i in range(count)]
    return [
        f"{'an' if subject[0] in 'aeiou' else 'a'} {subject} {place}"
        if place == "underwater"
        else f"{'an' if subject[0] in 'aeiou' else 'a'} {subject} in the {place}"
        for subject, place in picked
    ]


def _interval(gains: np.ndarray) -> dict[str, float]:
    half = 1.96 * gains.std(ddof=1) / math.sqrt(len(gains))
    return {
        "gain": round(float(gains.mean()), 3),
        "low": round(float(gains.mean() - half), 3),
        "high": round(float(gains.mean() + half), 3),
        "won": round(float((gains > 0).mean()), 3),
    }


def check(folder: Path, sheet: Path, prompts: int = 24, seeds: int = 2) -> dict[str, object]:
    """Paired gains over the naive prompt at the same seed, with 95% intervals; draws `sheet`."""
    models = Exported(folder)
    naive = [p for p in naive_prompts(prompts) for _ in range(seeds)]
    numbers = [90_000 + i for _ in range(prompts) for i in range(seeds)]
    scored, displayed, seconds = {}, {}, 0.0
    for name, suffix in SUFFIXES.items():
        start = time.monotonic()
        displayed[name] = models.pictures([p + suffix for p in naive], numbers)
        seconds += time.monotonic() - start
        scored[name] = models.scores(displayed[name], naive)
    spread = np.stack(list(scored.values())).reshape(len(SUFFIXES), prompts, seeds)
    figures: dict[str, object] = {
        name: _interval(scored[name] - scored["naive"]) for name in SUFFIXES if name != "naive"
    }
    figures["deviation_of_seeds"] = round(float(spread[0].std(axis=1, ddof=1).mean()), 3)
    figures["deviation_within_prompt"] = round(float(spread.std(axis=(0, 2)).mean()), 3)
    figures["seconds_a_picture"] = round(seconds / (len(naive) * len(SUFFIXES)), 3)
    rows = [models.pictures(LOOKS, [7] * len(LOOKS)), models.pictures(LOOKS, [8] * len(LOOKS))]
    rows += [displayed[name][::seeds][:16] for name in ("naive", "good", "bad", "filler", "golden")]
    _draw(sheet, rows)
    print(json.dumps(figures, indent=1), flush=True)
    return figures


def _draw(path: Path, rows: list[list[Image.Image]]) -> None:
    width = max(len(row) for row in rows)
    sheet = Image.new("RGB", (width * world.SIZE, len(rows) * world.SIZE))
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            sheet.paste(image, (x * world.SIZE, y * world.SIZE))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.resize((sheet.width * 3 // 2, sheet.height * 3 // 2), Image.Resampling.LANCZOS).save(path)
