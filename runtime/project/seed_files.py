"""The seed instructions of a run: packaged, or from a file of the user's own."""

from __future__ import annotations

import tomllib
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from bigpe.agents.messages.plan import SeedInstruction
from bigpe.prompts.templates import SeedText, seed_texts, seeds_of
from bigpe.runtime.project.config import BigpeConfig
from bigpe.services.core.errors import ConfigError
from bigpe.services.core.values import Exemplar, Instruction

LONGEST = 20_000
"""Characters of an instruction; a longer file is likely not what was meant."""


def seed_instructions() -> list[SeedInstruction]:
    """The packaged seed instructions."""
    return _instructions(seed_texts())


def seeds_for(config: BigpeConfig, project: Path) -> list[SeedInstruction]:
    """The seed instructions that `[data] seeds` names, or the packaged ones. ConfigError."""
    if config.data.seeds is None:
        return seed_instructions()
    return read_seeds(project / config.data.seeds)


def read_seeds(path: Path) -> list[SeedInstruction]:
    """The instructions of a TOML file, or the one that any other text file is.

    An instruction may have several lines; blanks around it are not part of it. ConfigError if the
    file is missing, of another form, not plain text, or without an instruction.
    """
    try:
        text = path.read_text("utf-8-sig")
        seeds = _instructions(_texts(path, text))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"[data] seeds: {path} is not a file of seed instructions: {error!r:.300}; write one "
            "[[seed]] with name and text for each in a .toml file, and optional [[seed.exemplar]] "
            "entries with naive and rewrite; or put one instruction alone into a .txt or .md file"
        ) from error
    if not seeds or len({seed.instruction.id for seed in seeds}) < len(seeds):
        raise ConfigError(f"[data] seeds: {path} needs at least one [[seed]], and no duplicates")
    return seeds


def _texts(path: Path, text: str) -> Sequence[SeedText]:
    if path.suffix.lower() == ".toml":
        return seeds_of(tomllib.loads(text))
    if any(line.startswith("[[seed]]") for line in text.splitlines()):
        raise ValueError("it has [[seed]] entries; name it .toml")
    return (SeedText(path.stem, text, ()),)


def _instructions(texts: Sequence[SeedText]) -> list[SeedInstruction]:
    return [
        SeedInstruction(
            name=seed.name,
            instruction=Instruction(
                text=_checked(seed.text),
                exemplars=tuple(Exemplar(naive=n, rewrite=r) for n, r in seed.exemplars),
            ),
        )
        for seed in texts
    ]


def _checked(text: str) -> str:
    """The instruction without blanks around it. ValueError if it is no text for a model."""
    lines = text.strip().splitlines()  # of any system
    if not lines:
        raise ValueError("the instruction is empty")
    if len(text) > LONGEST:
        raise ValueError(f"{len(text):,} characters; an instruction has at most {LONGEST:,}")
    for number, line in enumerate(lines, start=1):
        for char in line:
            if unicodedata.category(char) == "Cc" and char != "\t":
                raise ValueError(f"line {number} holds the control character U+{ord(char):04X}")
    return "\n".join(line.rstrip() for line in lines)
