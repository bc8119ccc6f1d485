"""The language model as the peers' prompt engineer: one way of asking, for all of them.

Their published meta prompts ask for analysis that a 135M model cannot do. So each peer's request is
put in a few short lines (its adapter does that), shown how to answer by examples, held to the
JSON schema that bigpe's Modifier is held to, and given professional prompts, the source of
phrases that bigpe's Modifier has. As there, an answer must pass rules, and where no answer does,
one is composed: else peers would be racing the small model's babble, not bigpe.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from typing import NamedTuple

from bigpe.agents.evidence.terms import contains_term, one_line, words
from bigpe.services.core.errors import UnusableAnswerError
from bigpe.services.core.values import LlmUsage, derive_seed
from bigpe.services.llm.service import LlmClient, LlmRequest, Turn, few_shot
from peers.realise import LONGEST_PHRASE, MOST_PHRASES, phrases_of
from peers.task import told_of

ATTEMPTS = 2
"""As many wordings as bigpe's Modifier asks for."""
TEMPERATURE = 0.8
MAX_TOKENS = 80
SHOWN = 2
"""Professional prompts a request; bigpe's Modifier sees as many."""
PARENTS = 3
"""Instructions of a request that a composed one is crossed from, its last: OPRO's are its best."""
LONGEST_ASK = 2400
"""Characters of a peer's request, its end kept: what the model's context holds."""
LONGEST_PROFESSIONAL = 240
OFFERED = 4
SYSTEM = (
    "You write instructions for rewriting short picture prompts. You are given earlier "
    "instructions, how well they did, and phrases of professional prompts. Write a new and better "
    "instruction in one sentence of at most 30 words that names phrases to include."
)
EXAMPLES = (
    (
        "text:\nSay more, with plastic bags and gravel.\nscore: 12\n\n"
        "text:\nSay more, with walnut wood.\nscore: 61\n\n"
        "professional: a writing desk, ink, brass fittings, a quill\n"
        "phrases: ink, brass fittings, quill",
        "Say more, with walnut wood and brass fittings.",
    ),
    (
        "parent: Add things, with lantern and cobblestones.\n"
        "parent: Add things, with moss and ripples.\n"
        "professional: an old bridge by a canal, hand rails, ivy\n"
        "phrases: hand rails, ivy",
        "Add things, with lantern, moss and ivy.",
    ),
    (
        "current: Say who made it, with old bolts.\n"
        "Example 1\nreward -0.040\na gate, old bolts\n"
        "professional: a gate in a wall, wrought iron, roses\n"
        "phrases: wrought iron, roses",
        "Say who made it, with wrought iron.",
    ),
)
SCHEMA = {
    "type": "object",
    "properties": {"instruction": {"type": "string", "maxLength": 300}},
    "required": ["instruction"],
    "additionalProperties": False,
}
_PARENT = re.compile(r"^(?:parent|current): (.+)$|^text:\n(.+)$", re.M)
_MEASURED = re.compile(r"^ *([^:\n]+): \+\d\.\d+ \(n=\d+\)$", re.M)


class _Brief(NamedTuple):
    """What a request is about."""

    parents: tuple[str, ...]
    measured: tuple[str, ...]
    """Terms with a positive measured effect, where the request has an evidence table."""
    offered: tuple[str, ...]
    """Phrases to choose from: measured ones, then clauses of the professional prompts shown."""


class PromptEngineer:
    """Answers the peers' requests; equal requests in equal order get equal answers."""

    def __init__(self, llm: LlmClient, professional: Sequence[str], seed: int) -> None:
        self._llm = llm
        self._professional = professional
        self._seed = seed
        self.usage = LlmUsage()
        self.composed = 0
        """Answers that were composed, because the model gave none that passed."""

    async def ask(self, text: str, number: int) -> str:
        """A new instruction for the request `text`, the `number`-th of the run."""
        rng = random.Random(derive_seed(self._seed, "meta", number))
        exemplars = rng.sample(self._professional, SHOWN)
        brief = _brief(text, exemplars)
        for attempt in range(ATTEMPTS):
            seed = derive_seed(self._seed, "meta", number, attempt)
            try:
                answer = await self._llm.ask(_request(text, exemplars, brief, seed))
            except UnusableAnswerError as error:
                self.usage += error.usage
                continue
            self.usage += answer.usage
            result = _instruction(answer.text)
            if _passes(result, text, brief):
                return result
        self.composed += 1
        return _compose(brief, rng)


def _brief(text: str, exemplars: Sequence[str]) -> _Brief:
    found = [" ".join("".join(groups).split()) for groups in _PARENT.findall(text)]
    parents = tuple(parent for parent in found if words(parent))[-PARENTS:]
    measured = tuple(dict.fromkeys(term.strip() for term in _MEASURED.findall(text)))
    clauses = [
        " ".join(listed)
        for prompt in exemplars
        for part in prompt.split(",")[1:]
        if 0 < len(listed := words(part)) <= LONGEST_PHRASE
    ]
    offered = dict.fromkeys([*measured[: OFFERED // 2], *clauses])
    return _Brief(parents, measured, tuple(offered)[: 2 * OFFERED])


def _request(text: str, exemplars: Sequence[str], brief: _Brief, seed: int) -> LlmRequest:
    answers = [(user, json.dumps({"instruction": instruction})) for user, instruction in EXAMPLES]
    turns = few_shot(SYSTEM, answers)
    lines = [text[-LONGEST_ASK:]]
    lines += [f"professional: {one_line(prompt)[:LONGEST_PROFESSIONAL]}" for prompt in exemplars]
    # Last, because a small model goes by what it read last.
    lines += [f"phrases: {', '.join(brief.offered)}"] if brief.offered else []
    turns.append(Turn(role="user", text="\n".join(lines)))
    return LlmRequest(
        turns=tuple(turns),
        seed=seed,
        temperature=TEMPERATURE,
        max_tokens=MAX_TOKENS,
        answer_schema=SCHEMA,
    )


def _instruction(raw: str) -> str:
    try:
        report = json.loads(raw)["instruction"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return one_line(report) if isinstance(report, str) else ""


def _passes(expected: str, text: str, brief: _Brief) -> bool:
    """Whether it names phrases, all of them from the request, and is no instruction of it."""
    phrases = phrases_of(expected)
    requests = " , ".join((text, *brief.offered))
    own = {frozenset(phrases_of(parent)) for parent in brief.parents}
    return (
        bool(phrases)
        and all(contains_term(requests, phrase) for phrase in phrases)
        and frozenset(phrases) not in own
    )


def _compose(brief: _Brief, rng: random.Random) -> str:
    """The parents' phrases, each kept by chance where there are several parents, and a new one."""
    existing = list(dict.fromkeys(p for parent in brief.parents for p in phrases_of(parent)))
    kept = [p for p in existing if len(brief.parents) < 2 or rng.random() < 1 / 2]
    source = [p for p in brief.measured or brief.offered if p not in existing]
    source = source or [p for p in brief.offered if p not in existing]
    new = [rng.choice(source)] if source else []
    while len(kept) + len(new) > MOST_PHRASES:
        kept.pop(rng.randrange(len(kept)))
    return told_of([*kept, *new] or existing[:1])
