"""What fills the pages of docs/reference/, made from the code when the site is built."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_origin

import click
from pydantic import BaseModel

from bigpe.agents.messages.base import Message
from bigpe.agents.messages.core import MESSAGE_TYPES
from bigpe.runtime.cli import cli
from bigpe.runtime.cli.run.run import EXIT_CODES
from bigpe.runtime.project.config import BigpeConfig
from bigpe.runtime.run.monitoring import metrics as meters
from bigpe.runtime.run.resume.setting_changes import Change
from bigpe.services.core import errors
from bigpe.services.workers import http_app as serve

WIDTH = 88
"""Columns of the help texts."""
METERS = ("Counter", "Gauge", "Histogram", "Summary")


# Tables


def table(heading: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table; cells are on one line."""
    lines = ["| " + " | ".join(heading) + " |"]
    lines.append("|" + " --- |" * (lines[0].count("|") - 1))
    for row in rows:
        lines.append("| " + " | ".join(_cell(cell) for cell in row) + " |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def code(value: str) -> str:
    """`value` as code; a table cell cannot hold an unescaped bar."""
    return f"`{value}`" if value else ""


def paragraphs(doc: str | None) -> str:
    """A docstring as Markdown."""
    return inspect.cleandoc(doc or "")


def field_docs(cls: type) -> dict[str, str]:
    """The string below each field, of the class and those that it is made of."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not base.__module__.startswith("bigpe."):
            continue
        body = ast.parse(inspect.cleandoc("\n" + inspect.getsource(base))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, below in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                found.setdefault(field.target.id, "")
                if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                    found[field.target.id] = str(below.value.value)
    return found


# Command line


def commands() -> str:
    """What `--help` says of every command."""
    parts: list[str] = []
    for words, text in _helps(cli, ("bigpe",), None):
        parts.append(f"{'#' * min(len(words) + 1, 3)} {' '.join(words)}\n")
        parts.append(f"```text\n{text}\n```\n")
    return "\n".join(parts)


def _helps(
    command: click.Command, words: tuple[str, ...], parent: click.Context | None
) -> Iterator[tuple[tuple[str, ...], str]]:
    context = command.context_class(
        command, info_name=words[-1], parent=parent, terminal_width=WIDTH, max_content_width=WIDTH
    )
    yield words, command.get_help(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _helps(inner, (*words, name), context)


# Configuration


def configuration() -> str:
    """Every key of bigpe.toml with type, default and meaning."""
    parts: list[str] = []
    for name, cls in _sections(BigpeConfig, ""):
        parts.append(f"## {name}\n")
        parts.append(_without_name(paragraphs(cls.__doc__)) + "\n")
        if rows := list(_settings(name, cls)):
            parts.append(table(("key", "values", "default", "meaning", "later"), rows))
    return "\n".join(parts)


def _without_name(doc: str) -> str:
    """The class's docstring without the section's name, which is the heading."""
    head, colon, rest = doc.partition(": ")
    return (rest[:1].upper() + rest[1:]) if colon and head.startswith("`[") else doc


def _sections(cls: type[BaseModel], name: str) -> Iterator[tuple[str, type[BaseModel]]]:
    for key, field in cls.model_fields.items():
        inner, form = _model_in(field.annotation)
        if inner is None:
            continue
        path = f"{name}.{key}" if name else key
        plain = {"map": f"{path}.NAME", "list": path, "one": path}[form]
        yield (f"[[{plain}]]" if form == "list" else f"[{plain}]"), inner
        yield from _sections(inner, plain)


def _model_in(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, "one"
    form = {dict: "map", tuple: "list"}.get(get_origin(annotation), "one")
    for part in get_args(annotation):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part, form
    return None, ""


def _settings(section: str, cls: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    docs = field_docs(cls)
    properties = cls.model_json_schema(by_alias=False)["properties"]
    for key, field in cls.model_fields.items():
        if _model_in(field.annotation)[0] is not None:
            continue
        schema = properties[key]
        default = "required" if field.is_required() else code(_toml(schema.get("default")))
        text = field.alias or key
        path = f"{section.strip('[]').replace('NAME', 'x')}.{text}"
        verdict = Change(path, None, None).verdict
        yield code(text), _values(schema), default, docs.get(key, ""), verdict


def _toml(value: Any) -> str:
    """A default as it would stand in the file; "" for one that cannot."""
    return "" if value is None or value == {} else json.dumps(value, ensure_ascii=False)


def _values(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        kinds = [part for part in schema["anyOf"] if part.get("type") != "null"]
        return " or ".join(_values(part) for part in kinds)
    if "enum" in schema:
        return ", ".join(code(json.dumps(value)) for value in schema["enum"])
    if "const" in schema:
        return code(json.dumps(schema["const"]))
    kind = {"array": "list", "object": "table", "boolean": "true, false"}.get(
        schema.get("type", ""), schema.get("type", "any")
    )
    if kind == "list":
        kind = f"list of {_values(schema.get('items', {}))}"
    bounds = [
        f"{sign} {schema[word]:,}"
        for sign, word in (
            ("≥", "minimum"), (">", "exclusiveMinimum"),
            ("≤", "maximum"), ("<", "exclusiveMaximum"),
        )
        if word in schema
    ]  # fmt: skip
    return " ".join((kind, " and ".join(bounds))).strip()  # pyright: ignore[reportCallIssue]


# Messages


def messages() -> str:
    """Every kind of message with its fields."""
    described = field_docs(Message)
    base = {name: described.get(name, "") for name in Message.model_fields}
    parts = [
        "All have:\n",
        table(("field", "meaning"), ((code(name), doc) for name, doc in base.items() if doc)),
        "Messages without recipients are facts for readers.\n",
    ]
    for cls in MESSAGE_TYPES:
        docs = field_docs(cls)
        kind = cls.model_fields["kind"].default
        parts.append(f"## {kind}\n")
        parts.append(paragraphs(cls.__doc__) + "\n")
        if cls.delivered_to:
            parts.append(f"Delivered to: {', '.join(cls.delivered_to)}.\n")
        rows = [
            (code(name), code(_type(field.annotation)), docs.get(name, ""))
            for name, field in cls.model_fields.items()
            if name not in base
        ]
        if rows:
            parts.append(table(("field", "type", "meaning"), rows))
    return "\n".join(parts)


def _type(annotation: Any) -> str:
    """An annotation with class names alone."""
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation.__name__
    return re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", str(annotation))


# Exit codes and errors


def exit_codes() -> str:
    """Exit codes of the command line, and the errors of the Python interface."""
    result = inspect.cleandoc(EXIT_CODES.replace("\b", ""))
    rows = (
        (code(cls.__name__), code(cls.__mro__[1].__name__), str(cls.exit_code),
         "yes" if cls.transient else "", paragraphs(cls.__doc__))
        for cls in _errors()
    )  # fmt: skip
    listed = table(("error", "is a", "exit code", "tried again", "meaning"), rows)
    return f"```text\n{result}\n```\n\n{listed}"


def _errors() -> list[type[errors.BigpeError]]:
    return [
        cls
        for cls in vars(errors).values()
        if isinstance(cls, type) and issubclass(cls, errors.BigpeError)
    ]


# Metrics


def metrics() -> str:
    """The figures that a run and a worker serve to Prometheus."""
    parts: list[str] = []
    for title, module in (("bigpe run --metrics-port", meters), ("bigpe serve", serve)):
        parts.append(f"## {title}\n")
        parts.append(table(("name", "kind", "labels", "meaning"), _meters(module)))
    return "\n".join(parts)


def _meters(module: ModuleType) -> Iterator[tuple[str, ...]]:
    tree = ast.parse(inspect.getsource(module))
    names = {
        target.id: ast.unparse(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in METERS:
            kind = ast.unparse(node.func)
            name, result, *labels = (ast.unparse(part) for part in node.args)
            wanted = names.get(labels[0], labels[0]) if labels else "[]"
            suffix = "_total" if kind == "Counter" else ""
            yield (
                code(ast.literal_eval(name) + suffix),
                kind.lower(),
                ", ".join(code(label) for label in ast.literal_eval(wanted)),
                ast.literal_eval(result),
            )


# Figures


def figures(folder: Path) -> str:
    """All measured figures, as they were committed."""
    parts: list[str] = []
    for file in sorted(folder.glob("*.jsonl")):
        rows = [json.loads(line) for line in file.read_text("utf-8").splitlines() if line.strip()]
        parts.append(f"## {file.stem}\n")
        parts.append(table(("figure", "value", "interval", "n", "how"), map(_figure, rows)))
    return "\n".join(parts)


def _figure(row: Mapping[str, Any]) -> tuple[str, ...]:
    interval = "" if row.get("lo") is None else f"[{row['lo']:,}, {row['hi']:,}]"
    value = "-" if row.get("value") is None else f"{row['value']:,}"
    return (
        code(row["figure"]),
        f"{value} {row.get('unit', '')}",
        interval,
        f"{row.get('n', '')}",
        str(row.get("how", "")).replace("<", "&lt;"),
    )
