"""An instruction to hand on: its words, what it was found with, and what was measured of it.

A published instruction is a folder, `instruction.json` with a README.md beside it. Reading one runs
nothing of it: the file is data, of bounded size, and of a shape that is known or refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from bigpe.agents.reasoning.constraints import Constraints
from bigpe.runtime.evaluation.compare import Difference, Evaluation
from bigpe.runtime.project.config import BigpeConfig
from bigpe.runtime.run.resume.stored_run import require_stored_run
from bigpe.runtime.transcript.replay import replayed_campaign, require_finished
from bigpe.services.core.atomic_file import partial_file
from bigpe.services.core.errors import ConfigError, DataError, StoreError
from bigpe.services.core.values import Instruction, Json, Value
from bigpe.services.core.version import VERSION
from bigpe.services.llm.service import EMBEDDED
from bigpe.services.prompt_data.splits import Split
from bigpe.services.store.database import Store

FILE = "instruction.json"
CARD = "README.md"
SCHEMA = 1
LARGEST = 256 * 1024
"""Bytes of an instruction.json; a larger one is not read."""


class PublishedModels(Value):
    """What the instruction was found with; names only, no addresses or keys."""

    llm: str
    renderer: str
    scorer: str
    scorer_fingerprint: str | None = None


class Training(Value):
    """Its record in the run; score units, over naive prompts of the train split."""

    pulls: int
    gains: int
    mean: float | None
    lo: float | None
    hi: float | None


class HeldOut(Value):
    """What `bigpe evaluate` found of it, on prompts that no pull and no choice has seen."""

    split: Split
    prompts: int
    seeds: int
    scorer: str
    """Fingerprint."""
    gain: Difference
    """Against the naive prompts, score units."""
    over_seed: Difference | None
    """Against the first seed instruction."""
    guards: dict[str, Difference]
    """By second scorers, in their own units."""
    hacked: tuple[str, ...]
    """Guards that see a loss where the scorer sees a gain: it pleases the scorer, not people."""
    fallback_share: float
    subject_share: float


class PublishedInstruction(Value):
    """`instruction.json`."""

    schema_version: Literal[1] = SCHEMA
    id: str
    """The instruction's content address, to tell a changed text."""
    instruction: Instruction
    constraints: Constraints = Constraints()
    """What rewrites were held to, and are under `bigpe refine --from`."""
    safety: str | None = None
    """The name of the safety filter that it was found under; it is not part of this."""
    run: str
    bigpe: str
    """The version that wrote this."""
    licence: str | None = Field(default=None, max_length=100)
    """As the Hugging Face Hub spells it: "cc0-1.0", say."""
    data: str
    """The naive prompts: a packaged set, or "own"."""
    models: PublishedModels
    training: Training
    evaluation: HeldOut | None = None
    """None: it was not evaluated."""

    @model_validator(mode="after")
    def _of_words_alone(self) -> PublishedInstruction:
        if self.id != self.instruction.id:
            raise ValueError("its id is not that of its instruction: the text was changed")
        rules = self.constraints
        if rules.safety or rules.banned_file or rules.artists_file:
            raise ValueError("its constraints name a filter or files, which cannot be handed on")
        return self


async def published_of(store: Store, run: str, *, licence: str | None) -> PublishedInstruction:
    """The instruction that the latest evaluation chose, else the run's best. ConfigError when the
    run has no finished round."""
    stored, campaign = await require_stored_run(store, run), await replayed_campaign(store, run)
    require_finished(campaign, run)
    config = stored.config
    report = await _latest_report(store, run)
    chosen = report.selection.chosen if report and report.selection else None
    instruction = chosen or campaign.pool.best().instruction
    record = next(row for row in campaign.pool.rows() if row.instruction.id == instruction.id)
    return PublishedInstruction(
        id=instruction.id,
        instruction=instruction,
        constraints=config.constraints.model_copy(update={"safety": None}),
        safety=config.constraints.safety,
        run=run,
        bigpe=VERSION,
        licence=licence,
        data=config.data.naive if config.data.naive in ("world", "general") else "own",
        models=_models(config, stored.scorer),
        training=Training(
            pulls=record.pulls, gains=record.gains, mean=record.mean, lo=record.lo, hi=record.hi
        ),
        evaluation=_held_out(report, instruction) if report else None,
    )


