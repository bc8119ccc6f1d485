"""The roles as AgentChat agents, and the transcript as an AgentChat conversation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from autogen_agentchat.base import ChatAgent
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.messages import TextMessage
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core import CancellationToken

from bigpe.agents.evidence.mixed_model import PairedComparison
from bigpe.agents.reasoning.constraints import Constraints
from bigpe.integrations.agentchat import ChatRole, as_chat_agent
from bigpe.runtime.transcript.llm_calls import replay
from bigpe.services.core.errors import DataError
from bigpe.services.core.values import Exemplar, Instruction
from bigpe.services.llm.embedded_client import EmbeddedLlmClient
from bigpe.services.store.database import Store
from bigpe.testing.fakes import FakeLlm
from bigpe.testing.runs import run_fake

INSTRUCTION = Instruction(
    text="Add a word.",
    exemplars=(Exemplar(naive="a lamp", rewrite="a lamp, golden"),),
)
PAIRS = [
    PairedComparison(
        naive=f"a cat {i % 3}", rewrite=f"a cat {i % 3}, {word}", seed=i, gain=gain, arm="a"
    )
    for i in range(12)
    for word, gain in [("golden haze", 0.02) if i % 2 else ("murky water", -0.02)]
]


def text(content: str) -> TextMessage:
    return TextMessage(source="user", content=content)


async def test_the_generator_rewrites() -> None:
    agent = as_chat_agent("generator", FakeLlm(), INSTRUCTION)
    answer = await agent.on_messages([text("a cat")], CancellationToken())
    assert answer.chat_message.to_text().startswith("a cat, golden")


async def test_it_is_held_to_constraints() -> None:
    rules = Constraints(banned=("golden",))
    agent = as_chat_agent("generator", EmbeddedLlmClient(), INSTRUCTION, constraints=rules)
    again = ChatAgent.load_component(agent.dump_component())
    assert again.dump_component() == agent.dump_component()
    bound = as_chat_agent("generator", FakeLlm(), INSTRUCTION, constraints=rules)
    answer = await bound.on_messages([text("a cat")], CancellationToken())
    assert answer.chat_message.to_text() == "a cat"
    team = [
        as_chat_agent(role, FakeLlm(), INSTRUCTION, constraints=rules)
        for role in ("gradient", "modifier")
    ]
    result = await team[0].on_messages(
        [text(json.dumps([pair.model_dump() for pair in PAIRS]))], CancellationToken()
    )
    made = await team[1].on_messages([text(result.chat_message.to_text())], CancellationToken())
    assert "golden" not in made.chat_message.to_text().replace("forbids (banned: golden)", "")


async def test_gradient_and_modifier_work_in_a_team() -> None:
    team = RoundRobinGroupChat(
        [
            as_chat_agent("gradient", FakeLlm(), INSTRUCTION),
            as_chat_agent("modifier", FakeLlm(), INSTRUCTION),
        ],
        termination_condition=MaxMessageTermination(3),
    )
    result = await team.run(task=json.dumps([pair.model_dump() for pair in PAIRS]))
    made = Instruction.model_validate_json(result.messages[-1].to_text())
    assert "golden haze" in made.text or "murky water" in made.text


async def test_wrong_input_is_told() -> None:
    agent = as_chat_agent("modifier", FakeLlm(), INSTRUCTION)
    with pytest.raises(DataError, match="a gradient with its rows"):
        await agent.on_messages([text("make it nicer")], CancellationToken())


async def test_it_round_trips_as_a_component() -> None:
    agent = as_chat_agent("generator", EmbeddedLlmClient(), INSTRUCTION, name="painterly", seed=3)
    again = ChatAgent.load_component(agent.dump_component())
    assert isinstance(again, ChatRole) and again.name == "painterly"
    assert again.dump_component() == agent.dump_component()


async def test_a_transcript_replays_in_the_console(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await run_fake(tmp_path)
    async with Store(tmp_path / "bigpe.db", read_only=True) as store:
        result = await replay(store, "main", round=1)
    output = capsys.readouterr().out
    assert "TextMessage (generator)" in output and "TextMessage (user)" in output
    assert any(message.source == "generator" for message in result.messages)
