"""Reads the prompt out of an answer of any form; see `read_prompt`."""

from __future__ import annotations

import re
from typing import Any, NamedTuple, cast

from bigpe.agents.evidence.terms import one_line, subject_kept, words
from bigpe.agents.messages.answer_fault import AnswerFault
from bigpe.agents.reasoning.answers import wording
from bigpe.agents.reasoning.answers.lists import prompt_of_list
from bigpe.agents.reasoning.answers.objects import values_in
from bigpe.agents.reasoning.answers.refusals import is_refusal
from bigpe.agents.reasoning.answers.surface import (
    QUOTES,
    closing_mark,
    quoted_whole,
    without_emphasis,
    without_flags,
    without_markup,
    without_wrapping,
)
from bigpe.agents.reasoning.answers.thoughts import without_thoughts

MAX_DEPTH = 5
"""Wrappers inside wrappers that are opened."""
_TAGS = (
    r"(?:(?:final|rewritten|enhanced|improved|revised|refined|new|optimi[sz]ed|expanded|positive|"
    r"image|detailed|output)[_-]?)*prompt|answer|final_?answer|recaption|rewrite|rewritten|output|"
    r"response|result|final|enhanced|improved|positive|caption"
)
_TAG = re.compile(
    rf"<(?P<name>{_TAGS})(?:\s[^<>\n]*)?>(?P<text>.*?)(?:</(?P=name)\s*>|$)", re.I | re.S
)
_CLOSED = re.compile(rf"^(?P<text>.*?)</(?:{_TAGS})\s*>", re.I | re.S)
NEGATIVE_TAG = re.compile(r"<(negative(?:[_-]?prompt)?)>(.*?)(?:</\1>|$)", re.I | re.S)
_FENCE = re.compile(r"(?:^|(?<=\n)|(?<=[\s:]))[ \t]*(```+|~~~+)(?P<text>.*?)(?:\1|$)", re.S)
_LANGUAGE = re.compile(r"[ \t]*[A-Za-z0-9_+-]{0,20}[ \t]*\n")
_ROLE = re.compile(
    r"\s*(?:#{1,4}\s*)?[*_]{0,2}(?:assistant|chatgpt|ai|bot|response)[*_]{0,2}\s*[:\uff1a][*_]{0,2}\s*",
    re.I,
)
_NEXT_TURN = re.compile(
    r"\n\s*(?:#{1,4}\s*)?[*_]{0,2}(?:user|human|assistant|input|instruction)[*_]{0,2}\s*:", re.I
)
_SENTENCE = re.compile(
    r"(?:(?<=[.!?\u3002\uff01\uff1f\"\u201d*)\]])[ \t]+|\n\s*)"
    r"(?:[*_(>-]+[ \t]*)?(?=\w|[(\[\u00bf])"
)
_RULE = re.compile(r"^[ \t]*(?:-{3,}|\*{3,}|_{3,}|={3,}|(?:\* ){2,}\*)[ \t]*$", re.M)
_HEADING = re.compile(r"^[ \t]*#{1,6}[ \t]+(?=\S)")
_HTML = re.compile(r"\s*<(?:!doctype|html|head|body)\b", re.I)
_KEYS = (
    "prompt finalprompt rewrittenprompt enhancedprompt improvedprompt revisedprompt refinedprompt "
    "newprompt optimizedprompt optimisedprompt expandedprompt detailedprompt positiveprompt "
    "imageprompt outputprompt modifiedprompt rewrite rewritten rewrittentext recaption positive "
    "enhanced improved answer output result response text caption description content final"
).split()
_PARTS = (
    "subject scene action setting environment background composition camera lighting colors "
    "colours palette mood style medium details quality atmosphere"
).split()


class PromptAnswer(NamedTuple):
    """What an answer says."""

    text: str
    """The prompt on one line; empty if there is none."""
    fault: AnswerFault | None = None
    """Why there is surely no prompt in it: thoughts only, a refusal, nothing prompt-like."""
    reason: str = ""
    """The fault in words."""
    negative: str = ""
    """The negative prompt, if the answer has one apart."""
    notes: tuple[str, ...] = ()
    """What was taken off besides the packaging."""


class _Part(NamedTuple):
    text: str
    negative: str = ""


