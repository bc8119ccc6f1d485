"""Finds JSON objects in a text: in fences, after a preamble, among others, or slightly broken."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from bigpe.agents.reasoning.answers.thoughts import without_thoughts

M = TypeVar("M", bound=BaseModel)
_DECODER = json.JSONDecoder(strict=False)
_LIKE_OBJECT = re.compile(r"\{\s*(?:[\"'\u201c\u2018]|\w[\w -]{0,40}[\"'\u201d]?\s*:)")
_COMMA = re.compile(r'(?P<text>"(?:[^"\\]|\\.)*")|,(?=\s*[}\]])', re.DOTALL)
"""A string, or a comma before a closing bracket."""
MAX_DEPTH = 6
"""Levels of nesting that are searched."""
MAX_TRIES = 200
"""Places of a text where a value is looked for; bounds the time for hostile texts."""


def find_object(raw: str, model: type[M]) -> M | None:
    """The first object of `raw` that `model` accepts, also inside another object; else None."""
    for value in values_in(without_thoughts(raw).text):
        for found in _nested(value, MAX_DEPTH):
            try:
                return model.model_validate(found)
            except ValidationError:
                continue
    return None


def values_in(text: str) -> Iterator[Any]:
    """The JSON values (objects and arrays) of a text in order, then those that can be repaired."""
    found = False
    place = tries = 0
    while (start := _next(text, place)) >= 0 and tries < MAX_TRIES:
        tries += 1
        try:
            value, place = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            place = start + 1
            continue
        found = True
        yield value
    if not found or _LIKE_OBJECT.search(text):
        yield from _repaired(text)


def _next(text: str, place: int) -> int:
    places = [at for sign in "{[" if (at := text.find(sign, place)) >= 0]
    return min(places, default=-1)


def _repaired(text: str) -> Iterator[Any]:
    start = _LIKE_OBJECT.search(text)
    if start is None:
        return
    end = text.rfind("}") + 1
    part = text[start.start() : end if end > start.start() else len(text)]
    # First what loses nothing: commas too many, then the literals of Python.
    try:
        yield _DECODER.decode(_COMMA.sub(lambda found: found["text"] or "", part))
        return
    except (ValueError, RecursionError):
        pass
    try:
        yield ast.literal_eval(part)
        return
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        pass
    from json_repair import repair_json  # here: most answers need no repair

    try:
        yield cast(Any, repair_json(part, return_objects=True, skip_json_loads=True))
    except (ValueError, RecursionError):
        return


def _nested(value: Any, depth: int) -> Iterator[dict[str, Any]]:
    """The object and the objects inside it, outermost first."""
    if depth == 0:
        return
    if isinstance(value, dict):
        table = cast(dict[str, Any], value)
        yield table
        for inner in table.values():
            yield from _nested(inner, depth - 1)
    elif isinstance(value, list):
        for inner in cast(list[Any], value):
            yield from _nested(inner, depth - 1)
