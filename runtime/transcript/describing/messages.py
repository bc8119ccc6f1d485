"""Descriptions of messages: one entry per kind, for terminal and pages."""

from __future__ import annotations

import json
from functools import singledispatch

from bigpe.agents.messages import core as messages
from bigpe.agents.messages import plugin as role_messages
from bigpe.agents.messages.search import operators_text
from bigpe.runtime.formatting import counted
from bigpe.runtime.transcript.describing.parts import (
    LONGEST_CAUSE,
    ChatTurns,
    Description,
    Gain,
    ImageReference,
    InstructionId,
    Line,
    Part,
    Preformatted,
    Quoted,
    Score,
    bad,
    dim,
    line,
    lines,
    negative_prompt,
    strong,
)
from bigpe.runtime.transcript.describing.study import (
    gradient_parts,
    proposal_request_parts,
    study_gist,
    study_parts,
)
from bigpe.runtime.transcript.describing.tables import (
    evidence_table,
    gain_table,
)
from bigpe.runtime.transcript.search import TranscriptRow


def describe_row(row: TranscriptRow) -> Description:
    """Describe a stored message; also one that this version of bigpe cannot read."""
    message = row.message
    if message is not None:
        return describe(message)
    body = json.dumps(json.loads(row.body), indent=2, ensure_ascii=False)
    headline = f"{row.kind}: this version of bigpe cannot read it"
    return Description(line(headline), (Preformatted(body, "its JSON"),))


@singledispatch
def describe(message: messages.Message) -> Description:
    """Describe a message. Each kind has its entry below; a kind without an entry becomes JSON."""
    return Description(line(message.kind), (Preformatted(message.model_dump_json(indent=2)),))


# -- the run --------------------------------------------------------------------------------------


@describe.register
def _(message: messages.RunStarted) -> Description:
    plan = message.plan
    return Description(
        line(
            f"run {message.run}: {plan.rounds} rounds of {plan.batch_size} prompts, policy "
            f"{plan.policy.get('name')}, pool of {plan.pool_size}, seed {plan.seed}"
        ),
        (
            lines(
                line(dim(f"seed instruction {seed.name} "), Quoted(seed.instruction.text))
                for seed in plan.instructions
            ),
        ),
    )


@describe.register
def _(message: messages.PlanChanged) -> Description:
    limits = [f"{name}={value:,g}" for name, value in message.limits if value]
    return Description(
        line(
            f"the plan is changed: {message.rounds} rounds, {message.concurrency} at a time, "
            f"budget {' '.join(limits) or 'without limits'}"
        )
    )


@describe.register
def _(message: messages.StopRequested) -> Description:
    return Description(line(f"requests a stop: {message.reason}"))


@describe.register
def _(message: messages.RunStopped) -> Description:
    return Description(
        line(f"the run ends: {message.reason}; best is ", InstructionId(message.best))
    )


@describe.register
def _(message: messages.StepFailed) -> Description:
    follow = "will be tried again" if message.will_retry else "given up"
    naive = (" of ", Quoted(message.naive)) if message.naive else ()
    details: list[Part] = [Preformatted(message.cause)]
    if message.raw:
        details.append(Preformatted(message.raw, "the model’s whole answer"))
    return Description(
        line(
            bad(f"{message.actor} failed at {message.step_kind}"),
            *naive,
            bad(f" (attempt {message.attempt}, {follow}): {message.error}"),
        ),
        tuple(details),
        gist=(": ", Quoted(message.cause, LONGEST_CAUSE)),
    )


# -- rewriting ------------------------------------------------------------------------------------


@describe.register
def _(message: messages.RewriteRequested) -> Description:
    text = Quoted(message.instruction.text)
    return Description(
        line(
            f"rewrite {counted(len(message.tasks), 'prompt')} under ",
            InstructionId(message.instruction.id),
        ),
        (
            line(text),
            lines(
                line(Quoted(task.naive), dim(f" image seed {task.image_seed}"))
                for task in message.tasks
            ),
        ),
        gist=(" ", text),
    )


@describe.register
def _(message: messages.PromptsRewritten) -> Description:
    return Description(
        line(f"rewrote {counted(len(message.rewrites), 'prompt')}"),
        (lines(map(_rewrite, message.rewrites)),),
    )


