"""Train the embedded models, stage by stage: `train_embedded.py STAGE`, or `--smoke` for all.

Every stage can be killed and started again; it goes on from its last checkpoint in the work
folder. Stages run in the order above; `reader`, `scorer` and `guard` learn from pictures decoded by
`vae`, and may run before, beside or after `unet`. `--smoke` runs all of them, tiny, in a minute.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from dataclasses import replace as change
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch

from embedded_world.embedded.check_stage import check
from embedded_world.embedded.dataset import make_data
from embedded_world.embedded.export_stage import export
from embedded_world.embedded.reader_stage import train_reader
from embedded_world.embedded.scorer_stage import train_guard, train_scorer
from embedded_world.embedded.text_stage import train_text
from embedded_world.embedded.training import Schedule
from embedded_world.embedded.unet_stage import train_unet
from embedded_world.embedded.vae_stage import train_vae

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("data", "text", "vae", "reader", "scorer", "guard", "unet", "export", "check")


@dataclass(frozen=True)
class Trained:
    """A stage that runs the training loop, and its schedule unless told otherwise."""

    run: Callable[[Path, Schedule], None]
    schedule: Schedule


TRAINED = {
    "text": Trained(train_text, Schedule(steps=1600, batch=64, rate=1e-3)),
    "vae": Trained(train_vae, Schedule(steps=7000, batch=16, rate=2e-3, decay=0.5)),
    "scorer": Trained(train_scorer, Schedule(steps=2000, batch=16, rate=8e-4, decay=0.6)),
    "reader": Trained(train_reader, Schedule(steps=1000, batch=96, rate=2e-3, decay=0.6)),
    "guard": Trained(train_guard, Schedule(steps=1500, batch=12, rate=8e-4, decay=0.6)),
    "unet": Trained(train_unet, Schedule(steps=16000, batch=64, rate=1e-3, decay=0.5)),
}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", nargs="?", choices=STAGES)
    parser.add_argument("--smoke", action="store_true", help="all stages, tiny, in a minute")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "embedded")
    parser.add_argument("--out", type=Path, default=ROOT / "services" / "models" / "embedded")
    parser.add_argument("--scenes", type=int, default=60_000)
    parser.add_argument("--phrases", type=Path, help="JSON lines whose prompts give more filler")
    parser.add_argument("--steps", type=int, help="train up to this step")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--minutes", type=float, help="stop after so long; run again to go on")
    parser.add_argument("--prompts", type=int, default=24, help="naive prompts to check")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    if not options.smoke and options.stage is None:
        parser.error("name a stage, or give --smoke")
    return options


def schedule_for(stage: str, options: argparse.Namespace) -> Schedule:
    given = {
        name: value
        for name in ("steps", "batch", "minutes")
        if (value := getattr(options, name)) is not None
    }
    return change(TRAINED[stage].schedule, seed=options.seed, **given)


def run(stage: str, options: argparse.Namespace) -> None:
    if stage == "data":
        make_data(options.work, options.scenes, options.seed, options.phrases, options.threads)
    elif stage == "export":
        export(options.work, options.out)
    elif stage == "check":
        check(options.out, options.work / "contact_sheet.png", options.prompts)
    else:
        TRAINED[stage].run(options.work, schedule_for(stage, options))


def smoke(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        options.work, options.out = Path(folder) / "work", Path(folder) / "out"
        options.scenes, options.steps, options.batch, options.prompts = 1000, 4, 4, 2
        for stage in STAGES:
            run(stage, options)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    if options.smoke:
        smoke(options)
    else:
        run(options.stage, options)


if __name__ == "__main__":
    main()
