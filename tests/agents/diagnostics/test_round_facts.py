"""Diagnostics' view of a run: as quick late in a long one, and the nearest known instruction."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st
from support.work_counters import lines_run

from bigpe.agents.diagnostics.faults import WINDOW
from bigpe.agents.diagnostics.round_history import RoundHistory
from bigpe.agents.diagnostics.text_diversity import ContentTermIndex, content, distance
from bigpe.agents.messages.core import (
    ArmPulled,
    InstructionsProposed,
    Message,
    PairedGain,
    PoolChanged,
    ProposedInstruction,
)
from bigpe.services.core.values import Instruction

WORDS = [f"w{i}" for i in range(400)]
few_words = st.lists(st.sampled_from(WORDS[:6]), max_size=4)
sent = few_words.map(lambda found: Instruction(text=f"The {' '.join(found)}"))


@given(sent, st.lists(sent, max_size=8))
def test_the_nearest_is_the_nearest_of_all(
    instruction: Instruction, others: list[Instruction]
) -> None:
    existing = ContentTermIndex()
    for round, other in enumerate(others):
        existing.add(content(other), round)
    for before in range(len(others) + 1):
        existing.forget(before)
        own = content(instruction)
        wanted = min((distance(own, content(other)) for other in others[before:]), default=None)
        assert existing.nearest(own) == wanted


def a_run(rounds: int) -> list[Message]:
    rng = random.Random(0)
    arms = [Instruction(text=f"seed {i}") for i in range(40)]
    messages: list[Message] = []
    for index in range(1, rounds + 1):
        head = {"mid": str(index), "run": "main", "parent": "", "round": index}
        arm = rng.choice(arms)
        gains = tuple(
            PairedGain(
                naive=f"p{rng.randrange(200)}", rewrite="x", seed=0, naive_score=0.0, score=0.0,
                gain=rng.gauss(0, 1), naive_image="", image="",
            )
            for _ in range(5)
        )  # fmt: skip
        new = Instruction(text="Add " + " and ".join(rng.sample(WORDS, 5)))
        proposal = ProposedInstruction(instruction=new, improvement="", composed=False)
        messages += [
            ArmPulled.model_validate({**head, "instruction": arm.id, "gains": gains}),
            InstructionsProposed.model_validate(
                {**head, "parent_instruction": arm.id, "proposals": (proposal,)}
            ),
            PoolChanged.model_validate(
                {**head, "admitted": (), "retired": (), "waiting": 0, "sigma": 1.0, "best": arm.id}
            ),
        ]
    return messages


def test_a_long_run_costs_the_same_each_round() -> None:
    window, more = WINDOW // 4, 2 * WINDOW
    sent = a_run(more + 2 * window)
    history = RoundHistory(sent[: 3 * more])

    def work(messages: list[Message]) -> int:
        return lines_run(lambda: [history.add(message) for message in messages])

    first = work(sent[3 * more : 3 * (more + window)])
    second = work(sent[3 * (more + window) :])
    assert first > 1000 and abs(second - first) < 0.01 * first


def test_only_a_near_copy_counts_as_no_novelty() -> None:
    def novelty(code: str) -> float | None:
        head = {"mid": "1", "run": "main", "parent": "", "round": 1}
        refused = {"improvement": "", "code": code, "reasons": ("as before",)}
        history = RoundHistory()
        for message in (
            ArmPulled.model_validate({**head, "instruction": "a", "gains": ()}),
            InstructionsProposed.model_validate(
                {**head, "parent_instruction": "a", "proposals": (), "refused": (refused,)}
            ),
            PoolChanged.model_validate(
                {**head, "admitted": (), "retired": (), "waiting": 0, "sigma": 1.0, "best": "a"}
            ),
        ):
            history.add(message)
        return history.facts[0].novelty

    assert novelty("near-copy") == 0.0
    assert novelty("invalid") is None and novelty("vetoed") is None
