"""Rewrites a naive prompt under an instruction and checks the rewrite."""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from bigpe.agents.evidence.terms import one_line, subject_kept, subject_words, words
from bigpe.agents.messages.answer_fault import AnswerFault
from bigpe.agents.reasoning.answers.json_prompt import read_json_prompt
from bigpe.agents.reasoning.answers.prompt import read_prompt
from bigpe.agents.reasoning.answers.protected import keep_protected
from bigpe.agents.reasoning.asking import Exchange, Exchanged, Fault
from bigpe.agents.reasoning.constraints import NONE, Constraints
from bigpe.agents.reasoning.rules import EMBEDDED_REWRITES, RewriteRules
from bigpe.prompts.templates import template
from bigpe.services.core.values import IDEOGRAPHS, Instruction, derive_seed
from bigpe.services.llm.service import LlmClient, LlmRequest, Turn, few_shot

_REFUSAL = re.compile(
    r"(?:i['\u2019]m (?:sorry|unable)|i am sorry|i cannot|i can['\u2019]t|as an ai)\b", re.I
)
_IDEOGRAPH = re.compile(f"[{IDEOGRAPHS}]")
_ENDS = " .\u3002"
_WANTED = "Answer with the rewritten prompt alone."


class Rewrite(Exchanged):
    """The rewrite of a naive prompt, or a fallback."""

    naive: str
    text: str
    """The rewritten prompt; the naive prompt if `fallback` gives a reason."""
    fallback: str | None = None
    fault: AnswerFault | None = None
    """The class of `fallback`."""
    attempts: int = 1
    negative: str = ""
    """The negative prompt, where the painter takes one."""
    notes: tuple[str, ...] = ()
    """What was taken off the answer or put back, for people."""


class CheckedRewrite(NamedTuple):
    """A rewrite as it was read, and why it cannot be used."""

    text: str
    fault: Fault | None = None
    negative: str = ""
    notes: tuple[str, ...] = ()


def request_for(
    instruction: Instruction | None,
    naive: str,
    seed: int,
    rules: RewriteRules = EMBEDDED_REWRITES,
    system: str | None = None,
) -> LlmRequest:
    """The request that asks for a rewrite: the instruction, its exemplars as turns, the prompt.

    Without an instruction, the request only states the task. `system`: the system text of a style;
    None: that of the evidence-worded style.
    """
    if system is None:
        text = instruction.text if instruction else ""
        system = template("generator").system_with(instruction=text)
    exemplars = instruction.exemplars if instruction else ()
    turns = few_shot(system, [(exemplar.naive, exemplar.rewrite) for exemplar in exemplars])
    turns.append(Turn(role="user", text=naive))
    return LlmRequest(
        turns=tuple(turns),
        seed=seed,
        temperature=rules.temperature,
        max_tokens=rules.max_tokens,
        stop=("\n",) if rules.embedded else (),
    )


async def rewrite(
    llm: LlmClient,
    instruction: Instruction | None,
    naive: str,
    seed: int,
    constraints: Constraints = NONE,
    rules: RewriteRules = EMBEDDED_REWRITES,
    system: str | None = None,
) -> Rewrite:
    """Request rewrites until one is usable, with a new seed each time.

    If no rewrite is usable, the result is a fallback with the reason; it counts as a gain of 0.
    Failures of the service propagate; they count as missing. `system`: see `request_for`.
    """
    exchange = Exchange(llm, rules)

    def request(index: int) -> LlmRequest:
        own_seed = derive_seed(seed, index) if index else seed
        return request_for(instruction, naive, own_seed, rules, system)

    def judge(raw: str) -> CheckedRewrite | Fault:
        checked = check_rewrite(naive, raw, instruction, constraints, rules)
        return checked.fault or checked

    done = await exchange.obtain(request, judge, _WANTED)
    result = Rewrite(naive=naive, text=naive, attempts=exchange.attempts, **exchange.fields())
    if isinstance(done, Fault):
        return result.model_copy(update={"fallback": done.text, "fault": done.code})
    found = {"text": done.text, "negative": done.negative, "notes": done.notes}
    return result.model_copy(update=found)


def check_rewrite(
    naive: str,
    raw: str,
    instruction: Instruction | None,
    constraints: Constraints = NONE,
    rules: RewriteRules = EMBEDDED_REWRITES,
) -> CheckedRewrite:
    """The rewrite that an answer holds, and why it is unusable (None if it is usable)."""
    if rules.embedded:
        text = clean(raw)
        found = _embedded_fault(naive, text, instruction, rules)
        checked = CheckedRewrite(text, Fault(*found) if found else None)
    else:
        checked = _read(naive, raw, rules)
    if checked.fault is None and (broken := constraints.rewrite_violation(checked.text)):
        return checked._replace(fault=Fault(AnswerFault.CONSTRAINT, broken))
    return checked


def _read(naive: str, raw: str, rules: RewriteRules) -> CheckedRewrite:
    """The rewrite of a model that may write prose, in any packaging."""
    found = read_json_prompt(raw) if rules.json_object else read_prompt(raw, naive)
    if found.fault is not None:
        return CheckedRewrite("", Fault(found.fault, found.reason))
    kept = keep_protected(naive, found.text, rules.protect)
    negative = found.negative if rules.negative else ""
    checked = CheckedRewrite(kept.text, None, negative, (*found.notes, *kept.notes))
    if kept.lost:
        lost = ", ".join(kept.lost)
        reason = f"the rewrite lost what must stay letter for letter ({lost})"
        return checked._replace(fault=Fault(AnswerFault.PROTECTED, reason))
    if (length := word_count(kept.text)) > rules.max_words:
        reason = (
            f"the rewrite has {length:,} words, more than {rules.max_words:,}; "
            "[reasoning.generator] max_words is the limit"
        )
        return checked._replace(fault=Fault(AnswerFault.TOO_LONG, reason))
    if _same(naive, kept.text) and not negative:
        return checked._replace(fault=Fault(AnswerFault.UNCHANGED, "the rewrite changed nothing"))
    return checked


def word_count(text: str) -> int:
    """The number of words; two ideographs count as one."""
    ideographs = len(_IDEOGRAPH.findall(text))
    return len(_IDEOGRAPH.sub(" ", text).split()) + (ideographs + 1) // 2


def _same(naive: str, text: str) -> bool:
    return one_line(naive).casefold().rstrip(_ENDS) == text.casefold().rstrip(_ENDS)


def _embedded_fault(
    naive: str, text: str, instruction: Instruction | None, rules: RewriteRules
) -> tuple[AnswerFault, str] | None:
    """Why a rewrite of the embedded model is unusable."""
    if not text:
        return AnswerFault.EMPTY, "the rewrite was empty"
    if _REFUSAL.match(text) and not _REFUSAL.match(naive):
        return AnswerFault.REFUSED, "the model refused"
    if len(words(text)) > rules.max_words:
        return AnswerFault.TOO_LONG, f"the rewrite was longer than {rules.max_words} words"
    if not subject_kept(naive, text):
        missing = ", ".join(sorted(subject_words(naive) - set(words(text))))
        return AnswerFault.SUBJECT, f"the rewrite dropped the subject ({missing})"
    if words(text) == words(naive):
        return AnswerFault.UNCHANGED, "the rewrite changed nothing"
    copied = _copied_subject(naive, text, instruction) if instruction else None
    if copied:
        return AnswerFault.SUBJECT, f"the rewrite took over an exemplar's subject ({copied})"
    return None


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
