"""Words and terms of prompts: the units that evidence is about."""

from __future__ import annotations

import re
import unicodedata

MAX_CLAUSE_WORDS = 4
MAX_NGRAM = 3

STOP_WORDS = frozenset(
    """a an the of in on at by to for from with without and or is are was were be being been it its
    this that these those as into onto over under near beside behind above below between through
    his her their our your my very some any there here which who whose while where when up down
    out off so such than then too just not no""".split()
)
PREPOSITIONS = frozenset(
    """in on at by near under over with from into beside behind above below between through inside
    outside during against around across along of""".split()
)
_FRAMES = frozenset("picture image photo drawing painting illustration portrait".split())
_WORD = re.compile(r"[^\W_]+(?:[-'’][^\W_]+)*")
_CLAUSE = re.compile(r"[,;.:()\n]|\band\b|\bwith\b|\bin\b")


def words(text: str) -> list[str]:
    """The words of `text` in order, NFKC, lower case; hyphenated words stay whole."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        return word[:-1]
    return word


def _strip(part: list[str]) -> list[str]:
    while part and part[0] in STOP_WORDS:
        part = part[1:]
    while part and part[-1] in STOP_WORDS:
        part = part[:-1]
    return part


def terms_of(naive: str, rewrite: str) -> frozenset[str]:
    """Terms that `rewrite` adds to `naive`: its short clauses, and runs of 1 to 3 new words."""
    known = {_singular(word) for word in words(naive)}
    found: set[str] = set()
    for clause in _CLAUSE.split(unicodedata.normalize("NFKC", rewrite).casefold()):
        part = _strip(words(clause))
        new = [word for word in part if _singular(word) not in known]
        if part and new == part and len(part) <= MAX_CLAUSE_WORDS:
            found.add(" ".join(part))
        found |= _ngrams(part, known)
    return frozenset(found)


def _ngrams(part: list[str], known: set[str]) -> set[str]:
    found: set[str] = set()
    for size in range(1, MAX_NGRAM + 1):
        for start in range(len(part) - size + 1):
            run = part[start : start + size]
            edges_bare = run[0] in STOP_WORDS or run[-1] in STOP_WORDS
            if not edges_bare and not any(_singular(word) in known for word in run):
                found.add(" ".join(run))
    return found


def contains_term(text: str, term: str) -> bool:
    """Whether the words of `term` stand side by side in `text`."""
    wanted, have = words(term), words(text)
    size = len(wanted)
    return size > 0 and any(
        have[start : start + size] == wanted for start in range(len(have) - size + 1)
    )


def subject_words(naive: str) -> frozenset[str]:
    """What a naive prompt is of: its content words before the first preposition or comma."""
    head = re.split(r"[,;:]", naive, maxsplit=1)[0]
    listed = words(head)
    if len(listed) > 2 and "of" in listed and _FRAMES & set(listed[: listed.index("of")]):
        listed = listed[listed.index("of") + 1 :]
    while listed and listed[0] in STOP_WORDS:
        listed = listed[1:]
    for index, word in enumerate(listed):
        if word in PREPOSITIONS and index > 0:
            listed = listed[:index]
            break
    content = [_singular(word) for word in listed if word not in STOP_WORDS]
    if not content:
        content = [_singular(word) for word in words(naive) if word not in STOP_WORDS]
    return frozenset(content)


def subject_kept(naive: str, rewrite: str) -> bool:
    """Whether every subject word of `naive` is in `rewrite`, in singular or plural."""
    return subject_words(naive) <= {_singular(word) for word in words(rewrite)}
