"""The actor base on the real AutoGen runtime: once, bounded, and never silent."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from autogen_core import (
    MessageContext,
    SingleThreadedAgentRuntime,
    message_handler,
)

from bigpe.agents.actors.base import Actor, UnhandledMessageError
from bigpe.agents.actors.journal import Journal
from bigpe.agents.messages.core import (
    ImageScored,
    Message,
    RenderRequested,
    StepFailed,
    StopRequested,
)
from bigpe.services.core.errors import (
    GivenUpError,
    LostWorkerError,
    RenderError,
    StoreError,
    TransientLlmError,
    TransientServiceError,
    UnusableAnswerError,
)
from bigpe.services.core.retrying import RetryRule
from bigpe.services.store.database import Store

NO_WAIT = RetryRule(attempts=3, first_wait_s=0.0, longest_wait_s=0.0)
Work = Callable[[RenderRequested], Awaitable[Sequence[Message]]]


class Painter(Actor):
    """Does what the test tells it to."""

    def __init__(self, journal: Journal, work: Work, concurrency: int = 1) -> None:
        super().__init__("paints", journal, concurrency=concurrency, retry=NO_WAIT)
        self._work = work

    @message_handler
    async def on_request(self, message: RenderRequested, ctx: MessageContext) -> None:
        await self.perform(message, self._work)


def request(seed: int) -> RenderRequested:
    return RenderRequested(
        mid=f"m{seed}",
        run="r",
        parent="",
        round=1,
        purpose="naive",
        naive="x",
        prompt="x",
        seed=seed,
    )


def scored(message: RenderRequested) -> ImageScored:
    return ImageScored.make(
        message, purpose="naive", naive="x", prompt="x", seed=message.seed, image="i", score=0.5,
        scorer="s",
    )  # fmt: skip


@asynccontextmanager
async def stage(
    folder: Path, work: Work, concurrency: int = 1
) -> AsyncIterator[tuple[Journal, Callable[[Message], Awaitable[None]]]]:
    async with Store(folder / "p.db") as store:
        run = {"name": "r", "created": 0.0, "config": "{}", "version": "0"}
        if await store.row("get_run", name="r") is None:
            await store.write([("add_run", run)])
        journal = Journal(store, "r")
        runtime = SingleThreadedAgentRuntime(ignore_unhandled_exceptions=False)
        journal.attach(runtime, {"RenderRequested": ("painter",), "StopRequested": ("painter",)})
        painter = Painter(journal, work, concurrency)
        await painter.join(runtime, "painter", ("RenderRequested", "StopRequested"))
        runtime.start()

        async def send(message: Message) -> None:
            await journal.commit("", [message])
            await journal.publish("", [message])

        yield journal, send
        with contextlib.suppress(UnhandledMessageError):  # said already, through the journal
            await runtime.stop()
        if not journal.broken.done():
            journal.broken.cancel()


async def settled(journal: Journal, heard: list[Message], count: int) -> None:
    """Wait, with an end, until `count` messages were heard and nothing is under way."""

    async def wait() -> None:
        while len(heard) < count:
            await asyncio.sleep(0.005)
        await journal.drained()

    await asyncio.wait_for(wait(), 60)


async def test_a_message_is_handled_once_even_when_delivered_twice(tmp_path: Path) -> None:
    calls: list[int] = []
    heard: list[Message] = []

    async def work(message: RenderRequested) -> Sequence[Message]:
        calls.append(message.seed)
        return [scored(message)]

    async with stage(tmp_path, work) as (journal, send):
        journal.listen(lambda m: heard.append(m) if isinstance(m, ImageScored) else None)
        for seed in (1, 1, 2):
            await send(request(seed))
        await settled(journal, heard, 2)
        await asyncio.sleep(0.05)
    assert calls == [1, 2]


async def test_what_was_open_is_owed_after_a_restart(tmp_path: Path) -> None:
    async def work(message: RenderRequested) -> Sequence[Message]:
        return [scored(message)]

    async with stage(tmp_path, work) as (journal, send):
        journal.draining = True
        await send(request(1))
        await asyncio.sleep(0.05)
        assert [m.mid for m in await journal.pending()] == ["m1"]
    heard: list[Message] = []
    async with stage(tmp_path, work) as (journal, _):
        journal.listen(heard.append)
        await journal.publish("", await journal.pending())
        await settled(journal, heard, 1)
        assert await journal.pending() == []


async def test_no_more_steps_at_a_time_than_allowed(tmp_path: Path) -> None:
    running, most, heard = 0, 0, list[Message]()

    async def work(message: RenderRequested) -> Sequence[Message]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return [scored(message).model_copy(update={"mid": f"s{message.seed}"})]

    async with stage(tmp_path, work, concurrency=3) as (journal, send):
        journal.listen(lambda m: heard.append(m) if isinstance(m, ImageScored) else None)
        for seed in range(12):
            await send(request(seed))
        await settled(journal, heard, 12)
    assert most == 3


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (RenderError("no picture"), 1),
        (TransientServiceError("busy"), 3),
        (UnusableAnswerError("not JSON", raw="{oops"), 3),
        (ZeroDivisionError("a bug"), 1),
        (LostWorkerError("it died"), 2),
    ],
)
async def test_a_failure_is_recorded_with_its_cause(
    tmp_path: Path, error: Exception, attempts: int
) -> None:
    heard: list[StepFailed] = []

    async def work(message: RenderRequested) -> Sequence[Message]:
        raise error

    async with stage(tmp_path, work) as (journal, send):
        journal.listen(lambda m: heard.append(m) if isinstance(m, StepFailed) else None)
        await send(request(1))
        await settled(journal, [], 0)
        while len(heard) < attempts:
            await asyncio.sleep(0.005)
        assert await journal.pending() == []
    assert [f.will_retry for f in heard] == [True] * (attempts - 1) + [False]
    assert heard[-1].cause == str(error) and heard[-1].error == type(error).__name__
    assert heard[-1].scope == request(1).failure_scope()
    assert heard[-1].raw == getattr(error, "raw", None)


async def test_a_transient_failure_is_tried_again(tmp_path: Path) -> None:
    heard: list[Message] = []
    tries = 0

    async def work(message: RenderRequested) -> Sequence[Message]:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise TransientServiceError("busy")
        return [scored(message)]

    async with stage(tmp_path, work) as (journal, send):
        journal.listen(lambda m: heard.append(m) if isinstance(m, ImageScored) else None)
        await send(request(1))
        await settled(journal, heard, 1)
    assert tries == 2


async def test_a_message_without_a_handler_ends_the_run(tmp_path: Path) -> None:
    async def work(message: RenderRequested) -> Sequence[Message]:
        return []

    async with stage(tmp_path, work) as (journal, send):
        await send(StopRequested(mid="x", run="r", parent="", round=0, reason="test"))
        with pytest.raises(UnhandledMessageError, match="no handler"):
            await asyncio.wait_for(journal.broken, 60)
        # AutoGen raises it once more when its loop is looked at; that is its way to say so.


@pytest.mark.parametrize("error", [StoreError("disk full"), GivenUpError("it keeps dying")])
async def test_what_no_step_can_mend_ends_the_run_and_marks_nothing_done(
    tmp_path: Path, error: Exception
) -> None:
    async def work(message: RenderRequested) -> Sequence[Message]:
        raise error

    async with stage(tmp_path, work) as (journal, send):
        await send(request(1))
        with pytest.raises(type(error), match=str(error)):
            await asyncio.wait_for(journal.broken, 60)
        assert len(await journal.pending()) == 1


@pytest.mark.parametrize(("result", "waits"), [(None, 0.0), (9.0, 9.0), (9e9, 120.0)])
async def test_a_busy_server_is_left_alone_as_long_as_it_asks_within_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, result: float | None, waits: float
) -> None:
    waited: list[float] = []

    async def note(role: Actor, seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(Actor, "_sleep", note)
    errors: list[Exception] = [TransientLlmError("busy", retry_after_s=result)]
    heard: list[Message] = []

    async def work(message: RenderRequested) -> Sequence[Message]:
        if errors:
            raise errors.pop()
        return [scored(message)]

    async with stage(tmp_path, work) as (journal, send):
        journal.listen(lambda m: heard.append(m) if isinstance(m, ImageScored) else None)
        await send(request(1))
        await settled(journal, heard, 1)
    assert waited == [waits]


async def test_a_pause_ends_a_long_wait_and_leaves_the_step_open(tmp_path: Path) -> None:
    async def work(message: RenderRequested) -> Sequence[Message]:
        raise TransientLlmError("busy", retry_after_s=100.0)

    async with stage(tmp_path, work) as (journal, send):
        called = asyncio.Event()
        journal.listen(lambda m: called.set() if isinstance(m, StepFailed) else None)
        await send(request(1))
        await asyncio.wait_for(called.wait(), 60)
        journal.draining = True
        await asyncio.wait_for(journal.drained(), 60)
        assert [m.mid for m in await journal.pending()] == ["m1"]
