"""The contact sheet: images of test prompts, naive | first instruction | best instruction."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click
from PIL import Image as Pictures
from PIL import ImageDraw, ImageFont

from bigpe.runtime.evaluation.open_run import open_run_for_evaluation
from bigpe.runtime.project.paths import Project
from bigpe.runtime.run.services import Services
from bigpe.runtime.transcript.replay import require_finished
from bigpe.services.core.atomic_file import partial_file
from bigpe.services.core.values import Instruction, RenderRequest, ScoreRequest, derive_seed

CELL = 224
"""Side of an image on the sheet, pixels."""
CAPTION = 52
MARGIN = 12


class SheetCell(NamedTuple):
    """An image, its prompt and its score against the naive prompt."""

    prompt: str
    digest: str
    score: float


class SheetRow(NamedTuple):
    """A test prompt at one seed under the three treatments."""

    naive: SheetCell
    first: SheetCell
    best: SheetCell


async def make_sheet(run: str, folder: Path, *, prompts: int) -> Path:
    """Draw and save the contact sheet of a finished run. Prints and returns its path."""
    async with open_run_for_evaluation(run, project=folder) as opened:
        require_finished(opened.campaign, run)
        seed = opened.config.run.seed
        # Order by hash, so that the choice does not depend on the order of the file.
        test = opened.prompts("test")
        chosen = sorted(test, key=lambda naive: derive_seed(seed, "sheet", naive))[:prompts]
        click.echo(f"rendering {len(chosen)} test prompts three ways ...", err=True)
        first = opened.campaign.plan.instructions[0].instruction
        best = opened.campaign.pool.best().instruction
        rows = await sheet_rows(opened.services, chosen, first=first, best=best, seed=seed)
        titles = ("naive", f"first: {first.id[:8]}", f"best: {best.id[:8]}")
        path = Project(folder).sheet(run)
        save_sheet(draw_sheet(rows, opened.services, titles), path)
        gains = [100 * (row.best.score - row.naive.score) for row in rows]
        first_gains = [100 * (row.first.score - row.naive.score) for row in rows]
        click.echo(
            f"contact sheet: {path} (mean gain on {len(rows)} test prompts: "
            f"best {sum(gains) / len(gains):+.2f}, "
            f"first {sum(first_gains) / len(gains):+.2f}; score x 100)"
        )
        return path


async def sheet_rows(
    services: Services,
    prompts: Sequence[str],
    *,
    first: Instruction,
    best: Instruction,
    seed: int,
) -> list[SheetRow]:
    """Rewrite, render and score each prompt under the three treatments, at the same seed."""

    async def cell(naive: str, instruction: Instruction | None) -> SheetCell:
        text, negative = naive, ""
        if instruction is not None:
            llm_seed = derive_seed(seed, "sheet-llm", naive)
            llm = services.llm("generator")
            done = await services.style.rewrite(llm, instruction, naive, llm_seed)
            text, negative = done.text, done.negative
        image_seed = derive_seed(seed, "sheet-image", naive)
        image = await services.render.render(
            RenderRequest(prompt=text, seed=image_seed, negative=negative)
        )
        score = await services.score.score(ScoreRequest(image=image.digest, prompt=naive))
        return SheetCell(text, image.digest, score.value)

    async def row(naive: str) -> SheetRow:
        return SheetRow(
            *await asyncio.gather(cell(naive, None), cell(naive, first), cell(naive, best))
        )

    return list(await asyncio.gather(*(row(naive) for naive in prompts)))


def draw_sheet(
    rows: Sequence[SheetRow], services: Services, titles: tuple[str, str, str]
) -> Pictures.Image:
    """Draw the sheet as an RGB image; scores are x 100."""
    width = 3 * (CELL + MARGIN) + MARGIN
    height = 40 + len(rows) * (CELL + CAPTION + MARGIN) + MARGIN
    sheet = Pictures.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    heading, small = ImageFont.load_default(16), ImageFont.load_default(12)
    for column, title in enumerate(titles):
        draw.text((MARGIN + column * (CELL + MARGIN), 12), title, "black", heading)
    for index, row in enumerate(rows):
        top = 40 + index * (CELL + CAPTION + MARGIN)
        for column, cell in enumerate(row):
            left = MARGIN + column * (CELL + MARGIN)
            data = services.blobs.read(cell.digest)
            picture = Pictures.open(io.BytesIO(data)).convert("RGB")
            method = Pictures.Resampling.LANCZOS
            sheet.paste(picture.resize((CELL, CELL), method), (left, top))
            gain = cell.score - row.naive.score
            note = f"{100 * cell.score:.2f}" + (f" ({100 * gain:+.2f})" if column else "")
            draw.text((left, top + CELL + 2), note, "black", small)
            for line, text in enumerate(_wrap(cell.prompt, small)):
                draw.text((left, top + CELL + 17 + 14 * line), text, "#555555", small)
    return sheet


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    """Break a text into at most two lines that fit a cell."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= CELL or not lines[-1]:
            lines[-1] = longer
        elif len(lines) == 2:
            lines[-1] = lines[-1][:-1] + "…"
            break
        else:
            lines.append(word)
    return lines


def save_sheet(sheet: Pictures.Image, path: Path) -> None:
    """Write the sheet atomically, as PNG."""
    with partial_file(path) as partial:
        sheet.save(partial, "PNG")
