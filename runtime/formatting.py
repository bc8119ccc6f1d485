"""How texts and figures are written for people."""

from __future__ import annotations

import re


def escape_markdown(text: str) -> str:
    """Untrusted text that can neither end a table cell nor become markup, on one line."""
    return re.sub(r"([\\`*_\[\]<>|#!~])", r"\\\1", " ".join(text.split()))
