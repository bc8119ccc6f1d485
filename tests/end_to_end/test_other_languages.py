"""Whole runs in Chinese and in Russian, through a server that answers in the language."""

from __future__ import annotations

import asyncio
import io
import json
import re
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from benchmarks.browser import pages_of
from click.testing import CliRunner
from PIL import Image as Pictures
from support.http_llm import FakeServer, says
from support.llm_services import config_for
from support.terminal_text import terminal_lines

from bigpe.agents.messages.core import (
    CritiqueRequested,
    GradientsComputed,
    InstructionsProposed,
    PoolChanged,
    PromptsRewritten,
)
from bigpe.runtime.cli import cli
from bigpe.runtime.project.paths import Project
from bigpe.runtime.run.session import Session
from bigpe.runtime.transcript.describing.messages import describe
from bigpe.services.core.values import Score, ScoreRequest, derive_seed
from bigpe.services.store.blobs import BlobStore
from bigpe.testing.fakes import FakeRenderer, FakeScorer
from bigpe.testing.runs import NO_WAIT, messages_of


class Language(NamedTuple):
    naive: tuple[str, ...]
    seed: str
    good: tuple[str, ...]
    """Phrases that the scorer likes."""
    other: tuple[str, ...]
    comma: str
    ask: str
    """What an instruction says of a phrase."""
    finding: str
    first: tuple[str, ...]
    """First lines of instructions."""

    @property
    def phrases(self) -> tuple[str, ...]:
        return self.good + self.other


CHINESE = Language(
    naive=tuple(
        f"一只{animal}在{place}" for animal, place in product(
            ("红狐狸", "小猫", "白鹤", "老虎", "松鼠"),
            ("雪地里", "海边", "森林中", "屋顶上", "月光下", "花园里"),
        )
    ),
    seed="先写主体，再写环境，保持原来的语言。",
    good=("金色的夕阳光线", "细腻的油画笔触", "浅景深"),
    other=("灰暗的阴天", "杂乱的背景", "模糊"),
    comma="，",
    ask="画面要有{}",
    finding="同一个提示词之内，带有“{}”的改写得分更高。",
    first=("先写主体，再写环境。", "用完整的句子描述画面。", "按光线、材质、构图的顺序来写。"),
)  # fmt: skip
RUSSIAN = Language(
    naive=tuple(
        f"{animal} {place}" for animal, place in product(
            ("рыжая лиса", "кот", "белый журавль", "тигр", "белка"),
            ("на снегу", "у моря", "в лесу", "на крыше", "под луной", "в саду"),
        )
    ),
    seed="Сначала опиши предмет, потом окружение, на языке запроса.",
    good=("золотистый закатный свет", "густые мазки масла", "малая глубина резкости"),
    other=("пасмурное небо", "захламлённый фон", "размытость"),
    comma=", ",
    ask="В картине нужен {}",
    finding="Внутри одного запроса переписывания с «{}» получили больше.",
    first=("Сначала опиши предмет.", "Пиши полными предложениями.", "Начни со света и материала."),
)  # fmt: skip
LANGUAGES = {"zh": CHINESE, "ru": RUSSIAN}
RUN = {"rounds": 8, "batch_size": 3, "concurrency": 1, "pilot_prompts": 3, "seed": 3}


def reply(language: Language, request: dict[str, Any]) -> str:
    system, user = (str(request["messages"][i]["content"]) for i in (0, -1))
    number = derive_seed(user, system, request.get("seed"))
    fields = request.get("response_format", {}).get("json_schema", {}).get("schema", {})
    chosen = language.phrases[number % len(language.phrases)]
    if "improvements" in fields.get("properties", {}):
        better = " ".join(re.findall(r"only the best has: (.*)", user))
        word = next((phrase for phrase in language.good if phrase in better), chosen)
        parts = {"change": language.ask.format(word), "reason": language.finding.format(word)}
        change = {**parts, "add": [word], "avoid": [], "rows": []}
        answer = {"inference": language.finding.format(word), "improvements": [change]}
        return json.dumps(answer, ensure_ascii=False)
    if "change" in fields.get("properties", {}):
        present = user.partition('"""')[2].partition('"""')[0]
        improvements = user.partition("Improvements:")[2].partition("\n")[0]
        kept = [p for p in language.phrases if p in present or p in improvements]
        wishes = [language.ask.format(phrase) for phrase in kept or [chosen]]
        lines = [language.first[number % len(language.first)], *(f"- {line}" for line in wishes)]
        return json.dumps(
            {"instruction": "\n".join(lines), "change": wishes[-1]}, ensure_ascii=False
        )
    instruction = system.partition('"""')[2].partition('"""')[0]
    style = [phrase for phrase in language.phrases if phrase in instruction]
    style += [chosen] if chosen not in style else []
    return f"<prompt>{language.comma.join([user, *style])}</prompt>"


