"""Measure the embedded models against their bars: one JSON line per figure.

    python scripts/bench_embedded.py [--folder services/embedded] [--scale 1.0] [PART ...]

Prompts, scenes and seeds are fresh. Shares have Wilson intervals, means Student's, correlations a
bootstrap over prompts; 95% unless the figure says otherwise. What a generated picture shows is
said by the attribute reader, whose own errors (part `reader`) count against the picture model.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from embedded import world
from embedded.attributes import GROUPS
from embedded.check_stage import GUIDANCE, STEPS, SUFFIXES, Exported
from embedded.dataset import HELD_OUT
from embedded.painting import paint
from embedded.reader_stage import Reader
from embedded.scorer_stage import Lineups
from PIL import Image
from scipy import stats
from torch.utils.flop_counter import FlopCounterMode

from bigpe.services.fingerprints import folder_fingerprint

ROOT = Path(__file__).resolve().parent.parent
SEED = 770_001
FRESH_SCENES = 4000
PICTURES_A_PROMPT = 12
NOISE_WORDS = SUFFIXES["filler"]
QUALITY_PROMPTS = {"sharp": "sharp focus", "vivid": "vivid colors", "detail": "highly detailed"}
LOW_PROMPTS = {"sharp": "blurry", "vivid": "muted colors", "detail": "minimalist"}

FOLDERS = ("pipeline", "scorer", "guard", "reader")

Figure = dict[str, Any]


def share(name: str, right: int, count: int, bar: float) -> Figure:
    """A share with its Wilson interval, against its bar."""
    test = stats.binomtest(right, count).proportion_ci(0.95, "wilson")
    value = right / count
    return {
        "figure": name, "value": round(value, 4), "low": round(test.low, 4),
        "high": round(test.high, 4), "n": count, "bar": bar, "met": value >= bar,
    }  # fmt: skip


def mean(name: str, gains: np.ndarray, confidence: float = 0.95) -> Figure:
    """A mean with Student's interval."""
    half = stats.t.ppf(0.5 + confidence / 2, len(gains) - 1) * stats.sem(gains)
    return {
        "figure": name, "value": round(float(gains.mean()), 4),
        "low": round(float(gains.mean() - half), 4), "high": round(float(gains.mean() + half), 4),
        "n": len(gains), "confidence": confidence,
    }  # fmt: skip


