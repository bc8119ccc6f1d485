"""Packages as `pip install --target` leaves them: files, and metadata with entry points."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def installed(
    folder: Path, name: str, files: Mapping[str, str], offers: Mapping[str, Mapping[str, str]]
) -> Path:
    """Write version 1.0 of a package into `folder`; `offers`: entry points by bigpe's kind."""
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in files.items():
        (folder / path).write_text(text, "utf-8")
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines: list[str] = []
    for kind, points in offers.items():
        lines += [f"[bigpe.{kind}]", *(f"{key} = {value}" for key, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder
