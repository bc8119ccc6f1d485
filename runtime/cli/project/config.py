"""`bigpe config check`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bigpe.agents.plugins.config import find_roles
from bigpe.agents.reasoning.rules import OwnTemplates
from bigpe.agents.reasoning.styles import style_package
from bigpe.runtime.cli.common import json_option, print_json, project_option, stdout
from bigpe.runtime.cli.project.probe import probe_json, probe_option, run_probe
from bigpe.runtime.project.config import BigpeConfig, load_config
from bigpe.runtime.project.paths import Project
from bigpe.runtime.project.professional import own_professional, professional_choice
from bigpe.runtime.run.plan import naive_set
from bigpe.runtime.run.style import (
    SearchSettings,
    UncalledLlm,
    checked_seeds,
    language_note,
    search_settings,
    style_of,
    style_of_config,
)
from bigpe.services.render.diffusers.planning import planned_call
from bigpe.services.render.negatives import require_negative
from bigpe.services.render.prompt_profile import form_of, profile_of
from bigpe.services.score.description import described_scorer


@click.group()
def config() -> None:
    """Check and explain a project's configuration."""


@config.command(
    epilog="\b\nExamples:\n  bigpe config check -p my-project\n  bigpe config check --probe"
)
@project_option
@json_option
@probe_option
def check(project: Path, as_json: bool, wants_probe: bool) -> None:
    """Read bigpe.toml and its prompts; show all settings."""
    settings = load_config(Project(project).config)
    find_roles(settings.roles)
    own_files = _template_files(settings)
    prompts = naive_set(settings, project)
    counts = {split: len(prompts.of(split)) for split in ("train", "validation", "test")}
    (style, package), profile = _style(settings), profile_of(settings.render)
    require_negative(settings.render, project)
    plan = planned_call(settings.render)
    notes = [*filter(None, (prompts.warning, language_note(style, prompts.of("train"))))]
    seeds = checked_seeds(settings, project)
    search = search_settings(settings, style, counts["train"])
    professional, own = professional_choice(settings), own_professional(settings, project)
    if as_json:
        content = {
            "config": settings.model_dump(mode="json"),
            "prompts": counts,
            "notes": notes,
            "professional": [professional.file] if own else [*professional.packaged],
            "style": style,
            "search": search.as_json,
            "style_package": package or None,
            "templates": own_files,
            "form": form_of(settings.render),
            "painter": profile.model_dump(mode="json") | {"described": profile.described()},
            "call": {"pipeline": plan.kind, "arguments": plan.arguments} if plan else None,
            "scorer": described_scorer(settings.score),
            "seeds": {seed.name: len(seed.instruction.text.split()) for seed in seeds},
        }
        done = run_probe(project, as_json=True) if wants_probe else None
        print_json(content | ({"probe": probe_json(done)} if done else {}))
        raise SystemExit(done.report.exit_code if done else 0)
    console = stdout()
    console.print(_table(settings))
    listed = ", ".join(f"{count} {split}" for split, count in counts.items())
    console.print(Text(f"naive prompts: {listed}"))
    for note in notes:
        console.print(Text(f"note: {note}", style="yellow"))
    size = f", {len(own)} prompts" if own else ""
    console.print(Text(f"professional prompts: {professional}{size}"))
    named = (f"{seed.name} ({len(seed.instruction.text.split())} words)" for seed in seeds)
    console.print(Text(f"seed instructions: {', '.join(named)}"))
    _print_style(console, f"{style} {package and f'of {package}'}".rstrip(), search, own_files)
    console.print(Text(f"the painter: {profile.described()}"))
    if plan:
        console.print(Text(f"the painter's calls: {plan.described()}"))
    console.print(Text(f"the scorer: {described_scorer(settings.score)}"))
    console.print(Text(f"{Project(project).config} is valid"))
    if wants_probe:
        raise SystemExit(run_probe(project).report.exit_code)


def _print_style(
    console: Console, style: str, search: SearchSettings, own_files: Sequence[str]
) -> None:
    console.print(Text(f"reasoning style: {style}"))
    console.print(Text(f"search: {search.text}"))
    if own_files:
        console.print(Text(f"templates of your own: {', '.join(own_files)}; others are packaged"))


def _style(settings: BigpeConfig) -> tuple[str, str]:
    """The name of the style, and its package. ConfigError if the style cannot be made."""
    style = style_of_config(settings)
    package = style_package(style)
    if package:
        style_of(settings, lambda _: UncalledLlm())
    return style, package


def _template_files(settings: BigpeConfig) -> tuple[str, ...]:
    templates = settings.reasoning.templates
    return templates.own_files if isinstance(templates, OwnTemplates) else ()


def _table(settings: BigpeConfig) -> Table:
    table = Table("setting", "value", title="Settings in force", title_justify="left")
    for section in type(settings).model_fields:
        value = getattr(settings, section)
        if isinstance(value, BaseModel):
            _add(table, section, value)
        else:
            for name, part in value.items():
                _add(table, f"{section}.{name}", part)
    return table


def _add(table: Table, section: str, value: BaseModel) -> None:
    for key, field in type(value).model_fields.items():
        table.add_row(Text(f"{section}.{field.alias or key}"), Text(repr(getattr(value, key))))
