"""`bigpe init`."""

from __future__ import annotations

import json
import re
import sys
from importlib.resources import files
from pathlib import Path

import click
from pydantic import ValidationError

from bigpe.prompts.library import PromptForm
from bigpe.prompts.templates import seed_file
from bigpe.runtime.cli.project.probe import run_probe
from bigpe.runtime.project.config import AUTO
from bigpe.runtime.project.paths import Project
from bigpe.services.core.errors import ConfigError, StoreError
from bigpe.services.llm.config import LlmConfig
from bigpe.services.llm.providers import PROVIDERS, names
from bigpe.services.models.downloads import pull_smollm2, smollm2_path

TEMPLATES = ("embedded", "sdxl-turbo")
SEEDS = "seeds.toml"
"""The file of seed instructions for a language model other than the embedded one."""
LLM_SECTIONS = re.compile(r"^\[llm\..*?(?=^\[(?!llm\.))", re.MULTILINE | re.DOTALL)
"""The sections of language models in a template, up to the next section."""

CONCURRENCY = re.compile(r"^concurrency = \d+", re.MULTILINE)
"""`[run] concurrency` in a template, the first key of that name."""


@click.command(
    epilog="""
\b
Examples:
  bigpe init my-project
  bigpe init my-project --template sdxl-turbo
  bigpe init my-project --llm openai/gpt-5-mini
  bigpe init my-project --llm ollama/qwen3:8b
"""
)
@click.argument("folder", default=".", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--template",
    type=click.Choice(TEMPLATES),
    default="embedded",
    show_default=True,
    help="Which models the file names: the embedded ones, or SDXL-Turbo and an OpenAI-style LLM.",
)
@click.option(
    "--llm",
    metavar="PROVIDER/MODEL",
    help="The language model, for example openai/gpt-5-mini or openrouter/VENDOR/MODEL.",
)
@click.option("--base-url", metavar="URL", help="With --llm: the address of a server of your own.")
@click.option("--pull/--no-pull", default=None, help="Fetch the embedded LLM without asking.")
@click.option(
    "--probe/--no-probe",
    "wants_probe",
    default=None,
    help="Ask the models whether they work (`bigpe doctor --probe`) without asking you.",
)
def init(
    folder: Path,
    template: str,
    llm: str | None,
    base_url: str | None,
    pull: bool | None,
    wants_probe: bool | None,
) -> None:
    """Write a commented bigpe.toml into FOLDER; an existing file is not changed."""
    section = llm_section(llm, base_url) if llm else None
    if base_url and not llm:
        raise ConfigError("--base-url has no effect without --llm PROVIDER/MODEL")
    path = write_config(folder, template, section)
    click.echo(f"wrote {path}")
    if template == "embedded" and llm is None:
        offer_models(pull)
    else:
        click.echo(write_seeds(folder, "tags"))  # the painters of both templates read tags
    code = offer_probe(folder, wants_probe)
    click.echo(f"next: bigpe config check -p {folder}, then bigpe run -p {folder}")
    if code:
        raise SystemExit(code)


def llm_section(llm: str, base_url: str | None) -> str:
    """`[llm.default]` for PROVIDER/MODEL, as text. ConfigError if it names no language model."""
    provider, slash, model = llm.partition("/")
    if not slash or not model:
        raise ConfigError(
            f"--llm {llm}: write PROVIDER/MODEL, for example openai/gpt-5-mini; providers: "
            f"{', '.join(names())}"
        )
    try:
        config = LlmConfig(provider=provider, model=model, base_url=base_url)
    except ValidationError as error:
        reason = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise ConfigError(f"--llm {llm}: {reason} (--base-url URL sets base_url)") from error
    if not config.is_short:
        raise ConfigError(f"--llm {llm}: use one of the providers {', '.join(PROVIDERS)}")
    lines = ["[llm.default]", f"provider = {_toml(provider)}", f"model = {_toml(model)}"]
    if base_url:
        lines.append(f"base_url = {_toml(base_url)}")
    if config.key_env:
        lines.append(f"api_key_env = {_toml(config.key_env)}  # the variable that holds the key")
    return "\n".join(lines) + "\n"


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # a JSON string is a TOML string


def write_config(folder: Path, template: str, section: str | None = None) -> Path:
    """Copy the packaged configuration, with `section` for `[llm.default]` if there is one.

    ConfigError if there is a configuration already.
    """
    path = Project(folder).config
    text = (
        files("bigpe.prompts") / "project_templates" / f"{template.replace('-', '_')}.toml"
    ).read_text("utf-8")
    if section is not None:
        text = LLM_SECTIONS.sub(lambda _: f"{section}\n", text, count=1)
        text = CONCURRENCY.sub(f'concurrency = "{AUTO}"', text, count=1)
        if f'seeds = "{SEEDS}"' not in text:
            text = text.replace("[data]\n", f'[data]\nseeds = "{SEEDS}"   # yours to change\n')
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise ConfigError(f"{path} is there already; edit it, or choose another folder") from error
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def write_seeds(folder: Path, form: PromptForm) -> str:
    """Write the seed instructions for painters of `form`; returns what was done, for people."""
    path = folder / SEEDS
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(seed_file(form))
    except FileExistsError:
        return f"{path} is there already and stays as it is"
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error
    return f"wrote {path}"


def offer_probe(folder: Path, wanted: bool | None) -> int:
    """Probe the models if the user wants it; returns the exit code."""
    if wanted is None and sys.stdin.isatty():
        question = "Ask the models now whether they work? It takes a few calls and two pictures."
        wanted = click.confirm(question, default=True, err=True)
    if not wanted:
        return 0
    return run_probe(folder).report.exit_code


def offer_models(pull: bool | None) -> None:
    """Fetch the embedded LLM if it is missing and the user wants it."""
    try:
        smollm2_path()
        return
    except ConfigError:
        pass
    if pull is None and sys.stdin.isatty():
        pull = click.confirm("The embedded LLM (93 MB) is not here. Fetch it now?", default=True)
    if pull:
        click.echo(f"placed {pull_smollm2(lambda line: click.echo(line, err=True))}")
    else:
        click.echo("the embedded LLM is not here yet: bigpe models pull smollm2")
