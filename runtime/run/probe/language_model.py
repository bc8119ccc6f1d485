"""Probes one language model: does it answer, think, keep a schema, see, repeat itself, rewrite?"""

from __future__ import annotations

import io
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from PIL import Image as Pictures

from bigpe.agents.reasoning.answers.objects import find_object
from bigpe.agents.reasoning.answers.thoughts import without_thoughts
from bigpe.agents.reasoning.constraints import Constraints
from bigpe.agents.reasoning.rewriting import Rewrite, rewrite
from bigpe.runtime.formatting import quote
from bigpe.runtime.run.probe.rows import ProbeReport, ProbeRow, Verdict, fault
from bigpe.services.core.errors import BigpeError, LlmError
from bigpe.services.core.values import Instruction, Json, LlmAnswer, Value
from bigpe.services.llm.learned import Learned
from bigpe.services.llm.service import LlmRequest, LlmService, Turn
from bigpe.services.store.blobs import BlobStore

QUESTION = "Answer with the word: ready"
SHORT = 64
"""Output limit of a short answer; enough for a model that does not think, tokens."""
WITH_THOUGHTS = 4096
"""Output limit of the second try of an answer that the first limit cut, tokens."""
ORANGE = (255, 140, 0)
"""A colour that few models guess."""
SIDE = 64
"""Side of the shown picture, pixels."""
CALLS = {"answers": 1, "rewrites": 2, "schema": 1, "vision": 1}
"""Calls of each check, if no answer has to be asked for again."""
REMEDIES = {
    "answers": "if it thinks, its thoughts need a larger limit: set max_tokens of this model",
    "rewrites": "ask a model that follows the request",
    "repeats": "stored answers keep a run exact; a run in another project will differ",
    "schema": "gradients and instructions may come without it; `bigpe status` shows the share",
    "vision": "set vision = false for this model",
}


class Colours(Value):
    """The answer that the schema check asks for."""

    subject: str
    colours: list[str]


class _Reply(NamedTuple):
    answer: LlmAnswer
    seconds: float


@dataclass(frozen=True)
class Task:
    """What a model is probed with."""

    part: str
    """The model and its roles, as the rows name it."""
    roles: tuple[str, ...]
    instruction: Instruction
    naive: str
    """A naive prompt of the project."""
    constraints: Constraints
    seed: int

    @property
    def checks(self) -> list[str]:
        """The checks that the roles need."""
        writes = "generator" in self.roles
        reasons = bool({"gradient", "modifier"} & set(self.roles))
        wanted = {"answers": True, "rewrites": writes, "schema": reasons, "vision": reasons}
        return [name for name, needed in wanted.items() if needed]


async def probe_llm(llm: LlmService, task: Task, blobs: BlobStore, report: ProbeReport) -> None:
    """Ask the model, and add the rows. Checks end at the first question that fails."""
    probe = _LlmProbe(llm, task, blobs, report)
    try:
        await probe.short_answer()
    except BigpeError as error:
        report.add(fault(task.part, "answers", error))
        return
    for check, work in (
        ("rewrites", probe.rewrites),
        ("schema", probe.schema),
        ("vision", probe.vision),
    ):
        if check in task.checks:
            try:
                await work()
            except BigpeError as error:
                report.add(fault(task.part, check, error))
    await probe.parameters()


