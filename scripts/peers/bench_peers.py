"""bigpe against GEPA, OPRO, EvoPrompt, CAPO, random search and best-of-n, at equal renders.

    .venv/bin/python scripts peers.bench_peers                     bench-dev, what is still missing
    .venv/bin/python scripts peers.bench_peers --bench final       the published figure
    .venv/bin/python scripts peers.bench_peers --figures           figures of what has run
    .venv/bin/python scripts peers.bench_peers --less gepa@400     all that has run, less one of it
    .venv/bin/python scripts peers.bench_peers --quick             plumbing: one seed, 30 renders

Every finished (method, budget, run seed) is one line of docs/results/cells/peers-BENCH.jsonl and
is not run again. The rules are in docs/decisions/0013-a-fair-race.md; the peers run in an
environment of their own, made here (build/peers-venv).
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
import venv
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import say

import bigpe
from bigpe.agents.messages.plan import RULES as SEARCH_RULES
from bigpe.runtime.experiments.cells import ExperimentCell, append_cell, read_cells
from bigpe.runtime.experiments.report.plots import gains_svg
from bigpe.runtime.experiments.report.tables import (
    BEST,
    ExperimentTable,
    csv_text,
    markdown,
    tabulate_cells,
)
from bigpe.runtime.experiments.runner import commit_of
from bigpe.runtime.experiments.shared_models import Stopwatches, open_models
from bigpe.runtime.project.config import BigpeConfig, load_config
from bigpe.runtime.project.paths import Project
from bigpe.runtime.project.seed_files import seed_instructions
from bigpe.runtime.run.services import Services, open_services
from bigpe.services.core.values import digest
from bigpe.services.store.call_cache import CallCache
from bigpe.services.store.database import Store
from bigpe.services.store.held_out import SplitCallCache
from peers import curves
from peers.arena import Arena
from peers.judge import best_of_n, heldout
from peers.methods import METHODS, OUR_RUN, OURS, Entry, Place
from peers.pairs import pairs_csv, pairs_markdown, pairs_of
from peers.realise import realise
from peers.server import PeerFailed
from peers.task import (
    BUDGETS,
    METHOD_RULES,
    RULES,
    SEEDS,
    Bench,
    Task,
    bench_file,
    clauses,
    load_task,
)

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results"
PACKAGES = ("gepa==0.1.4", "promptolution==2.3.0")
BEST_OF_N = "best-of-n"
ALL = (*METHODS, BEST_OF_N)
REFERENCE = "gepa@400"
"""The entry that the tables compare with."""


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def peers_python(folder: Path) -> Path:
    """The interpreter of the peers' environment, which is made if it is not there."""
    python = folder / "bin" / "python"
    ready = folder / ".ready"
    if not ready.exists() or ready.read_text() != " ".join(PACKAGES):
        log(f"making {folder} with {', '.join(PACKAGES)}")
        venv.create(folder, with_pip=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *PACKAGES], check=True, stdout=sys.stderr)
        ready.write_text(" ".join(PACKAGES))
    return python


def base_config() -> BigpeConfig:
    """The embedded models, as `bigpe init` names them."""
    return load_config(ROOT / "prompts" / "project_templates" / "embedded.toml")


def cell_digest(method: str, bench: Bench, budget: int, base: BigpeConfig) -> str:
    """What makes two runs of a method the same but for the seed.

    Peers are not run again when bigpe's own way of searching changes: all that they see of bigpe is
    the models, the prompts and the instructions to start from. What else they see, `RULES` and
    `METHOD_RULES` count.
    """
    prompts = bench_file(bench).read_text("utf-8")
    settings = base.model_dump(mode="json", exclude_defaults=True)
    starts = [seed.model_dump(mode="json") for seed in seed_instructions()]
    rule = [RULES, METHOD_RULES[method]] if method in METHOD_RULES else RULES
    existing = [rule, method, budget, digest([prompts, starts, clauses()])]
    if method in OURS:
        return digest([*existing, SEARCH_RULES, settings, OUR_RUN])[:16]
    return digest([*existing, {name: settings.get(name) for name in ("llm", "render", "score")}])[
        :16
    ]


