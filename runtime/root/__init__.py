"""bigpe: finds the instruction that makes an LLM rewrite naive image prompts into preferred ones.

import bigpe

async with bigpe.Session.open("my-run", {"run": {"rounds": 12}}) as session:
    async for message in session.run():
        ...
    best = session.pool.best()

prompts = await bigpe.refine(["a cat"], instruction=best.instruction)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bigpe.services.core.version import VERSION as __version__

__all__ = ["BigpeError", "Instruction", "Session", "__version__", "load_instruction", "refine"]

if TYPE_CHECKING:
    from bigpe.runtime.run.session import Session
    from bigpe.runtime.sharing.hub import load_instruction
    from bigpe.runtime.sharing.refine import refine
    from bigpe.services.core.errors import BigpeError
    from bigpe.services.core.values import Instruction

_HOMES = {
    "BigpeError": "bigpe.services.core.errors",
    "Instruction": "bigpe.services.core.values",
    "Session": "bigpe.runtime.run.session",
    "load_instruction": "bigpe.runtime.sharing.hub",
    "refine": "bigpe.runtime.sharing.refine",
}


def __getattr__(name: str) -> Any:
    """Load the public names on first use: `import bigpe` alone stays instant."""
    if name not in _HOMES:
        raise AttributeError(f"module 'bigpe' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