def read_prompt(raw: str, naive: str = "") -> PromptAnswer:
    """The prompt in an answer, without thoughts, tags, fences, labels, remarks and flags.

    A plain prompt is returned as it is, several lines joined by a space. `naive` is the prompt that
    was to be rewritten: what it contains is never taken for packaging.
    """
    visible = without_thoughts(raw, naive)
    if not visible.text.strip():
        if visible.thought:
            return PromptAnswer("", AnswerFault.ONLY_THOUGHT, "the answer was only thought")
        return PromptAnswer("", AnswerFault.EMPTY, "the model answered with no text")
    if is_refusal(visible.text, naive):
        return PromptAnswer("", AnswerFault.REFUSED, f"the model refused: {_short(visible.text)}")
    part = _read(visible.text, naive, MAX_DEPTH)
    flagless = without_flags(part.text, naive)
    text = one_line(without_wrapping(without_emphasis(flagless.text), naive))
    if is_refusal(text, naive):
        return PromptAnswer("", AnswerFault.REFUSED, f"the model refused: {_short(text)}")
    if _unsure(text, naive):
        reason = f"no prompt was found in the answer: {_short(visible.text)}"
        return PromptAnswer("", AnswerFault.NO_PROMPT, reason)
    negative = one_line(without_wrapping(without_emphasis(part.negative or flagless.negative)))
    notes = [f"left out {flag}" for flag in flagless.flags]
    notes += [f"negative prompt apart: {negative}"] if negative else []
    return PromptAnswer(text, negative=negative, notes=tuple(notes))


def _short(text: str) -> str:
    line = one_line(text)
    return line if len(line) <= 160 else line[:157] + "..."


def _read(text: str, naive: str, depth: int) -> _Part:
    """The prompt in `text`, as opened wrapper by wrapper."""
    negative = ""
    if (tag := NEGATIVE_TAG.search(text)) is not None:
        negative, text = tag[2], text[: tag.start()] + text[tag.end() :]
    inner = _opened(text, naive) if depth else None
    if inner is None:
        found = _from_text(text, naive)
    elif isinstance(inner, _Part):
        found = _Part(_read(inner.text, naive, depth - 1).text, inner.negative)
    else:
        found = _read(inner, naive, depth - 1)
        if not found.negative:
            found = found._replace(negative=_outside(text, inner))
    return _Part(found.text, negative or found.negative)


def _outside(text: str, inner: str) -> str:
    """The negative prompt after a wrapper, for example in a second fence."""
    label = wording.NEGATIVE.search(text, text.find(inner) + len(inner))
    if label is None:
        return ""
    rest = text[label.end() :]
    fence = _FENCE.match(rest.lstrip("\n"))
    return _unfenced(fence) if fence else rest.strip().split("\n\n")[0]


def _opened(text: str, naive: str) -> str | _Part | None:
    """The inside of a tag, a fence or a JSON value; None if the text has none."""
    tags = [tag for tag in _TAG.finditer(text) if tag["text"].strip()]
    if tags and tags[0][0].casefold() not in naive.casefold():
        return tags[0]["text"].strip()
    if (closed := _CLOSED.match(text)) is not None and closed["text"].strip():
        return closed["text"].strip()
    if (value := _from_json(text)) is not None:
        return value
    fences = [fence for fence in _FENCE.finditer(text) if _unfenced(fence)]
    if fences:
        before = text[: fences[0].start()]
        if len(fences) > 1 and wording.NEGATIVE.search(before) and not before.strip()[:1].islower():
            return _unfenced(fences[1])
        return _unfenced(fences[0])
    return None


def _unfenced(fence: re.Match[str]) -> str:
    inside = fence["text"]
    if (language := _LANGUAGE.match(inside)) is not None:
        inside = inside[language.end() :]
    return inside.strip()


def _from_json(text: str) -> str | _Part | None:
    stripped = text.strip()
    if quoted_whole(stripped) and "\\" in stripped:
        for value in values_in(f"[{stripped}]"):
            return cast(list[str], value)[0] if isinstance(value, list) else None
    if "{" not in text and not stripped.startswith("["):
        return None
    for value in values_in(text):
        if isinstance(value, list) and not stripped.startswith("["):
            continue  # brackets of a prompt
        if (found := _prompt_in(value)) is not None:
            return found
    return None


