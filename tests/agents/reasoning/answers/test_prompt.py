"""A prompt is found in an answer of any form, and a plain prompt is never changed."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigpe.agents.messages.answer_fault import AnswerFault
from bigpe.agents.reasoning.answers.prompt import read_prompt

PLAIN = [
    "a cat, golden hour",
    "A fluffy cat sits on a windowsill. Warm light falls. The cat looks at us, calm and curious.",
    "portrait of a woman: close-up, 85mm f/1.4, (detailed eyes:1.3), [soft:hard:0.5] light",
    'a sign that says "Hello World", night, rain',
    '"Hello World" on a neon sign, night, rain',
    'a neon sign that says "Work, work, work", night',
    'a poster with the words "I can\'t" and "Let me know", red',
    "a sign that says I can't, rain on glass",
    "the book's cover, 'War and Peace' in gold, worn leather",
    'a curved monitor of 27", dark desk',
    'two screens of 27" and 32", cables',
    "a crowd of 1,000 people at 5:30 p.m., dusk",
    "1girl, solo, long_hair, looking_at_viewer, masterpiece, (best quality:1.2)",
    "<lora:foo:0.8> a cat, __color__ fur, {red|blue} ribbon BREAK a dragon",
    "ganyu \\(genshin impact\\), blue hair, horns",
    "Note: a yellow sticky note on a fridge, macro shot",
    "Subject - a fox; style - ukiyo-e; mood - calm",
    "a castle -- ruined, overgrown -- at dawn",
    "a well-lit kitchen, half-open door, mid-century chairs",
    "3D render of a robot, 4k, octane, f/2.8",
    "Sorry sign on a closed shop door, drizzle",
    "I can't sleep, insomnia poster, deep blue",
    "Great Wall of China at sunrise, mist in the valleys",
    "Perfect, symmetrical face of a marble statue",
    "Here comes the sun, an album cover, orange sky",
    "Sure-footed goat on a cliff, wind",
    "OK sign made of neon tubes, brick wall",
    "a terminal with a command prompt: C:\\> in green, scan lines",
    "what if dinosaurs were alive? a city street, tiny cars",
    "Who are you? graffiti on a subway wall, spray paint",
    "a version of the Mona Lisa: cyberpunk, chrome",
    "5 * 3 written on a blackboard, chalk dust",
    "M*A*S*H tent, olive drab, helicopter",
    "a cat & a dog, R&B album cover, 50% grey",
    "$100 bill on a table, $5 beside it",
    "#1 fan foam finger, stadium",
    "a man (left) and a woman (right), [dog] between them",
    "négatif photographique d'une rue, noir et blanc",
    "negative space: a lone tree in snow, minimalism",
    "the answer is 42, written in the stars",
    "一只可爱的猫，金色的阳光，水彩画",
    "夕焼けに染まる浜辺を散歩する犬、水彩画",
    "портрет красивой девушки в лесу, мягкий свет",
    "Zwei getigerte Kätzchen, Abendlicht: warm und weich",
    "un chat sur un toit, « nuit étoilée », Paris",
    "قطة على نافذة، ضوء ذهبي",
    "एक बिल्ली, सुनहरी रोशनी",
    "고양이, 황금빛 햇살, 수채화",
    "👩\u200d🌾 in a field, 🌻, golden hour",
    "..., golden hour",
    "an empty white room",
    "e e cummings, no capitals; punctuation? none!",
    "Title: The Great Wave; artist: Hokusai; year: 1831",
    "a request for help written in sand: SOS",
    "a happy family. If only the rain would stop. They laugh.",
]
"""Prompts of all kinds. None has anything to take off."""
MORE = [
    *PLAIN,
    "a dog at sea. Note: the dog wears a hat.",
    "A description of a knight: silver armour, torn banner",
]

Wrapper = Callable[[str], str]
WRAPPERS: dict[str, Wrapper] = {
    "nothing": lambda p: p,
    "blank lines": lambda p: f"\n\n  {p}\n \n",
    "thoughts": lambda p: (
        f"<think>\nOkay, the user wants a prompt.\nPrompt: a dog\n</think>\n\n{p}"
    ),
    "thoughts in a line": lambda p: f"<think>Okay, I add light.</think> {p}",
    "no thoughts": lambda p: f"<think>\n\n</think>\n\n{p}",
    "unopened thoughts": lambda p: f"Okay, a prompt. I add light.\n</think>\n\n{p}",
    "thinking": lambda p: f"<thinking>plan</thinking>\n{p}",
    "nested thoughts": lambda p: f"<think>a <think>b</think> c</think>\n{p}",
    "magistral": lambda p: f"[THINK]plan[/THINK]{p}",
    "kimi": lambda p: f"◁think▷plan◁/think▷{p}",
    "seed-oss": lambda p: f"<seed:think>plan</seed:think>{p}",
    "harmony": lambda p: (
        f"<|channel|>analysis<|message|>We need light.<|end|><|start|>assistant<|channel|>final"
        f"<|message|>{p}<|return|>"
    ),
    "end tokens": lambda p: f"{p}<|im_end|>\n<|im_start|>user\nanother",
    "prompt tag": lambda p: f"<prompt>{p}</prompt>",
    "tag after a preamble": lambda p: (
        f"Sure, here it is:\n<prompt>\n{p}\n</prompt>\nI added light."
    ),
    "answer tag": lambda p: f"<answer>{p}</answer>",
    "recaption": lambda p: f"<recaption>{p}</recaption>",
    "enhanced_prompt": lambda p: f"Let's analyze.\n<enhanced_prompt>{p}</enhanced_prompt>",
    "thoughts and tags": lambda p: f"<think>x</think><answer><prompt>{p}</prompt></answer>",
    "unclosed tag": lambda p: f"<prompt>{p}",
    "json": lambda p: json.dumps({"prompt": p}),
    "json of two lines": lambda p: json.dumps({"prompt": p}, indent=2, ensure_ascii=False),
    "json fence": lambda p: f"```json\n{json.dumps({'prompt': p})}\n```",
    "json after a preamble": lambda p: (
        f"Here is the JSON:\n\n{json.dumps({'prompt': p})}\n\nEnjoy!"
    ),
    "rewritten_prompt": lambda p: json.dumps({"rewritten_prompt": p, "notes": "I added light"}),
    "Enhanced Prompt": lambda p: json.dumps({"reason": "light", "Enhanced Prompt": p}),
    "nested json": lambda p: json.dumps({"result": {"prompt": p}}),
    "json list": lambda p: json.dumps([{"prompt": p}, {"prompt": "a dog"}]),
    "json prompts": lambda p: json.dumps({"prompts": [p, "a dog"]}),
    "broken json": lambda p: f'{{"prompt": {json.dumps(p)},}}',
    "fence": lambda p: f"```\n{p}\n```",
    "fence with a language": lambda p: f"```text\n{p}\n```",
    "fence after a preamble": lambda p: (
        f"Sure! Here's the prompt:\n\n```\n{p}\n```\n\nLet me know!"
    ),
    "two fences": lambda p: f"```\n{p}\n```\n\nor\n\n```\na dog\n```",
    "quoted": lambda p: f"“{p}”",
    "emphasised": lambda p: f"**{p}**",
    "bold label": lambda p: f"**Prompt:** {p}",
    "bold label and prompt": lambda p: f"**Prompt:** **{p}**",
    "bold label outside": lambda p: f"**Rewritten Prompt**: {p}",
    "label": lambda p: f"Enhanced prompt: {p}",
    "label of a line": lambda p: f"Rewritten prompt:\n{p}",
    "heading": lambda p: f"### Rewritten Prompt\n\n{p}",
    "heading with a colon": lambda p: f"## **Final Prompt:**\n\n{p}",
    "article": lambda p: f"The rewritten prompt is: {p}",
    "german label": lambda p: f"Verbesserter Prompt: {p}",
    "french label": lambda p: f"Prompt amélioré : {p}",
    "spanish label": lambda p: f"Prompt mejorado: {p}",
    "russian label": lambda p: f"Улучшенный промпт: {p}",
    "chinese label": lambda p: f"优化后的提示词：{p}",
    "japanese label": lambda p: f"プロンプト：{p}",
    "chinese lead": lambda p: f"好的，以下是改写后的提示词：\n\n{p}",
    "preamble": lambda p: f"Sure! Here is the rewritten prompt:\n\n{p}",
    "preamble with a label": lambda p: f"Certainly! Here's a more vivid version.\n\nPrompt: {p}",
    "preamble of a sentence": lambda p: f"I've rewritten the prompt to be more vivid.\n\n{p}",
    "preamble without a colon": lambda p: f"Here is the enhanced prompt\n\n{p}",
    "preamble in a line": lambda p: f"Sure! Here is the rewritten prompt: {p}",
    "preamble that names the subject": lambda p: (
        f'Here\'s a more detailed version of "a bicycle":\n\n{p}'
    ),
    "two interjections": lambda p: f"Okay! Sure thing! Here you go:\n\n{p}",
    "preamble and quotes": lambda p: f"Sure! Here is the rewritten prompt: “{p}”",
    "preamble, quotes, remark": lambda p: (
        f"Of course! Here's an enhanced version:\n\n“{p}”\n\nThis adds warmth."
    ),
    "preamble, bold, remark": lambda p: (
        f"Sure! Here is the rewritten prompt:\n\n**{p}**\n\nI added light."
    ),
    "french preamble": lambda p: f"Bien sûr ! Voici le prompt amélioré :\n\n{p}",
    "german preamble": lambda p: f"Natürlich! Hier ist der überarbeitete Prompt:\n\n{p}",
    "spanish preamble": lambda p: f"¡Claro! Aquí tienes el prompt mejorado:\n\n{p}",
    "remark": lambda p: f"{p}\n\nLet me know if you would like another style!",
    "remark of changes": lambda p: f"{p}\n\nI added light and a mood.",
    "remark with a heading": lambda p: f"Prompt: {p}\n\n**Explanation:** The light adds warmth.",
    "rule and remark": lambda p: f"{p}\n\n---\n\nThis prompt adds light and keeps the subject.",
    "note": lambda p: f"{p}\n\nNote: I kept the subject of the original prompt.",
    "word count": lambda p: f"{p}\n\n(Word count: 45)",
    "plan": lambda p: f"Plan: think of light, then of a mood.\n\nPrompt: {p}",
    "thoughts without tags": lambda p: (
        f"Okay, the user wants a rewrite. Let me think about the prompt.\n\n{p}"
    ),
    "original first": lambda p: f"Original prompt: a bicycle\nRewritten prompt: {p}",
    "role": lambda p: f"assistant: {p}",
    "roles": lambda p: f"Assistant: {p}\nUser: a dog\nAssistant: a dog, snow",
    "bullet": lambda p: f"- {p}",
    "asterisk": lambda p: f"* {p}",
    "numbered": lambda p: f"1. {p}\n2. a bicycle, at night, in the rain, with lamps and fog",
    "options": lambda p: f"Option 1: {p}\n\nOption 2: a bicycle, at night",
    "bold options": lambda p: f"**Option 1:** {p}\n\n**Option 2:** a bicycle, at night",
    "alternative": lambda p: f"{p}\n\nAlternative prompt: a bicycle, at night",
    "block quote": lambda p: f"> {p}",
    "boxed": lambda p: (
        f"$\\boxed{{\\text{{{p}}}}}$" if "\\" not in p and "{" not in p and "$" not in p else p
    ),
    "html": lambda p: f"<p><b>{p}</b></p>",
    "flags": lambda p: f"{p} --ar 16:9 --v 6 --style raw",
    "long dashes": lambda p: f"{p} —ar 16:9",
    "negative": lambda p: f"{p}\n\nNegative prompt: blurry, low quality",
    "bold negative": lambda p: f"**Prompt:** {p}\n\n**Negative Prompt:** blurry",
    "positive and negative": lambda p: f"Positive prompt: {p}\nNegative prompt: blurry",
    "negative first": lambda p: f"Negative prompt: blurry\n\nPrompt: {p}",
    "tool call": lambda p: json.dumps({"name": "paint", "arguments": {"prompt": p}}),
}


@pytest.mark.parametrize("wrapper", list(WRAPPERS))
def test_a_prompt_comes_out_of_each_wrapper_as_it_is(wrapper: str) -> None:
    wrong = {p: read_prompt(WRAPPERS[wrapper](p)) for p in PLAIN}
    assert {p: found for p, found in wrong.items() if found.text != p} == {}


@pytest.mark.parametrize("prompt", MORE)
def test_a_plain_prompt_is_not_changed(prompt: str) -> None:
    found = read_prompt(prompt)
    assert (found.text, found.fault, found.negative, found.notes) == (prompt, None, "", ())


@given(
    lines=st.lists(
        st.sampled_from([p for p in PLAIN if p[0] not in "\"'1#"]), min_size=2, max_size=4
    )
)
def test_lines_are_one_prompt(lines: list[str]) -> None:
    assert read_prompt("\n".join(lines)).text == " ".join(lines)
    assert read_prompt("\n\n".join(lines)).text == " ".join(lines)


CLAUSE = st.text(
    st.sampled_from("abcdefgh XYZ 0123 äß 猫 ,;:()-'!?.%&/"), min_size=1, max_size=40
).map(lambda text: " ".join(text.split()))


@given(
    prompt=st.lists(CLAUSE, min_size=1, max_size=5).map(", ".join).map(lambda p: f"a fox {p} hill"),
    wrapper=st.sampled_from(sorted(WRAPPERS)),
)
def test_any_text_comes_out_of_any_wrapper(prompt: str, wrapper: str) -> None:
    prompt = " ".join(prompt.split())
    assert read_prompt(WRAPPERS[wrapper](prompt), "a fox").text == prompt


@given(st.text(max_size=300), st.text(max_size=30))
def test_no_text_breaks_the_parser(raw: str, naive: str) -> None:
    found = read_prompt(raw, naive)
    assert (found.fault is None) == bool(found.text)
    assert "\n" not in found.text


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        ("", AnswerFault.EMPTY),
        (" \n", AnswerFault.EMPTY),
        ("<think>Okay a cat", AnswerFault.ONLY_THOUGHT),
        ("<think>Okay a cat</think>", AnswerFault.ONLY_THOUGHT),
        ("<|channel|>analysis<|message|>We need", AnswerFault.ONLY_THOUGHT),
        ("Sure! Here is the rewritten prompt:", AnswerFault.NO_PROMPT),
        ('Here\'s a more detailed version of "a cat":', AnswerFault.NO_PROMPT),
        ("I've rewritten the prompt.", AnswerFault.NO_PROMPT),
        ("Could you please clarify what style you would like?", AnswerFault.NO_PROMPT),
        ("What kind of cat would you like me to describe?", AnswerFault.NO_PROMPT),
        ("Sure! What style do you want?", AnswerFault.NO_PROMPT),
        ("Please provide the prompt that you want rewritten.", AnswerFault.NO_PROMPT),
        ("I'm ready. Send me the prompt.", AnswerFault.NO_PROMPT),
        ("[rewritten prompt]", AnswerFault.NO_PROMPT),
        ('{"note": "nothing", "score": 3}', AnswerFault.NO_PROMPT),
        ("<!DOCTYPE html><html><body>hi</body></html>", AnswerFault.NO_PROMPT),
        ("I won't be able to write a prompt for a cat, but I can help.", AnswerFault.REFUSED),
        ('{"prompt": "I\'m sorry, I can\'t help with that."}', AnswerFault.REFUSED),
        ("<think>hm</think>I'm sorry, I cannot create that.", AnswerFault.REFUSED),
        ("```\nSorry, but I can't assist with a gun.\n```", AnswerFault.REFUSED),
        ("Prompt: I cannot fulfill this request.", AnswerFault.REFUSED),
    ],
)
def test_what_is_surely_no_prompt_is_a_fault(raw: str, fault: AnswerFault) -> None:
    found = read_prompt(raw, "a cat")
    assert (found.text, found.fault) == ("", fault)
    assert found.reason


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (
            "* **Subject:** a cat\n* **Lighting:** golden hour\n* **Style:** watercolor",
            "a cat, golden hour, watercolor",
        ),
        ("- a cat\n- golden hour\n- watercolor", "a cat, golden hour, watercolor"),
        ("- a cat, golden hour\n- a cat at night", "a cat, golden hour"),
        (
            "Here are three options:\n\n1. a cat, golden hour\n2. a cat at night\n3. a cat in snow",
            "a cat, golden hour",
        ),
        ("1. a cat\n2. golden hour\n3. watercolor", "a cat, golden hour, watercolor"),
        ('{"subject": "a cat", "lighting": "golden hour"}', "a cat, golden hour"),
        ("a **fluffy** cat, *golden* hour", "a fluffy cat, golden hour"),
        ("a cat\ngolden hour", "a cat golden hour"),
        ('"a cat" and "a dog"', '"a cat" and "a dog"'),
        ('"a sign that says "Hello" in neon"', 'a sign that says "Hello" in neon'),
        ('"a sign that says \\"Hello\\" in neon"', 'a sign that says "Hello" in neon'),
        ("a cat, golden hour. Let me know if you like it!", "a cat, golden hour."),
        ("# A Golden Cat\n\na cat, golden hour", "a cat, golden hour"),
        ("a cat, golden hour\nSteps: 30, Sampler: Euler a, CFG scale: 7", "a cat, golden hour"),
        ("Draft prompt: a cat\nFinal prompt: a cat, golden hour", "a cat, golden hour"),
        ("a cat &quot;Tom&quot;", 'a cat "Tom"'),
    ],
)
def test_markdown_and_lists_become_one_prompt(raw: str, text: str) -> None:
    assert read_prompt(raw, "a cat").text == text


@pytest.mark.parametrize(
    ("raw", "text", "negative"),
    [
        ("a cat. Negative prompt: blurry", "a cat", "blurry"),
        ("<prompt>a cat</prompt><negative>blurry</negative>", "a cat", "blurry"),
        ('{"prompt": "a cat", "negative_prompt": "blurry"}', "a cat", "blurry"),
        ("**Prompt:**\n```\na cat\n```\n**Negative prompt:**\n```\nblurry\n```", "a cat", "blurry"),
        ("a cat --no people, text --ar 1:1", "a cat", "people, text"),
        ("a cat\nNegative: blurry", "a cat", "blurry"),
        ("提示词：一只猫\n负面提示词：模糊", "一只猫", "模糊"),
    ],
)
def test_a_negative_prompt_is_apart(raw: str, text: str, negative: str) -> None:
    found = read_prompt(raw, "a cat")
    assert (found.text, found.negative) == (text, negative)
    assert any(negative in note for note in found.notes)


@pytest.mark.parametrize(
    ("naive", "raw"),
    [
        ("Prompt: a fox", "Prompt: a fox, snow"),
        ("a fox --ar 16:9", "a fox, snow --ar 16:9"),
        ('"Hello World"', '"Hello World"'),
        ("I can't sleep", "I can't help it, I can't sleep, a poster"),
        ("- a fox", "- a fox, snow"),
        ("do you want a coffee?", "do you want a coffee? a poster, brown"),
        ("a <think> tag in neon", "a <think> tag in neon, night"),
    ],
)
def test_what_the_naive_prompt_has_is_no_packaging(naive: str, raw: str) -> None:
    assert read_prompt(raw, naive).text == raw


def test_flags_are_noted() -> None:
    assert read_prompt("a cat --ar 16:9 --v 6").notes == ("left out --ar 16:9", "left out --v 6")
