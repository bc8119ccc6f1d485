"""`bigpe experiment worksheet`, `agreement` and `validity`: how true gradients are."""

from __future__ import annotations

from pathlib import Path

import click

from bigpe.runtime.cli.common import json_option, perform, print_json, project_option
from bigpe.runtime.cli.results.experiment import Target, experiment_options
from bigpe.runtime.experiments import gradient_validity
from bigpe.runtime.experiments.gradient_validity import (
    claim_validity,
    judged_terms,
    read_truth,
    read_verdicts,
    write_worksheet,
)
from bigpe.runtime.experiments.measures import claims_of_runs
from bigpe.runtime.project.paths import Project
from bigpe.services.core.errors import ConfigError

existing_file = click.Path(path_type=Path, dir_okay=False, exists=True)


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


@click.command(epilog="\b\nExample:\n  bigpe experiment validity main -p lab --truth truth.json")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@project_option
@click.option(
    "--truth",
    type=existing_file,
    required=True,
    help='JSON file of known effects: {"terms": {"golden hour": 0.6}}.',
)
@json_option
def validity(runs: tuple[str, ...], project: Path, truth: Path, as_json: bool) -> None:
    """Compare the gradients of RUN... with known effects of terms.

    A named term is one that an improvement in free form asks for (+) or against (-). A cited term
    has the sign of the same named term, or else of its evidence row. A term without effect counts
    as wrong; a term that is only a part of one with an effect is not judged.
    """
    effects = read_truth(truth)
    claims = perform(claims_of_runs(Project(project), runs))
    if not claims:
        raise ConfigError(f"no gradient is stored of {', '.join(runs)} in {project}")
    figures = claim_validity(claims, effects)
    terms = judged_terms(claims, effects)
    if as_json:
        print_json({"figures": figures, "terms": [term._asdict() for term in terms]})
        return
    for term in terms:
        effect = "not judged" if term.effect is None else f"known effect {term.effect:+.2f}"
        verdict = "" if term.right is None else (", right" if term.right else ", wrong")
        sign = "+" if term.sign > 0 else "-"
        click.echo(f"{term.run} {term.round:3} {term.kind} {sign} {term.term}: {effect}{verdict}")
    for name, value in figures.items():
        click.echo(f"{name}: {'-' if value is None else f'{value:.3g}'}")


@click.command(epilog="\b\nExample:\n  bigpe experiment agreement ann.csv ben.csv")
@click.argument("first", type=existing_file)
@click.argument("second", type=existing_file)
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