async def run_one(
    method: str, task: Task, place: Place, store: Store, watches: Stopwatches
) -> ExperimentCell:
    """One method, one budget, one seed: run, judged, told."""
    effects = CallCache(store)
    open_to_methods = (*task.train, *task.validation)
    scores = SplitCallCache(effects, CallCache(store, sealed=True), open_to_methods)
    async with open_services(
        place.base,
        place.project,
        effects,
        scores,
        run="race",
        llms=place.models.llms,
        renderer=place.models.renderer,
        scorer=place.models.scorer,
    ) as services:
        entry, gains = await enter(method, task, place, services)
    return ExperimentCell(
        experiment=f"peers-{task.bench}",
        arm=f"{method}@{task.budget}",
        x=task.budget,
        series=method,
        config=cell_digest(method, task.bench, task.budget, place.base),
        seed=task.seed,
        run="",
        budget=task.budget,
        reason=entry.note,
        rounds=0,
        renders=entry.renders,
        scores=entry.renders,
        llm_calls=entry.usage.calls,
        tokens=entry.usage.prompt_tokens + entry.usage.completion_tokens,
        seconds=watches.cost(entry.renders, entry.renders, entry.usage.calls) or 0.0,
        instruction=entry.instruction.text,
        gains={BEST: gains},
        version=bigpe.__version__,
        commit=commit_of(Path(__file__).parent),
        finished=time.time(),
    )


async def enter(
    method: str, task: Task, place: Place, services: Services
) -> tuple[Entry, dict[str, float]]:
    """What the method hands in, and its held-out gains."""
    if method == BEST_OF_N:
        picked = await best_of_n(services, task)
        note = "picks pictures, not instructions"
        return Entry(realise(task.initial[0]), picked.renders, picked.usage, note), picked.gains
    entry = await METHODS[method](Arena(services, task), place)
    if entry.renders > task.budget:
        raise PeerFailed(f"{method} used {entry.renders} renders of {task.budget}")
    return entry, await heldout(services, entry.instruction, task)


async def run_all(options: argparse.Namespace, cells: Path, base: BigpeConfig) -> None:
    """Run what is missing, budgets ascending."""
    project = Project(options.project)
    project.folder.mkdir(parents=True, exist_ok=True)
    watches = Stopwatches(project.folder / "experiments" / "seconds.json")
    python = peers_python(options.venv)
    done = {cell.key for cell in read_cells(cells)}
    wanted = [
        (method, budget, seed)
        for budget in sorted(options.budgets)
        for seed in options.seeds
        for method in options.methods
        if (cell_digest(method, options.bench, budget, base), seed) not in done
    ]
    start = time.monotonic()
    async with (
        open_models(base, project, watches) as models,
        Store(project.database) as store,
    ):
        await run_wanted(
            wanted, options, cells, Place(base, project, models, python), store, watches
        )
    log(f"{len(wanted)} cells were missing; {(time.monotonic() - start) / 60:.1f} min")


