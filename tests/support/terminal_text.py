"""Descriptions as a terminal or a pipe gets them."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from bigpe.runtime.transcript.describing.parts import Description
from bigpe.runtime.transcript.describing.terminal import line_text, print_details


def terminal_lines(
    description: Description, width: int = 1000, *, whole: bool = False, tty: bool = False
) -> list[str]:
    """The headline and the details; `whole`: as `bigpe inspect --message`; `tty`: no pipe."""
    console = Console(
        file=StringIO(), width=width, force_terminal=tty, color_system=None, highlight=False
    )
    console.print(line_text(description.headline), soft_wrap=True)
    print_details(console, description, whole=whole)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue().splitlines()
