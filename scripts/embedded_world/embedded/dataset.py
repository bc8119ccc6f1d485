"""The `data` stage: painted scenes, their latents, the tokenizer; and how the others read them."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from transformers import CLIPTokenizer

from embedded_world.embedded import world
from embedded_world.embedded.files import Progress, save_array, save_json
from embedded_world.embedded.filler import all_filler
from embedded_world.embedded.latents import LatentSpace, to_unit
from embedded_world.embedded.painting import paint

CONTEXT = 77
"""Tokens a caption is padded to, in training as in sampling."""
HELD_OUT = 2000
"""The first scenes are never trained on."""
CHUNK = 500
VOCABULARY = 6000
START, END = "<|startoftext|>", "<|endoftext|>"
_SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def _painted(seed: int) -> tuple[np.ndarray, list[dict[str, object]]]:
    rng = random.Random(seed)
    scenes = [world.sample_scene(rng) for _ in range(CHUNK)]
    return np.stack([np.asarray(paint(s)) for s in scenes]), [asdict(s) for s in scenes]


def _paint_all(
    jobs: list[int], workers: int
) -> Iterator[tuple[np.ndarray, list[dict[str, object]]]]:
    """Every job's scenes, in order; a few are painted here, with no children to outlive us."""
    if workers < 2 or len(jobs) <= 2:
        yield from map(_painted, jobs)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(_painted, jobs)


def make_data(
    work: Path, scenes: int, seed: int, phrases: Path | None = None, workers: int = 1
) -> None:
    """Paint scenes, fit the latent space, train the tokenizer; what is there already is kept."""
    if (work / "tokenizer").exists() and (work / "latents.npy").exists():
        print(f"data: {work} is complete", flush=True)
        return
    work.mkdir(parents=True, exist_ok=True)
    pictures, facts = [], []
    jobs = [seed * 1_000_000 + i for i in range(-(-scenes // CHUNK))]
    progress = Progress("data", 0, len(jobs), 10)
    for done, (images, truths) in enumerate(_paint_all(jobs, workers), 1):
        pictures.append(images)
        facts += truths
        progress.report(done)
    stack = np.concatenate(pictures)
    save_array(work / "pictures.npy", stack)
    save_json(work / "scenes.json", facts)
    if not (work / "space.pt").exists():
        LatentSpace.fit(torch.from_numpy(stack[-6000:])).save(work / "space.pt")
    if not (work / "tokenizer").exists():
        filler = all_filler(phrases, seed)
        save_json(work / "filler.json", filler)
        _train_tokenizer(work, facts, filler, seed)
    _save_latents(work, stack, LatentSpace.load(work / "space.pt"))


def _save_latents(work: Path, stack: np.ndarray, space: LatentSpace) -> None:
    parts = [
        space.encode(to_unit(torch.from_numpy(stack[i : i + 1000])))
        for i in range(0, len(stack), 1000)
    ]
    save_array(work / "latents.npy", torch.cat(parts).half().numpy())


def _train_tokenizer(
    work: Path, facts: list[dict[str, object]], filler: list[str], seed: int
) -> None:
    rng = random.Random(seed)
    tokenizer = Tokenizer(models.BPE(unk_token=END, end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    captions = [world.caption(world.Scene(**f), rng, filler) for f in facts]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix="</w>",
        special_tokens=[START, END],
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions + filler * 3, trainer)
    partial = work / "tokenizer.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    tokenizer.model.save(str(partial))
    partial.rename(work / "tokenizer")


def load_tokenizer(work: Path) -> CLIPTokenizer:
    folder = work / "tokenizer"
    return CLIPTokenizer(
        vocab=str(folder / "vocab.json"),
        merges=str(folder / "merges.txt"),
        model_max_length=CONTEXT,
        pad_token=END,
    )


def token_ids(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Ids padded to the full context, as the pipeline pads them."""
    encoded = tokenizer(
        texts, padding="max_length", truncation=True, max_length=CONTEXT, return_tensors="pt"
    )
    return encoded.input_ids


class Painted:
    """What the `data` stage left in the work folder."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.tokenizer = load_tokenizer(work)
        self.space = LatentSpace.load(work / "space.pt")
        facts = json.loads((work / "scenes.json").read_text(encoding="utf-8"))
        self.scenes = [world.Scene(**f) for f in facts]
        self.filler: list[str] = json.loads((work / "filler.json").read_text(encoding="utf-8"))

    @cached_property
    def pictures(self) -> Tensor:
        """uint8 [n, SIZE, SIZE, 3]."""
        return torch.from_numpy(np.load(self.work / "pictures.npy"))

    @cached_property
    def latents(self) -> Tensor:
        """half [n, CHANNELS, GRID, GRID]."""
        return torch.from_numpy(np.load(self.work / "latents.npy"))

    def images(self, index: list[int]) -> Tensor:
        return to_unit(self.pictures[index])

    @property
    def held_out(self) -> int:
        """How many of the first scenes are kept from training."""
        return min(HELD_OUT, len(self.scenes) // 10)

    def training_indices(self, rng: random.Random, count: int) -> list[int]:
        return [rng.randrange(self.held_out, len(self.scenes)) for _ in range(count)]

    def caption_ids(self, index: list[int], rng: random.Random, drop: float = 0.0) -> Tensor:
        """Token ids of a fresh caption per scene; a share `drop` of them empty (for guidance)."""
        texts = [
            "" if rng.random() < drop else world.caption(self.scenes[i], rng, self.filler)
            for i in index
        ]
        return token_ids(self.tokenizer, texts)
