"""How many tokens of a prompt a loaded pipeline does not read, for each of its text encoders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bigpe.services.render.families import ARGUMENT, CLIP, Frame, Reads

MARK = "\N{BLACK STAR}"
"""Stands for the prompt in a frame: what comes before it takes tokens of the limit."""
CLIP_TOKENS = 77
"""With the two special ones."""
TOKENIZERS = ("tokenizer", "tokenizer_2", "tokenizer_3", "tokenizer_4")


class Truncation:
    """Counts what each encoder cuts off, by the frame and the limit that its pipeline uses."""

    def __init__(
        self,
        pipeline: Any,
        reads: tuple[Reads, ...] | None,
        call: Mapping[str, Any],
        most: int | None = None,
    ) -> None:
        """Prepare for a pipeline.

        Args:
            pipeline: The loaded pipeline.
            reads: The encoders whose cuts count; None: all of them, by their tokenizers' limits.
            call: The arguments of each call, with the defaults of those that are not given.
            most: The configured `[render.prompt] max_tokens`, for encoders that are not CLIP.
        """
        found = [Reads(name, CLIP[0].limit) for name in TOKENIZERS] if reads is None else reads
        self._rooms: dict[str, int] = {}
        self._count: dict[str, Callable[[str], int]] = {}
        for each in found:
            tokenizer = getattr(pipeline, each.tokenizer, None)
            encoder = each.tokenizer.replace("tokenizer", "text_encoder")
            if tokenizer is None or getattr(pipeline, encoder, tokenizer) is None:
                continue
            # A processor holds the tokenizer of its texts.
            tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
            own = int(tokenizer.model_max_length)
            limit = _guess(own, call) if reads is None else _limit(each, own, call)
            if limit > CLIP_TOKENS:
                limit = min(limit, most or limit)
            self._rooms[each.tokenizer] = limit - _taken(pipeline, tokenizer, each.frame)
            self._count[each.tokenizer] = _counter(tokenizer, each.frame)

    def cut(self, prompt: str) -> dict[str, int]:
        """Number of tokens of the prompt that each encoder cuts off.

        Empty if one of them reads the whole prompt: then nothing of it is lost.
        """
        rooms = self._rooms.items()
        cut = {name: max(0, self._count[name](prompt) - room) for name, room in rooms}
        return cut if all(cut.values()) else {}


def _limit(reads: Reads, own: int, call: Mapping[str, Any]) -> int:
    """The limit in tokens, by the call, or by the tokenizer where the call sets none."""
    if isinstance(reads.limit, int):
        return reads.limit
    return int(call.get(reads.limit) or own)


def _guess(own: int, call: Mapping[str, Any]) -> int:
    """The limit of an encoder of a pipeline that is not in the table."""
    return own if own <= CLIP_TOKENS else min(own, int(call.get(ARGUMENT) or own))


def _taken(pipeline: Any, tokenizer: Any, frame: Frame) -> int:
    """Tokens of the limit that are not the prompt's: special ones, and the frame before it.

    Pipelines that leave out the frame's embeddings raise their limit by its length.
    """
    if frame == "quoted":
        return 0
    before = FRAMES[frame](pipeline, tokenizer).partition(MARK)[0] if frame in FRAMES else ""
    # A chat template writes its special tokens itself.
    special = 0 if frame == "flux2" else len(tokenizer("", truncation=False).input_ids)
    raised = sum(sign * int(getattr(pipeline, name)) for name, sign in RAISED_BY.get(frame, ()))
    return special + len(_ids(tokenizer, before)) - raised


def _ids(tokenizer: Any, text: str) -> Any:
    return tokenizer(text, add_special_tokens=False, truncation=False, verbose=False).input_ids


def _counter(tokenizer: Any, frame: Frame) -> Callable[[str], int]:
    if frame != "quoted":
        return lambda prompt: len(_ids(tokenizer, prompt))
    from diffusers.pipelines.longcat_image.pipeline_longcat_image import split_quotation

    split: Callable[[str], list[tuple[str, bool]]] = split_quotation
    # Quoted text is read letter by letter.
    return lambda prompt: sum(
        len(_ids(tokenizer, piece))
        for text, quoted in split(prompt)
        for piece in (text if quoted else [text])
    )


def _chat(tokenizer: Any, text: str, *, thinking: bool) -> str:
    messages = [{"role": "user", "content": text}]
    return tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, enable_thinking=thinking
    )


def _flux2(pipeline: Any, tokenizer: Any) -> str:
    from diffusers.pipelines.flux2.pipeline_flux2 import format_input

    # The processor has the template; its tokenizer alone may have none.
    [messages] = format_input([MARK], system_message=pipeline.system_message)
    return pipeline.tokenizer.apply_chat_template(messages, tokenize=False)


FRAMES: dict[Frame, Callable[[Any, Any], str]] = {
    "chat": lambda _, tokenizer: _chat(tokenizer, MARK, thinking=False),
    "thinking": lambda _, tokenizer: _chat(tokenizer, MARK, thinking=True),
    "ovis": lambda p, tokenizer: _chat(tokenizer, p.system_prompt + MARK, thinking=False),
    "flux2": _flux2,
    "encode": lambda p, _: p.prompt_template_encode.format(MARK),
    "prefix": lambda p, _: p.prompt_template_encode_prefix + MARK,
    "lumina": lambda p, _: f"{p.system_prompt} <Prompt Start> {MARK}",
}
"""The text that is read for the prompt `MARK`, given the pipeline and its tokenizer."""
_START = ("prompt_template_encode_start_idx", 1)
RAISED_BY: dict[Frame, tuple[tuple[str, int], ...]] = {
    "encode": (_START,),
    "prefix": (_START, ("prompt_template_encode_num_suffix_tokens", -1)),
    "ovis": (("user_prompt_begin_id", 1),),
}
"""Attributes of pipelines by which the limit is raised (1) or lowered (-1)."""
