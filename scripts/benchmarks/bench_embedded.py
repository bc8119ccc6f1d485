"""Measure the embedded models against their bars: one JSON line per figure.

    python scripts benchmarks.bench_embedded [--quick] [--folder FOLDER] [--scale 1.0]
        [--demo-runs 10] [PART ...]

Prompts, scenes and seeds are fresh. Shares have Wilson intervals, means Student's, correlations a
bootstrap over prompts; 95% unless the figure says otherwise. What a generated picture shows is
said by the attribute reader, whose own errors (part `reader`) count against the picture model.
Part `demo` runs what `make demo` runs, with the installed weights, once a run seed: minutes each.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from embedded_world.embedded import world
from embedded_world.embedded.attributes import GROUPS
from embedded_world.embedded.check_stage import GUIDANCE, STEPS, SUFFIXES, Exported
from embedded_world.embedded.dataset import HELD_OUT
from embedded_world.embedded.demo_runs import Judged, judged_runs
from embedded_world.embedded.painting import paint
from embedded_world.embedded.reader_stage import Reader
from embedded_world.embedded.scorer_stage import Lineups
from PIL import Image
from scipy import stats
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.figures import say
from bigpe.services.models.fingerprints import folder_fingerprint

ROOT = Path(__file__).resolve().parents[2]
SEED = 770_001
QUICK = 0.05
FRESH_SCENES = 4000
PICTURES_A_PROMPT = 12
NOISE_WORDS = SUFFIXES["filler"]
QUALITY_PROMPTS = {"sharp": "sharp focus", "vivid": "vivid colors", "detail": "highly detailed"}
LOW_PROMPTS = {"sharp": "blurry", "vivid": "muted colors", "detail": "minimalist"}

DEMO_PROMPTS = 60
DEMO_QUICK: dict[str, Any] = {
    "settings": ("run.rounds=2", "run.batch_size=2", "run.pilot_prompts=2"),
    "candidates": 1,
}

FOLDERS = ("pipeline", "scorer", "guard", "reader")

Figure = dict[str, Any]


def figure(
    name: str, value: float, unit: str, n: int, how: str, lo: float | None, hi: float | None
) -> Figure:
    """See `figures.say`, which prints it."""
    lo, hi = (None if bound is None else round(float(bound), 4) for bound in (lo, hi))
    return {"figure": name, "value": round(float(value), 4), "unit": unit, "n": n, "how": how,
            "lo": lo, "hi": hi}  # fmt: skip


def share(name: str, right: int, count: int, how: str) -> Figure:
    """A share with its Wilson interval."""
    test = stats.binomtest(right, count).proportion_ci(0.95, "wilson")
    return figure(name, right / count, "share", count, how, test.low, test.high)


def mean(name: str, gains: np.ndarray, how: str, unit: str, confidence: float = 0.95) -> Figure:
    """A mean with Student's interval."""
    half = stats.t.ppf(0.5 + confidence / 2, len(gains) - 1) * stats.sem(gains)
    middle = float(gains.mean())
    text = f"{how}; {confidence:.0%} Student interval over prompts"
    return figure(name, middle, unit, len(gains), text, middle - half, middle + half)


