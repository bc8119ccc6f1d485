"""Rewrites a naive prompt under an instruction and checks the rewrite."""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from bigpe.agents.evidence.terms import one_line, subject_kept, subject_words, words
from bigpe.agents.messages.answer_fault import AnswerFault
from bigpe.agents.reasoning.constraints import NONE, Constraints
from bigpe.prompts.templates import template
from bigpe.services.core.errors import UnusableAnswerError
from bigpe.services.core.values import Instruction, LlmUsage, Value, derive_seed
from bigpe.services.llm.service import LlmClient, LlmRequest, Turn, few_shot

ATTEMPTS = 3
TEMPERATURE = 0.3
MAX_TOKENS = 64
MAX_WORDS = 60
_REFUSAL = re.compile(
    r"(?:i['\u2019]m (?:sorry|unable)|i am sorry|i cannot|i can['\u2019]t|as an ai)\b", re.I
)


class Rewrite(Value):
    """The rewrite of a naive prompt, or a fallback."""

    naive: str
    text: str
    """The rewritten prompt; the naive prompt if `fallback` gives a reason."""
    fallback: str | None = None
    fault: AnswerFault | None = None
    """The class of `fallback`."""
    attempts: int = 1
    turns: tuple[Turn, ...] = ()
    """The last request and its raw answer."""
    usage: LlmUsage = LlmUsage()
    """Usage of all attempts."""
    effect_keys: tuple[str, ...] = ()
    """Keys of the stored calls of all attempts, oldest first."""


class _Checked(NamedTuple):
    text: str
    fault: str | None
    code: AnswerFault | None = None


def request_for(instruction: Instruction | None, naive: str, seed: int) -> LlmRequest:
    """The request that asks for a rewrite: the instruction, its exemplars as turns, the prompt.

    Without an instruction, the request only states the task.
    """
    system = template("generator").system_with(instruction=instruction.text if instruction else "")
    exemplars = instruction.exemplars if instruction else ()
    turns = few_shot(system, [(exemplar.naive, exemplar.rewrite) for exemplar in exemplars])
    turns.append(Turn(role="user", text=naive))
    return LlmRequest(
        turns=tuple(turns),
        seed=seed,
        temperature=TEMPERATURE,
        max_tokens=MAX_TOKENS,
        stop=("\n",),
    )


async def rewrite(
    llm: LlmClient,
    instruction: Instruction | None,
    naive: str,
    seed: int,
    constraints: Constraints = NONE,
) -> Rewrite:
    """Request rewrites until one is usable, at most three times, with a new seed each time.

    If no rewrite is usable, the result is a fallback with the reason; it counts as a gain of 0.
    Failures of the service propagate; they count as missing.
    """
    fault, code, raw = "", AnswerFault.EMPTY, ""
    request = request_for(instruction, naive, seed)
    spent = LlmUsage()
    keys: tuple[str, ...] = ()
    for attempt in range(ATTEMPTS):
        request = request_for(instruction, naive, derive_seed(seed, attempt) if attempt else seed)
        try:
            answer = await llm.ask(request)
        except UnusableAnswerError as error:
            fault, code, raw = str(error), AnswerFault.EMPTY, error.raw
            spent += error.usage
            continue
        spent += answer.usage
        keys += (answer.effect_key,)
        raw = answer.text
        text, violation, kind = check_rewrite(naive, raw, instruction, constraints)
        if violation is None or kind is None:
            turns = (*request.turns, Turn(role="assistant", text=raw))
            return Rewrite(
                naive=naive,
                text=text,
                attempts=attempt + 1,
                turns=turns,
                usage=spent,
                effect_keys=keys,
            )
        fault, code = violation, kind
    return Rewrite(
        naive=naive,
        text=naive,
        fallback=fault,
        fault=code,
        attempts=ATTEMPTS,
        turns=(*request.turns, Turn(role="assistant", text=raw)),
        usage=spent,
        effect_keys=keys,
    )


def check_rewrite(
    naive: str, raw: str, instruction: Instruction | None, constraints: Constraints = NONE
) -> _Checked:
    """The cleaned rewrite, and why it is unusable (None if it is usable)."""
    text = clean(raw)
    if not text:
        return _Checked(text, "the rewrite was empty", AnswerFault.EMPTY)
    if _REFUSAL.match(text) and not _REFUSAL.match(naive):
        return _Checked(text, "the model refused", AnswerFault.REFUSED)
    if len(words(text)) > MAX_WORDS:
        reason = f"the rewrite was longer than {MAX_WORDS} words"
        return _Checked(text, reason, AnswerFault.TOO_LONG)
    if not subject_kept(naive, text):
        missing = ", ".join(sorted(subject_words(naive) - set(words(text))))
        reason = f"the rewrite dropped the subject ({missing})"
        return _Checked(text, reason, AnswerFault.SUBJECT)
    if words(text) == words(naive):
        return _Checked(text, "the rewrite changed nothing", AnswerFault.UNCHANGED)
    copied = _copied_subject(naive, text, instruction) if instruction else None
    if copied:
        reason = f"the rewrite took over an exemplar's subject ({copied})"
        return _Checked(text, reason, AnswerFault.SUBJECT)
    broken = constraints.rewrite_violation(text)
    return _Checked(text, broken, AnswerFault.CONSTRAINT if broken else None)


def _copied_subject(naive: str, text: str, instruction: Instruction) -> str | None:
    for exemplar in instruction.exemplars:
        subject = subject_words(exemplar.naive)
        if subject and not subject & subject_words(naive) and subject_kept(exemplar.naive, text):
            return " ".join(sorted(subject))
    return None


def clean(raw: str) -> str:
    """One line without quotes, labels, control characters and repeated phrases."""
    line = next((part for part in raw.strip().splitlines() if part.strip()), "")
    line = one_line(line)
    line = re.sub(r"^\s*(rewritten prompt|prompt|answer|rewrite)\s*:\s*", "", line, flags=re.I)
    line = line.strip().strip("\"'“”`").strip()
    return _without_repeats(line).rstrip(" ,;")


def _without_repeats(line: str) -> str:
    """Cut at the first repeated clause: small models repeat themselves."""
    kept: list[str] = []
    seen: set[str] = set()
    for clause in line.split(","):
        key = " ".join(words(clause)) or _symbols(clause)
        if not key or key in seen:
            break
        seen.add(key)
        kept.append(clause.strip())
    return ", ".join(kept)


def _symbols(clause: str) -> str:
    """The symbols of a clause, such as emoji: a clause may have no words."""
    return "".join(char for char in clause if unicodedata.category(char) == "So")
