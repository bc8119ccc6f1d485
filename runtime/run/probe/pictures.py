"""Probes renderer and scorer: two pictures of different prompts, and their scores."""

from __future__ import annotations

import time

from bigpe.runtime.formatting import quote
from bigpe.runtime.run.probe.rows import ProbeReport, ProbeRow, fault
from bigpe.runtime.run.services import Services
from bigpe.services.core.errors import BigpeError
from bigpe.services.core.values import Image, RenderRequest, ScoreRequest

PICTURES = 2
SCORES = 2
SAME_PICTURE = (
    "the prompt does not reach the renderer: check that the workflow has {prompt} where the prompt "
    "belongs, and that the service paints and gives no fixed image"
)


async def probe_pictures(
    services: Services, part: str, scorer: str, prompts: tuple[str, str], report: ProbeReport
) -> None:
    """Paint two prompts at one seed and score both pictures for the first; add the rows."""
    try:
        start = time.monotonic()
        await services.render.open()
        loaded = time.monotonic() - start
        images, seconds = await _paint(services, prompts)
    except BigpeError as error:
        report.add(fault(part, "paints", error))
        return
    report.measured.seconds["render"] = min(seconds)
    image = images[0]
    cut = sum(image.truncated_tokens.values())
    report.add(
        ProbeRow(
            part=part,
            check="paints",
            verdict="ok",
            finding=f"a picture of {image.width}x{image.height} in {min(seconds):.1f} s, loaded in "
            f"{loaded:.1f} s",
            figures={
                "seconds": round(min(seconds), 3),
                "load_seconds": round(loaded, 3),
                "width": image.width,
                "height": image.height,
                "truncated_tokens": cut,
            },
        )
    )
    report.add(_difference(part, prompts, images))
    await _probe_scorer(services, scorer, prompts[0], images, report)


async def _paint(services: Services, prompts: tuple[str, str]) -> tuple[list[Image], list[float]]:
    """The pictures one after the other, and the seconds of each."""
    images: list[Image] = []
    seconds: list[float] = []
    for prompt in prompts:
        start = time.monotonic()
        images.append(await services.render.render(RenderRequest(prompt=prompt, seed=1)))
        seconds.append(time.monotonic() - start)
    return images, seconds


def _difference(part: str, prompts: tuple[str, str], images: list[Image]) -> ProbeRow:
    same = images[0].digest == images[1].digest
    names = " and ".join(quote(prompt, 60) for prompt in prompts)
    return ProbeRow(
        part=part,
        check="prompts",
        verdict="fault" if same else "ok",
        finding=f"{names} gave {'one and the same picture' if same else 'different pictures'}",
        remedy=SAME_PICTURE if same else "",
        configuration=same,
        figures={"images": [image.digest for image in images]},
    )


async def _probe_scorer(
    services: Services, part: str, prompt: str, images: list[Image], report: ProbeReport
) -> None:
    try:
        start = time.monotonic()
        await services.score.open()
        loaded = time.monotonic() - start
        start = time.monotonic()
        scores = [
            (await services.score.score(ScoreRequest(image=image.digest, prompt=prompt))).value
            for image in images
        ]
        seconds = (time.monotonic() - start) / len(images)
    except BigpeError as error:
        report.add(fault(part, "scores", error))
        return
    report.measured.seconds["score"] = seconds
    finding = f"{quote(prompt, 60)}: its own picture {scores[0]:.4f}, the other {scores[1]:.4f}"
    blind = scores[0] == scores[1] and images[0].digest != images[1].digest
    report.add(
        ProbeRow(
            part=part,
            check="scores",
            verdict="fault" if blind else "ok" if scores[0] > scores[1] else "note",
            finding=f"{finding}, in {seconds:.1f} s, loaded in {loaded:.1f} s",
            remedy="it scores two pictures alike: set another scorer" if blind else "",
            figures={
                "scores": scores,
                "seconds": round(seconds, 3),
                "load_seconds": round(loaded, 3),
            },
        )
    )
