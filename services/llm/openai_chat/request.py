"""The body of a chat completion request: bigpe's wishes, by the rules of the model, below the
settings of the user.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from autogen_core import Image
from autogen_core.models import LLMMessage

from bigpe.services.core.values import Json
from bigpe.services.llm.learned import LADDER, Learned, SchemaKind
from bigpe.services.llm.providers import ProviderRules

LIMITS = ("max_tokens", "max_completion_tokens")
SEEDS = ("seed", "random_seed")
ALIASES: tuple[tuple[str, ...], ...] = (LIMITS, SEEDS, ("stop", "stop_sequences"))
"""Names of one parameter at different servers."""
SEED_BITS = 0x7FFFFFFF
"""Seeds are below 2**31: some servers refuse a larger one."""
BY_SCHEMA = (
    "Answer in json, with one JSON object and nothing else. It keeps to this JSON schema:\n{schema}"
)
"""What is added to a request whose server is not sent the schema, or not as a schema."""
JSON_ONLY = "Answer in json, with one JSON object and nothing else."
NAMED = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")
"""Keywords whose value maps names of the user's to schemas: those names are no keywords."""
ROLES = {"SystemMessage": "system", "UserMessage": "user", "AssistantMessage": "assistant"}


@dataclass(frozen=True)
class RequestRules:
    """What decides the form of the requests of one client."""

    model: str
    rules: ProviderRules
    settings: Mapping[str, Any]
    """The user's own parameters. They win over bigpe's."""
    schema_kind: SchemaKind | None = None
    """The strictest kind that the user's `model_info` allows; None: it says nothing."""

    def body(
        self, messages: Sequence[LLMMessage], wishes: Mapping[str, Any], lesson: Learned
    ) -> Json:
        """The body of a request.

        Args:
            messages: The turns, without names.
            wishes: bigpe's parameters, by OpenAI's names; `response_format` may hold a schema.
            lesson: What the server has refused before.
        """
        turns = [_wire(message, pictures=lesson.vision is not False) for message in messages]
        body = self._parameters(wishes, lesson)
        if (wish := wishes.get("response_format")) and not self._has("response_format"):
            self._ask_for_json(cast(Json, wish), turns, body, lesson)
        if lesson.system_as_user or self.rules.system_role == "user":
            turns = _without_system(turns)
        if lesson.stream:
            body["stream"] = True
            if "stream_options" not in lesson.dropped:
                body["stream_options"] = {"include_usage": True}
        return {"model": self.model, "messages": turns} | body | self._user_settings(lesson)

    def _parameters(self, wishes: Mapping[str, Any], lesson: Learned) -> Json:
        """The parameters of bigpe's own that the model takes and the user does not set."""
        ours: Json = {self.rules.limit: wishes.get("max_tokens")}
        if self.rules.temperature:
            ours["temperature"] = wishes.get("temperature")
        if self.rules.seed is not None and wishes.get("seed") is not None:
            ours[self.rules.seed] = int(wishes["seed"]) & SEED_BITS
        if self.rules.stop:
            ours["stop"] = wishes.get("stop")
        found: Json = {}
        for name, value in ours.items():
            if value is None or self._has(name) or name in lesson.dropped:
                continue
            sent = lesson.renamed.get(name, name)
            if sent in LIMITS and lesson.limit_at_most is not None:
                value = min(value, lesson.limit_at_most)
            if sent not in lesson.dropped:
                found[sent] = value
        return found

    def _has(self, name: str) -> bool:
        """Whether the user sets the parameter, by any of its names."""
        same = next((names for names in ALIASES if name in names), (name,))
        return any(alias in self.settings for alias in same)

    def _user_settings(self, lesson: Learned) -> Json:
        """The user's parameters; only the output limit may go under its other name."""
        found: Json = {}
        for name, value in self.settings.items():
            sent = self.rules.limit if name == "max_tokens" else name
            found[lesson.renamed.get(sent, sent) if sent in LIMITS else name] = value
        return found

    def kind(self, lesson: Learned) -> SchemaKind:
        """How a schema is asked for."""
        kinds = (self.rules.schema_kind, self.schema_kind, lesson.schema_kind)
        return LADDER[max(LADDER.index(kind) for kind in kinds if kind is not None)]

    def _ask_for_json(self, wish: Json, turns: list[Json], body: Json, lesson: Learned) -> None:
        schema = cast("Json | None", (wish.get("json_schema") or {}).get("schema"))
        kind = self.kind(lesson)
        if schema is not None and kind == "json_schema":
            refused = self.rules.refused_keywords | lesson.schema_keywords
            named = {"name": "answer", "strict": True} | {
                "schema": without_keywords(schema, refused)
            }
            named = {
                key: value for key, value in named.items() if key not in lesson.schema_keywords
            }
            body["response_format"] = {"type": "json_schema", "json_schema": named}
            return
        if kind != "text":
            body["response_format"] = {"type": "json_object"}
        if schema is None:
            _add_to_system(turns, JSON_ONLY)
        else:
            _add_to_system(turns, BY_SCHEMA.format(schema=json.dumps(schema, ensure_ascii=False)))


