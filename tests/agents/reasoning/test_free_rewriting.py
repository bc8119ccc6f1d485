"""Rewrites of a model that may write prose: what is taken, what is asked again, and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.llm_stubs import ScriptedAsks

from bigpe.agents.messages.answer_fault import AnswerFault
from bigpe.agents.reasoning.answers.protected import keep_protected
from bigpe.agents.reasoning.constraints import Constraints
from bigpe.agents.reasoning.rewriting import Rewrite, check_rewrite, rewrite, word_count
from bigpe.agents.reasoning.rules import (
    EMBEDDED_REWRITES,
    GeneratorLimits,
    ReasoningConfig,
    RewriteRules,
    rewrite_rules,
)
from bigpe.services.core.values import Instruction, LlmAnswer, LlmUsage
from bigpe.services.llm.service import LlmRequest

PLAIN = Instruction(text="Add details.")


class Capable:
    """A model other than the embedded one."""

    embedded = False

    def __init__(self, *, thinks: bool = False) -> None:
        self.thinks = thinks


FREE = rewrite_rules(Capable(), ReasoningConfig())


class Answers(ScriptedAsks):
    """A model with whole answers: the reason why it stopped, a refusal, thoughts."""

    def __init__(self, *answers: LlmAnswer | Callable[[LlmRequest], LlmAnswer]) -> None:
        super().__init__()
        self._answers = list(answers)

    async def ask(self, request: LlmRequest) -> LlmAnswer:
        self.asked.append(request)
        answer = self._answers.pop(0)
        answer = answer if isinstance(answer, LlmAnswer) else answer(request)
        usage = LlmUsage(calls=1, prompt_tokens=10, completion_tokens=2)
        return answer.model_copy(update={"usage": usage, "effect_key": f"k{len(self.asked)}"})


def cut(text: str = "", **more: Any) -> LlmAnswer:
    return LlmAnswer(text=text, finish_reason="length", **more)


async def rewritten(
    *answers: LlmAnswer | str, naive: str = "a cat", rules: RewriteRules = FREE
) -> tuple[Rewrite, Answers]:
    llm = Answers(*(LlmAnswer(text=a) if isinstance(a, str) else a for a in answers))
    return await rewrite(llm, PLAIN, naive, seed=5, rules=rules), llm


ACCEPTED = [
    ("a kitten", "a small cat, golden hour"),
    ("a cat", "a fluffy feline on a sill"),
    ("一只猫", "一只可爱的猫，金色的阳光，水彩画"),
    ("一只猫", "A fluffy cat, golden sunlight, watercolor"),
    ("夕焼けの海辺を歩く犬", "夕焼けに染まる浜辺を散歩する犬、水彩画"),
    ("красивая девушка в лесу", "портрет красивой девушки в лесу, мягкий свет"),
    ("zwei Katzen", "Zwei getigerte Kätzchen, Abendlicht"),
    ("ein alter Baum", "der alte Baum im Nebel"),
    ("a photo of a running man", "a photograph of a man running at dusk, motion blur"),
    ("a man riding a horse on the moon", "a man rides a white horse across the moon"),
    ("beautiful sunset", "a breathtaking sunset over the sea, vivid clouds"),
    ("please draw me a cat", "a cat on a sill, golden light"),
    ("2 dogs", "two dogs, golden hour"),
    ("grey cat", "a gray cat, soft light"),
    ("ice cream", "an ice-cream cone, summer"),
    ("people in a park", "families picnic in a park, spring"),
    ("teh cat sat on the mat", "the cat sat on the mat, golden hour"),
    ("a cat", "a dog on a beach, golden hour"),
    ("a cat", "A fluffy cat sits on a sill. Warm light falls. The cat looks at us, calm."),
    ("a red cube, matte", "a red cube, matte, a blue ball, matte, beside it"),
    ("a cat, a cat", "a cat, a cat, golden hour"),
    ("(red car:1.3), [dog]", "a shiny (red car:1.3) beside a [dog], golden hour"),
    ("a castle BREAK a dragon", "a castle at dawn BREAK a dragon asleep"),
    ("a {red|blue} car", "a {red|blue} car, golden hour"),
    ("a __color__ car", "a shiny __color__ car, golden hour"),
    ("a [cat:dog:0.5]", "a fluffy [cat:dog:0.5], golden hour"),
    ('"Hello World" on a neon sign', '"Hello World" on a neon sign, night, rain'),
    ('a sign that says "Work, work"', 'a neon sign that says "Work, work", night'),
    ("a sign that says “Bonjour”", 'a neon sign that says "Bonjour", night'),
    ('a monitor of 27"', 'a curved monitor of 27", dark desk'),
    ("a crowd of 1,000 people", "a crowd of 1,000 people, dusk"),
    ("nothing", "an empty white room"),
    ("...", "..., golden hour"),
    ("🦊", "🦊🌲"),
    ("a cat", "word " * 399 + "end"),
    ("一只猫", "猫" * 800),
]


@pytest.mark.parametrize(("naive", "text"), ACCEPTED)
async def test_what_a_capable_model_writes_is_taken_whole(naive: str, text: str) -> None:
    done, llm = await rewritten(text, naive=naive)
    assert (done.text, done.fallback, done.fault, done.attempts) == (text, None, None, 1)
    assert llm.discarded == []


async def test_a_lora_is_put_back_where_it_stood() -> None:
    done, _ = await rewritten("a cat, golden hour", naive="<lora:foo:0.8> a cat")
    assert done.text == "<lora:foo:0.8> a cat, golden hour"
    assert done.notes == ("put back <lora:foo:0.8>",)
    done, _ = await rewritten("a cat, golden hour", naive="a cat <lora:foo:0.8>")
    assert done.text == "a cat, golden hour <lora:foo:0.8>"
    done, _ = await rewritten("a cat <lora:foo:1.0>, dusk", naive="a cat <lora:foo:0.8>")
    assert done.text == "a cat <lora:foo:0.8>, dusk"
    done, _ = await rewritten("<lora:f:1> a cat <lora:f:1>", naive="<lora:f:1> a cat, dusk")
    assert done.text == "<lora:f:1> a cat"


LOST = [
    ('a sign that says "Hello World"', "a rustic wooden sign on a beach", "Hello World"),
    ('a sign that says "Hello World"', 'a sign that says "HELLO WORLD"', "Hello World"),
    ("「こんにちは」の看板", "夜の看板、雨", "こんにちは"),
    ("un panneau « nuit étoilée »", "un panneau bleu", "nuit étoilée"),
    ("a cover, 'War and Peace'", "a cover, leather", "War and Peace"),
    ("a (cat:1.3)", "a (cat:1.4), dusk", "(cat:1.3)"),
    ("a [cat:dog:0.5]", "a cat and a dog", "[cat:dog:0.5]"),
    ("a castle BREAK a dragon", "a castle and a dragon", "BREAK"),
    ("a __color__ car", "a red car, dusk", "__color__"),
    ("a {red|blue} car", "a red car, dusk", "{red|blue}"),
    ("embedding:easynegative cat", "a cat, dusk", "embedding:easynegative"),
    ("ohwx man, dusk", "a man, dusk", "ohwx"),
]


@pytest.mark.parametrize(("naive", "raw", "lost"), LOST)
async def test_lost_protected_text_is_asked_for_again_and_then_falls_back(
    naive: str, raw: str, lost: str
) -> None:
    rules = rewrite_rules(Capable(), ReasoningConfig(protect=("ohwx",)))
    done, llm = await rewritten(raw, raw, raw, naive=naive, rules=rules)
    assert (done.text, done.fault, done.attempts) == (naive, AnswerFault.PROTECTED, 3)
    assert done.fallback is not None and lost in done.fallback
    assert lost not in llm.asked[0].turns[0].text
    assert lost in llm.asked[1].turns[0].text, "the fault is named"
    assert {request.turns[-1].text for request in llm.asked} == {naive}
    assert llm.discarded == ["k1", "k2", "k3"]


async def test_text_with_another_apostrophe_gets_its_own_letters() -> None:
    done, _ = await rewritten("a sign: “Don’t stop”, dusk", naive='a sign: "Don\'t stop"')
    assert done.text == "a sign: “Don't stop”, dusk"


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        ("I'm sorry, I can't help with that.", AnswerFault.REFUSED),
        ("Sure! Here is the prompt:", AnswerFault.NO_PROMPT),
        ("What style would you like?", AnswerFault.NO_PROMPT),
        ("", AnswerFault.EMPTY),
        ("A cat.", AnswerFault.UNCHANGED),
        ("word " * 401, AnswerFault.TOO_LONG),
    ],
)
async def test_an_answer_without_a_usable_prompt_is_never_rendered(
    raw: str, fault: AnswerFault
) -> None:
    done, llm = await rewritten(raw, raw, raw)
    assert (done.text, done.fault, done.attempts) == ("a cat", fault, 3)
    assert llm.discarded == ["k1", "k2", "k3"]
    done, llm = await rewritten(raw, "a cat, dusk")
    assert (done.text, done.fault, done.attempts) == ("a cat, dusk", None, 2)
    assert llm.discarded == ["k1"]
    assert len({request.seed for request in llm.asked}) == 2


@pytest.mark.parametrize(
    "answer",
    [
        LlmAnswer(text="", refusal="I can't assist with that."),
        LlmAnswer(text="", finish_reason="content_filter"),
        LlmAnswer(text="a c", finish_reason="content_filter"),
    ],
)
async def test_a_refusal_that_the_server_marks_is_one(answer: LlmAnswer) -> None:
    done, _ = await rewritten(answer, answer, answer)
    assert done.fault == AnswerFault.REFUSED


async def test_a_broken_constraint_has_its_class() -> None:
    llm = ScriptedAsks("a cat, dawn", forever=True)
    done = await rewrite(llm, PLAIN, "a cat", 5, Constraints(banned=("dawn",)), FREE)
    assert done.fault == AnswerFault.CONSTRAINT


# -- limits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (cut("a cat in the mid"), AnswerFault.LENGTH),
        (cut(""), AnswerFault.ONLY_THOUGHT),
        (cut("", reasoning="Okay, a cat"), AnswerFault.ONLY_THOUGHT),
        (cut("<think>Okay a cat"), AnswerFault.ONLY_THOUGHT),
        (LlmAnswer(text="<think>Okay a cat"), AnswerFault.ONLY_THOUGHT),
        (LlmAnswer(text="", reasoning="Okay a cat"), AnswerFault.ONLY_THOUGHT),
    ],
)
async def test_a_cut_answer_is_asked_for_with_up_to_eight_times_the_limit(
    answer: LlmAnswer, fault: AnswerFault
) -> None:
    done, llm = await rewritten(*[answer] * 4)
    assert [request.max_tokens for request in llm.asked] == [1024, 2048, 4096, 8192]
    assert len({request.seed for request in llm.asked}) == 1, "the same wish with more room"
    assert (done.text, done.fault, done.attempts) == ("a cat", fault, 1)
    assert done.fallback is not None and "[reasoning.generator] max_tokens" in done.fallback
    assert "8,192" in done.fallback
    assert (done.usage.calls, done.effect_keys) == (4, ("k1", "k2", "k3", "k4"))
    assert llm.discarded == ["k1", "k2", "k3", "k4"]


async def test_a_longer_answer_is_taken_and_later_attempts_keep_the_limit() -> None:
    done, llm = await rewritten(cut("a c"), "a cat, dusk")
    assert (done.text, done.attempts, done.usage.calls) == ("a cat, dusk", 1, 2)
    done, llm = await rewritten(cut("a c"), "A cat.", cut("a ca"), "a cat, dusk")
    assert [request.max_tokens for request in llm.asked] == [1024, 2048, 2048, 4096]
    assert done.text == "a cat, dusk"
    assert done.usage.calls <= FREE.most_calls


async def test_the_users_own_limit_is_not_asked_four_times() -> None:
    class Fixed(Answers):
        own_limit = 100

        async def ask(self, request: LlmRequest) -> LlmAnswer:
            answer = await super().ask(request)
            return answer.model_copy(update={"effect_key": "same"})

    llm = Fixed(*[cut("a c")] * 2)
    done = await rewrite(llm, PLAIN, "a cat", seed=5, rules=FREE)
    assert (done.fault, done.usage.calls) == (AnswerFault.LENGTH, 1)
    assert done.fallback is not None and "[llm.NAME] max_tokens" in done.fallback


async def test_limits_are_settings() -> None:
    limits = GeneratorLimits(max_tokens=32, temperature=0.1, attempts=2, max_words=3)
    rules = rewrite_rules(Capable(), ReasoningConfig(generator=limits))
    done, llm = await rewritten("a cat at dusk", "a cat at dawn", rules=rules)
    assert (done.fault, done.attempts) == (AnswerFault.TOO_LONG, 2)
    assert (llm.asked[0].max_tokens, llm.asked[0].temperature) == (32, 0.1)
    assert llm.asked[0].stop == ()


def test_a_model_that_thinks_has_room_at_once() -> None:
    assert rewrite_rules(Capable(thinks=True), ReasoningConfig()).max_tokens == 4 * FREE.max_tokens
    own = ReasoningConfig(generator=GeneratorLimits(max_tokens=100))
    assert rewrite_rules(Capable(thinks=True), own).max_tokens == 100


def test_the_embedded_model_keeps_its_own_rules() -> None:
    own = EMBEDDED_REWRITES
    assert (own.max_tokens, own.temperature, own.attempts, own.max_words) == (64, 0.3, 3, 60)
    assert own.most_calls == 3
    assert check_rewrite("a kitten", "a small cat", PLAIN).fault is not None
    assert check_rewrite("a kitten", "a small cat", PLAIN, rules=FREE).fault is None


# -- protected parts ------------------------------------------------------------------------------

SPANS = st.sampled_from(
    [
        '"Hello World"',
        "(cat:1.2)",
        "[a:b:0.5]",
        "BREAK",
        "__w/x__",
        "{a|b}",
        "<lora:f:1>",
        "“夕焼け”",
    ]
)
WORDS = st.lists(st.sampled_from("a cat on the hill at dusk, red".split()), min_size=1).map(
    " ".join
)


@given(st.lists(st.tuples(WORDS, SPANS), min_size=1, max_size=4), WORDS)
def test_a_rewrite_that_keeps_all_parts_is_not_changed(
    parts: list[tuple[str, str]], more: str
) -> None:
    naive = " ".join(f"{words} {span}" for words, span in parts)
    text = " ".join(f"{span} {words} {more}" for words, span in parts)
    assert keep_protected(naive, text) == (text, (), ())


@given(WORDS, SPANS, WORDS)
def test_a_lost_part_is_put_back_or_found(words: str, span: str, text: str) -> None:
    kept = keep_protected(f"{words} {span}", text)
    assert (span in kept.text) != bool(kept.lost)


@pytest.mark.parametrize(
    ("text", "count"), [("a cat, dusk", 3), ("一只可爱的猫", 3), ("", 0), ("猫 cat", 2)]
)
def test_two_ideographs_count_as_a_word(text: str, count: int) -> None:
    assert word_count(text) == count