class Taste(FakeScorer):
    """Likes the good phrases of a language and none of the others."""

    def __init__(self, blobs: BlobStore, language: Language) -> None:
        super().__init__(blobs)
        self._language = language

    def _one(self, request: ScoreRequest) -> Score:
        image = self._blobs.read(request.image)
        prompt = str(Pictures.open(io.BytesIO(image)).info["prompt"])
        liked = sum(phrase in prompt for phrase in self._language.good)
        liked -= sum(phrase in prompt for phrase in self._language.other)
        noise = derive_seed(request.image) % 1000 / 1e6
        return Score(value=0.25 + 0.01 * liked + noise, fingerprint="fake-scorer")


@pytest.fixture(scope="module", params=LANGUAGES)
def done(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Language]:
    language, folder = LANGUAGES[request.param], tmp_path_factory.mktemp(request.param)
    (folder / "naive.txt").write_text("\n".join(language.naive), "utf-8")
    (folder / "seed.txt").write_text(language.seed, "utf-8")
    server, blobs = FakeServer(), BlobStore(Project(folder).images)
    server.replies = [lambda handler: says(reply(language, handler.asked))(handler)]  # type: ignore[attr-defined]  # the request of this handler
    config = {
        "run": RUN,
        "llm": {"default": config_for(server.url).model_dump(mode="json")},
        "data": {"naive": "naive.txt", "seeds": "seed.txt"},
    }

    async def go() -> None:
        opened = Session.open("main", config, project=folder, renderer=FakeRenderer(blobs),
                              scorer=Taste(blobs, language), retry=NO_WAIT)  # fmt: skip
        async with opened as session:
            async for _ in session.run():
                pass

    try:
        asyncio.run(go())
    finally:
        server.close()
    return folder, language


def test_rewrites_gradients_and_instructions_are_taken_whole(done: tuple[Path, Language]) -> None:
    folder, language = done
    rewrites = [r for m in messages_of(folder, PromptsRewritten) for r in m.rewrites]
    assert rewrites and all(rewrite.fallback is None for rewrite in rewrites)
    allowed = {*language.phrases, *language.naive}
    assert all(set(r.text.split(language.comma)) <= allowed for r in rewrites)
    gradients = [g for m in messages_of(folder, GradientsComputed) for g in m.gradients]
    assert gradients and not any(gradient.composed for gradient in gradients)
    assert all(set(gradient.adds) <= set(language.phrases) for gradient in gradients)
    proposed = [p for m in messages_of(folder, InstructionsProposed) for p in m.proposals]
    lines = {line for p in proposed for line in p.instruction.text.splitlines()}
    whole = {*language.first, *(f"- {language.ask.format(phrase)}" for phrase in language.phrases)}
    assert proposed and lines <= whole
    refused = [r for m in messages_of(folder, InstructionsProposed) for r in m.refused]
    assert all(
        "the same as" in reason or "condensed" in reason for r in refused for reason in r.reasons
    )


def test_terms_and_differences_are_whole_words(done: tuple[Path, Language]) -> None:
    folder, language = done
    critiques = messages_of(folder, CritiqueRequested)
    terms = {row.term for message in critiques for row in message.rows if row.kind == "term"}
    assert terms & set(language.good)
    words = {word for phrase in (*language.phrases, *language.naive) for word in phrase.split()}
    assert all(set(term.split()) <= words for term in terms)
    listed = "; ".join(line for m in critiques for line in terminal_lines(describe(m), whole=True))
    named = re.findall(r"only the (?:best|worst) has: ([^;]*)", listed)
    assert named
    assert set(re.split(r"[,\s]+", " ".join(named).strip())) <= words | {"nothing"}


def test_the_search_finds_a_phrase_that_the_scorer_likes(done: tuple[Path, Language]) -> None:
    folder, language = done
    last = messages_of(folder, PoolChanged)[-1]
    assert last.answers.fallbacks == 0 and last.answers.composed_proposals == 0
    best = CliRunner().invoke(cli, ["status", "-p", str(folder), "--best"]).stdout
    assert any(phrase in best for phrase in language.good)

    async def page() -> str:
        async with pages_of(folder) as served:
            return (await served.get("lineage")).text + (await served.get("transcript")).text

    text = asyncio.run(page())
    assert any(phrase in text for phrase in language.good)
    assert language.first[0] in text or language.seed in text
