"""Roles of other packages in whole runs on the fakes: heard, contained, durable."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from support.plugin_packages import installed

from bigpe.agents.messages.answer_fault import AnswerFault
from bigpe.agents.messages.core import (
    GradientsComputed,
    InstructionsProposed,
    Message,
    PoolChanged,
    RunStopped,
    StepFailed,
)
from bigpe.agents.messages.plugin import GateDecided, RoleReported, RoleSaid
from bigpe.agents.plugins.llm import PluginLlm
from bigpe.agents.plugins.thread import WorkClock
from bigpe.runtime.project.config import check_config
from bigpe.services.core.errors import ConfigError
from bigpe.services.core.values import LlmAnswer
from bigpe.services.llm.service import LlmRequest, Turn
from bigpe.testing.runs import CONFIG, messages_of, open_fake, run_fake, transcript

CODE = '''
import asyncio, threading
from bigpe.agents.plugins import *
from bigpe.services.llm.service import LlmRequest, Turn

HELD = threading.Event()

def request(text, seed=0):
    return LlmRequest(turns=(Turn(role="user", text=text),), seed=seed, temperature=0, max_tokens=9)

class Counter(Observer):
    """Counts the rounds."""
    reads = ("PoolChanged", "RunStopped")
    async def read(self, message, last):
        answer = await self.context.llm.ask(request(f"say {message.round}"))
        return f"{int(last.split()[0] if last else 0) + 1} {answer.text}"

class Bad(Observer):
    reads = ("PoolChanged",)
    async def read(self, message, last):
        how = self.context.options["how"]
        if how == "raises":
            raise ValueError("a mistake of its own")
        if how == "exits":
            raise SystemExit(3)
        if how == "waits":
            await asyncio.Event().wait()
        if how == "blocks":
            HELD.wait()
        if how == "floods":
            return ["word"] * 1000
        if how == "swells":
            return "x" * 10**7
        if how == "returns":
            return {"not": "text"}
        if how == "asks":
            for seed in range(100):
                await self.context.llm.ask(request("again", seed))

class Unmade(Observer):
    reads = ("PoolChanged",)
    def __init__(self, context):
        raise RuntimeError("cannot be made")
    async def read(self, message, last):
        return "never"

class Strict(Gate):
    """Vetoes every second instruction that it sees, by its length; amends the others."""
    async def judge(self, message, items):
        return [
            Judgement(item=i, verdict="veto", reason="too even") if len(text) % 2 == 0
            else Judgement(item=i, verdict="amend", text=text + " Mind the edges.", reason="odd")
            for i, text in enumerate(items)
        ]

class Fails(Gate):
    before = "InstructionsProposed"
    async def judge(self, message, items):
        raise ValueError("no judgement today")

class Wrong(Gate):
    async def judge(self, message, items):
        return [Judgement(item=7, verdict="keep")]

class Rival(Contributor):
    """Wants vividness."""
    async def contribute(self, request):
        await self.context.llm.ask(LlmRequest(
            turns=(Turn(role="user", text=request.instruction.text),), seed=1, temperature=0,
            max_tokens=9))
        return [Gradient(inference="Less is dull.", improvement="Ask for a vivid look.",
                         evidence=("E99",), composed=True, author="someone else")] * 5
'''
M = TypeVar("M", bound=Message)
LIMITS = {"max_texts": 5, "max_chars": 1000, "max_llm_calls": 3}


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    offers = {"roles": {"counter": "role_toys:Counter", "nothing": "role_toys:HELD"}}
    folder = installed(tmp_path / "site", "role_toys", {"role_toys.py": CODE}, offers)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "role_toys", raising=False)
    yield
    module = sys.modules.get("role_toys")
    if module is not None:
        module.HELD.set()
    for thread in threading.enumerate():
        if thread.name.startswith("role-"):
            thread.join(10)
            assert not thread.is_alive()


def with_roles(rounds: int = 4, **roles: dict[str, Any]) -> dict[str, Any]:
    return {"run": {**CONFIG["run"], "rounds": rounds}, "roles": roles}


def toy(name: str, **settings: Any) -> dict[str, Any]:
    return {"class": f"role_toys:{name}", "allow": ["role_toys"], **settings}


async def test_an_observer_reads_to_the_end_is_counted_and_survives_pauses(
    toys: None, tmp_path: Path
) -> None:
    config = with_roles(counter={"class": "counter"})
    await run_fake(tmp_path / "whole", config)
    messages = messages_of(tmp_path / "whole", RoleSaid)
    assert [m.texts[0].split()[0] for m in messages] == ["1", "2", "3", "4", "5"]
    assert messages[-1].about == "RunStopped" and messages[0].usage.calls == 1
    reported = messages_of(tmp_path / "whole", RoleReported)
    assert [(m.round, m.usage.calls) for m in reported] == [(1, 1), (2, 1), (3, 1), (4, 1)]
    for stop in (PoolChanged, RoleSaid, RunStopped):
        folder = tmp_path / stop.__name__
        async with open_fake(folder, config) as session:
            async for message in session.run():
                if isinstance(message, stop):
                    session.pause()
        for _ in range(2):
            await run_fake(folder, config)
        assert transcript(folder) == transcript(tmp_path / "whole")


@pytest.mark.parametrize(
    ("how", "cause"),
    [
        ("raises", "ValueError: a mistake of its own"),
        ("exits", "SystemExit: 3"),
        ("waits", "no answer in 0.2 s"),
        ("blocks", "no answer in 0.2 s"),
        ("floods", "1,000 texts"),
        ("swells", "10,000,000 characters"),
        ("returns", "a dict, not text"),
        ("asks", "more than 3 times"),
    ],
)
async def test_a_bad_observer_is_recorded_and_the_run_goes_on(
    toys: None, tmp_path: Path, how: str, cause: str
) -> None:
    limits = LIMITS | ({"timeout_s": 0.2} if how in ("waits", "blocks") else {})
    await run_fake(tmp_path / "p", with_roles(2, bad=toy("Bad", options={"how": how}, **limits)))
    failed = messages_of(tmp_path / "p", StepFailed)
    assert len(failed) == 2 and all(f.actor == "bad" and cause in f.cause for f in failed)
    assert "all 2 rounds" in messages_of(tmp_path / "p", RunStopped)[0].reason
    spent = [m.usage.calls for m in messages_of(tmp_path / "p", RoleReported)]
    assert spent == ([3, 3] if how == "asks" else [0, 0]), "what a failed step spent is counted"
    assert not messages_of(tmp_path / "p", RoleSaid)


class _Slow:
    async def ask(self, request: LlmRequest) -> LlmAnswer:
        await asyncio.sleep(1.3)
        return LlmAnswer(text="at last")

    async def discard(self, effect_key: str) -> None:
        """Do nothing."""


async def test_the_time_of_its_language_model_is_not_held_against_a_role() -> None:
    turns = (Turn(role="user", text="well?"),)
    request = LlmRequest(turns=turns, seed=0, temperature=0.0, max_tokens=9)
    llm, clock = PluginLlm("slow", _Slow(), max_calls=2), WorkClock(1.0)
    llm.begin(clock)
    with pytest.raises(TimeoutError):
        async with clock.running():
            answers = await asyncio.gather(llm.ask(request), llm.ask(request))
            assert [answer.text for answer in answers] == ["at last"] * 2
            await asyncio.Event().wait()


async def test_a_role_that_cannot_be_made_fails_at_every_message(
    toys: None, tmp_path: Path
) -> None:
    await run_fake(tmp_path / "p", with_roles(2, bad=toy("Unmade")))
    assert ["cannot be made" in f.cause for f in messages_of(tmp_path / "p", StepFailed)] == [
        True,
        True,
    ]


async def test_a_gate_vetoes_and_amends_with_reasons(toys: None, tmp_path: Path) -> None:
    config = with_roles(8, strict=toy("Strict"))
    await run_fake(tmp_path / "p", config)
    judgements = [j for d in messages_of(tmp_path / "p", GateDecided) for j in d.judgements]
    verdicts = {j.verdict for j in judgements}
    assert verdicts == {"veto", "amend"}, "the fakes propose instructions of both kinds"
    admitted = [i.text for m in messages_of(tmp_path / "p", PoolChanged) for i in m.admitted]
    assert admitted and all(text.endswith("Mind the edges.") for text in admitted)
    counts = messages_of(tmp_path / "p", PoolChanged)[-1].answers.refused_proposals
    assert counts[AnswerFault.GATE] == sum(j.verdict == "veto" for j in judgements)
    await run_fake(tmp_path / "again", config)
    assert transcript(tmp_path / "p") == transcript(tmp_path / "again")


@pytest.mark.parametrize("name", ["Fails", "Wrong"])
async def test_a_gate_that_fails_is_passed_by_or_stops_the_run(
    toys: None, tmp_path: Path, name: str
) -> None:
    await run_fake(tmp_path / "open", with_roles(4, gate=toy(name)))
    assert "all 4 rounds" in messages_of(tmp_path / "open", RunStopped)[0].reason
    assert any(m.admitted for m in messages_of(tmp_path / "open", PoolChanged))
    await run_fake(tmp_path / "shut", with_roles(4, gate=toy(name, required=True)))
    assert "required gate 'gate' failed" in messages_of(tmp_path / "shut", RunStopped)[0].reason
    assert not any(m.admitted for m in messages_of(tmp_path / "shut", PoolChanged))


async def test_a_contributor_competes_under_its_own_name(toys: None, tmp_path: Path) -> None:
    config = with_roles(8, rival=toy("Rival"))
    async with open_fake(tmp_path / "p", config) as session:
        async for _ in session.run():
            pass
        authors = {row.author for row in session.pool.rows() if row.parent}
        used = session.coordinator.campaign.used
    assert "rival" in authors
    written = [m for m in messages_of(tmp_path / "p", GradientsComputed) if m.author == "rival"]
    assert len(written) == 8
    for message in written:
        assert len(message.gradients) == 1, "no more than were asked for"
        gradient = message.gradients[0]
        assert (gradient.author, gradient.evidence, gradient.dropped_citations) == ("rival", (), 1)
        assert message.usage.calls == 1
    proposed = [p for m in messages_of(tmp_path / "p", InstructionsProposed) for p in m.proposals]
    assert "rival" in {p.author for p in proposed}
    assert used is not None


@pytest.mark.parametrize(
    ("role", "complaint"),
    [
        ({"class": "role_toys:Counter"}, "not trusted"),
        ({"class": "role_toys2:Counter", "allow": ["role_toys"]}, "not trusted"),
        ({"class": "nobody"}, "no installed package offers 'nobody'"),
        ({"class": "nothing"}, "not a class made of"),
        (toy("Missing"), "cannot be imported"),
        (toy("Counter", required=True), "required is for"),
        (toy("Counter", reads=["RoleSaid"]), "reads RoleSaid"),
        (toy("Strict", before="ImageScored"), "before"),
        ({}, "give either class, or an agent"),
        ({"agent": {}}, "an agent needs shape"),
        ({"shape": "gate", "agent": {"provider": "os.system"}}, "'os.system' is not trusted"),
        (
            {"shape": "gate", "agent": {"config": {"tools": [{"provider": "os.popen"}]}}},
            "'os.popen' is not trusted",
        ),
        ({"shape": "gate", "agent": {"config": {"model_client": {}}}}, r"is \[llm.role\]"),
    ],
)
async def test_a_role_that_cannot_be_had_is_refused_before_the_run_exists(
    toys: None, tmp_path: Path, role: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        await run_fake(tmp_path / "p", with_roles(role=role))
    assert not (tmp_path / "p/bigpe.db").exists() or not messages_of(tmp_path / "p", Message)


@pytest.mark.parametrize("name", ["gradient", "coordinator", "a b", ""])
def test_a_role_may_not_have_the_name_of_another(name: str) -> None:
    with pytest.raises(ConfigError, match="choose a name"):
        check_config({"roles": {name: {"class": "counter"}}}, where="here")
