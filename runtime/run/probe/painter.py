"""Probes the painter alone, with one picture: `bigpe doctor --render`."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil

from bigpe.runtime.project.config import BigpeConfig
from bigpe.runtime.project.paths import Project
from bigpe.runtime.project.prices import price_table
from bigpe.runtime.run.probe.fresh_calls import FreshCalls
from bigpe.runtime.run.probe.rows import ProbeReport, ProbeRow, fault
from bigpe.runtime.run.services import open_services
from bigpe.services.core.errors import BigpeError
from bigpe.services.core.outages.watch import NO_WAITING, OutageWatch
from bigpe.services.core.values import Image, Json, RenderRequest
from bigpe.services.render.diffusers.planning import planned_call
from bigpe.services.render.prompt_profile import profile_of
from bigpe.services.render.service import Renderer
from bigpe.services.store.database import Store

NAME = "probe"
SEED = 1


async def probe_painter(
    config: BigpeConfig,
    project: Project,
    prompt: str,
    listen: Callable[[ProbeRow], None],
    *,
    renderer: Renderer | None = None,
) -> ProbeReport:
    """Paint one picture, and say what that took and what the painter reads.

    Args:
        config: The configuration.
        project: The project, whose folder gets the picture.
        prompt: What to paint.
        listen: Gets each row when it is found.
        renderer: Replaces the renderer of the configuration.

    Returns:
        The rows. A failure is a row, no exception.
    """
    report = ProbeReport(listen)
    part = f"{config.render.model} ({config.render.backend})"
    for row in _settings(config, part):
        report.add(row)
    async with Store(project.database, sealed=True) as store:
        calls = FreshCalls(store)
        try:
            async with open_services(
                config, project, calls, calls,
                run=NAME, renderer=renderer, watch=OutageWatch(NO_WAITING),
            ) as services:  # fmt: skip
                start = time.monotonic()
                await services.render.open()
                loaded = time.monotonic()
                image = await services.render.render(RenderRequest(prompt=prompt, seed=SEED))
                seconds = (loaded - start, time.monotonic() - loaded)
                report.add(_painted(part, image, seconds, _memory_mb()))
                path = services.blobs.path(image.digest)
                report.add(_row(part, "picture", str(path), {"digest": image.digest}))
        except BigpeError as error:
            report.add(fault(part, "paints", error))
        finally:
            await calls.close()
    return report


def _settings(config: BigpeConfig, part: str) -> list[ProbeRow]:
    """What is known before anything is loaded: profile, calls and price."""
    profile = profile_of(config.render)
    rows = [_row(part, "reads", profile.described(), profile.model_dump(mode="json"))]
    try:
        plan = planned_call(config.render)
    except BigpeError as error:
        return [*rows, fault(part, "calls", error)]
    if plan is not None:
        rows.append(_row(part, "calls", plan.described(), {}))
    price = price_table(config).row("render")
    remedy = "" if price.price is not None else price.remedy
    costs = f"{price.text} ({price.source})" if price.source else price.text
    return [*rows, _row(part, "costs", costs, {"usd": price.price}, remedy)]


def _painted(
    part: str, image: Image, seconds: tuple[float, float], memory_mb: float | None
) -> ProbeRow:
    loading, painting = seconds
    cut = sum(image.truncated_tokens.values())
    memory = "" if memory_mb is None else f", {memory_mb:,.0f} MB of memory"
    figures = {
        "seconds": round(painting, 3), "load_seconds": round(loading, 3), "width": image.width,
        "height": image.height, "memory_mb": memory_mb, "truncated_tokens": cut,
    }  # fmt: skip
    lost = f"; {cut} tokens of the prompt were cut off" if cut else ""
    finding = (
        f"{image.width}x{image.height} pixels in {painting:.1f} s, loaded in {loading:.1f} s"
        f"{memory}{lost}"
    )
    return _row(part, "paints", finding, figures)


def _memory_mb() -> float | None:
    """Resident memory of the processes that this one has started; None if there are none."""
    sizes: list[int] = []
    for child in psutil.Process().children(recursive=True):
        try:
            sizes.append(child.memory_info().rss)
        except psutil.Error:
            continue
    return round(sum(sizes) / 1e6, 1) if sizes else None


def _row(part: str, check: str, finding: str, figures: Json, remedy: str = "") -> ProbeRow:
    return ProbeRow(
        part=part, check=check, verdict="note" if remedy else "ok", finding=finding,
        figures=figures, remedy=remedy,
    )  # fmt: skip
