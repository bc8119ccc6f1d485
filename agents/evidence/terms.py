"""Words and terms of prompts, the units of evidence.

Two spellings of one word compare equal: texts are case-folded and NFKC-normalised, apostrophes
and hyphens are unified, and invisible characters are dropped.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import chain

from bigpe.services.core.values import IDEOGRAPHS

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
    outside during against around across along of \u5728""".split()
)
_FRAMES = frozenset(
    """picture image photo photograph drawing painting illustration portrait sketch render
    rendering watercolor watercolour poster shot close-up closeup""".split()
)
_IRREGULAR = {
    "men": "man",
    "women": "woman",
    "children": "child",
    "people": "person",
    "feet": "foot",
    "teeth": "tooth",
    "geese": "goose",
    "mice": "mouse",
    "oxen": "ox",
}
_IDEOGRAPH = re.compile(rf"[{IDEOGRAPHS}]")
_BETWEEN_IDEOGRAPHS = re.compile(rf"(?<=[{IDEOGRAPHS}]) (?=[{IDEOGRAPHS}])")
_JOINERS = "\u200c\u200d"
_ASCII_WORD = re.compile(r"[a-z0-9]+(?:[-'][a-z0-9]+)*")
_CLAUSE = re.compile(r"[,;.:!?()\n\u3001\u3002]|\band\b|\bwith\b|\bin\b")
_PUNCTUATION = re.compile(r"[,;.:!?()\n\u3001\u3002]")
_SUBJECT_END = re.compile(r"[,;:(\n\u3001\u3002]")
_ONE_SPELLING = str.maketrans(
    {"\u2018": "'", "\u2019": "'", "\u02bc": "'", "\u2010": "-", "\u2011": "-"}
    | dict.fromkeys("\u00ad\u200b\u200c\u200d\u2060\ufeff", "")
)


def words(text: str) -> list[str]:
    """The words of `text` in order, in unified spelling. Hyphenated words stay whole."""
    return _words(_normal(text))


def one_line(text: str) -> str:
    """`text` on one line, without invisible characters except joiners."""
    seen = (
        char
        if char.isprintable() or char in _JOINERS
        else ("" if unicodedata.category(char) == "Cf" else " ")
        for char in text
    )
    return " ".join("".join(seen).split())


def units(text: str) -> list[str]:
    """The words of `text`, where pairs of neighbouring ideographs take the place of single ones.

    A word of Chinese has about two ideographs; single ones are shared by unlike texts.
    """
    return [unit for clause in _PUNCTUATION.split(_normal(text)) for unit in _units(_words(clause))]


def _units(listed: Sequence[str]) -> list[str]:
    found: list[str] = []
    alone = True
    for word, following in zip(listed, (*listed[1:], ""), strict=False):
        pair = _is_ideograph(word) and _is_ideograph(following)
        if pair:
            found.append(word + following)
        elif alone or not _is_ideograph(word):
            found.append(word)
        alone = not pair
    return found


def parts_of(text: str) -> list[str]:
    """What a list of differences names: the words of `text`, but whole clauses with ideographs.

    A single ideograph may be a part of a word.
    """
    parts: list[str] = []
    for clause in _PUNCTUATION.split(_normal(text)):
        listed = _words(clause)
        parts += [term_text(listed)] if any(map(_is_ideograph, listed)) else listed
    return parts


def term_text(listed: Sequence[str]) -> str:
    """A term as text: its words with blanks, but ideographs without."""
    return _BETWEEN_IDEOGRAPHS.sub("", " ".join(listed))


def terms_of(naive: str, rewrite: str) -> frozenset[str]:
    """The terms that `rewrite` adds to `naive`: short clauses, and runs of 1 to 3 new words.

    The plural of a naive word is not new. Stop words occur inside terms, never at their ends. Terms
    never contain a comma, "and", "with" or "in". With ideographs, only whole clauses are terms:
    parts of them could be parts of words.
    """
    naive_forms = frozenset(form for word in words(naive) for form in _forms(word))
    naive_units = frozenset(units(naive))
    found: set[str] = set()
    for clause in _CLAUSE.split(_normal(rewrite)):
        part = _strip(_words(clause))
        if any(map(_is_ideograph, part)):
            ideographs = sum(map(_is_ideograph, part))
            short = 2 * len(part) - ideographs <= 2 * MAX_CLAUSE_WORDS  # two count as a word
            if short and naive_units.isdisjoint((*units(clause), *part)):
                found.add(term_text(part))
            continue
        new = [naive_forms.isdisjoint(_forms(word)) for word in part]
        if part and all(new) and len(part) <= MAX_CLAUSE_WORDS:
            found.add(" ".join(part))
        found |= _ngrams(part, new)
    return frozenset(found)


