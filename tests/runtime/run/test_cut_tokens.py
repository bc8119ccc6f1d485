"""What the scorer could not read of a naive prompt is recorded with its score, and shown."""

from __future__ import annotations

from pathlib import Path

from bigpe.agents.messages.core import ImageScored
from bigpe.runtime.transcript.describing.messages import describe
from bigpe.runtime.transcript.describing.parts import summary
from bigpe.testing.fakes import LIMIT
from bigpe.testing.runs import open_fake

ANIMALS = (
    "cat",
    "fox",
    "owl",
    "hare",
    "stork",
    "lion",
    "wolf",
    "toad",
    "newt",
    "seal",
    "crab",
    "ibis",
)
SHORT = [f"a {animal}" for animal in ANIMALS]
LONG = [" ".join(f"{animal}{i}" for i in range(31)) for animal in ANIMALS]
"""31 words each, and none shared: near-duplicates would all land in one split."""


async def test_a_long_naive_prompt_is_noted(tmp_path: Path) -> None:
    (tmp_path / "naive.txt").write_text("\n".join([*LONG, *SHORT]))
    config = {
        "run": {"rounds": 1, "batch_size": 8, "pilot_prompts": 2},
        "data": {"naive": "naive.txt"},
    }
    async with open_fake(tmp_path, config) as session:
        scored = [m async for m in session.run() if isinstance(m, ImageScored)]
    cut = {message.naive in LONG: message.naive_truncated for message in scored}
    assert cut == {True: 31 - LIMIT, False: 0}
    for message in scored:
        noted = f"({31 - LIMIT} tokens of it cut off)" in summary(describe(message))
        assert noted == (message.naive in LONG)
