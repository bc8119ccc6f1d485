"""`bigpe publish`."""

from __future__ import annotations

from pathlib import Path

import click

from bigpe.runtime.cli.common import (
    json_option,
    print_json,
    project_option,
    read_store,
    run_argument,
)
from bigpe.runtime.sharing.hub import hub_place, upload
from bigpe.runtime.sharing.model_card import model_card
from bigpe.runtime.sharing.published_instruction import (
    published_of,
    write_published,
)


@click.command(
    epilog="""
\b
Examples:
  bigpe publish --to my-instruction              a folder with instruction.json and README.md
  bigpe publish wide --to hf://me/my-instruction --licence cc0-1.0 --private
  bigpe refine --from hf://me/my-instruction "a cat on the beach"
"""
)
@run_argument
@project_option
@click.option("--to", "place", required=True, metavar="FOLDER|hf://USER/NAME", help="Where to.")
@click.option("--licence", "--license", help="Of the instruction, as the Hub spells it: cc0-1.0.")
@click.option("--private", is_flag=True, help="Make a new repository on the Hub private.")
@json_option
def publish(
    run: str, project: Path, place: str, licence: str | None, private: bool, as_json: bool
) -> None:
    """Publish a run's instruction with its evaluation: the one that `bigpe evaluate` chose.

    Prompts of the evaluation, addresses and keys are not part of it; the instruction's examples,
    and the words of [constraints], are.
    """
    hub = hub_place(place)
    published = read_store(project, lambda store: published_of(store, run, licence=licence), run)
    if hub is not None:
        written = [upload(published, hub, private=private)]
    else:
        folder = Path(place).expanduser()
        written = [str(p) for p in write_published(published, folder, model_card(published))]
    if published.evaluation is None:
        click.echo(
            f"not evaluated on held-out prompts; run `bigpe evaluate {run}` and publish again",
            err=True,
        )
    if as_json:
        print_json({"id": published.id, "written": written})
        return
    for path in written:
        click.echo(path)