def _prompt_in(value: Any, depth: int = 4) -> _Part | None:
    if isinstance(value, str):
        return _Part(value.strip()) if value.strip() else None
    if depth == 0:
        return None
    if isinstance(value, list):
        found = (_prompt_in(item, depth - 1) for item in cast(list[Any], value))
        return next((part for part in found if part is not None), None)
    if not isinstance(value, dict):
        return None
    table = {
        re.sub(r"[^a-z]", "", str(key).casefold()): item
        for key, item in cast(dict[str, Any], value).items()
    }
    negative = next((str(v) for k, v in table.items() if k.startswith("negative") and v), "")
    for key in (*_KEYS, "prompts", "options", "variations"):
        if key in table and (found := _prompt_in(table[key], depth - 1)) is not None:
            return _Part(found.text, negative or found.negative)
    parts = [str(table[key]) for key in _PARTS if isinstance(table.get(key), str)]
    if len(parts) > 1 and len(parts) == len([k for k in table if not k.startswith("negative")]):
        return _Part(", ".join(parts), negative)
    nested = (
        _prompt_in(item, depth - 1) for item in table.values() if isinstance(item, dict | list)
    )
    return next((part for part in nested if part is not None), None)


# -- text without wrappers ------------------------------------------------------------------------


def _from_text(text: str, naive: str) -> _Part:
    text = without_markup(text.replace("\r\n", "\n").replace("\r", "\n"))
    text = _RULE.sub("", text)
    if (role := _ROLE.match(text)) is not None and not _has(naive, role[0]):
        text = _NEXT_TURN.split(text[role.end() :])[0]
    text, negative = _without_negative(text, naive)
    text, introduced = _without_introduction(text, naive)
    text, labelled = _labelled(text, naive)
    if labelled:
        text, _ = _without_introduction(text, naive)
    text = _delimited(text) if introduced or labelled else text
    text = _without_remarks(text, naive, introduced or labelled)
    text = _without_headings(text)
    text = prompt_of_list(
        without_wrapping(text, naive), lambda item: subject_kept(naive, item), naive
    )
    if introduced or labelled:
        text = _delimited(text)
    return _Part(text, negative)


def _has(naive: str, phrase: str) -> bool:
    """Whether the naive prompt has the words of the phrase, so that it is no packaging."""
    wanted, have = words(phrase), words(naive)
    return bool(wanted) and any(
        have[place : place + len(wanted)] == wanted for place in range(len(have) - len(wanted) + 1)
    )


def _without_negative(text: str, naive: str) -> _Part:
    label = wording.NEGATIVE.search(text)
    if label is None or _has(naive, label[0]) or _quoted_at(text, label.start() + 1):
        return _Part(text)
    before, rest = text[: label.start()], text[label.end() :]
    after = wording.LABEL.search(rest) or wording.HEADING_LABEL.search(rest)
    if after is not None and not wording.SECOND.search(after["label"]):
        return _Part(f"{before}\n{rest[after.start() :]}", rest[: after.start()].strip())
    paragraph, _, tail = rest.strip().partition("\n\n")
    if not before.strip():
        return _Part(tail, paragraph)
    inline = before.rstrip(" ([|*_") == before.rstrip(" ([|*_\n")
    before = before.rstrip(" ([|*_\n")
    return _Part(before.rstrip(" .,;") if inline else before, paragraph.strip(" )]*_"))


def _without_introduction(text: str, naive: str) -> tuple[str, bool]:
    """The text after thoughts without tags and sentences that introduce the prompt."""
    found = False
    while True:
        text = text.lstrip("\n \t")
        paragraphs = re.split(r"\n\s*\n", text, maxsplit=1)
        if len(paragraphs) > 1 and wording.THOUGHT.match(paragraphs[0]):
            text = paragraphs[1]
            continue
        plain = re.match(r"[*_>#\s\u00a1]*", text)
        start = plain.end() if plain else 0
        lead = wording.INTRODUCTION.match(text, start)
        if lead is not None and not _has(naive, lead[0]):
            text, found = text[lead.end() :].lstrip("*_ "), True
            continue
        word = wording.INTERJECTION.match(text, start)
        if word is not None and _introduces(text, word) and not _has(naive, word[0]):
            text, found = text[word.end() :], True
            continue
        return text, found


