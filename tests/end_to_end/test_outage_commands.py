"""Commands whose language model is away: they say so, pause with exit code 130, and go on."""

from __future__ import annotations

import json
from pathlib import Path

from support.fake_cli import CONFIG, start
from support.forked import ForkedProcess
from support.http_llm import FakeServer, fails
from support.llm_services import ABILITIES, PROVIDER

from bigpe.agents.messages.core import StepFailed
from bigpe.testing.runs import messages_of


def write_config(folder: Path, server: FakeServer, minutes: float) -> None:
    folder.mkdir(exist_ok=True)
    abilities = ", ".join(f"{key} = {json.dumps(value)}" for key, value in ABILITIES.items())
    sized = CONFIG.replace("rounds = 8", f"rounds = 2\noutage_minutes = {minutes}")
    (folder / "bigpe.toml").write_text(
        f"""{sized}
[llm.default]
provider = "{PROVIDER}"
config = {{ model = "m", base_url = "{server.url}", model_info = {{ {abilities} }} }}
"""
    )


def ended(process: ForkedProcess) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=100)
    assert process.returncode is not None
    return process.returncode, out, err


def test_a_run_pauses_after_a_long_outage_and_goes_on(server: FakeServer, tmp_path: Path) -> None:
    write_config(tmp_path, server, 0.02)
    well = [server.answers_well] * 4
    server.replies = [*well, fails(503, "model is loading")]
    code, _, err = ended(start(tmp_path, "run", http_llm=True))
    assert code == 130, err
    assert "waiting for the language model" in err and "model is loading" in err
    assert f"bigpe resume main -p {tmp_path}" in err
    code, out, _ = ended(start(tmp_path, "status", "--json", http_llm=True))
    [row] = json.loads(out)
    assert row["state"] == "paused" and "model is loading" in row["reason"]
    server.replies = [server.answers_well]
    code, _, err = ended(start(tmp_path, "resume", http_llm=True))
    assert code == 0, err
    assert messages_of(tmp_path, StepFailed) == []
    code, out, _ = ended(start(tmp_path, "status", http_llm=True))
    assert "rewrites fell back to the naive prompt" in out
    server.replies = [fails(402, "no credits left")]
    code, _, err = ended(start(tmp_path, "evaluate", "--candidates", "1", http_llm=True))
    assert code == 130 and "no credits left" in err, err
    refining = ("refine", "a cat on the beach", "--json")
    code, out, err = ended(start(tmp_path, *refining, http_llm=True))
    assert code == 130 and "no credits left" in err, err


def test_a_run_of_refusals_fails_and_begins_again(server: FakeServer, tmp_path: Path) -> None:
    write_config(tmp_path, server, 0.02)
    server.replies = [server.answers_well, fails(400, "unknown parameter")]
    code, _, err = ended(start(tmp_path, "run", http_llm=True))
    assert code == 1 and "unknown parameter" in err and "bigpe run main" in err, err
    code, _, err = ended(start(tmp_path, "evaluate", http_llm=True))
    assert code == 2 and "unknown parameter" in err, err
    server.replies = [server.answers_well]
    code, _, err = ended(start(tmp_path, "run", http_llm=True))
    assert code == 0 and "begins again" in err, err
