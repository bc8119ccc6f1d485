"""A published instruction: its text, the models that it was found with, and its results.

It is a folder with `instruction.json` and README.md. Reading it executes nothing: the file is data
of limited size, and its shape is checked.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from bigpe.agents.messages.plan import EVIDENCE_WORDED
from bigpe.agents.reasoning.constraints import Constraints
from bigpe.runtime.evaluation.compare import Difference, Evaluation
from bigpe.runtime.project.config import BigpeConfig
from bigpe.runtime.run.resume.stored_run import StoredRun
from bigpe.runtime.run.style import style_of_config
from bigpe.runtime.sharing.best import BestInstruction
from bigpe.services.core.atomic_file import partial_file
from bigpe.services.core.errors import ConfigError, DataError, StoreError
from bigpe.services.core.values import Instruction, Json, Value
from bigpe.services.core.version import VERSION
from bigpe.services.prompt_data.splits import Split
from bigpe.services.render.config import PromptForm
from bigpe.services.render.prompt_profile import profile_of

FILE = "instruction.json"
CARD = "README.md"
SCHEMA = 1
LARGEST = 256 * 1024
"""Largest size of an instruction.json, bytes."""


class PublishedModels(Value):
    """Names of the run's models, without addresses or keys."""

    llm: str
    renderer: str
    scorer: str
    scorer_fingerprint: str | None = None


class Training(Value):
    """The instruction's record in the run, over train prompts; score units."""

    pulls: int
    gains: int
    mean: float | None
    lo: float | None
    hi: float | None


class HeldOut(Value):
    """Results of `bigpe evaluate` on prompts that neither pulls nor the selection used."""

    split: Split
    prompts: int
    seeds: int
    scorer: str
    """Fingerprint of the scorer."""
    gain: Difference
    """Difference to the naive prompts, score units."""
    over_seed: Difference | None
    """Difference to the first seed instruction, score units."""
    guards: dict[str, Difference]
    """Differences to the naive prompts by guard, in the guard's units."""
    hacked: tuple[str, ...]
    """Guards that measure a loss where the scorer measures a gain."""
    fallback_share: float
    subject_share: float


class PublishedInstruction(Value):
    """The content of `instruction.json`."""

    schema_version: Literal[1] = SCHEMA
    id: str
    """Digest of the instruction, which reveals a changed text."""
    instruction: Instruction
    constraints: Constraints = Constraints()
    """Constraints of rewrites, in the run and in `bigpe refine --from`."""
    safety: str | None = None
    """Name of the run's safety filter, which is not published."""
    form: PromptForm | None = None
    """The form of rewrites that the painter reads; None: not known."""
    negative: bool = False
    """Whether a rewrite is a pair: a prompt and a negative prompt."""
    run: str
    bigpe: str
    """Version of bigpe that wrote the file."""
    licence: str | None = Field(default=None, max_length=100)
    """An identifier of the Hugging Face Hub, for example "cc0-1.0"."""
    data: str
    """The naive prompts: a packaged set, or "own"."""
    models: PublishedModels
    training: Training
    evaluation: HeldOut | None = None
    """None if the instruction was not evaluated."""

    @model_validator(mode="after")
    def _check_content(self) -> PublishedInstruction:
        if self.id != self.instruction.id:
            raise ValueError("its id is not that of its instruction: the text was changed")
        rules = self.constraints
        if rules.safety or rules.banned_file or rules.artists_file:
            raise ValueError("its constraints name a filter or files, which cannot be published")
        return self


def with_rules_of(published: PublishedInstruction, config: BigpeConfig) -> BigpeConfig:
    """`config` under the rules of a published instruction, for rewrites with it.

    Both constraints hold. Rewrites have negative prompts if the instruction was found with them
    and the language model can write them; the embedded one cannot.
    """
    rules = config.constraints.and_also(published.constraints)
    config = config.model_copy(update={"constraints": rules})
    if not published.negative or style_of_config(config) == EVIDENCE_WORDED:
        return config
    prompt = config.render.prompt.model_copy(update={"negative": True})
    return config.model_copy(update={"render": config.render.model_copy(update={"prompt": prompt})})


def published_of(
    stored: StoredRun, best: BestInstruction, *, licence: str | None
) -> PublishedInstruction:
    """The best instruction of a run as it is published."""
    config, instruction, report = stored.config, best.instruction, best.report
    profile = profile_of(config.render)
    record = next(row for row in best.campaign.pool.rows() if row.instruction.id == instruction.id)
    return PublishedInstruction(
        id=instruction.id,
        instruction=instruction,
        constraints=config.constraints.model_copy(update={"safety": None}),
        safety=config.constraints.safety,
        form=profile.form,
        negative=profile.negative,
        run=stored.name,
        bigpe=VERSION,
        licence=licence,
        data=config.data.naive if config.data.naive in ("world", "general") else "own",
        models=_models(config, stored.models["scorer"].fingerprint),
        training=Training(
            pulls=record.pulls, gains=record.gains, mean=record.mean, lo=record.lo, hi=record.hi
        ),
        evaluation=_held_out(report, instruction) if report else None,
    )


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


def _models(config: BigpeConfig, scorer: str) -> PublishedModels:
    return PublishedModels(
        llm=llm_name(config),
        renderer=f"{config.render.backend}: {_public(config.render.model)}",
        scorer=f"{config.score.backend}: {_public(config.score.model)}",
        scorer_fingerprint=scorer,
    )


def llm_name(config: BigpeConfig) -> str:
    """The name of the generator's model; for a file the last part of its path."""
    llm = config.llm_for("generator")
    return _public(llm.model_name)


def _public(place: str) -> str:
    """A local path without its folders; a hub id unchanged."""
    private = place.startswith(("/", ".", "~", "\\")) or place[1:2] == ":"
    return Path(place.replace("\\", "/")).name if private else place


def write_published(published: PublishedInstruction, folder: Path, card: str) -> list[Path]:
    """Write both files. ConfigError if the folder has a README.md of another project."""
    data, readme = folder / FILE, folder / CARD
    if readme.exists() and not data.exists():
        raise ConfigError(f"{readme} belongs to another project; choose another folder")
    texts = {data: to_json(published), readme: card}
    for path, text in texts.items():
        with partial_file(path) as partial:
            partial.write_text(text, "utf-8")
    return [data, readme]


def to_json(published: PublishedInstruction) -> str:
    """The text of `instruction.json`."""
    return json.dumps(published.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"


def read_published(place: Path) -> PublishedInstruction:
    """Read a folder, or its instruction.json. DataError if it cannot be used."""
    path = place / FILE if place.is_dir() else place
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST + 1)
    except FileNotFoundError as error:
        raise DataError(f"there is no {path}; `bigpe publish` writes one") from error
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}") from error
    if len(raw) > LARGEST:
        raise DataError(f"{path} is larger than {LARGEST:,} bytes: it is not an instruction")
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