def without_keywords(schema: Any, keywords: frozenset[str]) -> Any:
    """`schema` without the keywords, at each level; names of properties are kept."""
    if isinstance(schema, list):
        return [without_keywords(item, keywords) for item in cast(list[Any], schema)]
    if not isinstance(schema, dict):
        return schema
    found: Json = {}
    for key, value in cast(Json, schema).items():
        if key in NAMED and isinstance(value, dict):
            inner = cast(Json, value)
            found[key] = {name: without_keywords(part, keywords) for name, part in inner.items()}
        elif key in ("enum", "const", "required"):
            found[key] = value
        elif key not in keywords:
            found[key] = without_keywords(value, keywords)
    return found


def keywords_of(schema: Any) -> set[str]:
    """The keywords of a schema, of each level; names of properties are none."""
    if isinstance(schema, list):
        return {word for item in cast(list[Any], schema) for word in keywords_of(item)}
    if not isinstance(schema, dict):
        return set()
    found: set[str] = set()
    for key, value in cast(Json, schema).items():
        found.add(key)
        if key in NAMED and isinstance(value, dict):
            found |= keywords_of(list(cast(Json, value).values()))
        elif key not in ("enum", "const", "required"):
            found |= keywords_of(value)
    return found


def _wire(message: LLMMessage, *, pictures: bool) -> Json:
    if message.type not in ROLES:
        raise ValueError(f"this client takes no {message.type}: it calls no tools")
    content: Any = message.content
    if isinstance(content, list):
        parts = cast("list[str | Image]", content)
        seen = [part for part in parts if isinstance(part, str) or pictures]
        if all(isinstance(part, str) for part in seen):
            content = "\n".join(map(str, seen))
        else:
            content = [
                {"type": "text", "text": part}
                if isinstance(part, str)
                else {"type": "image_url", "image_url": {"url": part.data_uri}}
                for part in seen
            ]
    return {"role": ROLES[message.type], "content": content}


def _add_to_system(turns: list[Json], text: str) -> None:
    """Add a text to the system's turn, or as one before the others."""
    if turns and turns[0]["role"] == "system":
        turns[0] = {"role": "system", "content": f"{turns[0]['content']}\n\n{text}"}
    else:
        turns.insert(0, {"role": "system", "content": text})


def _without_system(turns: Sequence[Json]) -> list[Json]:
    """The turns with the system's text before the first user turn."""
    text = "\n\n".join(str(turn["content"]) for turn in turns if turn["role"] == "system")
    rest = [dict(turn) for turn in turns if turn["role"] != "system"]
    if not text:
        return rest
    first = next((turn for turn in rest if turn["role"] == "user"), None)
    if first is None or rest[0] is not first:
        return [{"role": "user", "content": text}, *rest]
    if isinstance(first["content"], str):
        first["content"] = f"{text}\n\n{first['content']}"
    else:
        first["content"] = [{"type": "text", "text": text}, *cast(list[Any], first["content"])]
    return rest