def _rewrite(rewrite: messages.Rewritten) -> Line:
    if rewrite.fallback:
        return line(Quoted(rewrite.naive), bad(f" kept naive: {rewrite.fallback}"))
    attempt = f", attempt {rewrite.attempts}" if rewrite.attempts > 1 else ""
    naive = Quoted(rewrite.naive, style="dim")
    return line(naive, dim(" → "), Quoted(rewrite.text), *negative_prompt(rewrite), dim(attempt))


@describe.register
def _(message: messages.LlmTurn) -> Description:
    chat = ChatTurns(message.chat)
    used = _tokens(message.prompt_tokens, message.completion_tokens)
    return Description(
        line(dim(f"asked its language model ({used})")),
        (chat,),
        gist=(": ", Quoted(chat.answer)),
    )


# -- images and scores ----------------------------------------------------------------------------


@describe.register
def _(message: messages.RenderRequested) -> Description:
    prompt, seed = Quoted(message.prompt), dim(f" seed {message.seed}")
    return Description(
        line(f"paint the {message.purpose} prompt ", prompt, *negative_prompt(message), seed),
        folds=True,
    )


@describe.register
def _(message: messages.ImageRendered) -> Description:
    image = message.image
    cut = max(image.truncated_tokens.values(), default=0)
    note = f", {cut} tokens cut off" if cut else ""
    return Description(
        line(
            f"painted the {message.purpose} prompt ",
            Quoted(message.prompt),
            *negative_prompt(message),
            dim(f" as {image.digest[:8]} ({image.width}x{image.height}{note})"),
        ),
        (_image(message, image.digest, line(dim("naive "), Quoted(message.naive))),),
        folds=True,
    )


@describe.register
def _(message: messages.ScoreRequested) -> Description:
    naive = Quoted(message.naive)
    return Description(
        line(f"score {message.image[:8]}, the {message.purpose} picture, against ", naive),
        (_image(message, message.image, line(Quoted(message.prompt), *negative_prompt(message))),),
        folds=True,
    )


@describe.register
def _(message: messages.ImageScored) -> Description:
    unread = message.naive_truncated
    note = (bad(f" ({unread} tokens of it cut off)"),) if unread else ()
    caption = [line(Quoted(message.prompt), *negative_prompt(message))]
    if message.truncated:
        caption.append(line(bad(f"{message.truncated} tokens of the prompt cut off")))
    caption.append(line(dim(f"score x 100, by scorer {message.scorer[:8]}")))
    return Description(
        line(
            Score(message.score),
            f" for {message.image[:8]}, the {message.purpose} picture of ",
            Quoted(message.naive),
            *note,
        ),
        (_image(message, message.image, *caption, score=message.score),),
        folds=True,
    )


def _image(
    message: messages.ImageRendered | messages.ScoreRequested | messages.ImageScored,
    digest: str,
    *caption: Line,
    score: float | None = None,
) -> ImageReference:
    label = line(message.purpose) if score is None else line(message.purpose, " ", Score(score))
    seed = line(dim(f"seed {message.seed}"))
    return ImageReference(
        digest, f"{message.purpose}: {message.prompt}", label, caption=(*caption, seed)
    )


# -- results --------------------------------------------------------------------------------------


@describe.register
def _(message: messages.ArmPulled) -> Description:
    details: list[Part] = [gain_table(message.gains, "The batch")]
    if message.gains and not message.wants_gradient:
        details.append(line(dim("no new instruction could be pulled, so no gradient is requested")))
    if message.unchanged:
        details.append(line(dim("its rewrites equal those of its parent; nothing was rendered")))
    if message.missing:
        details.append(line(bad(f"{message.missing} comparisons are missing (a service failed)")))
    return Description(line("pulled ", InstructionId(message.instruction)), tuple(details))


@describe.register
def _(message: messages.CritiqueRequested) -> Description:
    headline = line("what made the difference under ", InstructionId(message.instruction.id), "?")
    if message.study is not None:
        return Description(
            headline,
            tuple(study_parts(message, message.study)),
            gist=study_gist(message.study),
            long=True,
        )
    sides = (
        ("best", message.best),
        ("worst", message.worst),
        ("professional", message.professional),
    )
    return Description(
        headline,
        (
            evidence_table(message.rows, "The evidence table"),
            lines(
                line(dim(f"{side}: "), Gain(pair.gain), " ", Quoted(pair.rewrite))
                for side, pair in sides
                if pair
            ),
        ),
        gist=(" ", dim(counted(len(message.rows), "evidence row"))),
        long=True,
    )


