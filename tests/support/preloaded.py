"""Imports what the forks of `support.forked` shall not import each."""

from __future__ import annotations

import gc
from importlib import import_module

MODULES = (
    "bigpe.runtime.cli",  # first: it limits numpy to one thread, as a fork needs
    "bigpe.runtime.cli.results.evaluate",
    "bigpe.runtime.cli.results.rate",
    "bigpe.runtime.cli.run.inspect",
    "bigpe.runtime.cli.run.run",
    "bigpe.runtime.cli.run.status",
    "bigpe.runtime.cli.share.refine",
    "bigpe.runtime.cli.share.serve",
    "bigpe.runtime.cli.share.view",
    "autogen_ext.models.openai",
    "PIL.PngImagePlugin",
    "scipy.special",
    "support.fake_cli",
    "support.interrupted_command",
    "uvicorn.lifespan.on",
)
for module in MODULES:
    import_module(module)
gc.collect()
gc.freeze()  # no collection of a fork touches, and so copies, these pages
