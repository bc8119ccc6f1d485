"""What the pages of a run are made from."""

from __future__ import annotations

from typing import NamedTuple

from bigpe.runtime.facts import RunReader
from bigpe.runtime.project import Project
from bigpe.services.store import Store


class Context(NamedTuple):
    """A run, open for reading."""

    project: Project
    store: Store
    run: str
    reader: RunReader
