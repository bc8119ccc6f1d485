"""What a refusal teaches: which part of the request the server does not take.

A server refuses a part by naming it: in a field (`param`, `loc`), in quotation marks, or in a
sentence. Each lesson leaves a part out, renames it, or loosens it, so that no lesson comes twice.
"""

from __future__ import annotations

import re
from typing import Any, cast

from bigpe.services.core.values import Json
from bigpe.services.llm.learned import LADDER, Learned
from bigpe.services.llm.openai_chat.request import LIMITS, SEEDS, keywords_of
from bigpe.services.llm.openai_chat.server_words import HttpFailure, named_parameters

OTHER_CAUSES = frozenset({401, 402, 403, 408, 413, 429, 502, 503, 504, 529})
"""Statuses that speak of the key, the account or the service, not of a part of the request."""
REFUSES = (
    r"unsupported|not\s+(?:be\s+)?(?:\w+\s+)?support|n't\s+support|unknown|unrecogni[sz]ed|unexpected"
    r"|invalid|extra|not\s+(?:permitted|allowed|available|enabled|implemented|accepted)|forbidden"
    r"|unavailable|cannot|can't|deprecated|only|must|no\s+longer|disallow|not\s+recogni[sz]ed"
    r"|too\s+(?:large|small|long|many|high|low)|greater|less|between|at\s+(?:most|least)|exceed"
    r"|should\s+be|out\s+of\s+range|maximum|minimum|no\s+field|not\s+find|not\s+valid|illegal|incompatible"
    r"|fixed|match|deserialize|ignored"
)
"""Words of a refusal. A parameter's bare name counts only beside one of them."""
REFUSES_ZH = "不支持|非法|无效|不允许|错误|仅支持|必须"
"""The same in Chinese, which puts no blanks between words."""
OTHER_NAMES: dict[str, str] = {
    "max_tokens": r"max_?tokens|max_(?:new|output)_tokens|maxOutputTokens|maxTokens|num_predict",
    "max_completion_tokens": r"max_?completion_?tokens",
    "stop": r"stop(?:_?sequences?| sequences?| words?)?",
    "seed": r"seed",
    "stream_options": r"stream_options",
}
"""How servers call a parameter in their words."""
INSTEAD = re.compile(
    r"(?:use|using|did you mean|try|replaced by|favou?r of)\W+(\w+)", re.IGNORECASE
)
STREAM_ONLY = re.compile(
    r"only\s+(?:be\s+)?(?:support|accept)\w*\s+(?:the\s+)?[`'\"]?stream|must be stream"
    r"|stream\W*false[^.]*(?:not|un)|stream(?:ing)?\s+(?:mode|is|must|only)[^.]*"
    r"(?:required|only|true|enabled)|enable\s+(?:the\s+)?stream|requires?\s+(?:the\s+)?[`'\"]?stream"
    r"|non-?stream\w*[^.]*(?:not|un)\s*-?(?:support|allow|available)|set\s+[`'\"]?stream[`'\"]?"
    r"\s*(?:=|to|:)\s*[`'\"]?true|for non-?stream"
    r"|stream[`'\"]?\s*(?:=|must be|should be)\s*(?:set to )?true",
    re.IGNORECASE,
)
ROLE = re.compile(
    r"(?:system|developer)[`'\"]?\s+(?:role|message|prompt|instruction)"
    r"|role[`'\"]?\s*(?:of|:|=)?\s*[`'\"]?(?:system|developer)|messages?\W+\d+\W+(?:system|role)"
    r"|does not support [`'\"]?(?:system|developer)|roles? must alternate|only user and assistant"
    r"|roles? (?:are|is) supported|supported roles|(?:unknown|invalid|unsupported) role",
    re.IGNORECASE,
)
PICTURES = re.compile(
    r"image[ _](?:url|input|content|part|support)|images? (?:are|is) not|support\w* images?"
    r"|multi-?modal|vision|mmproj|expected [`'\"]text|content\W.{0,40}string",
    re.IGNORECASE,
)
SCHEMA = re.compile(
    r"response[_ ]?format|json[_ ]?schema|json[_ ]?object|structured[_ ]outputs?|guided|grammar"
    r"|json mode|text\.format|output_config|output_format|constrained|response_schema|\bschema\b",
    re.IGNORECASE,
)
CONTEXT = re.compile(r"context (?:length|window|size)\D{0,20}([\d,]+)", re.IGNORECASE)
"""The size of the model's context, in a refusal of an output limit."""
VALUE = re.compile(
    r"too (?:large|high|small|low|many)|at (?:most|least)|exceed|greater|less|between|range"
    r"|maximum|minimum|[<>]",
    re.IGNORECASE,
)
"""Words of a refusal of a value, not of a name."""
KEPT_KEYWORDS = frozenset(
    {"type", "properties", "required", "items", "enum", "const", "anyOf", "oneOf", "allOf", "$ref",
     "$defs", "definitions"}
)  # fmt: skip
"""Keywords without which a schema says something else."""
SMALLEST_LIMIT = 16
"""A smaller number in a refusal of an output limit is no limit."""


class OwnSetting(Exception):
    """The server refuses a setting of the user's own, which is never left out. Args: its name."""