def contains_term(text: str, term: str) -> bool:
    """Whether `text` contains the words of `term` consecutively; False for an empty term."""
    wanted, have = words(term), words(text)
    size = len(wanted)
    return size > 0 and any(
        have[start : start + size] == wanted for start in range(len(have) - size + 1)
    )


def subject_words(naive: str) -> frozenset[str]:
    """The subject of a naive prompt: its content words before the first preposition or comma.

    Words are in the singular; phrases such as "a picture of" are left out. If the part before the
    preposition is empty, the result is all content words.
    """
    return frozenset(_singular(word) for word in _subject(naive))


def subject_kept(naive: str, rewrite: str) -> bool:
    """Whether every subject word of `naive` is in `rewrite`, in singular or plural."""
    have = {form for word in words(rewrite) for form in _forms(word)}
    return all(not have.isdisjoint(_forms(word)) for word in _subject(naive))


def subject_named(naive: str, text: str) -> bool:
    """Whether `text` names the subject of `naive`. Ideographs must follow each other.

    A single ideograph names nothing: it may be a part of many words.
    """
    subject = _subject(naive)
    if any(map(_is_ideograph, subject)):
        return len(subject) > 1 and contains_term(text, " ".join(subject))
    return bool(subject) and subject_kept(naive, text)


def _subject(naive: str) -> list[str]:
    listed = words(_SUBJECT_END.split(_normal(naive), maxsplit=1)[0])
    if "of" in listed[:-1] and _FRAMES & set(listed[: listed.index("of")]):
        listed = listed[listed.index("of") + 1 :]
    listed = _strip(listed)
    end = next((i for i, word in enumerate(listed) if i and word in PREPOSITIONS), len(listed))
    return _content(listed[:end]) or _content(words(naive))


@lru_cache(maxsize=4096)
def _normal(text: str) -> str:
    if text.isascii():
        return text.lower()
    folded = unicodedata.normalize("NFKC", text.translate(_ONE_SPELLING)).casefold()
    # Folding may undo the normal form, and normalising may undo the translation.
    return unicodedata.normalize("NFKC", folded).translate(_ONE_SPELLING)


def _words(normal: str) -> list[str]:
    return (_ASCII_WORD if normal.isascii() else _unicode_word()).findall(normal)


def _is_ideograph(word: str) -> bool:
    return _IDEOGRAPH.match(word) is not None


@cache
def _unicode_word() -> re.Pattern[str]:
    """A pattern for letters with their marks, which `re` does not support; made on first use."""
    marks = "".join(
        char
        for char in map(chr, chain(range(0x300, 0x20000), range(0xE0100, 0xE01F0)))
        if unicodedata.category(char) in ("Mn", "Mc")
    )
    # Each ideograph counts as a word.
    letters = rf"(?:(?![{IDEOGRAPHS}])[^\W_][{marks}]*)+"
    return re.compile(rf"[{IDEOGRAPHS}][{marks}]*|{letters}(?:[-']{letters})*")


@lru_cache(maxsize=8192)
def _forms(word: str) -> frozenset[str]:
    """The word and all singulars that it may be the plural of."""
    forms = {word, _IRREGULAR.get(word, word)}
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        forms.add(word[:-1])
        if word.endswith("ies"):
            forms.add(word[:-3] + "y")
        if word.endswith("ves"):
            forms |= {word[:-3] + "f", word[:-3] + "fe"}
        if word.endswith(("ses", "xes", "zes", "ches", "shes", "oes")):
            forms.add(word[:-2])
    return frozenset(forms)


def _singular(word: str) -> str:
    """The likeliest singular, for display. Comparisons use `_forms`."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("xes", "sses", "ches", "shes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def _content(listed: Sequence[str]) -> list[str]:
    return [word for word in listed if word not in STOP_WORDS]


def _strip(part: list[str]) -> list[str]:
    while part and part[0] in STOP_WORDS:
        part = part[1:]
    while part and part[-1] in STOP_WORDS:
        part = part[:-1]
    return part


def _ngrams(part: Sequence[str], new: Sequence[bool]) -> set[str]:
    found: set[str] = set()
    for start in range(len(part)):
        if part[start] in STOP_WORDS:
            continue
        for end in range(start + 1, min(start + MAX_NGRAM, len(part)) + 1):
            if not new[end - 1]:
                break
            if part[end - 1] not in STOP_WORDS:
                found.add(" ".join(part[start:end]))
    return found