def bootstrap(name: str, values: np.ndarray, how: str) -> Figure:
    """A mean over prompts with a bootstrap interval."""
    drawn = np.random.default_rng(SEED).choice(values, (2000, len(values))).mean(1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    text = f"{how}; 95% bootstrap over prompts"
    return figure(name, float(values.mean()), "correlation", len(values), text, low, high)


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

    def __init__(self, folder: Path, scale: float, demo_runs: int) -> None:
        self.folder = folder
        self._scale = scale
        self._demo_runs = demo_runs
        self.models = Exported(folder)
        self.reader = Reader(folder / "reader")

    def size(self, count: int) -> int:
        return max(4, round(count * self._scale))

    def questions(self, count: int, label: str) -> list[Asked]:
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

    def paint(self, requests: Sequence[Asked], suffixes: Sequence[str]) -> list[Image.Image]:
        prompts = [a.naive + suffix for a, suffix in zip(requests, suffixes, strict=True)]
        return self.models.pictures(prompts, [a.seed for a in requests])

    def read_painted(self) -> Iterator[Figure]:
        """The reader on painted scenes."""
        rng = random.Random(f"{SEED}:reader")
        scenes = [world.sample_scene(rng) for _ in range(self.size(2000))]
        read = self.reader.read([paint(s) for s in scenes])
        for name in GROUPS:
            right = sum(
                v == getattr(s, name) for v, s in zip(read.values(name), scenes, strict=True)
            )
            yield share(f"reader_{name}_acc", right, len(scenes), "painted scenes read right")
        for name in world.SCALAR_TASTE:
            true = np.array([getattr(s, name) for s in scenes])
            r = float(np.corrcoef(read.scalar(name).numpy(), true)[0, 1])
            how = "Pearson correlation with what was painted"
            yield figure(f"reader_{name}_corr", r, "correlation", len(scenes), how, None, None)

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
        for name in ("scorer", "guard"):
            models = self.models if name == "scorer" else Exported(self.folder, name)
            scored = models.scores(images, prompts).reshape(truths.shape)
            right = (scored[:, :, None] > scored[:, None, :]) & wide
            # Pairs of one prompt hang together: the interval is a bootstrap over prompts.
            rows = np.array([[r.sum(), w.sum()] for r, w in zip(right, wide, strict=True)])
            picks = np.random.default_rng(SEED).integers(0, len(rows), (2000, len(rows)))
            sums = rows[picks].sum(1)
            low, high = np.quantile(sums[:, 0] / sums[:, 1], (0.025, 0.975))
            value = rows[:, 0].sum() / rows[:, 1].sum()
            count = int(rows[:, 1].sum())
            how = f"pairs of painted scenes ordered right, {len(rows)} prompts; 95% bootstrap"
            yield figure(f"{name}_pair_acc", value, "share", count, how, low, high)

    def obey(self) -> Iterator[Figure]:
        """The picture model on prompts that state the attribute."""
        count = self.size(192)
        rights = {"subject": [0, 0], "place": [0, 0]}
        how = "pictures that show what their prompt names, said by the reader"
        for group, words in (("light", world.LIGHTS), ("style", world.STYLES)):
            question = self.questions(count, group)
            rng = random.Random(f"{SEED}:{group}")
            wanted = [rng.choice(list(words)) for _ in question]
            images = self.paint(question, [f", {rng.choice(words[v])}" for v in wanted])
            read = self.reader.read(images)
            right = sum(a == b for a, b in zip(read.values(group), wanted, strict=True))
            yield share(f"t2i_{group}_acc", right, count, how)
            for name, tally in rights.items():
                displayed = read.values(name)
                tally[0] += sum(
                    v == getattr(a, name) for v, a in zip(displayed, question, strict=True)
                )
                tally[1] += count
        for name, (right, of) in rights.items():
            yield share(f"t2i_{name}_acc", right, of, how)

    def order(self) -> Iterator[Figure]:
        """A quality stated high against low at the same seed."""
        rights = total = 0
        for name, high in QUALITY_PROMPTS.items():
            questions = self.questions(self.size(64), name)
            more = self.reader.read(self.paint(questions, [f", {high}"] * len(questions)))
            less = self.reader.read(
                self.paint(questions, [f", {LOW_PROMPTS[name]}"] * len(questions))
            )
            right = int((more.scalar(name) > less.scalar(name)).sum())
            how = f"pairs of one seed where the prompt that asks for more {name} shows more"
            yield share(f"t2i_{name}_order_acc", right, len(questions), how)
            rights, total = rights + right, total + len(questions)
        yield share("t2i_scalar_order_acc", rights, total, "the same, all three together")

    def agree(self) -> Iterator[Figure]:
        """Rank correlation of score and true utility over rewrites of one naive prompt."""
        requested = self.questions(self.size(32), "agree")
        rng = random.Random(f"{SEED}:agree")
        found: dict[str, list[float]] = {"scorer": [], "guard": []}
        guard = Exported(self.folder, "guard")
        for item in requested:
            scenes = [world.sample_scene(rng) for _ in range(PICTURES_A_PROMPT)]
            suffixes = ["".join(f", {p}" for p in world.modifiers(s, rng, 0.5)) for s in scenes]
            many = [Asked(item.text, item.naive, item.subject, item.place, s.seed) for s in scenes]
            images = self.paint(many, suffixes)
            truth = self.reader.read(images).utility(item.subject, item.place).numpy()
            for name, models in (("scorer", self.models), ("guard", guard)):
                scored = models.scores(images, [item.naive] * len(images))
                found[name].append(float(stats.spearmanr(scored, truth).statistic))  # pyright: ignore[reportAttributeAccessIssue]
        how = "rank correlation of score and true utility over rewrites of one naive prompt"
        for name in ("scorer", "guard"):
            yield bootstrap(f"{name}_spearman_generated", np.array(found[name]), how)

    def head_room(self) -> Iterator[Figure]:
        """Good, bad and meaningless words against the bare prompt at the same seed."""
        base = self.questions(self.size(32), "room")
        request = [
            Asked(a.text, a.naive, a.subject, a.place, a.seed + k) for a in base for k in range(4)
        ]
        naive = [a.naive for a in request]
        suffixes = {name: SUFFIXES[name] for name in ("naive", "good", "bad")}
        suffixes["good and filler"] = SUFFIXES["good"] + NOISE_WORDS
        images = {k: self.paint(request, [s] * len(request)) for k, s in suffixes.items()}
        scored = {k: self.models.scores(v, naive) for k, v in images.items()}
        reads = {k: self.reader.read(v) for k, v in images.items()}
        within = float(scored["naive"].reshape(-1, 4).std(1, ddof=1).mean())
        gains = {k: scored[k] - scored["naive"] for k in suffixes if k != "naive"}
        per_prompt = {k: g.reshape(-1, 4).mean(1) for k, g in gains.items()}
        room = "score x 100, good words less the bare prompt at the same seed"
        good = mean("gain_good_modifiers", per_prompt["good"], room, "points", 0.99)
        ratio = good["value"] / within
        yield good | {"how": f"{good['how']}; {ratio:.2f} within-prompt deviations ({within:.2f})"}
        bare = "score x 100, bad words less the bare prompt at the same seed"
        yield mean("gain_bad_modifiers", per_prompt["bad"], bare, "points", 0.99)
        change = (per_prompt["good and filler"] - per_prompt["good"]) / good["value"]
        answer = "5 meaningless words: gain by that of the good ones"
        yield mean("gain_filler_share", change, answer, "share")
        for name in ("good", "bad"):
            true = [
                float(reads[k].utility(a.subject, a.place)[i])
                for k in (name, "naive")
                for i, a in enumerate(request)
            ]
            both = np.array(true).reshape(2, -1, 4)
            gained = (both[0] - both[1]).mean(1)
            yield mean(f"true_gain_{name}_modifiers", gained, "true utility", "utility", 0.99)

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
        summary = f"{STEPS} steps, guidance {GUIDANCE}, {torch.get_num_threads()} threads"
        yield figure("render_seconds", middle, "s", len(seconds), f"{summary}; range",
                     min(seconds), max(seconds))  # fmt: skip
        summary = f"{gflops:.2f} GFLOP a picture over {peak:.0f} GFLOP/s of the fastest product"
        share_of_peak = gflops / middle / peak
        yield figure("render_gemm_ratio", share_of_peak, "ratio", len(seconds), summary, None, None)
        files = [f for f in self.folder.rglob("*") if f.is_file()]
        size = sum(f.stat().st_size for f in files) / 1e6
        yield figure("package_mb", size, "MB", len(files), weights_told(self.folder), None, None)

    def demo(self) -> Iterator[Figure]:
        """What `make demo` finds, run seed after run seed."""
        whole = self._scale >= 1
        runs, prompts = (self._demo_runs, DEMO_PROMPTS) if whole else (1, 4)
        short = {} if whole else DEMO_QUICK
        found = list(judged_runs(runs, prompts=prompts, **short))
        form = "the template as it is" if whole else "short runs"
        yield from demo_figures(found, f"run seeds, {form}, {prompts} test prompts each")


def demo_figures(found: Sequence[Judged], conditions: str) -> Iterator[Figure]:
    """What several runs found; a run that found nothing better than its first seed does not count
    as one that beats it."""
    gains, overs = (np.array(column) for column in zip(*found, strict=True))
    for name, values, what in (
        ("demo_positive_runs", gains, "the naive prompts"),
        ("demo_beats_seed_runs", overs, "the first seed instruction"),
    ):
        how = f"the found instruction's mean is above that of {what}; {conditions}; Wilson interval"
        yield share(name, int((values > 0).sum()), len(found), how)
    median = "median over runs of the found instruction's mean gain"
    how = f"{median}; {conditions}; lo and hi of single runs"
    middle = float(np.median(gains))
    yield figure("demo_median_gain", middle, "points", len(found), how, gains.min(), gains.max())


def gemm_peak(side: int = 1536, repeats: int = 8) -> float:
    """GFLOP/s of the fastest of some float32 matrix products, at the threads in use."""
    a = torch.randn(side, side)
    best = 1e9
    for _ in range(repeats):
        start = time.perf_counter()
        a @ a  # pyright: ignore[reportUnusedExpression]
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best / 1e9


def weights_told(folder: Path) -> str:
    """Which weights the figures belong to."""
    result = (f"{name} {folder_fingerprint(folder / name)}" for name in FOLDERS)
    return f"of the folders {', '.join(result)}"


PARTS: dict[str, Callable[[Bench], Iterator[Figure]]] = {
    "reader": Bench.read_painted,
    "scorer": Bench.judge_painted,
    "picture": Bench.obey,
    "order": Bench.order,
    "agree": Bench.agree,
    "room": Bench.head_room,
    "cost": Bench.cost,
    "demo": Bench.demo,
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all unless named")
    parser.add_argument("--folder", type=Path, default=ROOT / "services" / "models" / "embedded")
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of pictures")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help=f"scale {QUICK}, one short demo run")
    parser.add_argument("--demo-runs", type=int, default=10, help="run seeds, at scale 1 or more")
    options = parser.parse_args(arguments)
    options.scale = QUICK if options.quick else options.scale
    torch.set_num_threads(options.threads)
    bench = Bench(options.folder, options.scale, options.demo_runs)
    for name in options.parts or PARTS:
        for row in PARTS[name](bench):
            say(row.pop("figure"), row.pop("value"), **row)


if __name__ == "__main__":
    main()
