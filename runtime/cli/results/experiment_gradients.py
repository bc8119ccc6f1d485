"""`bigpe experiment worksheet` and `bigpe experiment agreement`: people judge the gradients."""

from __future__ import annotations

from pathlib import Path

import click

from bigpe.runtime.cli.common import json_option, perform, print_json
from bigpe.runtime.cli.results.experiment import Target, experiment_options
from bigpe.runtime.experiments import gradient_validity
from bigpe.runtime.experiments.gradient_validity import read_verdicts, write_worksheet
from bigpe.runtime.experiments.measures import claims_of_runs
from bigpe.services.core.errors import ConfigError

filled_worksheet = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.command(
    epilog="\b\nExample:\n  bigpe experiment worksheet gradient-validity claims.csv -p lab"
)
@experiment_options
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@json_option
def worksheet(target: Target, file: Path, as_json: bool) -> None:
    """Write the gradients of experiment NAME to FILE (CSV), for people to judge.

    The last column is for the verdict: true, false or unclear. Compare two filled worksheets with
    `bigpe experiment agreement`.
    """
    runs = list(dict.fromkeys(cell.run for cell in target.finished()))
    claims = perform(claims_of_runs(target.project, runs))
    write_worksheet(file, claims)
    if as_json:
        print_json({"file": str(file), "gradients": len(claims)})
    else:
        click.echo(f"wrote {len(claims)} gradients to {file}", err=True)


@click.command(epilog="\b\nExample:\n  bigpe experiment agreement ann.csv ben.csv")
@click.argument("first", type=filled_worksheet)
@click.argument("second", type=filled_worksheet)
@json_option
def agreement(first: Path, second: Path, as_json: bool) -> None:
    """Print the agreement of the worksheets FIRST and SECOND, and each one's true claims."""
    verdicts = [read_verdicts(path) for path in (first, second)]
    found = gradient_validity.agreement(*verdicts)
    if not found.n:
        raise ConfigError(
            f"{first} and {second} judge no gradient in common: fill their last column"
        )
    true = [sum(v == "true" for v in given.values()) / len(given) for given in verdicts]
    if as_json:
        print_json({**found._asdict(), "true": true})
        return
    kappa = "not defined" if found.kappa is None else f"{found.kappa:.2f}"
    click.echo(
        f"{found.n} gradients judged by both: {found.observed:.0%} alike, Cohen's kappa {kappa}; "
        f"held true: {true[0]:.0%} and {true[1]:.0%}"
    )
