"""Only the store opens SQLite connections, and only through aiosqlite."""

from __future__ import annotations

import ast

import pytest
from support.paths import ROOT

PRODUCT = ("agents", "prompts", "runtime", "services")
STORE = ROOT / "services" / "store" / "database.py"
TESTING = ROOT / "runtime" / "root" / "testing" / "runs.py"
OPENERS = {
    f"{module}.{name}"
    for module in ("sqlite3", "sqlite3.dbapi2", "_sqlite3")
    for name in ("connect", "Connection")
} | {"aiosqlite.connect", "aiosqlite.Connection"}


def openers_in(source: str) -> set[str]:
    """Dotted names of the connection openers that a module calls or imports by name."""
    names: dict[str, str] = {}
    found: set[str] = set()
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name] = alias.name
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} & OPENERS
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            module, _, name = ast.unparse(node.func).rpartition(".")
            found |= {f"{names.get(module, module)}.{name}"} & OPENERS
    return found


@pytest.mark.parametrize(
    "source",
    [
        "import sqlite3\nsqlite3.connect('p.db')",
        "import sqlite3 as db\ndb.Connection('p.db')",
        "from sqlite3 import connect as open_database",
        "import sqlite3.dbapi2\nsqlite3.dbapi2.connect('p.db')",
        "import aiosqlite\naiosqlite.connect('p.db')",
    ],
)
def test_every_way_to_open_a_connection_is_found(source: str) -> None:
    assert openers_in(source)


def test_types_of_sqlite3_are_no_connection() -> None:
    assert not openers_in("import sqlite3\ndef f(row: sqlite3.Row) -> sqlite3.Connection: ...")


def test_only_the_store_opens_connections() -> None:
    found = {
        path: openers
        for folder in PRODUCT
        for path in (ROOT / folder).rglob("*.py")
        if (openers := openers_in(path.read_text("utf-8")))
    }
    # The helpers of plugin tests read a finished project outside any event loop.
    assert found.pop(TESTING) == {"sqlite3.connect"}
    assert found == {STORE: {"aiosqlite.connect"}}
