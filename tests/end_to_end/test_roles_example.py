"""The example package and an AgentChat agent, in runs with a language model behind real HTTP."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import tomllib
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pictures
from support.http_llm import FakeServer, says
from support.paths import ROOT

from bigpe.agents.messages.core import (
    CritiqueRequested,
    GradientsComputed,
    InstructionsProposed,
    LlmTurn,
    PoolChanged,
    StepFailed,
)
from bigpe.agents.messages.plugin import GateDecided, RoleSaid
from bigpe.runtime.project.paths import Project
from bigpe.runtime.run.session import Session
from bigpe.services.store.blobs import BlobStore
from bigpe.testing.fakes import FakeLlm, FakeRenderer, FakeScorer
from bigpe.testing.runs import CONFIG, NO_WAIT, messages_of

EXAMPLE = ROOT / "docs/examples/bigpe-roles-example"
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example as a user's pip installs it, into a folder of its own."""
    folder = tmp_path_factory.mktemp("site")
    source = folder / "source"
    subprocess.run(["cp", "-r", str(EXAMPLE), str(source)], check=True)
    command = [sys.executable, "-P", "-m", "pip", "install", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    subprocess.run([*command, "--target", str(folder / "lib"), str(source)], check=True)
    return folder / "lib"


def served(url: str, *, vision: bool = False) -> dict[str, Any]:
    """An `[llm.NAME]` of a server that speaks OpenAI's protocol."""
    info = {
        "vision": vision, "function_calling": False, "json_output": True,
        "structured_output": True, "family": "unknown", "multiple_system_messages": True,
    }  # fmt: skip
    return {
        "provider": "autogen_ext.models.openai.OpenAIChatCompletionClient",
        "config": {"model": "test-model", "base_url": url, "model_info": info},
    }


async def play(folder: Path, config: dict[str, Any]) -> None:
    """A whole run; the fakes play the built-in roles that `config` names no model for."""
    blobs = BlobStore(Project(folder).images)
    fakes = {name: FakeLlm() for name in ("generator", "gradient", "modifier")}
    async with Session.open(
        "main",
        {"run": {**CONFIG["run"], "rounds": 6}, **config},
        project=folder,
        llms={name: llm for name, llm in fakes.items() if name not in config.get("llm", {})},
        renderer=FakeRenderer(blobs),
        scorer=FakeScorer(blobs),
        retry=NO_WAIT,
    ) as session:
        async for _ in session.run():
            pass


def reviews(server: FakeServer, handler: BaseHTTPRequestHandler) -> None:
    """Vetoes what names something golden, amends what names something murky, keeps the rest."""
    text = server.requests[-1]["messages"][-1]["content"].casefold()
    if "golden" in text:
        vote = {"verdict": "veto", "reason": "gold is overdone"}
    else:
        vote = {"verdict": "amend", "text": f"{text} Mind the light.", "reason": "more light"}
    says(f"Here you are: {json.dumps(vote)}")(handler)


async def test_the_installed_reviewer_and_historian_work(
    site: Path, server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(site)
    server.replies = [lambda handler: reviews(server, handler)]
    roles = {
        "historian": {"class": "historian", "options": {"remember": 3}},
        "reviewer": {"class": "reviewer", "required": True},
    }
    await play(tmp_path, {"roles": roles, "llm": {"reviewer": served(server.url)}})
    judgements = [j for m in messages_of(tmp_path, GateDecided) for j in m.judgements]
    proposed = [p for m in messages_of(tmp_path, InstructionsProposed) for p in m.proposals]
    assert len(judgements) == len(proposed) == len(server.requests) > 0
    assert all(j.reason in ("gold is overdone", "more light") for j in judgements)
    admitted = [i.text for m in messages_of(tmp_path, PoolChanged) for i in m.admitted]
    assert not any("golden" in text for text in admitted)
    assert all(text.endswith("Mind the light.") for text in admitted)
    history = messages_of(tmp_path, RoleSaid)
    assert len(history) == 7 and history[-1].about == "RunStopped"
    state, result, *events = history[-1].texts[0].splitlines()
    assert json.loads(state)["rounds"] == 6 and result.startswith("6 rounds; the best is ")
    assert len(events) <= 4 and events[-1].startswith("The run ended: all 6 rounds are done")


def test_the_installed_roles_are_listed(site: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "bigpe", "roles", "list", "--json"],
        env={"PYTHONPATH": str(site), "PATH": ""}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows = {row["name"]: (row["package"], row["summary"]) for row in json.loads(done.stdout)}
    assert rows["reviewer"][0] == "bigpe-roles-example 0.1.0"
    assert "(LLM)" in rows["reviewer"][1] and "running summary" in rows["historian"][1]


def criticises(server: FakeServer, handler: BaseHTTPRequestHandler) -> None:
    """Cites the first row that helped, and one that is not there."""
    lines = server.requests[-1]["messages"][-1]["content"].splitlines()
    helped = [line.split('"') for line in lines if line[:1] == "E" and ": +" in line]
    wish = f"Add {helped[0][1]}." if helped else "Add wild roses."
    cited = [helped[0][0].strip()] if helped else []
    answer = {"inference": "So it was measured.", "improvement": wish, "evidence": [*cited, "E99"]}
    says(f"```json\n{json.dumps(answer)}\n```")(handler)


async def test_an_assistant_agent_is_a_second_gradient_calculator_by_configuration_alone(
    server: FakeServer, tmp_path: Path
) -> None:
    text = (ROOT / "docs/roles.md").read_text("utf-8")
    block = next(b for b in text.split("```toml\n") if b.startswith("[roles.critic]"))
    roles = tomllib.loads(block.partition("```")[0])["roles"]
    server.replies = [lambda handler: criticises(server, handler)]
    await play(tmp_path, {"roles": roles, "llm": {"critic": served(server.url)}})
    assert not messages_of(tmp_path, StepFailed)
    written = [m for m in messages_of(tmp_path, GradientsComputed) if m.author == "critic"]
    assert len(written) == len(server.requests) == 6
    gradients = [gradient for message in written for gradient in message.gradients]
    assert all(g.author == "critic" and g.dropped_citations == 1 for g in gradients)
    assert any(g.evidence for g in gradients)
    for request in server.requests:
        roles_told = [m["role"] for m in request["messages"]]
        assert roles_told == ["system", "user"], "an agent remembers nothing of earlier rounds"
        assert "demanding photo editor" in request["messages"][0]["content"]
    proposals = [p for m in messages_of(tmp_path, InstructionsProposed) for p in m.proposals]
    assert "critic" in {p.author for p in proposals}
    result = [m for m in messages_of(tmp_path, LlmTurn) if m.role == "critic"]
    assert len(result) == 6 and all(m.prompt_tokens == 7 for m in result)


@pytest.mark.parametrize("vision", [True, False])
async def test_a_gradient_calculator_that_sees_gets_the_best_and_the_worst_picture(
    server: FakeServer, tmp_path: Path, vision: bool
) -> None:
    server.replies = [says(json.dumps({"inference": "i", "improvement": "x", "evidence": []}))]
    await play(tmp_path, {"llm": {"gradient": served(server.url, vision=vision)}})
    assert not messages_of(tmp_path, StepFailed)
    requested = messages_of(tmp_path, CritiqueRequested)
    contents = [request["messages"][-1]["content"] for request in server.requests]
    assert contents
    if not vision:
        assert all(isinstance(content, str) for content in contents)
        return
    blobs = BlobStore(Project(tmp_path).images)
    wanted = {
        tuple(pixels(blobs.read(image)) for image in (m.best_image, m.worst_image))
        for m in requested
    }
    for text, *pictures in contents:
        assert "pictures: the best one first, then the worst" in text["text"]
        sent: list[bytes] = []
        for picture in pictures:
            kind, _, data = picture["image_url"]["url"].partition(";base64,")
            assert (picture["type"], kind) == ("image_url", "data:image/png")
            sent.append(pixels(base64.b64decode(data)))
        assert tuple(sent) in wanted


def pixels(png: bytes) -> bytes:
    return Pictures.open(io.BytesIO(png)).convert("RGB").tobytes()
