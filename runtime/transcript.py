"""A run's transcript, told so that a person can follow it from naive prompt to score."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

from bigpe.agents.messages import (
    AnyMessage,
    ArmPulled,
    CritiqueRequested,
    GradientsComputed,
    ImageRendered,
    ImageScored,
    InstructionsProposed,
    LlmTurn,
    PlanChanged,
    PoolChanged,
    PromptsRewritten,
    ProposalRequested,
    RenderRequested,
    RewriteRequested,
    RunStarted,
    RunStopped,
    ScoreRequested,
    StepFailed,
    StopRequested,
    parse_message,
)
from bigpe.agents.role_messages import (
    GateDecided,
    Judgement,
    ReviewRequested,
    RoleReported,
    RoleSaid,
    RolesChanged,
)
from bigpe.runtime.search import Row
from bigpe.services.paging import PAGE, page
from bigpe.services.store import Store


class Entry(NamedTuple):
    """A transcript row."""

    seq: int
    sender: str
    ts: float
    """Unix time, seconds."""
    tokens: int
    ms: float
    """How long the step took that said it."""
    message: AnyMessage


async def entries(
    store: Store,
    run: str,
    *,
    type: str | None = None,
    round: int | None = None,
    sender: str | None = None,
    after: int = 0,
) -> AsyncIterator[Entry]:
    """The run's messages in the order they were stored, read a page at a time."""
    while True:
        rows = await page(store, run, after=after, type=type, round=round, sender=sender)
        for row in rows:
            yield Entry(
                row["seq"],
                row["sender"] or "session",
                row["ts"],
                row["tokens"],
                row["ms"],
                parse_message(row["body"]),
            )
        if len(rows) < PAGE:
            return
        after = rows[-1]["seq"]


def quote(text: str, limit: int = 160) -> str:
    """`text` in quotes on one line, cut at `limit` characters; control characters made visible."""
    flat = " ".join(text.split())
    shown = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in flat)
    return f'"{shown[: limit - 1]}…"' if len(shown) > limit else f'"{shown}"'


def points(value: float) -> str:
    """A gain on the display scale (score x 100), with its sign."""
    return f"{100 * value:+.2f}"


def describe_row(row: Row) -> list[str]:
    """Like `describe`, of a stored message of any kind."""
    message = row.message
    return describe(message) if message else [f"{row.kind}, which this version does not know"]


def describe(message: AnyMessage) -> list[str]:
    """What a message says, a headline and indented details."""
    match message:
        case RunStarted(plan=plan):
            return [
                f"run {message.run}: {plan.rounds} rounds of {plan.batch_size} prompts, policy "
                f"{plan.policy.get('name')}, pool of {plan.pool_size}, seed {plan.seed}",
                *(f"  seed instruction {quote(s.instruction.text)}" for s in plan.instructions),
            ]
        case PlanChanged():
            limits = [f"{name}={value:,g}" for name, value in message.limits if value]
            return [
                f"the plan is changed: {message.rounds} rounds, {message.concurrency} at a time, "
                f"budget {' '.join(limits) or 'without limits'}"
            ]
        case StopRequested():
            return [f"asks to stop: {message.reason}"]
        case RewriteRequested():
            return [
                f"rewrite {len(message.tasks)} prompts under {message.instruction.id[:8]} "
                f"{quote(message.instruction.text)}",
                *(f"  {quote(t.naive)} (image seed {t.image_seed})" for t in message.tasks),
            ]
        case PromptsRewritten():
            return [f"rewrote {len(message.rewrites)} prompts", *_rewrites(message)]
        case LlmTurn():
            answer = str(message.chat[-1].get("content", "")) if message.chat else ""
            used = f"{message.prompt_tokens}+{message.completion_tokens} tokens"
            return [f"asked its language model ({used}): {quote(answer)}"]
        case RenderRequested():
            return [f"paint the {message.purpose} prompt {quote(message.prompt)}"]
        case ImageRendered():
            size = f"{message.image.width}x{message.image.height}"
            cut = message.image.truncated_tokens
            note = f", {max(cut.values())} tokens cut off" if cut else ""
            return [
                f"painted {message.purpose} {quote(message.prompt)} as "
                f"{message.image.digest[:8]} ({size}{note})"
            ]
        case ScoreRequested():
            return [f"score {message.image[:8]} against {quote(message.naive)}"]
        case ImageScored():
            unread = message.naive_truncated
            note = f" ({unread} tokens of it cut off)" if unread else ""
            return [
                f"{100 * message.score:.2f} for {message.image[:8]}, the {message.purpose} "
                f"picture of {quote(message.naive)}{note}"
            ]
        case ArmPulled():
            return [f"pulled {message.instruction[:8]}", *_gains(message)]
        case CritiqueRequested():
            return ["what made the difference?", *_evidence(message)]
        case GradientsComputed():
            return [_count(len(message.gradients), "gradient"), *_gradients(message)]
        case ProposalRequested():
            return [f"turn {_count(len(message.gradients), 'gradient')} into instructions"]
        case InstructionsProposed():
            return [
                f"proposed {_count(len(message.proposals), 'instruction')}",
                *_proposals(message),
            ]
        case PoolChanged():
            return [f"pool: best is {message.best[:8]}", *_pool(message)]
        case RunStopped():
            return [f"the run ends: {message.reason}; best is {message.best[:8]}"]
        case RolesChanged():
            return [f"observers: {', '.join(message.observers) or 'none any more'}"]
        case RoleSaid():
            used = message.usage.prompt_tokens, message.usage.completion_tokens
            spent = f" ({used[0]}+{used[1]} tokens)" if message.usage.calls else ""
            told = [f"  {line}" for text in message.texts for line in text.splitlines()]
            return [f"on {message.about}{spent}{':' if told else ': nothing to say'}", *told]
        case RoleReported():
            return [f"used {_count(message.usage.calls, 'LLM call')} for round {message.round}"]
        case ReviewRequested():
            return [f"may this {message.subject.get('kind')} proceed, {message.role}?"]
        case GateDecided():
            return [_verdict(message), *(_judgement(j) for j in message.judgements)]
        case StepFailed():
            follow = "will be tried again" if message.will_retry else "given up"
            of = f" of {quote(message.naive)}" if message.naive else ""
            return [
                f"{message.actor} failed at {message.step_kind}{of} (attempt {message.attempt}, "
                f"{follow}): {message.error}: {quote(message.cause, 400)}"
            ]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _verdict(message: GateDecided) -> str:
    against = sum(judgement.verdict != "keep" for judgement in message.judgements)
    return f"objects to {_count(against, 'item')}" if against else "has no objection"


