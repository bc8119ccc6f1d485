"""Runs with roles of all shapes: killed and resumed, joined later, left, read after their end."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.fake_cli import start_run
from support.forked import ForkedProcess
from support.plugin_packages import installed

from bigpe.agents.messages.core import PoolChanged
from bigpe.agents.messages.plugin import GateDecided, RoleReported, RoleSaid
from bigpe.services.core.errors import ConfigError
from bigpe.testing.runs import CONFIG, messages_of, open_fake, run_fake, transcript

LATEST_S = 240.0
CODE = '''
from bigpe.agents.plugins import *
from bigpe.services.llm.service import LlmRequest, Turn

async def said(role, text):
    request = LlmRequest(turns=(Turn(role="user", text=text),), seed=0, temperature=0, max_tokens=9)
    return (await role.context.llm.ask(request)).text

class Teller(Observer):
    """Tells the rounds that it has read of."""
    reads = ("PoolChanged", "RunStopped")
    async def read(self, message, last):
        return f"{last} {message.round}" if await said(self, f"round {message.round}") else None

class Doubter(Gate):
    """Amends everything."""
    async def judge(self, message, items):
        return [Judgement(item=i, verdict="amend", text=f"{text} {await said(self, text)}")
                for i, text in enumerate(items)]

class Rival(Contributor):
    """Wants something vivid."""
    async def contribute(self, request):
        told = await said(self, request.instruction.text)
        return [Gradient(inference=told, improvement="Be vivid.", evidence=(), composed=False)]
'''


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    offers = {
        "roles": {name.lower(): f"guests_toy:{name}" for name in ("Teller", "Doubter", "Rival")}
    }
    folder = installed(tmp_path / "site", "guests_toy", {"guests_toy.py": CODE}, offers)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "guests_toy", raising=False)
    return folder


def config(*names: str, **more: Any) -> dict[str, Any]:
    roles = {name: {"class": name, **more} for name in names}
    return {"run": {**CONFIG["run"], "rounds": 6}, "roles": roles}


def start(site: Path, folder: Path, delay_s: float) -> ForkedProcess:
    return start_run(folder, config("teller", "doubter", "rival"), delay_s, packages=site)


def wait_for_messages(folder: Path, count: int) -> None:
    deadline = time.monotonic() + LATEST_S
    while time.monotonic() < deadline:
        try:
            if len(transcript(folder)) >= count:
                return
        except Exception:  # noqa: BLE001 - the tables may not be there yet
            pass
        time.sleep(0.01)
    raise TimeoutError(f"no {count} messages in {LATEST_S} s")


@pytest.mark.timeout(900)
async def test_a_killed_run_with_roles_resumes_to_the_same_end(site: Path, tmp_path: Path) -> None:
    await run_fake(tmp_path / "whole", config("teller", "doubter", "rival"))
    whole = transcript(tmp_path / "whole")
    assert messages_of(tmp_path / "whole", GateDecided)
    for share in (0.4, 0.95):
        process = start(site, tmp_path / "killed", 0.01)
        wait_for_messages(tmp_path / "killed", int(share * len(whole)))
        process.kill()
        process.communicate()
        assert process.returncode in (-signal.SIGKILL, 0)
    finish = start(site, tmp_path / "killed", 0.0)
    _, text = finish.communicate(timeout=LATEST_S)
    assert finish.returncode == 0, text
    assert transcript(tmp_path / "killed") == whole


async def pause_after(folder: Path, rounds: int, wanted: dict[str, Any]) -> None:
    async with open_fake(folder, wanted) as session:
        async for message in session.run():
            if isinstance(message, PoolChanged) and message.round == rounds:
                session.pause()


def last_said(folder: Path) -> list[int]:
    return [int(word) for word in messages_of(folder, RoleSaid)[-1].texts[0].split()]


@pytest.mark.parametrize("replay", [False, True])
async def test_an_observer_that_joins_reads_on_or_from_the_beginning(
    site: Path, tmp_path: Path, replay: bool
) -> None:
    await pause_after(tmp_path / "p", 2, config())
    await run_fake(tmp_path / "p", config("teller", replay=replay))
    read = last_said(tmp_path / "p")
    assert read[-2:] == [6, 6], "the last round, and the run's end"
    assert (read[:2] == [1, 2]) == replay
    reported = [m.round for m in messages_of(tmp_path / "p", RoleReported)]
    assert reported == sorted(set(read))


async def test_a_finished_run_can_be_read_by_an_observer_that_joins(
    site: Path, tmp_path: Path
) -> None:
    await run_fake(tmp_path / "p", config())
    await run_fake(tmp_path / "p", config("teller", replay=True))
    assert last_said(tmp_path / "p") == [1, 2, 3, 4, 5, 6, 6]


async def test_an_observer_may_leave_and_the_run_goes_on_without_it(
    site: Path, tmp_path: Path
) -> None:
    await pause_after(tmp_path / "p", 2, config("teller"))
    await run_fake(tmp_path / "p", config())
    async with open_fake(tmp_path / "p", config()) as session:
        assert session.complete
    assert max(last_said(tmp_path / "p")) < 6


@pytest.mark.parametrize(
    ("before", "after"), [((), ("doubter",)), (("rival",), ()), ((), ("teller", "rival"))]
)
async def test_gates_and_contributors_belong_to_a_run_from_its_beginning(
    site: Path, tmp_path: Path, before: tuple[str, ...], after: tuple[str, ...]
) -> None:
    await pause_after(tmp_path / "p", 1, config(*before))
    with pytest.raises(ConfigError, match=r"roles\."):
        await run_fake(tmp_path / "p", config(*after))
