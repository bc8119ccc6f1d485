"""open_clip's tokenizer, which transformers' CLIPTokenizer is not equal to.

The two differ in curly quotes, HTML entities, ligatures, full-width letters, control characters
and the literals of special tokens. Cleaning and splitting follow open_clip/tokenizer.py
(SimpleTokenizer); the merges are applied by the tokenizers library.
"""

from __future__ import annotations

import gzip
import html
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

import regex

if TYPE_CHECKING:  # most commands count no tokens, and import this module with the settings
    from tokenizers.models import BPE

START = "<start_of_text>"
END = "<end_of_text>"
MERGES = 49152 - 256 - 2
_PIECES = regex.compile(
    START + "|" + END + r"|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    regex.IGNORECASE,
)


class Tokens(NamedTuple):
    """A prompt as a causal text encoder needs it."""

    ids: list[int]
    """From the start token to the first end token, both included."""
    cut: int
    """The prompt's tokens that the model does not see."""


def seen_tokens(full: list[int], limit: int) -> Tokens:
    """What a model that takes `limit` ids sees of `full`, whose last id is the end token.

    Attention is causal and the feature is that of the first end token, so nothing after it counts.
    """
    kept = full if len(full) <= limit else [*full[: limit - 1], full[-1]]
    kept = kept[: kept.index(full[-1]) + 1]
    return Tokens(kept, len(full) - len(kept))


def tokens_of(prompt: str, limit: int) -> Tokens:
    """What the model sees of a prompt."""
    return seen_tokens(encode(prompt), limit)


def releases() -> str:
    """The libraries whose releases may change the ids."""
    return f"ftfy {version('ftfy')}, regex {version('regex')}"


@cache
def byte_letters() -> dict[int, str]:
    """A printable letter for each byte, in the order of CLIP's vocabulary."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1)]
    plain += range(ord("®"), ord("ÿ") + 1)
    others = [byte for byte in range(256) if byte not in plain]
    letters = {byte: chr(byte) for byte in plain}
    return letters | {byte: chr(256 + index) for index, byte in enumerate(others)}


@cache
def vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """CLIP's token ids, and its merges in the order of their rank."""
    packed = (
        files("bigpe.services.score.clip.open_clip") / "bpe_simple_vocab_16e6.txt.gz"
    ).read_bytes()
    lines = gzip.decompress(packed).decode("utf-8").split("\n")[1 : MERGES + 1]
    merges = [(left, right) for left, right in (line.split() for line in lines)]
    letters = list(byte_letters().values())
    words = letters + [letter + "</w>" for letter in letters]
    words += [left + right for left, right in merges] + [START, END]
    return {word: index for index, word in enumerate(words)}, merges


@cache
def _byte_pairs() -> BPE:
    from tokenizers.models import BPE

    # The library's: open_clip's own loop takes the square of a word's length.
    ids, merges = vocabulary()
    return BPE(vocab=ids, merges=merges, end_of_word_suffix="</w>")


def clean(prompt: str) -> str:
    """Repaired Unicode, HTML entities resolved twice, single blanks, lower case."""
    import ftfy

    text = html.unescape(html.unescape(ftfy.fix_text(prompt))).strip()
    return regex.sub(r"\s+", " ", text).strip().lower()


def encode(prompt: str) -> list[int]:
    """All token ids, start and end included, however many.

    A literal `<end_of_text>` in the prompt is the end token, as in the reference: what follows it
    does not count.
    """
    ids, bpe = vocabulary()[0], _byte_pairs()
    found = [ids[START]]
    for piece in _PIECES.findall(clean(prompt)):
        if piece in (START, END):
            found.append(ids[piece])
            continue
        letters = "".join(byte_letters()[byte] for byte in piece.encode("utf-8"))
        found += [token.id for token in bpe.tokenize(letters)]
    return [*found, ids[END]]
