"""Published instructions on the Hugging Face Hub: `hf://user/name`, or `hf://user/name@revision`.

The token is huggingface_hub's own (`hf auth login`, or HF_TOKEN); bigpe does not read or store it.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx2
from huggingface_hub import (
    CommitOperationAdd,
    HfApi,
    hf_hub_url,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from bigpe.runtime.sharing.model_card import model_card
from bigpe.runtime.sharing.published_instruction import (
    CARD,
    FILE,
    LARGEST,
    PublishedInstruction,
    read_published,
    to_json,
)
from bigpe.services.core.errors import BigpeError, ConfigError, DataError, ServiceError
from bigpe.services.core.version import VERSION

SCHEME = "hf://"
REVISION = "main"


class HubPlace(NamedTuple):
    """A repository on the Hub."""

    repo: str
    revision: str


def hub_place(place: str) -> HubPlace | None:
    """The repository of `hf://user/name@revision`; None if `place` is a folder."""
    if not place.startswith(SCHEME):
        return None
    repo, _, revision = place.removeprefix(SCHEME).partition("@")
    if repo.count("/") != 1 or not all(repo.split("/")):
        raise ConfigError(f"{place!r}: write hf://user/name, or hf://user/name@revision")
    return HubPlace(repo, revision or REVISION)


def load_instruction(place: str | Path) -> PublishedInstruction:
    """Read a published instruction. Nothing in it is executed.

    Args:
        place: A folder, or `hf://user/name` or `hf://user/name@revision` on the Hugging Face Hub.

    Returns:
        The published instruction. Its `instruction` and `constraints` are arguments of `refined`;
        `refine` takes the instruction.

    Raises:
        ConfigError: `place` is no valid address of the Hub.
        DataError: The place holds no published instruction, or one of a newer bigpe.
        ServiceError: The Hub fails.
    """
    hub = hub_place(str(place))
    if hub is None:
        return read_published(Path(place).expanduser())
    with _hub_errors(hub):
        api = _api()
        url = hf_hub_url(hub.repo, FILE, revision=hub.revision, endpoint=api.endpoint)
        size = api.get_hf_file_metadata(url=url).size
        if size is None or size > LARGEST:
            raise DataError(f"{FILE} of {hub.repo} has {size} bytes: it is not an instruction")
        path = api.hf_hub_download(hub.repo, FILE, revision=hub.revision)
    return read_published(Path(path))


def upload(published: PublishedInstruction, hub: HubPlace, *, private: bool) -> str:
    """Upload both files in one commit; returns the address. Creates the repository if needed."""
    files = {FILE: to_json(published), CARD: model_card(published, repo=hub.repo)}
    with _hub_errors(hub):
        api = _api()
        made = api.create_repo(hub.repo, private=private, exist_ok=True)
        api.create_commit(
            hub.repo,
            [CommitOperationAdd(name, text.encode("utf-8")) for name, text in files.items()],
            commit_message=f"Publish instruction {published.id[:8]}",
            revision=hub.revision,
        )
    return str(made)


def _api() -> HfApi:
    return HfApi(library_name="bigpe", library_version=VERSION)


@contextmanager
def _hub_errors(hub: HubPlace) -> Generator[None]:
    """Convert the Hub's errors to errors of bigpe."""
    try:
        yield
    except BigpeError:
        raise
    except HFValidationError as error:
        raise ConfigError(f"{hub.repo!r} is not a name of a repository: {error}") from error
    except RevisionNotFoundError as error:
        raise DataError(f"{hub.repo} has no revision {hub.revision!r}") from error
    except RepositoryNotFoundError as error:
        raise DataError(
            f"there is no repository {hub.repo} that you may read; check the name, and log in "
            "(`hf auth login`, or HF_TOKEN) if it is private"
        ) from error
    except EntryNotFoundError as error:
        raise DataError(f"{hub.repo} has no {FILE}: it holds no instruction of bigpe") from error
    except HfHubHTTPError as error:
        raise ServiceError(_refusal(hub, error)) from error
    except (httpx2.HTTPError, OSError) as error:
        raise ServiceError(
            f"the Hub cannot be reached for {hub.repo}: {type(error).__name__}: {error}; try again "
            "later, or use a folder"
        ) from error


def _refusal(hub: HubPlace, error: HfHubHTTPError) -> str:
    code = error.response.status_code
    if code in (401, 403):
        return (
            f"the Hub refuses {hub.repo} (HTTP {code}); log in with a token that may write "
            "(`hf auth login`, or HF_TOKEN)"
        )
    return f"the Hub failed for {hub.repo}: HTTP {code}: {str(error)[:300]}; try again later"