@describe.register
def _(message: messages.GradientsComputed) -> Description:
    details = [row for gradient in message.gradients for row in gradient_parts(gradient)]
    return Description(line(counted(len(message.gradients), "gradient")), tuple(details))


@describe.register
def _(message: messages.ProposalRequested) -> Description:
    search = message.search
    operators = f" ({', '.join(search.operators)})" if search and search.operators else ""
    return Description(
        line(
            f"turn {counted(len(message.gradients), 'gradient')} into instructions{operators}, ",
            "from ",
            InstructionId(message.instruction.id),
        ),
        tuple(proposal_request_parts(message)),
        gist=("; ", dim(counted(len(search.tried), "tried change"))) if search else (),
        long=True,
    )


@describe.register
def _(message: messages.InstructionsProposed) -> Description:
    parent = message.parent_instruction
    details = [part for proposal in message.proposals for part in _proposal(proposal, parent)]
    for refused in message.refused:
        reasons = bad(f": {'; '.join(refused.reasons)}")
        kind = bad(f"refused ({refused.fault or refused.code}) ")
        details.append(line(kind, Quoted(refused.improvement), reasons))
    headline = line(f"proposed {counted(len(message.proposals), 'instruction')}")
    return Description(headline, tuple(details))


def _proposal(proposal: messages.ProposedInstruction, parent: str) -> list[Part]:
    """Operator, parent and change in one line, then the text and the reason."""
    instruction = proposal.instruction
    source = proposal.operator or ("composed" if proposal.composed else "worded by the model")
    change = (": ", strong(proposal.change)) if proposal.change else ()
    made = line(InstructionId(instruction.id), f" {source} of ", InstructionId(parent), *change)
    return [
        made,
        line(Quoted(instruction.text, 300)),
        line(dim("because "), Quoted(proposal.improvement)),
        lines(
            line(
                *(dim("e.g. "), Quoted(e.naive, 40), " → ", Quoted(e.rewrite, 120)),
                *((dim(" without "), Quoted(e.negative, 120)) if e.negative else ()),
            )
            for e in instruction.exemplars
        ),
    ]


@describe.register
def _(message: messages.PoolChanged) -> Description:
    details = [line("+ ", InstructionId(i.id), " ", Quoted(i.text, 300)) for i in message.admitted]
    details += [
        line("- ", InstructionId(arm.instruction), f": {arm.reason}") for arm in message.retired
    ]
    if message.waiting:
        details.append(line(dim(f"{message.waiting} waiting to enter")))
    if trials := operators_text(message.operators):
        details.append(line(dim(trials)))
    details.append(line(dim("noise of one gain: "), Score(message.sigma), dim(" (score x 100)")))
    return Description(line("pool: best is ", InstructionId(message.best)), tuple(details))


# -- plugins --------------------------------------------------------------------------------------


@describe.register
def _(message: role_messages.RolesChanged) -> Description:
    return Description(line(f"observers: {', '.join(message.observers) or 'none'}"))


@describe.register
def _(message: role_messages.RoleSaid) -> Description:
    used = message.usage
    spent = f" ({_tokens(used.prompt_tokens, used.completion_tokens)})" if used.calls else ""
    texts = [row for text in message.texts for row in text.splitlines()]
    headline = f"on {message.about}{spent}: {'' if texts else 'no text'}".rstrip()
    return Description(line(headline), (lines(map(line, texts)),))


@describe.register
def _(message: role_messages.RoleReported) -> Description:
    calls = counted(message.usage.calls, "LLM call")
    return Description(line(f"used {calls} for round {message.round}"))


@describe.register
def _(message: role_messages.ReviewRequested) -> Description:
    return Description(line(f"may this {message.subject.get('kind')} proceed, {message.role}?"))


@describe.register
def _(message: role_messages.GateDecided) -> Description:
    against = sum(judgement.verdict != "keep" for judgement in message.judgements)
    verdict = f"objects to {counted(against, 'item')}" if against else "has no objection"
    return Description(line(verdict), (lines(map(_judgement, message.judgements)),))


def _judgement(judgement: role_messages.Judgement) -> Line:
    new = (" ", Quoted(judgement.text)) if judgement.verdict == "amend" else ()
    verdict = f"{judgement.verdict} item {judgement.item + 1}"
    return line(verdict, *new, ": ", Quoted(judgement.reason))


def _tokens(prompt: int, completion: int) -> str:
    return f"{prompt:,} + {completion:,} tokens"
