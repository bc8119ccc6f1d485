"""Makes the frozen plan of a run from its configuration and the project's prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bigpe.agents.evidence.terms import subject_kept
from bigpe.agents.messages.plan import EVIDENCE_WORDED, MOST_CALLS, CampaignPlan, SeedInstruction
from bigpe.agents.plugins.config import FoundRole
from bigpe.prompts.library import naive_prompts
from bigpe.runtime.project.config import BigpeConfig
from bigpe.runtime.project.prices import run_prices
from bigpe.runtime.run.style import search_settings
from bigpe.runtime.run.wiring.plugins import gate_rules, names_of
from bigpe.services.core.errors import ConfigError
from bigpe.services.prompt_data.files import PromptFile, read_prompts
from bigpe.services.prompt_data.library import SearchedPrompts
from bigpe.services.prompt_data.splits import Split, Splits, split

PACKAGED_SETS = ("world", "general")
CANDIDATES = 8
"""Search hits that are examined for a professional prompt with the same subject."""


class NaiveSet(NamedTuple):
    """A project's naive prompts by split, and the count of rejected rows of the file."""

    splits: Splits
    rejected: int

    @property
    def warning(self) -> str | None:
        """A warning if the set is too small to split or rows were rejected; else None."""
        lost = f"{self.rejected} rows of the file were not taken" if self.rejected else None
        return "; ".join(note for note in (self.splits.warning, lost) if note) or None

    def of(self, wanted: Split) -> tuple[str, ...]:
        """The prompts of one split, in file order."""
        return tuple(text for text, part in self.splits.places.items() if part == wanted)


def naive_set(config: BigpeConfig, project: Path) -> NaiveSet:
    """The naive prompts that the configuration names, split by hash."""
    name = config.data.naive
    if name == "world" or name == "general":
        return NaiveSet(split(naive_prompts(name)), 0)
    path = project / name
    if not path.exists():
        raise ConfigError(
            f"[data] naive = {name!r} is neither a packaged set ({', '.join(PACKAGED_SETS)}) "
            f"nor a file; looked for {path.resolve()}"
        )
    taken: PromptFile = read_prompts(path, column=config.data.column)
    texts = [prompt.text for prompt in taken.accepted]
    return NaiveSet(split(texts), len(taken.rejected))


async def make_plan(
    config: BigpeConfig,
    train: Sequence[str],
    seeds: Sequence[SeedInstruction],
    library: SearchedPrompts,
    roles: Sequence[FoundRole] = (),
    most_calls: Mapping[str, int] = MOST_CALLS,
    style: str = EVIDENCE_WORDED,
    style_package: str = "",
) -> CampaignPlan:
    """Freeze all inputs of the run's decisions. ConfigError if there are too few prompts."""
    run, search = config.run, search_settings(config, style, len(train))
    if len(train) < run.pilot_prompts:
        raise ConfigError(
            f"[run] pilot_prompts = {run.pilot_prompts}, but only {len(train)} prompts are in the "
            "train split; add naive prompts, or lower it"
        )
    return CampaignPlan(
        rounds=run.rounds,
        batch_size=run.batch_size,
        seeds_per_prompt=run.seeds_per_prompt,
        concurrency=search.in_flight.rounds,
        seed=run.seed,
        policy=search.policy.model_dump(mode="json"),
        pool_size=run.pool_size,
        pilot_prompts=run.pilot_prompts,
        patience=run.patience,
        style=style,
        style_package=style_package,
        most_calls=dict(most_calls),
        limits=config.budget.limits,
        prices=run_prices(config),
        improvements=run.improvements,
        proposals=search.proposals,
        batches=search.batches,
        train=tuple(train),
        professional=await professional_matches(train, library),
        instructions=tuple(seeds),
        gates=gate_rules(roles),
        contributors=names_of(roles, "contributor"),
        observers=names_of(roles, "observer"),
    )


async def professional_matches(train: Sequence[str], library: SearchedPrompts) -> dict[str, str]:
    """The best professional prompt with the subject words of each naive prompt, where found."""
    matches: dict[str, str] = {}
    for naive in train:
        hits = await library.search(naive, CANDIDATES)
        match = next((text for text in hits if subject_kept(naive, text)), None)
        if match is not None:
            matches[naive] = match
    return matches
