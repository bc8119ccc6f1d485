"""A run whose transcript holds attacks on the pages that show it."""

from __future__ import annotations

import json
from pathlib import Path

from bigpe.agents.messages.core import (
    ArmPulled,
    GradientsComputed,
    ImageRendered,
    InstructionsProposed,
    LlmTurn,
    Message,
    PoolChanged,
    PromptsRewritten,
    RewriteRequested,
    RunStarted,
    StepFailed,
)
from bigpe.runtime.project.paths import Project
from bigpe.runtime.transcript.reader import first_message
from bigpe.services.core.values import Instruction
from bigpe.services.store.database import Params, Store, many

ATTACKS = (
    "<script>window.hacked=1</script>",
    "\"><img src=x onerror='window.hacked=1'>",
    "' onmouseover='window.hacked=1' autofocus onfocus='window.hacked=1",
    "</pre></textarea></title><svg onload=window.hacked=1>",
    "javascript:window.hacked=1",
    "<a href='javascript:window.hacked=1' data-open>x</a>",
    "<base href='//evil.example/'>",
    "{{ 7 * 191 }} {% raw %} ${7 * 191}",
)
EVIL = "".join(ATTACKS)


async def poison(folder: Path, run: str = "main", sender: str = EVIL) -> list[Message]:
    """Say hostile things of every kind in the run's transcript, as a model or a prompt file could.

    Each text that is untrusted in earnest holds all attacks, the actor's name too.
    """
    async with Store(Project(folder).database) as store:
        pulled = await first_message(store, run, ArmPulled)
        first = await first_message(store, run, RunStarted)
        assert pulled is not None and first is not None
        messages = _hostile(first, pulled)
        rows = [_row(sender, message) for message in messages]
        odd = {"kind": "OddKind<b>", "text": EVIL}
        mid = "0" * 31 + "1"
        unknown = {**rows[0], "mid": mid, "type": "OddKind<b>", "body": json.dumps(odd)}
        await store.write([many("add_messages", [*rows, unknown], run=run)])
    return messages


def _row(sender: str, message: Message) -> Params:
    row = {"mid": message.mid, "type": message.kind, "sender": sender}
    row |= {"parent": message.parent, "round": message.round, "body": message.model_dump_json()}
    return row | {"ts": 1.8e9, "tokens": 7, "ms": 3.0}


def _hostile(first: RunStarted, pulled: ArmPulled) -> list[Message]:
    evil = Instruction.model_validate(
        {"text": EVIL, "exemplars": [{"naive": EVIL, "rewrite": EVIL + "!"}]}
    )
    gain = pulled.gains[0].model_copy(update={"naive": EVIL, "rewrite": "so " + EVIL, "gain": 0.5})
    odd = pulled.gains[0].model_copy(update={"naive": EVIL, "rewrite": EVIL, "fallback": EVIL})
    request = RewriteRequested.make(
        first,
        round=99,
        instruction=evil,
        tasks=({"naive": EVIL, "image_seed": 1, "llm_seed": 2},),
    )
    rewritten = {"naive": EVIL, "image_seed": 1, "text": EVIL}
    gradient = {"inference": EVIL, "improvement": EVIL, "evidence": (EVIL,), "composed": False}
    gradients = GradientsComputed.make(request, gradients=(gradient,))
    proposed = {"instruction": evil, "improvement": EVIL, "composed": False}
    refused = {"improvement": EVIL, "code": "invalid", "reasons": (EVIL, EVIL)}
    picture = {"purpose": "rewrite", "naive": EVIL, "prompt": EVIL, "seed": 1}
    chat = ({"source": "user", "content": EVIL}, {"source": EVIL, "content": EVIL})
    return [
        request,
        PromptsRewritten.make(
            request, instruction=evil.id, rewrites=(rewritten, {**rewritten, "fallback": EVIL})
        ),
        LlmTurn.make(request, "a", role=EVIL, chat=chat),
        ImageRendered.make(
            request, image={"digest": gain.image, "width": 8, "height": 8}, **picture
        ),
        ArmPulled.make(request, instruction=evil.id, gains=(gain, odd)),
        gradients,
        InstructionsProposed.make(
            gradients,
            parent_instruction=pulled.instruction,
            proposals=(proposed,),
            refused=(refused,),
        ),
        StepFailed.make(
            request,
            step=request.mid,
            step_kind=EVIL,
            actor=EVIL,
            error=EVIL,
            cause=EVIL,
            attempt=1,
            will_retry=False,
            raw=EVIL,
            scope={"lost": "prompt", "naive": EVIL, "seed": 1},
        ),
        PoolChanged.make(
            request,
            admitted=(evil,),
            retired=({"instruction": pulled.instruction, "reason": EVIL},),
            waiting=0,
            sigma=0.01,
            best=evil.id,
        ),
    ]
