"""Constraints of a project on the texts that bigpe writes.

They apply to rewrites (of runs, evaluations and `bigpe refine`) and to proposed instructions. A
rewrite that violates a rule is requested again; after the last attempt it is a fallback with the
reason. A proposal is refused with the reason. Texts of users, naive prompts and seed instructions,
are not checked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Literal

import regex
from pydantic import BaseModel, ConfigDict, Field, field_validator

from bigpe.agents.evidence.terms import contains_term, words
from bigpe.services.core import plugins
from bigpe.services.core.errors import ConfigError
from bigpe.services.core.values import Instruction
from bigpe.services.score.clip.open_clip.tokenizer import encode

Safety = Callable[[str], str | None]
"""A safety filter: returns None, or why a text is refused. It must be deterministic."""
_FOREIGN = {
    "latin": regex.compile(r"[^\p{Latin}\p{Common}\p{Inherited}]"),
    "ascii": regex.compile(r"[^\x00-\x7f]"),
}


class Constraints(BaseModel):
    """`[constraints]`: rules for rewrites and proposed instructions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_tokens: int = Field(default=0, ge=0)
    """Maximum number of CLIP tokens of a rewrite (CLIP's encoders read 75); 0: no limit."""
    required: tuple[str, ...] = ()
    """Words or phrases that every rewrite must contain."""
    banned: tuple[str, ...] = ()
    """Forbidden words or phrases; they match whole words in any case."""
    artists: tuple[str, ...] = ()
    """Artist names that no rewrite or instruction may contain."""
    banned_file: str | None = None
    """File with one word or phrase per line, added to `banned`; "#" starts a comment."""
    artists_file: str | None = None
    """The same for `artists`."""
    script: Literal["any", "latin", "ascii"] = "any"
    """Allowed script: Latin letters with their marks, or ASCII characters only."""
    safety: str | None = None
    """Name of a safety filter that an installed package registers in `bigpe.safety`."""

    @field_validator("required", "banned", "artists")
    @classmethod
    def _of_words(cls, terms: tuple[str, ...]) -> tuple[str, ...]:
        for term in terms:
            if not words(term):
                raise ValueError(f"{term!r} has no word in it")
        return terms

    @field_validator("safety")
    @classmethod
    def _offered(cls, name: str | None) -> str | None:
        if name is not None and name not in plugins.offered("safety"):
            raise ValueError(
                f"no installed package offers {name!r} as one of bigpe.safety; "
                "`bigpe safety list` shows what there is"
            )
        return name

    def with_files(self, folder: Path) -> Constraints:
        """The constraints with the words of the files. Raises ConfigError for unreadable files."""
        lists = {
            "banned": _joined(self.banned, _words_of(folder, "banned_file", self.banned_file)),
            "artists": _joined(self.artists, _words_of(folder, "artists_file", self.artists_file)),
        }
        return self.model_copy(update={**lists, "banned_file": None, "artists_file": None})

    def and_also(self, other: Constraints) -> Constraints:
        """Both sets of rules; for single values the stricter. `self.safety` has priority."""
        limits = [limit for limit in (self.max_tokens, other.max_tokens) if limit]
        scripts = (self.script, other.script)
        script = next((script for script in ("ascii", "latin") if script in scripts), "any")
        return self.model_copy(
            update={
                "max_tokens": min(limits, default=0),
                "required": _joined(self.required, other.required),
                "banned": _joined(self.banned, other.banned),
                "artists": _joined(self.artists, other.artists),
                "script": script,
                "safety": self.safety or other.safety,
            }
        )

    def fault(self, text: str) -> str | None:
        """Why no prompt or instruction may contain this text; None if it may."""
        for kind, terms in (("banned", self.banned), ("an artist's name", self.artists)):
            found = [term for term in terms if contains_term(text, term)]
            if found:
                return f"it says what [constraints] forbids ({kind}: {', '.join(found)})"
        if self.script != "any" and (odd := _FOREIGN[self.script].search(text)):
            return f"it has {odd[0]!r}, which is not {self.script} ([constraints] script)"
        if self.safety is not None and (reason := _judged(self.safety, text)):
            return f"the safety filter {self.safety} refuses it: {reason}"
        return None

    def rewrite_violation(self, text: str) -> str | None:
        """Why a rewrite may not be used; None if it may."""
        missing = [term for term in self.required if not contains_term(text, term)]
        if missing:
            return f"it lacks what [constraints] requires ({', '.join(missing)})"
        if self.max_tokens and (count := len(encode(text)) - 2) > self.max_tokens:
            return f"it has {count} tokens, more than the {self.max_tokens} of [constraints]"
        return self.fault(text)

    def fault_of_instruction(self, instruction: Instruction) -> str | None:
        """Why an instruction may not be proposed; None if it may."""
        texts = (instruction.text, *(exemplar.rewrite for exemplar in instruction.exemplars))
        return next((fault for text in texts if (fault := self.fault(text))), None)

    def allowed(self, terms: Sequence[str]) -> list[str]:
        """The terms that an instruction may contain."""
        return [term for term in terms if self.fault(term) is None]


NONE = Constraints()


@cache
def _filter(name: str) -> Safety:
    return plugins.load("safety", name)


def _judged(name: str, text: str) -> str | None:
    """The filter's reason to refuse a text, or None. Raises ConfigError if the filter fails."""
    try:
        reason = _filter(name)(text)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"the safety filter {name!r} failed ({type(error).__name__}: {error}); mend it, or "
            "take it out of [constraints]"
        ) from error
    return str(reason) if reason else None


def _joined(given: Sequence[str], read: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*given, *read]))


def _words_of(folder: Path, key: str, name: str | None) -> list[str]:
    if name is None:
        return []
    path = folder / name
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"[constraints] {key} = {name!r} cannot be read: {error}; it is a word or phrase a "
            "line, in UTF-8"
        ) from error
    terms = [line.partition("#")[0].strip() for line in lines]
    if odd := next((term for term in terms if term and not words(term)), None):
        raise ConfigError(f"[constraints] {key} = {name!r}: {odd!r} has no word in it")
    return [term for term in terms if term]
