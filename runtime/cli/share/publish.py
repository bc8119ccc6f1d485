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
from bigpe.runtime.run.resume.stored_run import StoredRun, require_stored_run
from bigpe.runtime.sharing.best import BestInstruction, best_instruction
from bigpe.runtime.sharing.hub import hub_place, upload
from bigpe.runtime.sharing.model_card import model_card
from bigpe.runtime.sharing.published_instruction import (
    published_of,
    write_published,
)
from bigpe.services.store.database import Store


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

    Without an evaluation it is the one with the best gain on train prompts.

    Prompts of the evaluation, addresses and keys are not part of it; the instruction's examples,
    and the words of [constraints], are.
    """
    hub = hub_place(place)
    stored, best = read_store(project, lambda store: _best(store, run), run)
    published = published_of(stored, best, licence=licence)
    if hub is not None:
        written = [upload(published, hub, private=private)]
    else:
        folder = Path(place).expanduser()
        written = [str(p) for p in write_published(published, folder, model_card(published))]
    click.echo(f"{run}: {best.note}", err=True)
    if published.evaluation is None:
        click.echo(
            f"not evaluated on held-out prompts; run `bigpe evaluate {run}` and publish again",
            err=True,
        )
    if as_json:
        print_json({"id": published.id, "chosen_by": best.chosen_by, "written": written})
        return
    for path in written:
        click.echo(path)


async def _best(store: Store, run: str) -> tuple[StoredRun, BestInstruction]:
    return await require_stored_run(store, run), await best_instruction(store, run)