class _LlmProbe:
    def __init__(self, llm: LlmService, task: Task, blobs: BlobStore, report: ProbeReport) -> None:
        self._llm = llm
        self._task = task
        self._blobs = blobs
        self._report = report
        self.thinks: bool | None = None
        self.kept: bool | None = None
        self.saw: bool | None = None

    def _add(self, check: str, verdict: Verdict, finding: str, figures: Json) -> None:
        """Add a row. What a note or a fault needs is the entry "remedy" of `REMEDIES`."""
        remedy = "" if verdict == "ok" else REMEDIES.get(check, "")
        self._report.add(
            ProbeRow(
                part=self._task.part,
                check=check,
                verdict=verdict,
                finding=finding,
                remedy=remedy,
                figures=figures,
            )
        )

    async def _ask(self, *turns: Turn, schema: Json | None = None) -> _Reply:
        """The answer. One that its limit cut is asked for again with room for thoughts."""
        request = LlmRequest(
            turns=turns,
            seed=self._task.seed,
            temperature=0.3,
            max_tokens=SHORT,
            answer_schema=schema,
        )
        start = time.monotonic()
        answer = await self._llm.ask(request)
        if answer.finish_reason == "length":
            answer = await self._llm.ask(request.model_copy(update={"max_tokens": WITH_THOUGHTS}))
        return _Reply(answer, time.monotonic() - start)

    def _measure(self, roles: Iterable[str], reply: _Reply) -> None:
        for role in roles:
            self._report.measured.seconds[role] = reply.seconds
            self._report.measured.answer[role] = reply.answer.usage

    # -- checks -------------------------------------------------------------------------------

    async def short_answer(self) -> None:
        """Whether the model answers, how fast, and whether it thinks first."""
        reply = await self._ask(Turn(role="user", text=QUESTION))
        self._measure(self._task.roles, reply)
        answer, used = reply.answer, reply.answer.usage
        visible = without_thoughts(answer.text)
        self._add(
            "answers",
            "ok" if visible.text else "note",
            f"in {reply.seconds:.1f} s, {used.prompt_tokens} + {used.completion_tokens} tokens: "
            f"{quote(visible.text, 40) if visible.text else 'no text'}",
            {
                "seconds": round(reply.seconds, 3),
                "prompt_tokens": used.prompt_tokens,
                "completion_tokens": used.completion_tokens,
                "finish_reason": answer.finish_reason,
            },
        )
        self.thinks = bool(answer.reasoning or used.reasoning_tokens or visible.thought)
        counted = f" ({used.reasoning_tokens} tokens)" if used.reasoning_tokens else ""
        self._add(
            "thinking",
            "ok",
            f"thinks before it answers{counted}" if self.thinks else "answers without thoughts",
            {"thinks": self.thinks, "reasoning_tokens": used.reasoning_tokens},
        )

    async def rewrites(self) -> None:
        """Whether a rewrite comes back clean, as the Generator asks for it; and twice the same."""
        first, seconds = await self._rewrite()
        self._report.measured.rewrite = first.usage
        self._add_rewrite(first, seconds)
        second, again = await self._rewrite()
        self._report.measured.seconds["generator"] = min(seconds, again)
        equal = first.turns[-1].text == second.turns[-1].text
        self._add(
            "repeats",
            "ok" if equal else "note",
            f"gave {'one answer' if equal else 'two answers'} to two equal requests",
            {"repeats": equal},
        )

    async def _rewrite(self) -> tuple[Rewrite, float]:
        task, start = self._task, time.monotonic()
        done = await rewrite(self._llm, task.instruction, task.naive, task.seed, task.constraints)
        return done, time.monotonic() - start

    def _add_rewrite(self, done: Rewrite, seconds: float) -> None:
        raw = done.turns[-1].text
        figures = {
            "seconds": round(seconds, 3),
            "attempts": done.attempts,
            "text": done.text,
            "fallback": done.fallback,
            "raw": raw,
        }
        naive = quote(done.naive, 60)
        if done.fallback is not None:
            wrote = quote(raw, 120) if raw else "nothing"
            finding = f"no rewrite of {naive} could be used: {done.fallback}; it wrote {wrote}"
            self._add("rewrites", "fault", finding, figures)
            return
        again = f" at attempt {done.attempts}" if done.attempts > 1 else ""
        finding = f"in {seconds:.1f} s{again}: {naive} became {quote(done.text, 120)}"
        self._add("rewrites", "note" if again else "ok", finding, figures)

    async def schema(self) -> None:
        """Whether an answer keeps to a JSON schema."""
        text = "Name the subject and the colours of this prompt as JSON: a red fox in the snow"
        form = Colours.model_json_schema() | {"additionalProperties": False}
        del form["description"]
        reply = await self._ask(Turn(role="user", text=text), schema=form)
        self._measure({"gradient", "modifier"} & set(self._task.roles), reply)
        self.kept = find_object(reply.answer.text, Colours) is not None
        wrote = quote(reply.answer.text, 80) if reply.answer.text else "nothing"
        self._add(
            "schema",
            "ok" if self.kept else "note",
            "keeps to a JSON schema" if self.kept else f"keeps to no JSON schema: it wrote {wrote}",
            {"kept": self.kept, "seconds": round(reply.seconds, 3)},
        )

    async def vision(self) -> None:
        """Whether the model sees a picture in a request."""
        expected = self._llm.sees
        if not (expected or self._llm.may_learn_to_see):
            self._add("vision", "ok", "is shown no pictures", {"sees": False})
            return
        buffer = io.BytesIO()
        Pictures.new("RGB", (SIDE, SIDE), ORANGE).save(buffer, "PNG")
        stored = self._blobs.put(buffer.getvalue())
        text = "Which colour is this picture? Answer with one word."
        try:
            reply = await self._ask(Turn(role="user", text=text, images=(stored,)))
            wrote = without_thoughts(reply.answer.text).text
        except LlmError as error:
            if error.transient:
                raise
            wrote = str(error)
        self.saw = "orange" in wrote.lower()
        verdict = "note" if expected and not self.saw else "ok"
        finding = f"sees no pictures: it called an orange picture {quote(wrote, 80)}"
        self._add("vision", verdict, "sees pictures" if self.saw else finding, {"sees": self.saw})

    async def parameters(self) -> None:
        """Which parameters the server did not take. Keeps all that was learned of the model."""
        await self._llm.learn(
            Learned(vision=self.saw, schema_kept=self.kept, thinks=self.thinks or None)
        )
        learned = self._llm.learned
        if learned is None:
            return
        refused = learned.model_copy(update={"vision": None}).differences(Learned())
        self._add(
            "parameters",
            "note" if refused else "ok",
            "; ".join(refused) or "all are taken",
            {"refused": refused, "learned": learned.model_dump(mode="json")},
        )


def planned_calls(tasks: Sequence[Task]) -> int:
    """Calls of the language models, if no answer has to be asked for again."""
    return sum(CALLS[check] for task in tasks for check in task.checks)