def _judgement(judgement: Judgement) -> str:
    new = f" {quote(judgement.text)}" if judgement.verdict == "amend" else ""
    return f"  {judgement.verdict} item {judgement.item + 1}{new}: {quote(judgement.reason)}"


def _rewrites(message: PromptsRewritten) -> list[str]:
    told: list[str] = []
    for r in message.rewrites:
        why = f" [fallback: {r.fallback}]" if r.fallback else ""
        told.append(f"  {quote(r.naive)} -> {quote(r.text)}{why}")
    return told


def _gains(message: ArmPulled) -> list[str]:
    told = [
        f"  {points(g.gain):>7}  {quote(g.naive, 40)} -> {quote(g.rewrite, 90)}"
        for g in message.gains
    ]
    if message.gains:
        mean = sum(g.gain for g in message.gains) / len(message.gains)
        told.append(f"  {points(mean):>7}  mean (score x 100)")
    if message.gains and not message.teaches:
        told.append("  no newcomer is due, so no gradient is asked for")
    if message.missing:
        told.append(f"  {message.missing} comparisons are missing (a service failed)")
    return told


def _evidence(message: CritiqueRequested) -> list[str]:
    told = [
        f"  {row.id} {row.kind} {quote(row.term, 40)}: {points(row.effect)} "
        f"[{points(row.lo)}, {points(row.hi)}], n={row.n}, arms={row.arms}"
        f"{', confounded' if row.confounded else ''}"
        for row in message.rows
    ]
    sides = (
        ("best", message.best),
        ("worst", message.worst),
        ("professional", message.professional),
    )
    told += [f"  {side}: {points(p.gain)} {quote(p.rewrite)}" for side, p in sides if p]
    return told


def _gradients(message: GradientsComputed) -> list[str]:
    told: list[str] = []
    for gradient in message.gradients:
        how = "composed" if gradient.composed else f"worded by {gradient.author}"
        told.append(f"  inference: {gradient.inference}")
        told.append(f"  improvement: {gradient.improvement}")
        told.append(f"  ({how}; cites {', '.join(gradient.evidence) or 'nothing'})")
    return told


def _proposals(message: InstructionsProposed) -> list[str]:
    told: list[str] = []
    for proposal in message.proposals:
        told.append(f"  {proposal.instruction.id[:8]} {quote(proposal.instruction.text, 300)}")
        told += [
            f"    e.g. {quote(e.naive, 40)} -> {quote(e.rewrite, 120)}"
            for e in proposal.instruction.exemplars
        ]
    for refused in message.refused:
        told.append(f"  refused {quote(refused.improvement)}: {'; '.join(refused.reasons)}")
    return told


def _pool(message: PoolChanged) -> list[str]:
    told = [f"  + {i.id[:8]} {quote(i.text, 300)}" for i in message.admitted]
    told += [f"  - {arm.instruction[:8]}: {arm.reason}" for arm in message.retired]
    if message.waiting:
        told.append(f"  {message.waiting} waiting to enter")
    told.append(f"  noise of one gain: {points(message.sigma).lstrip('+')} (score x 100)")
    return told
