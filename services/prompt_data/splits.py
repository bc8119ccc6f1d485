"""Splits prompts by hash into train, validation and test; near-duplicates stay together.

Each group of near-duplicates is placed by the hash of its smallest normal form alone. So
unrelated new prompts move no group. A new near-duplicate moves its group only if it has a smaller
normal form or joins two groups.

Small sets are the exception, and `Splits.warning` says so. With fewer than `FEWEST_GROUPS` groups
all prompts are train. With more, a split that the hash left empty borrows the group whose hash lies
nearest to it; a larger set, in which no split is empty, gives the group back.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
from rapidfuzz import fuzz, process

from bigpe.services.core.values import digest

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, Split, Split] = ("train", "validation", "test")
SHARES = (0.4, 0.2, 0.4)
"""Shares of train, validation and test."""
NEAR = 90.0
"""rapidfuzz token-sort ratio (0-100) of normal forms from which two prompts are one."""
FEWEST_GROUPS = 5
"""With fewer different prompts no split is fair: all are train."""
_ROWS = 256
"""Normal forms compared with all others in one step; bounds the memory."""
SMALL_WORDS = frozenset("a an the of in on at by near to with and or".split())
"""English words that say nothing about what a prompt is about."""
_IGNORED = SMALL_WORDS | {"picture", "image", "photo"}


class Splits(NamedTuple):
    """The split of each prompt, with a warning for small sets."""

    places: dict[str, Split]
    """In the order of the prompts."""
    groups: int
    """Number of groups of near-duplicates."""
    warning: str | None
    """Why the splits are not the hash's own: the set is too small."""


class _Group(NamedTuple):
    form: str
    """Its smallest normal form."""
    prompts: list[str]


def normal_form(prompt: str) -> str:
    """The set of the prompt's words without small ones, in alphabetical order, lower case.

    A text without words (emoji, say) is its own normal form.
    """
    text = unicodedata.normalize("NFKC", prompt).casefold()
    words = set(re.findall(r"\w+", text))
    return " ".join(sorted(words - _IGNORED or words)) or text.strip()


def split(prompts: Sequence[str], *, shares: tuple[float, float, float] = SHARES) -> Splits:
    """Split by `shares` (of train, validation, test; each >= 0, any sum above 0).

    ValueError when the shares are not so. 5,000 prompts take a second or a few.
    """
    if min(shares) < 0 or sum(shares) <= 0:
        raise ValueError(f"shares must be >= 0 and not all 0, got {shares}")
    groups = _groups(list(dict.fromkeys(prompts)))
    if len(groups) < FEWEST_GROUPS:
        warning = (
            f"only {len(groups)} different prompts: all are in train, nothing is held out; "
            f"give at least {FEWEST_GROUPS}, better 50"
        )
        everyone: dict[str, Split] = {prompt: "train" for prompt in prompts}
        return Splits(everyone, len(groups), warning if groups else None)
    where, borrowed = _places([group.form for group in groups], shares)
    place: dict[str, Split] = {
        prompt: name for group, name in zip(groups, where, strict=True) for prompt in group.prompts
    }
    return Splits({prompt: place[prompt] for prompt in prompts}, len(groups), _warning(borrowed))


def _warning(borrowed: Sequence[Split]) -> str | None:
    if not borrowed:
        return None
    return (
        f"so few prompts that {' and '.join(borrowed)} had none by hash and borrowed one; "
        "adding prompts may move it back"
    )


def _places(
    forms: Sequence[str], shares: tuple[float, float, float]
) -> tuple[list[Split], list[Split]]:
    """The split of each form, and the splits that had to borrow theirs."""
    ends = [shares[0] / sum(shares), (shares[0] + shares[1]) / sum(shares), 1.0]
    points = [int(digest({"split": form})[:8], 16) / 2**32 for form in forms]
    where = [next(i for i in range(3) if point < ends[i] or i == 2) for point in points]
    borrowed: list[Split] = []
    for wanting in range(3):
        if shares[wanting] > 0 and wanting not in where:
            donor = max(range(3), key=where.count)
            middle = ends[wanting] - shares[wanting] / sum(shares) / 2
            lent = min(
                (i for i, at in enumerate(where) if at == donor),
                key=lambda i: (abs(points[i] - middle), forms[i]),
            )
            where[lent] = wanting
            borrowed.append(SPLITS[wanting])
    return [SPLITS[index] for index in where], borrowed


def _groups(prompts: Sequence[str]) -> list[_Group]:
    """The prompts by near-duplicates, whatever their order, sorted by normal form."""
    by_form: dict[str, list[str]] = defaultdict(list)
    for prompt in prompts:
        by_form[normal_form(prompt)].append(prompt)
    forms = sorted(by_form, key=lambda form: (len(form), form))
    leader = list(range(len(forms)))

    def find(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    for first, second in _near_pairs(forms):
        leader[find(first)] = find(second)
    together: dict[int, list[str]] = defaultdict(list)
    for index, form in enumerate(forms):
        together[find(index)].append(form)
    groups = [
        _Group(min(members), [prompt for form in members for prompt in by_form[form]])
        for members in together.values()
    ]
    return sorted(groups, key=lambda group: group.form)


def _near_pairs(forms: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Indices of all pairs of near-duplicates among different forms, sorted by length.

    Normal forms are token-sorted already, so the plain ratio is the token-sort ratio. It is at most
    200·short/(short+long), so only forms of similar length are compared.
    """
    lengths = np.array([len(form) for form in forms])
    for start in range(0, len(forms), _ROWS):
        rows = forms[start : start + _ROWS]
        longest = len(rows[-1]) * (200 - NEAR) / NEAR
        end = int(np.searchsorted(lengths, longest, side="right"))
        ratios = process.cdist(
            rows,
            forms[start:end],
            scorer=fuzz.ratio,
            score_cutoff=NEAR,
            dtype=np.float32,
            workers=-1,
        )
        for row, column in np.argwhere(ratios >= NEAR).tolist():
            if row < column:
                yield start + row, start + column
