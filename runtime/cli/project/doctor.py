"""`bigpe doctor`."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple, NoReturn

import click
from rich.text import Text

from bigpe.runtime.cli.common import json_option, print_json, project_option, stdout
from bigpe.runtime.cli.project.probe import (
    probe_json,
    probe_option,
    run_probe,
    run_render,
)
from bigpe.runtime.project.config import load_config
from bigpe.runtime.project.paths import Project
from bigpe.services.core.errors import BigpeError
from bigpe.services.models.downloads import list_models, smollm2_path
from bigpe.services.score.hpsv2.environment import environment_folder, find_python, make_environment

PACKAGES = ("autogen-core", "autogen-agentchat", "torch", "diffusers", "transformers", "xllamacpp")
FREE_BYTES = 1_000_000_000


EXAMPLES = """
\b
Examples:
  bigpe doctor
  bigpe doctor -p my-project --json
  bigpe doctor --probe           asks the models of the project a few real questions
  bigpe doctor --render          paints one picture
  bigpe doctor --render --prompt "a red fox" --json
  bigpe doctor --setup-hpsv2
\b
Exit codes: 0 all is well; 2 a setting is wrong; 1 any other fault.
"""


class DoctorFinding(NamedTuple):
    """The result of a check."""

    name: str
    ok: bool
    finding: str


@click.command(epilog=EXAMPLES)
@project_option
@json_option
@probe_option
@click.option(
    "--render",
    "wants_picture",
    is_flag=True,
    help="Paint one picture: seconds, memory, limits, price. A paid service costs money.",
)
@click.option("--prompt", help="What --render paints; default: the first train prompt.")
@click.option(
    "--setup-hpsv2",
    is_flag=True,
    help='Make the environment of [score] backend = "hpsv2-package" first (about 1.5 GB).',
)
def doctor(
    project: Path,
    as_json: bool,
    wants_probe: bool,
    wants_picture: bool,
    prompt: str | None,
    setup_hpsv2: bool,
) -> None:
    """Check this machine and project, and say how to fix each fault.

    --probe makes about five calls of each configured language model, paints two pictures and
    scores them. It shows what the models can do and what a run of the project takes.
    """
    if prompt is not None and not wants_picture:
        raise click.UsageError("--prompt has an effect with --render only")
    if wants_picture and wants_probe:
        raise click.UsageError("--probe paints, too: give either --render or --probe")
    if wants_picture:
        _paint(project, prompt, as_json=as_json)
    if setup_hpsv2:
        make_environment(lambda line: click.echo(line, err=True))
    findings = [_look(name, look) for name, look in _looks(project)]
    code = 0 if all(finding.ok for finding in findings) else 1
    checks = [finding._asdict() for finding in findings]
    if as_json and wants_probe:
        done = run_probe(project, as_json=True)
        print_json({"checks": checks, "probe": probe_json(done)})
        raise SystemExit(max(code, done.report.exit_code))
    if as_json:
        print_json(checks)
    else:
        console = stdout()
        for finding in findings:
            mark = Text("ok  " if finding.ok else "MISS", style="green" if finding.ok else "red")
            console.print(mark + Text(f" {finding.name}: {finding.finding}"), soft_wrap=True)
    if wants_probe and not as_json:
        code = max(code, run_probe(project).report.exit_code)
    raise SystemExit(code)


def _paint(project: Path, prompt: str | None, *, as_json: bool) -> NoReturn:
    report = run_render(project, prompt, as_json=as_json)
    if as_json:
        print_json({"rows": [row.model_dump(mode="json") for row in report.rows]})
    raise SystemExit(report.exit_code)


def _looks(project: Path) -> list[tuple[str, Callable[[], str]]]:
    looks: list[tuple[str, Callable[[], str]]] = [("python", _python)]
    looks += [(name, lambda name=name: version(name)) for name in PACKAGES]
    looks += [("embedded LLM", lambda: str(smollm2_path())), ("embedded models", _embedded)]
    if environment_folder().exists():
        looks.append(("hpsv2 package", lambda: str(find_python())))
    looks.append(("disk", lambda: _disk(project)))
    looks.append(("device", _device))
    if Project(project).config.exists():
        looks.append(("bigpe.toml", lambda: _config(project)))
    return looks


def _look(name: str, look: Callable[[], str]) -> DoctorFinding:
    try:
        return DoctorFinding(name, True, look())
    except BigpeError as error:
        return DoctorFinding(name, False, str(error))
    except PackageNotFoundError:
        return DoctorFinding(name, False, f"not installed; pip install {name}")


def _python() -> str:
    return f"{platform.python_version()} at {sys.executable}"


def _embedded() -> str:
    rows = [row for row in list_models() if row.kind != "llm"]
    missing = [row.name for row in rows if row.path is None]
    if missing:
        raise BigpeError(f"{', '.join(missing)} missing from the package; install bigpe again")
    return ", ".join(row.name for row in rows)


def _disk(project: Path) -> str:
    folder = project.resolve()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < FREE_BYTES:
        raise BigpeError(f"only {free / 1e9:.1f} GB free at {folder}; a long run needs more")
    return f"{free / 1e9:.0f} GB free at {folder}"


def _device() -> str:
    import torch  # slow to import, so only here

    if torch.cuda.is_available():
        return f"CUDA: {torch.cuda.get_device_name()}"
    return f"CPU, {torch.get_num_threads()} threads (no CUDA device)"


def _config(project: Path) -> str:
    load_config(Project(project).config)
    return f"{Project(project).config} is valid"
