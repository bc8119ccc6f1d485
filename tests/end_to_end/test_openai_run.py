"""A whole run whose language model is a server that speaks OpenAI's protocol, good or bad."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.fake_cli import start
from support.http_llm import FakeServer, says, sends

from bigpe.testing.runs import transcript

KEY = "sk-recognisable-8f2c1e"
CONFIG = """
[run]
rounds = {rounds}
batch_size = 2
pilot_prompts = 2
concurrency = 1

[render]
steps = 2

[llm.default]
provider = "autogen_ext.models.openai.OpenAIChatCompletionClient"
api_key_env = "BIGPE_TEST_KEY"

[llm.default.config]
model = "test-model"
base_url = "{url}"
model_info = {{ vision = false, function_calling = false, json_output = true, \
structured_output = true, family = "unknown", multiple_system_messages = true }}
"""
pytestmark = pytest.mark.timeout(900)


def configure(folder: Path, url: str, rounds: int) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "bigpe.toml").write_text(CONFIG.format(rounds=rounds, url=url))


def bodies(folder: Path, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(body) for _, body in transcript(folder)]
    return [body for body in found if body["kind"] == kind]


def bigpe(folder: Path, word: str) -> tuple[int, str, str]:
    process = start(folder, word, http_llm=True)
    out, err = process.communicate(timeout=840)
    assert process.returncode is not None and "Traceback" not in err
    return process.returncode, out, err


def test_a_capable_server_drives_a_run_to_its_end(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.replies = [server.answers_well]
    configure(tmp_path / "p", server.url, rounds=2)
    monkeypatch.setenv("BIGPE_TEST_KEY", KEY)
    code, out, err = bigpe(tmp_path / "p", "run")
    assert code == 0, err
    assert "stopped: all 2 rounds are done" in out
    rewrites = [r for body in bodies(tmp_path / "p", "PromptsRewritten") for r in body["rewrites"]]
    assert len(rewrites) == 4
    assert all(r["text"].endswith("golden hour, wild roses") for r in rewrites)
    _, displayed, _ = bigpe(tmp_path / "p", "inspect")
    assert "golden hour, wild roses" in displayed
    assert set(server.keys) == {f"Bearer {KEY}"}
    written = [file for file in (tmp_path / "p").rglob("*") if file.is_file()]
    assert not [file for file in written if KEY.encode() in file.read_bytes()]


GARBAGE = {
    "a web page": lambda: sends(200, "<html>Welcome to the hotel network</html>", "text/html"),
    "no text": lambda: says(""),
    "two megabytes": lambda: says("word " * 400_000),
}


@pytest.mark.parametrize("case", list(GARBAGE))
def test_garbage_is_never_a_score(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    server.replies = [GARBAGE[case]()]
    folder = tmp_path / "p"
    configure(folder, server.url, rounds=1)
    monkeypatch.setenv("BIGPE_TEST_KEY", KEY)
    code, out, err = bigpe(folder, "run")
    gains = [gain for body in bodies(folder, "ArmPulled") for gain in body["gains"]]
    if gains:
        # An answer that came but can't be used: the naive prompt stands in, and says so.
        assert all(gain["fallback"] for gain in gains)
    elif case == "a web page":
        # What is no model at all shows before the first picture, and is a wrong setting.
        assert code == 2 and not (folder / "images").exists()
    else:
        assert code == 1
        assert "no round gave a result" in err
        assert bodies(folder, "StepFailed")
    assert "best:" not in out or gains
