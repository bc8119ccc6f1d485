"""A run with roles of all shapes that is killed and resumed ends as one that was left alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.packages import installed
from support.runs import CONFIG, messages_of, run_fake, transcript

from bigpe.agents.role_messages import GateDecided

TESTS = Path(__file__).resolve().parent.parent
LATEST_S = 90.0
CODE = '''
from bigpe.agents.plugins import *
from bigpe.services.llm import LlmRequest, Turn

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
MAIN = """
import asyncio, json, sys
from pathlib import Path
from support.runs import run_fake
asyncio.run(run_fake(Path(sys.argv[1]), json.loads(sys.argv[2]), delay_s=float(sys.argv[3])))
"""


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


def start(site: Path, folder: Path, delay_s: float) -> subprocess.Popen[bytes]:
    wanted = json.dumps(config("teller", "doubter", "rival"))
    environment = {**os.environ, "PYTHONPATH": f"{TESTS}{os.pathsep}{site}"}
    command = [sys.executable, "-P", "-c", MAIN, str(folder), wanted, str(delay_s)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)


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


@pytest.mark.timeout(300)
async def test_a_killed_run_with_roles_resumes_to_the_same_end(site: Path, tmp_path: Path) -> None:
    await run_fake(tmp_path / "whole", config("teller", "doubter", "rival"))
    whole = transcript(tmp_path / "whole")
    assert messages_of(tmp_path / "whole", GateDecided)
    for share in (0.3, 0.6, 0.95):
        process = start(site, tmp_path / "killed", 0.01)
        wait_for_messages(tmp_path / "killed", int(share * len(whole)))
        process.kill()
        process.communicate()
        assert process.returncode in (-signal.SIGKILL, 0)
    finish = start(site, tmp_path / "killed", 0.0)
    _, told = finish.communicate(timeout=LATEST_S)
    assert finish.returncode == 0, told.decode()
    assert transcript(tmp_path / "killed") == whole
