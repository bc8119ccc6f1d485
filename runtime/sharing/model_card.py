"""The README of a published instruction: a model card of the Hugging Face Hub."""

from __future__ import annotations

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from bigpe.runtime.evaluation.compare import Difference
from bigpe.runtime.formatting import escape_markdown, markdown_table, points
from bigpe.runtime.sharing.published_instruction import HeldOut, PublishedInstruction

TAGS = ["bigpe", "prompt-rewriting", "text-to-image"]


def model_card(published: PublishedInstruction, *, repo: str | None = None) -> str:
    """The Markdown text with its YAML header. Text of the instruction is escaped."""
    data = ModelCardData(
        license=published.licence,
        library_name="bigpe",
        tags=TAGS,
        model_name=repo or f"{published.run} {published.id[:8]}",
        eval_results=_results(published) or None,
    )
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{_body(published, repo)}"))


def _results(published: PublishedInstruction) -> list[EvalResult]:
    found = published.evaluation
    if found is None:
        return []
    scorer = f"{published.models.scorer}, {found.scorer[:12]}"
    gains = {f"mean paired gain ({scorer})": found.gain}
    gains |= {f"mean paired gain (guard {name})": gain for name, gain in found.guards.items()}
    return [
        EvalResult(
            task_type="text-to-image",
            dataset_type=f"bigpe/{published.data}",
            dataset_name=f"bigpe {published.data} prompts",
            dataset_split=found.split,
            metric_type="preference_gain",
            metric_name=name,
            metric_value=round(100 * gain.mean, 3),
            metric_args={"lo": _hundred(gain.lo), "hi": _hundred(gain.hi), "prompts": gain.n},
        )
        for name, gain in gains.items()
    ]


def _hundred(bound: float | None) -> float | None:
    return None if bound is None else round(100 * bound, 3)


def _body(published: PublishedInstruction, repo: str | None) -> str:
    models = published.models
    place = f"hf://{repo}" if repo else "PLACE-OF-THIS-FOLDER"
    parts = [
        "# An instruction for rewriting image prompts",
        f"It tells a language model how to rewrite a naive prompt of a picture. Found by bigpe "
        f"{escape_markdown(published.bigpe)} in a run named {escape_markdown(published.run)}.",
        quotation(published.instruction.text),
    ]
    if published.instruction.exemplars:
        parts.append("## Examples that go with it")
        parts += [quotation(e.line) for e in published.instruction.exemplars]
    parts += ["## What was measured", *_measured(published), "## What it was found with"]
    parts.append(
        f"- language model: {escape_markdown(models.llm)}\n"
        f"- renderer: {escape_markdown(models.renderer)}\n"
        f"- scorer: {escape_markdown(models.scorer)}, "
        f"fingerprint {(models.scorer_fingerprint or '-')[:16]}"
        f"\n- naive prompts: {escape_markdown(published.data)}"
        f"\n- a rewrite is {_rewrite_form(published)}"
    )
    if published.safety:
        parts.append(
            f"It was found under the safety filter {escape_markdown(published.safety)}, which is "
            "not part of this; set your own in `[constraints]`."
        )
    parts.append("## Use")
    parts.append(f'```console\n$ bigpe refine --from {place} "a cat on the beach"\n```')
    parts.append("" if published.licence else "No licence was given.")
    return "\n\n".join(part for part in parts if part) + "\n"


def _rewrite_form(published: PublishedInstruction) -> str:
    form = {"tags": "comma-separated tags", "prose": "whole sentences", "json": "a JSON object"}
    text = form.get(published.form or "", "a prompt of any form")
    return f"{text}, and a negative prompt beside it" if published.negative else text


def _measured(published: PublishedInstruction) -> list[str]:
    found, train = published.evaluation, published.training
    if found is None:
        gain = "-" if train.mean is None else points(train.mean)
        return [
            "**It was not evaluated on held-out prompts.** In the run itself, where the best of "
            f"many is partly luck, its mean gain was {gain} over {train.gains} comparisons "
            "(gains: score x 100, rewritten less naive)."
        ]
    rows = [_row("against the naive prompts", found.gain)]
    if found.over_seed is not None:
        rows.append(_row("against the seed instruction", found.over_seed))
    rows += [_row(f"guard {name}", gain) for name, gain in found.guards.items()]
    head = ("gain", "n", "mean", "95% interval", "won")
    table = markdown_table(head, rows, escape=escape_markdown)
    return [*_warning(found), table.rstrip(), _held_out(found)]


def _warning(found: HeldOut) -> list[str]:
    if not found.hacked:
        return []
    names = escape_markdown(", ".join(found.hacked))
    return [f"**Beware: guard {names} sees a loss.** It pleases the scorer, not people."]


def _held_out(found: HeldOut) -> str:
    return (
        f"On {found.prompts} {found.split} prompts, {found.seeds} seed(s) each, which no pull and "
        "no choice has seen; gains are score x 100, guards' in their own units. "
        f"{found.fallback_share:.0%} of the prompts could not be rewritten and count as 0; "
        f"{found.subject_share:.0%} of the rewrites kept the subject. A score of a model is not "
        "the judgement of people."
    )


def _row(name: str, gain: Difference) -> list[str]:
    bounds = "-"
    if gain.lo is not None and gain.hi is not None:
        bounds = f"{points(gain.lo)} to {points(gain.hi)}"
    return [name, str(gain.n), points(gain.mean), bounds, f"{gain.win_rate:.0%}"]


def quotation(text: str) -> str:
    """A quotation; a backslash at the end of a line keeps the break."""
    return "\\\n".join(f"> {escape_markdown(line)}" for line in text.splitlines())