async def _latest_report(store: Store, run: str) -> Evaluation | None:
    row = await store.row("evaluation_report", run=run)
    if row is None:
        return None
    try:
        return Evaluation.model_validate_json(row["body"])
    except ValidationError as error:
        raise DataError(
            f"the evaluation of {run!r} was written by another version of bigpe; "
            f"run `bigpe evaluate {run}` again"
        ) from error


def _held_out(report: Evaluation, instruction: Instruction) -> HeldOut | None:
    compared = next((c for c in report.compared if c.treatment.instruction == instruction), None)
    if compared is None or compared.gain is None:
        return None
    return HeldOut(
        split=report.split,
        prompts=report.prompts,
        seeds=report.seeds,
        scorer=report.scorer,
        gain=compared.gain,
        over_seed=compared.over_seed,
        guards=compared.guards,
        hacked=compared.hacked,
        fallback_share=compared.fallback_share,
        subject_share=compared.subject_share,
    )


def _models(config: BigpeConfig, scorer: str | None) -> PublishedModels:
    return PublishedModels(
        llm=llm_name(config),
        renderer=f"{config.render.backend}: {_public(config.render.model)}",
        scorer=f"{config.score.backend}: {_public(config.score.model)}",
        scorer_fingerprint=scorer,
    )


def llm_name(config: BigpeConfig) -> str:
    """The Generator's model by name; a file by its last part."""
    llm = config.llm_for("generator")
    own = llm.config.get("model") or llm.config.get("path")
    if llm.provider == EMBEDDED:
        return _public(str(own)) if own else "smollm2-135m"
    return _public(str(own or llm.provider.rpartition(".")[2]))


def _public(place: str) -> str:
    """A folder of somebody's machine by its last part; a hub id as it is."""
    private = place.startswith(("/", ".", "~", "\\")) or place[1:2] == ":"
    return Path(place.replace("\\", "/")).name if private else place


def write_published(published: PublishedInstruction, folder: Path, card: str) -> list[Path]:
    """Both files. ConfigError when the folder's README.md is of something else."""
    data, readme = folder / FILE, folder / CARD
    if readme.exists() and not data.exists():
        raise ConfigError(f"{readme} is of something else; choose another folder")
    texts = {data: to_json(published), readme: card}
    for path, text in texts.items():
        with partial_file(path) as partial:
            partial.write_text(text, "utf-8")
    return [data, readme]


def to_json(published: PublishedInstruction) -> str:
    """The text of `instruction.json`."""
    return json.dumps(published.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"


def read_published(place: Path) -> PublishedInstruction:
    """From a folder, or its instruction.json. DataError says why it cannot be used."""
    path = place / FILE if place.is_dir() else place
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST + 1)
    except FileNotFoundError as error:
        raise DataError(f"there is no {path}; `bigpe publish` writes one") from error
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}") from error
    if len(raw) > LARGEST:
        raise DataError(f"{path} is larger than {LARGEST:,} bytes: it is no instruction")
    return _parsed(raw, str(path))


def _parsed(raw: bytes, where: str) -> PublishedInstruction:
    try:
        parsed: Any = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON: {str(error)[:200]}") from error
    found: Json = parsed if isinstance(parsed, dict) else {}
    version = found.get("schema_version")
    if version != SCHEMA:
        newer = isinstance(version, int) and version > SCHEMA
        remedy = "install a newer bigpe" if newer else "`bigpe publish` writes one"
        raise DataError(f"{where} has schema_version {version!r}, not {SCHEMA}; {remedy}")
    try:
        return PublishedInstruction.model_validate(found)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, fault["loc"]))
        raise DataError(f"{where}: {place or 'it'}: {fault['msg']}; it was not used") from error
