"""`bigpe models`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table
from rich.text import Text

from bigpe.runtime.cli.common import json_option, print_json, stdout
from bigpe.services.core.errors import ConfigError
from bigpe.services.models.downloads import list_models, pull_smollm2
from bigpe.services.score.published_scorers import PUBLISHED_SCORERS, list_official

if TYPE_CHECKING:
    from bigpe.services.score.reference_check import CheckedPair, CheckReport


@click.group()
def models() -> None:
    """The named models."""


@models.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the named models with state, size and licence."""
    rows = [*list_models(), *list_official()]
    if as_json:
        keys = ("name", "kind", "size", "licence", "path")
        print_json([{k: getattr(r, k) and str(getattr(r, k)) for k in keys} for r in rows])
        return
    table = Table("model", "kind", "MB", "licence", "where")
    for row in rows:
        absent = Text(f"not here: bigpe models pull {row.name}", "yellow")
        where = Text(str(row.path)) if row.path else absent
        table.add_row(row.name, row.kind, f"{row.size / 1e6:.0f}", row.licence, where)
    stdout().print(table)


@models.command(
    epilog="\b\nExamples:\n  bigpe models pull smollm2\n  bigpe models pull hpsv2.1\n"
    "  bigpe models pull hpsv2.1 --file ~/Downloads/HPS_v2.1_compressed.pt\n"
    "  bigpe models pull hpsv2.1 --keep"
)
@click.argument("name", type=click.Choice(["smollm2", *PUBLISHED_SCORERS]))
@click.option(
    "--file",
    type=click.Path(path_type=Path),
    help="Take a scorer's checkpoint from here instead of the internet.",
)
@click.option(
    "--keep",
    is_flag=True,
    help='Keep the published file, too: [score] backend = "hpsv2-package" reads it.',
)
def pull(name: str, file: Path | None, keep: bool) -> None:
    """Fetch a model, check it and place it in the user's cache.

    A scorer's checkpoint is verified by sha256, converted once to safetensors, and not needed
    afterwards, unless the official hpsv2 package is to read it.
    """

    def say(line: str) -> None:
        click.echo(line, err=True)

    if name in PUBLISHED_SCORERS:
        from bigpe.services.score.clip.checkpoints import pull_official  # torch: slow to import

        path = pull_official(name, say, file=file, keep=keep)
    elif file is not None or keep:
        raise ConfigError("--file and --keep go with a scorer, not with the language model")
    else:
        path = pull_smollm2(say)
    click.echo(f"{name}: {path}")


@models.command(
    epilog="\b\nExamples:\n  bigpe models check pairs.jsonl --model hpsv2.1\n"
    "  bigpe models check pairs.jsonl --model hpsv2.1 --tolerance 3e-4 --json\n"
    "  bigpe models check pairs.jsonl --model hpsv2.1 --record scored.jsonl"
)
@click.argument("pairs", type=click.Path(path_type=Path))
@click.option("--model", default="hpsv2.1", show_default=True, help="As in [score] model.")
@click.option("--tolerance", type=float, default=1e-4, show_default=True)
@click.option("--threads", type=int, default=2, show_default=True)
@click.option(
    "--record",
    type=click.Path(path_type=Path),
    help="Write the pairs with the scores computed here to this file; compare nothing.",
)
@json_option
@click.pass_context
def check(
    context: click.Context,
    pairs: Path,
    model: str,
    tolerance: float,
    threads: int,
    record: Path | None,
    as_json: bool,
) -> None:
    """Compare a scorer with scores that its authors' code gives.

    PAIRS has one JSON object per line: {"image": "cat.png", "prompt": "a cat", "score": 0.2731}.
    Image paths are relative to the file. Scores are on the scale of the authors' code: HPS as
    hpsv2.score() returns it, PickScore divided by 100. On CUDA hpsv2 rounds to half precision;
    set --tolerance 3e-4 for such scores. Exits with 1 if a pair fails or differs by more.
    """
    from bigpe.services.score.reference_check import (  # torch: slow to import
        check_pairs,
        record_pairs,
    )
    from bigpe.services.score.service import ScoreConfig

    config = ScoreConfig(model=model, threads=threads)
    if record is not None:
        recorded = record_pairs(pairs, config, record)
        failed = sum(checked.value is None for checked in recorded)
        if as_json:
            print_json({"recorded": len(recorded), "failed": failed, "path": str(record)})
        else:
            click.echo(f"{len(recorded)} pairs recorded in {record}, {failed} without a score")
        return
    report = check_pairs(pairs, config, tolerance)
    if as_json:
        print_json({**report.summary(), "outside": [_pair_json(pair) for pair in report.outside]})
    else:
        _print_report(report)
    context.exit(1 if report.outside else 0)


def _pair_json(checked: CheckedPair) -> dict[str, Any]:
    """A pair that failed or differs, for JSON."""
    return {
        "image": checked.pair.image,
        "prompt": checked.pair.prompt,
        "recorded": checked.pair.score,
        "value": checked.value,
        "difference": checked.difference,
        "error": checked.error,
    }


def _print_report(report: CheckReport) -> None:
    if report.outside:
        table = Table("image", "prompt", "recorded", "here", "difference")
        for checked in report.outside:
            difference = (
                checked.error if checked.difference is None else f"{checked.difference:.2g}"
            )
            row = (
                checked.pair.image,
                checked.pair.prompt,
                checked.pair.score,
                checked.value,
                difference,
            )
            table.add_row(*(Text(str(cell)) for cell in row))
        stdout().print(table)
    found = report.summary()
    largest = found["largest_difference"]
    distance = "none could be scored" if largest is None else f"largest difference {largest:.2g}"
    verdict = "within" if found["met"] else "not within"
    click.echo(f"{found['pairs']} pairs: {distance}; {verdict} the tolerance {report.tolerance:g}")
