"""Separates what a model thought from what it answered, and drops tokens of chat templates."""

from __future__ import annotations

import re
from typing import NamedTuple

_NAMES = (
    "think|thinking|thought|thoughts|reasoning|reason|reflection|analysis|scratchpad|planning|plan|"
    "inner_monologue|monologue|internal|cot|chain_of_thought|seed:think|budget:think"
)
_MARK = re.compile(
    rf"(?P<open><\|?(?:begin_of_)?(?:{_NAMES})\|?(?:\s[^<>\n]*)?>|\[THINK\]|\u25c1think\u25b7"
    r"|<unused94>|<\|channel>thought|<\|channel\|>(?:analysis|commentary)[^<]*(?:<\|message\|>)?)"
    rf"|(?P<close><\|?/(?:{_NAMES})\|?>|<\|end_of_thought\|>|\[/THINK\]|\u25c1/think\u25b7"
    r"|<unused95>|<channel\|>|(?:<\|end\|>)?(?:<\|start\|>assistant)?<\|channel\|>final[^<]*<\|message\|>)",
    re.IGNORECASE,
)
_HEADER = re.compile(
    r"\s*(?:<s>|<bos>|<\|begin_of_text\|>|<\|begin_of_solution\|>|\[/?INST\]|<start_of_turn>model"
    r"|<\|im_start\|>assistant|<\|start\|>assistant|<\|assistant\|>|<\|message\|>"
    r"|<\|start_header_id\|>assistant<\|end_header_id\|>)",
    re.IGNORECASE,
)
_END = re.compile(
    r"</s>|<eos>|<end_of_turn>|<\|(?:im_end|eot_id|end_of_text|endoftext|end|return|eom_id"
    r"|end_of_solution|end_of_sentence|im_start|user|start)\|>|\[INST\]",
    re.IGNORECASE,
)
_SPECIAL = re.compile(r"<\|[a-z_]{2,30}\|>|</?s>", re.IGNORECASE)


class Visible(NamedTuple):
    """The answer without thoughts."""

    text: str
    thought: bool
    """Whether thoughts were removed."""


def without_thoughts(raw: str, naive: str = "") -> Visible:
    """The text for the reader.

    Thoughts are what stands in a pair of tags, before a closing tag without its opening tag, and
    after an opening tag that is never closed. Tags that `naive` has are text.
    """
    kept: list[str] = []
    depth = place = 0
    thought = False
    lower = naive.casefold()
    for mark in _MARK.finditer(raw):
        if lower and mark[0].casefold() in lower:
            continue
        if depth == 0:
            kept.append(raw[place : mark.start()])
        place = mark.end()
        thought = True
        if mark["open"]:
            depth += 1
        elif depth == 0:
            kept = []  # the opening tag was part of the request
        else:
            depth -= 1
    if depth == 0:
        kept.append(raw[place:])
    return Visible(_without_tokens("".join(kept)), thought)


def _without_tokens(text: str) -> str:
    """`text` without the tokens of a chat template, and without what follows the answer's end."""
    while header := _HEADER.match(text):
        text = text[header.end() :]
    for end in _END.finditer(text):
        if text[: end.start()].strip():
            text = text[: end.start()]
            break
    return _SPECIAL.sub("", text).strip()
