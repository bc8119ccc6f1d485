"""How every method's text becomes an instruction for the embedded language model.

SmolLM2-135M does not obey a text; it continues exemplars (shared fact, measured in bench_llm.py:
0.2 of the wanted terms by text alone, 0.96 when exemplars show them). bigpe's own instructions
carry exemplars. So that a peer's text is obeyed just as well, the phrases that it names are shown
in exemplars, made from the seed instruction's subjects in the way bigpe makes its own.
"""

from __future__ import annotations

import re

from bigpe.agents.evidence.terms import STOP_WORDS, words
from bigpe.runtime.project.seed_files import seed_instructions
from bigpe.services.core.values import Exemplar, Instruction

MOST_PHRASES = 6
LONGEST_PHRASE = 4
LONGEST_TEXT = 400
"""Characters of a text that are kept: the rest would not fit the small model's context."""
_BREAK = re.compile(
    r"[,;.:!?()\[\]\"\n]|\band\b|\bwith\b|\binclud(?:e|es|ing)\b|\bor\b|\bplus\b",
    re.I,
)
_AVOID = re.compile(
    r"\b(?:avoid|avoiding|leave out|without|drop|remove|do not use|don't use|no)\b", re.I
)
_VERBS = frozenset(
    """add adding use using make making keep keeping write rewrite rewriting say saying describe
    describing give show showing put try mention name ensure create generate want""".split()
)
_EMPTY = frozenset(
    """detail details more things thing prompt prompts picture pictures image images photo subject
    instruction instructions example examples word words sentence scene happening score scores
    one line better good best new short professional text phrase phrases""".split()
)


def phrases_of(text: str) -> tuple[str, ...]:
    """The phrases that an instruction's text names, in order, at most six; no avoided ones."""
    found: dict[str, None] = {}
    for sentence in re.split(r"[.;\n]", text):
        wanted = _AVOID.split(sentence)[0]
        for part in _BREAK.split(wanted):
            phrase = _phrase(part)
            if phrase:
                found.setdefault(phrase, None)
    return tuple(found)[:MOST_PHRASES]


def _phrase(part: str) -> str:
    listed = words(part)
    while listed and (listed[0] in _VERBS or listed[0] in STOP_WORDS):
        listed = listed[1:]
    while listed and listed[-1] in STOP_WORDS:
        listed = listed[:-1]
    if not listed or len(listed) > LONGEST_PHRASE or set(listed) <= _EMPTY:
        return ""
    return " ".join(listed)


def realise(text: str) -> Instruction:
    """The instruction that the text is, shown by exemplars; a seed text keeps its own exemplars."""
    seeds = [seed.instruction for seed in seed_instructions()]
    kept = " ".join(text.split())[:LONGEST_TEXT] or seeds[0].text
    existing = {seed.text: seed for seed in seeds}
    if kept in existing:
        return existing[kept]
    phrases = phrases_of(kept)
    if not phrases:
        return Instruction(text=kept, exemplars=seeds[0].exemplars)
    exemplars = tuple(
        Exemplar(
            naive=displayed.naive, rewrite=", ".join([displayed.naive, *_turned(phrases, index)])
        )
        for index, displayed in enumerate(seeds[0].exemplars)
    )
    return Instruction(text=kept, exemplars=exemplars)


def _turned(phrases: tuple[str, ...], index: int) -> tuple[str, ...]:
    """Another order in each exemplar: the model should learn the phrases, not their sequence."""
    start = index % len(phrases)
    return phrases[start:] + phrases[:start]
