"""Which professional prompts a run uses, by `[data] professional`."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from bigpe.prompts.library import ProfessionalSet
from bigpe.runtime.project.config import BigpeConfig
from bigpe.services.core.errors import ConfigError
from bigpe.services.prompt_data.files import read_prompts
from bigpe.services.prompt_data.library import NoPrompts, PromptLibrary, SearchedPrompts
from bigpe.services.render.prompt_profile import form_of, is_embedded
from bigpe.services.store.database import Store

NAMED: dict[str, tuple[ProfessionalSet, ...]] = {
    "world": ("world",),
    "prose": ("prose",),
    "tags": ("tags",),
    "general": ("prose", "tags"),
}


class ProfessionalChoice(NamedTuple):
    """Packaged sets, or the name of a file; with neither, no professional prompts are wanted."""

    packaged: tuple[ProfessionalSet, ...] = ()
    file: str | None = None

    def __str__(self) -> str:
        return self.file or " and ".join(self.packaged) or "none"


def professional_choice(config: BigpeConfig) -> ProfessionalChoice:
    """What the setting means for the painter."""
    wanted, painter = config.data.professional, config.render
    if wanted is False:
        return ProfessionalChoice()
    if wanted is True:
        wanted = "world" if is_embedded(painter) else form_of(painter) or "general"
    packaged = NAMED.get(wanted)
    return ProfessionalChoice(packaged) if packaged else ProfessionalChoice(file=wanted)


def library_for(config: BigpeConfig, store: Store) -> SearchedPrompts:
    """The professional prompts that a run searches; its own file is in the store already."""
    if config.data.professional is False:
        return NoPrompts()
    return PromptLibrary(store, professional_choice(config).packaged)


def own_professional(config: BigpeConfig, project: Path) -> tuple[str, ...]:
    """The prompts of the file that takes the place of packaged ones; empty if there is none.

    ConfigError if the setting names neither a packaged set nor a file.
    """
    name = professional_choice(config).file
    if name is None:
        return ()
    file = project / name
    if not file.exists():
        raise ConfigError(
            f"[data] professional = {name!r} is none of auto, {', '.join(NAMED)} and false, "
            f"nor a file; looked for {file.resolve()}"
        )
    return tuple(prompt.text for prompt in read_prompts(file).accepted)


async def store_professional(config: BigpeConfig, store: Store, project: Path) -> None:
    """Put the prompts that the configuration names into the project's database."""
    choice = professional_choice(config)
    library = PromptLibrary(store, choice.packaged)
    await library.add_packaged()
    if choice.file is not None:
        texts = own_professional(config, project)
        await library.add(texts, source=Path(choice.file).name, license="unknown")