def bootstrap(name: str, values: np.ndarray, bar: float) -> Figure:
    """A mean over prompts with a bootstrap interval."""
    drawn = np.random.default_rng(SEED).choice(values, (2000, len(values))).mean(1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    value = float(values.mean())
    return {
        "figure": name, "value": round(value, 4), "low": round(float(low), 4),
        "high": round(float(high), 4), "n": len(values), "bar": bar, "met": value >= bar,
    }  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """A prompt, what it names, and the seed it is painted with."""

    text: str
    naive: str
    subject: str
    place: str
    seed: int


class Bench:
    """The exported models, and the parts that measure them."""

    def __init__(self, folder: Path, scale: float) -> None:
        self.folder = folder
        self._scale = scale
        self.models = Exported(folder)
        self.reader = Reader(folder / "reader")

    def size(self, count: int) -> int:
        return max(4, round(count * self._scale))

    def asked(self, count: int, label: str) -> list[Asked]:
        """Subjects and places in turn, so that each comes equally often."""
        rng = random.Random(f"{SEED}:{label}")
        drawn = []
        for i in range(count):
            subject = list(world.SUBJECTS)[i % len(world.SUBJECTS)]
            place = rng.choice(list(world.PLACES))
            noun = rng.choice(world.SUBJECTS[subject])
            where = place if place == "underwater" else f"in the {place}"
            naive = f"{'an' if noun[0] in 'aeiou' else 'a'} {noun} {where}"
            drawn.append(Asked(naive, naive, subject, place, rng.randrange(10**6, 2**31)))
        return drawn

    def paint(self, asked: Sequence[Asked], suffixes: Sequence[str]) -> list[Image.Image]:
        prompts = [a.naive + suffix for a, suffix in zip(asked, suffixes, strict=True)]
        return self.models.pictures(prompts, [a.seed for a in asked])

    def read_painted(self) -> Iterator[Figure]:
        """The reader on painted scenes."""
        rng = random.Random(f"{SEED}:reader")
        scenes = [world.sample_scene(rng) for _ in range(self.size(2000))]
        read = self.reader.read([paint(s) for s in scenes])
        bars = {"subject": 0.95, "place": 0.95, "light": 0.85, "style": 0.85, "framing": 0.0}
        for name in GROUPS:
            right = sum(
                v == getattr(s, name) for v, s in zip(read.values(name), scenes, strict=True)
            )
            yield share(f"reader {name}", right, len(scenes), bars[name])
        for name in world.SCALAR_TASTE:
            true = np.array([getattr(s, name) for s in scenes])
            r = float(np.corrcoef(read.scalar(name).numpy(), true)[0, 1])
            yield {"figure": f"reader {name} correlation", "value": round(r, 4), "n": len(scenes)}

    def judge_painted(self) -> Iterator[Figure]:
        """The preference model and the guard on pairs of painted scenes."""
        rng = random.Random(f"{SEED}:scorer")
        scenes = [world.sample_scene(rng) for _ in range(max(HELD_OUT, self.size(FRESH_SCENES)))]
        lineups = Lineups(scenes, range(len(scenes)))
        drawn = [lineups.draw(rng) for _ in range(self.size(400))]
        images = [paint(scenes[i]) for _, index, _ in drawn for i in index]
        prompts = [text for text, index, _ in drawn for _ in index]
        truths = np.array([us for _, _, us in drawn])
        wide = truths[:, :, None] - truths[:, None, :] > 1
        for name, bar in (("scorer", 0.88), ("guard", 0.0)):
            models = self.models if name == "scorer" else Exported(self.folder, name)
            scored = models.scores(images, prompts).reshape(truths.shape)
            right = (scored[:, :, None] > scored[:, None, :]) & wide
            # Pairs of one prompt hang together: the interval is a bootstrap over prompts.
            rows = np.array([[r.sum(), w.sum()] for r, w in zip(right, wide, strict=True)])
            picks = np.random.default_rng(SEED).integers(0, len(rows), (2000, len(rows)))
            sums = rows[picks].sum(1)
            low, high = np.quantile(sums[:, 0] / sums[:, 1], (0.025, 0.975))
            value = rows[:, 0].sum() / rows[:, 1].sum()
            yield {
                "figure": f"{name} painted pairs", "value": round(float(value), 4),
                "low": round(float(low), 4), "high": round(float(high), 4),
                "n": int(rows[:, 1].sum()), "prompts": len(rows), "bar": bar,
                "met": bool(value >= bar),
            }  # fmt: skip

    def obey(self) -> Iterator[Figure]:
        """The picture model on prompts that state the attribute."""
        count = self.size(192)
        rights = {"subject": [0, 0], "place": [0, 0]}
        for group, words, bar in (("light", world.LIGHTS, 0.75), ("style", world.STYLES, 0.75)):
            asked = self.asked(count, group)
            rng = random.Random(f"{SEED}:{group}")
            wanted = [rng.choice(list(words)) for _ in asked]
            images = self.paint(asked, [f", {rng.choice(words[v])}" for v in wanted])
            read = self.reader.read(images)
            right = sum(a == b for a, b in zip(read.values(group), wanted, strict=True))
            yield share(f"picture {group}", right, count, bar)
            for name, tally in rights.items():
                shown = read.values(name)
                tally[0] += sum(v == getattr(a, name) for v, a in zip(shown, asked, strict=True))
                tally[1] += count
        for name, (right, of) in rights.items():
            yield share(f"picture {name}", right, of, 0.85)

    def order(self) -> Iterator[Figure]:
        """A quality stated high against low at the same seed."""
        for name, high in QUALITY_PROMPTS.items():
            asked = self.asked(self.size(64), name)
            more = self.reader.read(self.paint(asked, [f", {high}"] * len(asked)))
            less = self.reader.read(self.paint(asked, [f", {LOW_PROMPTS[name]}"] * len(asked)))
            right = int((more.scalar(name) > less.scalar(name)).sum())
            yield share(f"picture {name} order", right, len(asked), 0.85)

    def agree(self) -> Iterator[Figure]:
        """Rank correlation of score and true utility over rewrites of one naive prompt."""
        asked = self.asked(self.size(32), "agree")
        rng = random.Random(f"{SEED}:agree")
        found: dict[str, list[float]] = {"scorer": [], "guard": []}
        guard = Exported(self.folder, "guard")
        for one in asked:
            scenes = [world.sample_scene(rng) for _ in range(PICTURES_A_PROMPT)]
            suffixes = ["".join(f", {p}" for p in world.modifiers(s, rng, 0.5)) for s in scenes]
            many = [Asked(one.text, one.naive, one.subject, one.place, s.seed) for s in scenes]
            images = self.paint(many, suffixes)
            truth = self.reader.read(images).utility(one.subject, one.place).numpy()
            for name, models in (("scorer", self.models), ("guard", guard)):
                scored = models.scores(images, [one.naive] * len(images))
                found[name].append(float(stats.spearmanr(scored, truth).statistic))
        for name, bar in (("scorer", 0.7), ("guard", 0.0)):
            yield bootstrap(f"{name} spearman with true utility", np.array(found[name]), bar)

    def head_room(self) -> Iterator[Figure]:
        """Good, bad and meaningless words against the bare prompt at the same seed."""
        base = self.asked(self.size(32), "room")
        asked = [
            Asked(a.text, a.naive, a.subject, a.place, a.seed + k) for a in base for k in range(4)
        ]
        naive = [a.naive for a in asked]
        suffixes = {name: SUFFIXES[name] for name in ("naive", "good", "bad")}
        suffixes["good and filler"] = SUFFIXES["good"] + NOISE_WORDS
        images = {k: self.paint(asked, [s] * len(asked)) for k, s in suffixes.items()}
        scored = {k: self.models.scores(v, naive) for k, v in images.items()}
        reads = {k: self.reader.read(v) for k, v in images.items()}
        within = float(scored["naive"].reshape(-1, 4).std(1, ddof=1).mean())
        gains = {k: scored[k] - scored["naive"] for k in suffixes if k != "naive"}
        per_prompt = {k: g.reshape(-1, 4).mean(1) for k, g in gains.items()}
        good = mean("gain of good words", per_prompt["good"], 0.99)
        ratio = good["value"] / within
        yield {
            **good, "in_deviations": round(ratio, 3), "within_prompt_deviation": round(within, 4),
            "bar": 1.0, "met": bool(good["low"] > 0 and ratio >= 1.0),
        }  # fmt: skip
        bad = mean("gain of bad words", per_prompt["bad"], 0.99)
        yield {**bad, "bar": 0.0, "met": bool(bad["high"] < 0)}
        change = mean("change by 5 meaningless words",
                      per_prompt["good and filler"] - per_prompt["good"])  # fmt: skip
        limit = 0.1 * good["value"]
        yield {**change, "bar": round(limit, 4), "met": bool(abs(change["value"]) < limit)}
        for name in ("good", "bad"):
            true = [
                float(reads[k].utility(a.subject, a.place)[i])
                for k in (name, "naive")
                for i, a in enumerate(asked)
            ]
            both = np.array(true).reshape(2, -1, 4)
            yield mean(f"true gain of {name} words", (both[0] - both[1]).mean(1), 0.99)

    def cost(self) -> Iterator[Figure]:
        """Seconds of one picture, and what share of the machine's GEMM peak that is."""
        peak = gemm_peak()
        self.models.pictures(["a cat"], [1])
        with FlopCounterMode(display=False) as counter:
            self.models.pictures(["a cat"], [1])
        seconds = []
        for i in range(self.size(10)):
            start = time.perf_counter()
            self.models.pictures(["a cat"], [i])
            seconds.append(time.perf_counter() - start)
        middle = float(np.median(seconds))
        gflops = counter.get_total_flops() / 1e9
        yield {
            "figure": "seconds a picture", "value": round(middle, 4),
            "low": round(min(seconds), 4), "high": round(max(seconds), 4), "n": len(seconds),
            "steps": STEPS, "guidance": GUIDANCE, "threads": torch.get_num_threads(),
            "gflop": round(gflops, 2), "gemm_peak_gflops": round(peak, 1),
            "achieved_over_peak": round(gflops / middle / peak, 3), "bar": 0.4,
            "met": middle <= 0.4,
        }  # fmt: skip
        files = [f for f in self.folder.rglob("*") if f.is_file()]
        size = sum(f.stat().st_size for f in files) / 1e6
        yield {"figure": "package data MB", "value": round(size, 2), "bar": 40, "met": size <= 40}


def gemm_peak(side: int = 1536, repeats: int = 8) -> float:
    """GFLOP/s of the fastest of some float32 matrix products, at the threads in use."""
    a = torch.randn(side, side)
    best = 1e9
    for _ in range(repeats):
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best / 1e9


def fingerprints(folder: Path) -> dict[str, str]:
    """Which weights the figures belong to."""
    return {name: folder_fingerprint(folder / name) for name in FOLDERS}


PARTS: dict[str, Callable[[Bench], Iterator[Figure]]] = {
    "reader": Bench.read_painted,
    "scorer": Bench.judge_painted,
    "picture": Bench.obey,
    "order": Bench.order,
    "agree": Bench.agree,
    "room": Bench.head_room,
    "cost": Bench.cost,
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all unless named")
    parser.add_argument("--folder", type=Path, default=ROOT / "services" / "embedded")
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of pictures")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    bench = Bench(options.folder, options.scale)
    print(json.dumps({"figure": "weights", "sha256": fingerprints(options.folder)}), flush=True)
    for name in options.parts or PARTS:
        for figure in PARTS[name](bench):
            print(json.dumps(figure), flush=True)


if __name__ == "__main__":
    main()
