"""Check names and prose: exit 1 and name each place with a banned identifier or phrase.

    python -P scripts/lint_identifiers.py FOLDER|FILE...

A banned identifier says nothing about what it holds (CONTRIBUTING.md, rules of prose, no. 4).
A banned phrase is idiom that a search or a non-native reader fails on. It is looked for in
docstrings and comments of `.py` files, and in whole `.md` files. Single words are codespell's.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

BANNED = frozenset({"told", "said", "one", "known", "asked", "shown"})
PHRASES = (
    "all the same",
    "as it were",
    "in peace",
    "is owed",
    "last word",
    "nor can",
    "so many",
    "wait for himself",
    "who asks",
    "who waits",
)
"""Each has a plain term; a phrase is added once the product is free of it."""
_PHRASE = re.compile(rf"\b({'|'.join(PHRASES)})\b".replace(" ", r"\s+"), re.IGNORECASE)


def bound_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of each variable, argument, function and class that the code defines."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                yield node.lineno, name
            case (
                ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.ClassDef(name=name)
            ):
                yield node.lineno, name
            case _:
                pass


def prose(text: str, tree: ast.AST) -> Iterator[tuple[int, str]]:
    """First line and text of each docstring and each comment of a module."""
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant(value=str(words))):
                yield node.lineno, words
            case _:
                pass
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def banned_phrases(first: int, words: str) -> Iterator[tuple[int, str]]:
    """Line and text of each banned phrase; a phrase may go over a line break."""
    for found in _PHRASE.finditer(words):
        yield first + words.count("\n", 0, found.start()), " ".join(found[0].lower().split())


def faults(path: Path) -> list[str]:
    """One line for each banned name that the file defines, and for each banned phrase."""
    text = path.read_text("utf-8")
    if path.suffix != ".py":
        found = list(banned_phrases(1, text))
    else:
        tree = ast.parse(text)
        found = [(line, name) for line, name in bound_names(tree) if name in BANNED]
        for first, words in prose(text, tree):
            found += banned_phrases(first, words)
    return [f"{path}:{line}: {name}" for line, name in found]


def main() -> int:
    """Print the places; the exit code is 1 if there are any."""
    places = [Path(argument) for argument in sys.argv[1:]]
    files = sorted(
        path for place in places for path in ([place] if place.is_file() else place.rglob("*.py"))
    )
    found = [fault for path in files for fault in faults(path)]
    print("\n".join(found) or f"names and phrases of {len(files)} files are in order")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