async def run_wanted(
    wanted: Sequence[tuple[str, int, int]],
    options: argparse.Namespace,
    cells: Path,
    place: Place,
    store: Store,
    watches: Stopwatches,
) -> None:
    """The cells, those of one seed one after the other, `options.jobs` seeds side by side."""
    start = time.monotonic()
    free = asyncio.Semaphore(options.jobs)

    async def of_seed(seed: int) -> None:
        async with free:
            for method, budget in [(m, b) for m, b, s in wanted if s == seed]:
                if options.max_minutes and time.monotonic() - start > 60 * options.max_minutes:
                    log(f"seed {seed} is cut short; the same command goes on")
                    return
                began = time.monotonic()
                task = load_task(options.bench, seed, budget)
                cell = await run_one(method, task, place, store, watches)
                append_cell(cells, cell)
                watches.save()
                gain = 100 * sum(cell.gains[BEST].values()) / len(cell.gains[BEST])
                log(
                    f"{method}@{budget}, seed {seed}: {gain:+.2f} ({cell.renders} renders, "
                    f"{time.monotonic() - began:.0f} s): {cell.instruction[:90]}"
                )

    async with asyncio.TaskGroup() as group:
        for seed in dict.fromkeys(seed for _, _, seed in wanted):
            group.create_task(of_seed(seed))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bench", choices=("dev", "final"), default="dev")
    parser.add_argument("--budgets", type=int, nargs="+", default=list(BUDGETS))
    parser.add_argument("--methods", nargs="+", choices=ALL, default=list(ALL))
    parser.add_argument("--seeds", type=int, nargs="+", help="default: the bench's own")
    parser.add_argument("--project", type=Path, default=ROOT / "build" / "peers-lab")
    parser.add_argument("--venv", type=Path, default=ROOT / "build" / "peers-venv")
    parser.add_argument("--cells", type=Path, help="default: docs/results/cells/peers-BENCH.jsonl")
    parser.add_argument("--max-minutes", type=float, default=0.0, help="begin no cell after")
    parser.add_argument(
        "--jobs", type=int, default=1, help="seeds side by side, on one set of models"
    )
    parser.add_argument("--figures", action="store_true", help="only tell what has run")
    parser.add_argument(
        "--less", metavar="ARM", help="only compare what has run with ARM, gepa@400 say"
    )
    parser.add_argument("--quick", action="store_true", help="one seed, 30 renders, to build/")
    options = parser.parse_args(arguments)
    options.seeds = options.seeds or list(SEEDS[options.bench])
    if options.quick:
        options.budgets, options.seeds = [30], options.seeds[:1]
        options.cells = options.cells or ROOT / "build" / "peers-quick.jsonl"
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    cells = options.cells or RESULTS / "cells" / f"peers-{options.bench}.jsonl"
    if options.less:
        print(markdown(table_less(options.less, f"peers-{options.bench}", read_cells(cells))))
        return
    if not options.figures:
        asyncio.run(run_all(options, cells, base_config()))
    existing = read_cells(cells)
    if existing and not options.quick:
        write_table(f"peers-{options.bench}", existing, cells.parent.parent)
    for figure in curves.figures(existing):
        say(**figure._asdict())


def peers_table(
    name: str, cells: Sequence[ExperimentCell], reference: str = REFERENCE
) -> ExperimentTable:
    """Every method at every budget, compared with the entry `reference`."""
    entries = sorted(cells, key=lambda cell: (cell.series, cell.x or 0))
    return tabulate_cells(name, reference, cells, [cell.arm for cell in entries])


def table_less(arm: str, name: str, cells: Sequence[ExperimentCell]) -> ExperimentTable:
    """Every method at every budget less `arm`, paired by run seed; exits where that has no runs."""
    table = peers_table(name, cells, arm)
    conditions = [row.condition for row in table.rows]
    if arm not in conditions:
        print(f"--less {arm}: no such runs; there are: {', '.join(conditions)}", file=sys.stderr)
        raise SystemExit(2)
    return table


def write_table(name: str, cells: Sequence[ExperimentCell], folder: Path) -> None:
    """The tables as Markdown and CSV, and the curves of gain against renders."""
    pairs = pairs_of(curves.gains_of(cells))
    (folder / f"{name}-pairs.md").write_text(pairs_markdown(pairs), "utf-8")
    (folder / f"{name}-pairs.csv").write_text(pairs_csv(pairs), "utf-8")
    if not cells:
        return
    table = peers_table(name, cells)
    (folder / f"{name}.md").write_text(markdown(table), "utf-8")
    (folder / f"{name}.csv").write_text(csv_text(table), "utf-8")
    (folder / f"{name}.svg").write_text(gains_svg(table, axis="renders"), "utf-8")


if __name__ == "__main__":
    main()
