"""Train, validation and test prompts, fixed by hash, near-duplicates kept together."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

from rapidfuzz import fuzz, process

from bigpe.services.values import digest

Split = Literal["train", "validation", "test"]
SHARES = (0.4, 0.2, 0.4)
"""Of train, validation and test."""
NEAR = 90.0
"""rapidfuzz token-sort ratio from which two prompts are one."""
FEWEST_GROUPS = 5
"""Below so many different prompts no split is honest: all are train."""
_SMALL = frozenset("a an the of in on at by near to with and or picture image photo".split())


def normal_form(prompt: str) -> str:
    """The prompt's words without small ones, in alphabetical order, lower case."""
    words = re.findall(r"\w+", unicodedata.normalize("NFKC", prompt).casefold())
    kept = [word for word in words if word not in _SMALL]
    return " ".join(sorted(kept or words))


def assign(
    prompts: Sequence[str], *, shares: tuple[float, float, float] = SHARES
) -> dict[str, Split]:
    """The split of each prompt, in the order given.

    A group of near-duplicates goes where the hash of its first normal form says, so prompts added
    later move nobody but their own near-duplicates. With fewer than five groups all are train.
    """
    groups = _groups(list(dict.fromkeys(prompts)))
    if len(groups) < FEWEST_GROUPS:
        return dict.fromkeys(prompts, "train")
    place: dict[str, Split] = {}
    for group in groups:
        split = _place(min(normal_form(prompt) for prompt in group), shares)
        place |= dict.fromkeys(group, split)
    return {prompt: place[prompt] for prompt in prompts}


def _place(form: str, shares: tuple[float, float, float]) -> Split:
    point = int(digest({"split": form})[:8], 16) / 2**32 * sum(shares)
    if point < shares[0]:
        return "train"
    return "validation" if point < shares[0] + shares[1] else "test"


def _groups(prompts: Sequence[str]) -> list[list[str]]:
    by_form: dict[str, list[str]] = defaultdict(list)
    for prompt in prompts:
        by_form[normal_form(prompt)].append(prompt)
    forms = sorted(by_form)
    leader = list(range(len(forms)))

    def find(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    # One row at a time: memory stays linear, and only the upper triangle is compared.
    for index, form in enumerate(forms):
        rest = forms[index + 1 :]
        for _, _, offset in process.extract(
            form, rest, scorer=fuzz.ratio, score_cutoff=NEAR, limit=None
        ):
            leader[find(index + 1 + offset)] = find(index)
    groups: dict[int, list[str]] = defaultdict(list)
    for index, form in enumerate(forms):
        groups[find(index)] += by_form[form]
    return list(groups.values())