def _introduces(text: str, word: re.Match[str]) -> bool:
    """Whether an interjection at the begin is none of the prompt's own words."""
    rest = text[word.end() :]
    if not rest.strip():
        return False
    if (
        wording.INTRODUCTION.match(rest)
        or wording.LABEL.match(rest)
        or wording.INTERJECTION.match(rest)
    ):
        return True
    return any(
        sign in word["end"] for sign in "!.:\n\u3002\uff01\uff1a"
    ) and not wording.GREETING.match(word[0])


def _labelled(text: str, naive: str) -> tuple[str, bool]:
    """The section of the prompt's label, if the text has such a label."""
    labels = sorted(
        (
            label
            for form in (wording.LABEL, wording.HEADING_LABEL)
            for label in form.finditer(text)
            if not _has(naive, label["label"]) and not _quoted_at(text, label.start())
        ),
        key=lambda label: label.start(),
    )
    if not labels:
        return text, False
    chosen = next((label for label in labels if "final" in label["label"].casefold()), labels[0])
    before = text[: chosen.start()].strip()
    if before and wording.SECOND.search(chosen["label"]):
        return before, False
    rest = text[chosen.end() :]
    ends = [
        other.start()
        for other in (
            wording.LABEL.search(rest),
            wording.HEADING_LABEL.search(rest),
            wording.OTHER_LABEL.search(rest),
        )
        if other is not None and rest[: other.start()].strip()
    ]
    section = rest[: min(ends, default=len(rest))].strip()
    return (section, True) if section else (before, False)


def _delimited(text: str) -> str:
    """The quoted or emphasised part, if the text begins with it and then says something else."""
    text = text.strip()
    head = re.split(r"\n\s*\n", text, maxsplit=1)[0].strip()
    if head != text and (quoted_whole(head) or re.fullmatch(r"\*\*[^*]+\*\*", head)):
        return without_wrapping(head)
    if text[:1] not in QUOTES or (end := closing_mark(text)) is None:
        return text
    rest = text[end + 1 :]
    if (
        not rest.strip(" .,;!*_")
        or rest.lstrip(" .,;*_").startswith("\n")
        or re.match(r"[.,]?\s+[A-Z]", rest)
    ):
        return text[1:end].strip()
    return text


def _without_remarks(text: str, naive: str, packaged: bool) -> str:
    """The text up to the first sentence that speaks of the prompt or to the reader."""
    if packaged and (other := wording.OTHER_LABEL.search(text)) and text[: other.start()].strip():
        text = text[: other.start()]
    for start in _SENTENCE.finditer(text):
        remark = wording.REMARK.match(text, start.end())
        if remark is None or _has(naive, remark[0]) or _quoted_at(text, start.end()):
            continue
        if text[: start.start()].strip():
            return text[: start.start()].rstrip()
    return text


def _quoted_at(text: str, place: int) -> bool:
    """Whether the place is inside quotation marks that open and close in the text."""
    at = 0
    while at < place:
        if text[at] in QUOTES and text[at] not in "'`" and (at == 0 or not text[at - 1].isalnum()):
            end = closing_mark(text[at:])
            if end is not None:
                if at < place < at + end:
                    return not quoted_whole(text.strip())
                at += end
        at += 1
    return False


def _without_headings(text: str) -> str:
    lines = text.split("\n")
    plain = [line for line in lines if not _HEADING.match(line)]
    kept = plain if any(line.strip() for line in plain) else lines
    return "\n".join(re.sub(r"^[ \t]*(?:#{1,6}|>)[ \t]+(?=\S)", "", line) for line in kept)


def _unsure(text: str, naive: str) -> bool:
    if not text or wording.PLACEHOLDER.fullmatch(text) or _HTML.match(text):
        return True
    if text.startswith(('{"', "{'", "[{", "```")):
        return True
    asks = wording.QUESTION_BACK.search(text) or wording.WAITS.match(text)
    if asks is not None and not _has(naive, asks[0]) and not _quoted_at(text, asks.start() + 1):
        return True
    introduced = wording.INTRODUCTION.fullmatch(text)
    return introduced is not None and not _has(naive, text)