def lesson_of(
    failure: HttpFailure, body: Json, settings: frozenset[str], before: Learned
) -> Learned | None:
    """What the refusal of `body` teaches; None if it names no part of it.

    Args:
        failure: The refusal.
        body: The request that was refused.
        settings: Names of the parameters that the user set.
        before: What was learned before, by which `body` was made.

    Raises:
        OwnSetting: the server refuses one of `settings`.
    """
    if failure.status in OTHER_CAUSES:
        return None
    words = failure.words
    if not body.get("stream") and STREAM_ONLY.search(words):
        return Learned(stream=True)
    fields = named_parameters(failure.text)
    if lesson := _about_parameters(words, fields, body, settings, before):
        return lesson
    if "response_format" in body and "response_format" not in settings:
        if lesson := _about_schema(words, fields, body):
            return lesson
    if _has_system(body) and ROLE.search(words) and re.search(REFUSES, words, re.IGNORECASE):
        return Learned(system_as_user=True)
    if _has_pictures(body) and PICTURES.search(words):
        return Learned(vision=False)
    return None


def _about_parameters(
    words: str, fields: list[str], body: Json, settings: frozenset[str], before: Learned
) -> Learned | None:
    named = _named(words, fields, body)
    own = [name for name in named if name in settings or (name in LIMITS and settings & {*LIMITS})]
    for name in named:
        if name not in own and (lesson := _lesson_about(name, words, body, before)):
            return lesson
    for name in own:
        if name in LIMITS and (other := _other_limit(name, words, before)):
            return Learned(renamed={name: other})
        raise OwnSetting(next(iter(settings & {*LIMITS})) if name in LIMITS else name)
    return None


def _named(words: str, fields: list[str], body: Json) -> list[str]:
    """Parameters of the body that the refusal names: in fields, else quoted, else bare."""
    names = [name for name in body if name not in ("model", "messages", "response_format")]
    spelled = {name: OTHER_NAMES.get(name, re.escape(name)) for name in names}

    def in_field(way: str) -> bool:
        return any(re.fullmatch(rf"(?:.*\.)?(?:{way})", field) for field in fields)

    def quoted(way: str) -> bool:
        return bool(re.search(rf"[`'\"\[](?:\w+\.)*(?:{way})[`'\"\]:=]", words))

    def bare(way: str) -> bool:
        name = rf"(?<![A-Za-z0-9_-])(?:{way})(?![A-Za-z0-9_-])"
        refuses = rf"(?:(?<![A-Za-z])(?:{REFUSES})|{REFUSES_ZH})"
        beside = rf"{name}[^;]{{0,80}}?{refuses}|{refuses}[^;]{{0,80}}?{name}"
        return bool(re.search(beside, words, re.IGNORECASE))

    for ways in (in_field, quoted, bare):
        if found := [name for name, way in spelled.items() if ways(way)]:
            return sorted(found, key=lambda name: _place(words, spelled[name]))
    return []


def _place(words: str, way: str) -> int:
    found = re.search(way, words)
    return found.start() if found else len(words)


def _lesson_about(name: str, words: str, body: Json, before: Learned) -> Learned | None:
    if name == "stream":
        return None
    if name in LIMITS:
        return _about_limit(name, words, body, before)
    if name in SEEDS:
        other = INSTEAD.search(words)
        if other and other[1] in SEEDS and other[1] != name:
            return Learned(renamed={name: other[1]})
    return Learned(dropped=frozenset({name}))


def _about_limit(name: str, words: str, body: Json, before: Learned) -> Learned | None:
    """A limit under another name, or smaller, or none. None if the request itself is too long."""
    if other := _other_limit(name, words, before):
        return Learned(renamed={name: other})
    if context := CONTEXT.search(words):
        half = int(context[1].replace(",", "")) // 2
        return Learned(limit_at_most=half) if half < body[name] else None
    numbers = [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", words)]
    below = [number for number in numbers if SMALLEST_LIMIT <= number < body[name]]
    if below:
        return Learned(limit_at_most=max(below))
    return Learned(dropped=frozenset({name}))


def _other_limit(name: str, words: str, before: Learned) -> str | None:
    """The limit's other name, if its name and not its value is refused, and it was not tried."""
    if name in before.renamed.values():
        return None
    instead = INSTEAD.search(words)
    other = LIMITS[1 - LIMITS.index(name)]
    return other if (instead and instead[1] == other) or not VALUE.search(words) else None


def _about_schema(words: str, fields: list[str], body: Json) -> Learned | None:
    """A schema without the keywords that are refused, or the next looser kind."""
    wanted = cast(Json, body["response_format"])
    kind = str(wanted.get("type"))
    of_format = any("response_format" in field for field in fields)
    schema: Any = None
    if kind == "json_schema":
        named = cast(Json, wanted["json_schema"])
        schema = named["schema"]
        removable = (keywords_of(schema) | ({"strict"} & named.keys())) - KEPT_KEYWORDS
        quoted = {
            word for word in removable if re.search(rf"[`'\".]{re.escape(word)}[`'\":]", words)
        }
        bare = {word for word in removable if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", words)}
        plain = {word for word in bare if not word.isalpha() or not word.islower()}
        if refused := quoted or plain:
            return Learned(schema_keywords=frozenset(refused))
    if not (of_format or SCHEMA.search(words)):
        return None
    rung = LADDER.index("json_schema" if kind == "json_schema" else "json_object")
    return Learned(schema_kind=LADDER[rung + 1])


def _has_system(body: Json) -> bool:
    return any(turn["role"] == "system" for turn in body["messages"])


def _has_pictures(body: Json) -> bool:
    return any(isinstance(turn["content"], list) for turn in body["messages"])
