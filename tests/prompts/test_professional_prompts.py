"""The professional prompts for real painters: form, variety, coverage, and what they leave out."""

from __future__ import annotations

import re
from collections import Counter
from importlib.resources import files
from itertools import combinations
from pathlib import Path

import pytest

from bigpe.prompts.library import PromptForm, naive_prompts, professional_prompts
from bigpe.runtime.run.plan import professional_matches
from bigpe.services.prompt_data.library import PromptLibrary
from bigpe.services.store.database import Store

PROSE, TAGS = professional_prompts("prose"), professional_prompts("tags")
ALL = PROSE + TAGS
FORMS: tuple[PromptForm, ...] = ("prose", "tags")
MOST_SHARED = 0.05
"""Bound of the Jaccard similarity of two prompts' word trigrams."""
CLIP_ROOM = 58
"""Words and punctuation marks; CLIP makes at most 75 tokens of them."""
LEFT_OUT = {
    "artists": "rutkowski artgerm mucha wlop monet gogh rembrandt vermeer caravaggio hokusai "
    "hiroshige turner "
    "picasso dali matisse klimt warhol banksy giger moebius beksinski hopper miyazaki ghibli "
    "kinkade frazetta leibovitz wyeth cézanne escher magritte",
    "brands": "lego polaroid kodak kodachrome portra cinestill leica hasselblad nikon canon sony "
    "fujifilm vespa jeep nike adidas velcro plexiglas perspex gopro photoshop octane artstation "
    "deviantart risograph technicolor formica frisbee rolex ferrari steinway lycra thermos disney "
    "pixar marvel pokemon barbie nintendo hula",
    "praise": "masterpiece stunning beautiful gorgeous breathtaking amazing incredible perfect "
    "flawless hyperrealistic magnificent exquisite intricate epic 8k 4k hdr uhd trending "
    "award-winning best",
    "negations": "no not never without nothing none nobody neither nor cannot don't isn't doesn't",
}


def words(text: str) -> list[str]:
    return re.findall(r"[\w'-]+", text.lower())


def trigrams(text: str) -> frozenset[tuple[str, ...]]:
    every = words(text)
    return frozenset(tuple(every[i : i + 3]) for i in range(len(every) - 2))


def test_there_are_many_of_each_form_with_id_and_subject() -> None:
    assert len(ALL) >= 320 and min(len(PROSE), len(TAGS)) >= 160
    assert len({prompt.id for prompt in ALL}) == len(ALL)
    for name, prompts in (("prose", PROSE), ("tags", TAGS)):
        assert all(re.fullmatch(rf"{name}-\d{{3}}", prompt.id) for prompt in prompts)
        assert {(p.source, p.license) for p in prompts} == {(f"bigpe {name}", "CC0-1.0")}
        assert all(1 <= len(prompt.subject.split()) <= 9 for prompt in prompts)


def test_prose_is_several_whole_sentences() -> None:
    for prompt in PROSE:
        assert 40 <= len(prompt.text.split()) <= 120, prompt.id
        sentences = re.split(r"(?<=[.!?])\s+", prompt.text)
        assert len(sentences) >= 3, prompt.id
        assert all(re.match(r"[A-Z0-9\"]", part) for part in sentences), prompt.id
        assert prompt.text.endswith((".", "!")), prompt.id


def test_tags_are_short_phrases_that_clip_reads_whole() -> None:
    for prompt in TAGS:
        phrases = prompt.text.split(", ")
        assert 12 <= len(phrases) <= 35, prompt.id
        assert all(1 <= len(phrase.split()) <= 8 for phrase in phrases), prompt.id
        assert len({phrase.lower() for phrase in phrases}) == len(phrases), prompt.id
        assert len(re.findall(r"\w+|[^\w\s]", prompt.text)) <= CLIP_ROOM, prompt.id
        assert not prompt.text.endswith("."), prompt.id


def test_no_two_say_or_begin_alike() -> None:
    sets = [(prompt.id, trigrams(prompt.text)) for prompt in ALL]
    for (first, a), (second, b) in combinations(sets, 2):
        assert len(a & b) <= MOST_SHARED * len(a | b), (first, second)
    openings = Counter(tuple(words(prompt.text)[:3]) for prompt in ALL)
    assert openings.most_common(1)[0][1] <= 2


@pytest.mark.parametrize("kind", LEFT_OUT)
def test_what_a_professional_leaves_out_is_left_out(kind: str) -> None:
    listed = set(LEFT_OUT[kind].split())
    for prompt in ALL:
        unquoted = re.sub(r'"[^"]*"', "", prompt.text)
        assert not listed & set(words(unquoted)), prompt.id


@pytest.mark.parametrize("form", FORMS)
async def test_every_general_naive_prompt_finds_one_of_its_subject(
    form: PromptForm, tmp_path: Path
) -> None:
    naive = naive_prompts("general")
    async with Store(tmp_path / "p.db") as store:
        library = PromptLibrary(store, (form,))
        await library.add_packaged()
        found = await professional_matches(naive, library)
    assert set(naive) - set(found) == set()
    assert len(set(found.values())) >= 0.9 * len(naive)


def test_the_data_note_states_the_counts() -> None:
    note = (files("bigpe.prompts") / "data" / "DATA.md").read_text("utf-8")
    assert f"`professional_general.jsonl` | {len(ALL)} " in note
    assert f"{len(PROSE)} prose" in note and f"{len(TAGS)} tags" in note
