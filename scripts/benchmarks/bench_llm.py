"""Does the embedded LLM obey the instruction? Figures as JSON lines (see docs/figures in README).

    python scripts benchmarks.bench_llm [--quick] [--part rewrites] [--config bigpe.toml]

For five classes of terms there is an instruction of three exemplars that show the class. A prompt
follows if its rewrite contains a term of the class; the share under a neutral instruction is
taken off. Everything runs through the product's own Generator, Gradient and Modifier code.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.figures import say
from bigpe.agents.evidence.mixed_model import EvidenceRow, PairedComparison
from bigpe.agents.evidence.terms import contains_term, subject_kept, terms_of
from bigpe.agents.messages.core import Gradient
from bigpe.agents.reasoning.evidence_worded.gradient import sample_evidence, word_gradient
from bigpe.agents.reasoning.evidence_worded.instruction import propose
from bigpe.agents.reasoning.interface import Proposal
from bigpe.agents.reasoning.rewriting import Rewrite, rewrite
from bigpe.prompts.library import naive_prompts, professional_prompts
from bigpe.runtime.project.config import BigpeConfig, load_config
from bigpe.runtime.project.seed_files import seed_instructions
from bigpe.services.core.values import Exemplar, Instruction, derive_seed
from bigpe.services.llm.config import load_client
from bigpe.services.llm.service import LlmService
from bigpe.services.store.call_cache import CallCache
from bigpe.services.store.database import Store

SUBJECTS = ("a bowl of soup on a table", "umbrella by the door", "the lamp")
CLASSES: dict[str, tuple[str, ...]] = {
    "light": ("golden hour", "moonlight", "neon lights"),
    "style": ("oil painting", "watercolor", "pencil sketch"),
    "color": ("vibrant colors", "muted colors", "pastel colors"),
    "detail": ("intricate details", "highly detailed", "fine texture"),
    "framing": ("close-up", "wide shot", "centered composition"),
}
CLASS_WORDS: dict[str, tuple[str, ...]] = {
    "light": ("hour", "light", "lights", "moonlight", "sunset", "glow", "sunlight"),
    "style": ("painting", "watercolor", "sketch", "drawing", "art"),
    "color": ("colors", "color", "colours", "hues", "pastel", "vibrant", "muted"),
    "detail": ("details", "detailed", "texture", "intricate"),
    "framing": ("close-up", "shot", "composition", "centered"),
}


def instruction_for(name: str) -> Instruction:
    terms = CLASSES[name]
    displayed = zip(SUBJECTS, terms, strict=True)
    return Instruction(
        text=f"Name the {name}.",
        exemplars=tuple(Exemplar(naive=s, rewrite=f"{s}, {t}") for s, t in displayed),
    )


def say_mean(figure: str, values: Sequence[float], unit: str, how: str) -> None:
    """A mean with a bootstrap interval over `values` (its units are prompts)."""
    data = np.array(values, dtype=float)
    rng = np.random.default_rng(0)
    means = data[rng.integers(0, len(data), (2000, len(data)))].mean(axis=1)
    lo, hi = (float(v) for v in np.quantile(means, (0.025, 0.975)))
    say(figure, float(data.mean()), unit=unit, n=len(data), lo=lo, hi=hi, how=how)


async def rewrite_all(
    llm: LlmService, instruction: Instruction, prompts: Sequence[str], seed: int
) -> list[Rewrite]:
    return [await rewrite(llm, instruction, p, derive_seed(seed, p)) for p in prompts]


async def follow(llm: LlmService, prompts: Sequence[str]) -> None:
    """instruction_follow_rate, subject_kept_rate, arm_distinctness."""
    neutral = await rewrite_all(llm, seed_instructions()[0].instruction, prompts, 0)
    per_prompt = np.zeros((len(CLASSES), len(prompts)))
    kept = [float(r.fallback is None and subject_kept(r.naive, r.text)) for r in neutral]
    by_class: dict[str, list[Rewrite]] = {}
    for index, name in enumerate(CLASSES):
        done = by_class[name] = await rewrite_all(llm, instruction_for(name), prompts, 0)
        print(f"{name}: {done[0].text!r}", file=sys.stderr)
        for column, (made, base) in enumerate(zip(done, neutral, strict=True)):
            hits = [any(contains_term(r.text, w) for w in CLASS_WORDS[name]) for r in (made, base)]
            per_prompt[index, column] = hits[0] - hits[1]
        kept += [float(r.fallback is None and subject_kept(r.naive, r.text)) for r in done]
        rate = per_prompt[index].mean()
        print(f"  follow rate of {name}: {rate:.2f}", file=sys.stderr)
    how = "share of rewrites with the instructed class of terms, less under a neutral instruction"
    say_mean("instruction_follow_rate", per_prompt.mean(axis=0).tolist(), "share", how)
    say_mean(
        "subject_kept_rate", kept, "share", "rewrites without fallback that keep the subject words"
    )
    await distinct(llm, prompts, by_class)


async def distinct(
    llm: LlmService, prompts: Sequence[str], by_class: dict[str, list[Rewrite]]
) -> None:
    again = await rewrite_all(llm, instruction_for("light"), prompts, 1)
    names = list(by_class)
    differences: list[float] = []
    for column in range(len(prompts)):
        base = by_class["light"][column]
        across = [distance(base, by_class[name][column]) for name in names if name != "light"]
        differences.append(float(np.mean(across)) - distance(base, again[column]))
    how = "Jaccard distance of added terms: between instructions less between seeds, by prompt"
    say_mean("arm_distinctness", differences, "distance", how)


def distance(a: Rewrite, b: Rewrite) -> float:
    x, y = terms_of(a.naive, a.text), terms_of(b.naive, b.text)
    return 1 - len(x & y) / len(x | y) if x | y else 0.0


async def proposals(llm: LlmService, prompts: Sequence[str], rounds: int) -> None:
    """proposal_accept_rate: gradient and modifier on evidence tables of random terms."""
    parent = seed_instructions()[0].instruction
    living = [seed.instruction for seed in seed_instructions()]
    accepted: list[float] = []
    followed: list[float] = []
    by_model: dict[str, list[float]] = {"gradients": [], "instructions": []}
    pool = [p.text for p in professional_prompts("world")]
    for index in range(rounds):
        rng = random.Random(index)
        terms = rng.sample([t for words in CLASSES.values() for t in words], 5)
        rows = [row(i, term, rng.gauss(0, 0.01)) for i, term in enumerate(terms)]
        focus = sample_evidence(rows, parent, count=1, seed=index)[0]
        batch = rng.sample(list(prompts), 5)
        best = PairedComparison(
            naive=batch[0], rewrite=f"{batch[0]}, {terms[0]}", seed=0, gain=0.01, arm="a"
        )
        worded = await word_gradient(llm, focus, best, None, None, index)
        gradient = Gradient(
            inference=worded.inference,
            improvement=worded.improvement,
            evidence=worded.evidence,
            composed=worded.composed,
        )
        made = await propose(
            llm, gradient, rows, parent=parent, professional=rng.sample(pool, 5), pairs=[best],
            living=living, batch_prompts=batch, seed=index,
        )  # fmt: skip
        by_model["gradients"].append(float(not worded.composed))
        accepted.append(float(isinstance(made, Proposal)))
        if isinstance(made, Proposal):
            add = [r.term for r in focus if r.effect > 0 and r.id in worded.evidence]
            test = await rewrite(llm, made.instruction, rng.choice(prompts), index)
            followed += [float(contains_term(test.text, term)) for term in add]
            by_model["instructions"].append(float(not made.composed))
            how = "model" if not made.composed else "composed"
            print(f"{index}: [{how}] {made.instruction.text}", file=sys.stderr)
            living, parent = [*living[-3:], made.instruction], made.instruction
        else:
            print(f"{index}: refused: {made.reasons}", file=sys.stderr)
    say_mean("proposal_accept_rate", accepted, "share", "rounds with a valid new instruction")
    for what, values in by_model.items():
        say_mean(f"{what}_worded_by_model", values, "share", "the others were composed")
    say_mean("proposal_follow_rate", followed, "share", "cited terms found in a rewrite under it")


def row(index: int, term: str, effect: float) -> EvidenceRow:
    return EvidenceRow(
        id=f"E{index + 1}", kind="term", term=term, effect=effect, lo=effect - 0.006,
        hi=effect + 0.006, n=8, arms=2, confounded=False,
    )  # fmt: skip


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smaller run of the same thing")
    parser.add_argument("--part", choices=("rewrites", "proposals"), help="measure only this")
    parser.add_argument("--config", type=Path, help="measure this file's [llm.default] instead")
    chosen = parser.parse_args()
    config = load_config(chosen.config) if chosen.config else BigpeConfig()
    prompts = random.Random(1).sample(naive_prompts("world"), 8 if chosen.quick else 50)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        async with Store(Path(folder) / "bench.db") as store:
            wanted = config.llm_for("generator")
            client = load_client(wanted)
            llm = LlmService(client, CallCache(store), config=wanted)
            try:
                if chosen.part != "proposals":
                    await follow(llm, prompts)
                if chosen.part != "rewrites":
                    await proposals(llm, prompts, 6 if chosen.quick else 30)
                seconds = time.monotonic() - start
                used = client.total_usage()
                tokens = used.prompt_tokens + used.completion_tokens
                how = "prompt and answer tokens, all figures, other work on the machine included"
                say("tokens_per_second", tokens / seconds, unit="tokens/s", n=tokens, how=how)
            finally:
                await llm.close()


if __name__ == "__main__":
    asyncio.run(main())
