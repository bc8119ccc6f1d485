"""The embedded models: a small text-to-image pipeline and its preference scorer, as package data.

They know a toy world (see docs/embedded-world.md) and let the main loop run with no download.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

__all__ = ["guard_path", "pipeline_path", "scorer_path"]


def pipeline_path() -> Path:
    """The diffusers folder of the embedded text-to-image pipeline."""
    return Path(str(files(__name__))) / "pipeline"


def scorer_path() -> Path:
    """The CLIPModel folder (with tokenizer and image processor) of the embedded scorer."""
    return Path(str(files(__name__))) / "scorer"


def guard_path() -> Path:
    """The CLIPModel folder of the embedded guard: a second opinion, trained apart."""
    return Path(str(files(__name__))) / "guard"
