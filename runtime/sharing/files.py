"""Exports a run to files: a self-contained page, all messages, all comparisons."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from markupsafe import Markup

from bigpe.agents.messages.core import ArmPulled
from bigpe.runtime.project.paths import Project
from bigpe.runtime.transcript.reader import RunReader, messages, read_summary
from bigpe.runtime.transcript.search import Wanted, every
from bigpe.runtime.viewer.context import Context, standing
from bigpe.runtime.viewer.pages.gallery import Comparison, chosen, read_comparisons
from bigpe.runtime.viewer.pages.images import shrunk
from bigpe.runtime.viewer.pages.lineage import MOST, tree
from bigpe.runtime.viewer.pages.overview import overview_of
from bigpe.runtime.viewer.server import STATIC, Pages
from bigpe.services.core.atomic_file import partial_file
from bigpe.services.core.errors import StoreError
from bigpe.services.core.version import VERSION
from bigpe.services.store.blobs import BlobStore
from bigpe.services.store.database import Store

HIGHEST, LOWEST = 24, 8
"""Comparisons on the page. At about 10 kB per image the page stays below 2 MB."""
SIDE = 256
"""Longest side of the page's images, pixels."""
BATCH = 2000
"""Rows per write of the Parquet file."""

COMPARISONS = pa.schema(
    [
        ("run", pa.string()),
        ("round", pa.int64()),
        ("instruction", pa.string()),
        ("instruction_text", pa.string()),
        ("naive", pa.string()),
        ("rewrite", pa.string()),
        ("negative", pa.string()),
        ("seed", pa.int64()),
        ("naive_score", pa.float64()),
        ("score", pa.float64()),
        ("gain", pa.float64()),
        ("fallback", pa.string()),
        ("naive_image", pa.string()),
        ("image", pa.string()),
    ]
)
"""Columns of the Parquet file, one row per comparison. Scores are in score units, images are
digests; `fallback` is null unless the rewrite could not be used; `negative` is null where there is
no negative prompt."""


async def write_page(project: Project, store: Store, run: str, path: Path) -> None:
    """Write a self-contained HTML file: result, instructions, lineage, some images."""
    reader = RunReader(store, run)
    await reader.catch_up()
    context = Context(project, store, run, reader)
    facts = reader.facts
    best_pairs = chosen(facts.pairs, order="best", arm=facts.best)
    parts = {
        "Its highest gains": best_pairs[:HIGHEST],
        "Its lowest gains": best_pairs[HIGHEST:][-LOWEST:],
    }
    galleries = [(title, await read_comparisons(context, refs)) for title, refs in parts.items()]
    displayed = [comparison for _, comparisons in galleries for comparison in comparisons]
    page = Pages().text(
        "export.html",
        style=Markup((STATIC / "viewer.css").read_text("utf-8")),
        pictures=_data_addresses(BlobStore(project.images), displayed),
        galleries=galleries,
        nodes=tree(facts, everything=False)[:MOST],
        version=VERSION,
        **await standing(context),
        **await overview_of(context),
    )
    with partial_file(path) as partial:
        partial.write_text(page, "utf-8")


def _data_addresses(blobs: BlobStore, comparisons: Sequence[Comparison]) -> dict[str, str]:
    """Small copies of the images as data addresses, by digest; missing images are left out."""
    found: dict[str, str] = {}
    for digest in {d for c in comparisons for d in (c.pair.naive_image, c.pair.image)}:
        try:
            small = shrunk(blobs.read(digest), SIDE)
        except StoreError:
            continue
        found[digest] = f"data:image/webp;base64,{base64.b64encode(small).decode('ascii')}"
    return found


async def write_messages(store: Store, run: str, path: Path) -> int:
    """Write one JSON object per message, in transcript order; returns the number of messages.

    Its keys are seq, ts, sender, tokens, ms and message.
    """
    written = 0
    with partial_file(path) as partial, partial.open("w", encoding="utf-8") as file:
        async for row in every(store, run, Wanted()):
            head = {
                "seq": row.seq,
                "ts": row.ts,
                "sender": row.sender,
                "tokens": row.tokens,
                "ms": row.ms,
            }
            # The body is the stored JSON and is not parsed again.
            file.write(f'{json.dumps(head)[:-1]}, "message": {row.body}}}\n')
            written += 1
    return written


async def write_comparisons(store: Store, run: str, path: Path) -> int:
    """Write a Parquet file of all paired comparisons (`COMPARISONS`); returns the row count."""
    arms = (await read_summary(store, run)).arms
    texts = {id: arm.instruction.text for id, arm in arms.items()}
    written = 0
    with partial_file(path) as partial, pq.ParquetWriter(partial, COMPARISONS) as file:
        rows: list[dict[str, Any]] = []
        async for _, _, pulled in messages(store, run, ArmPulled):
            rows += _comparison_rows(pulled, texts)
            if len(rows) >= BATCH:
                file.write_table(pa.Table.from_pylist(rows, COMPARISONS))
                written += len(rows)
                rows = []
        file.write_table(pa.Table.from_pylist(rows, COMPARISONS))
        written += len(rows)
    return written


def _comparison_rows(pulled: ArmPulled, texts: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "run": pulled.run,
            "round": pulled.round,
            "instruction": pulled.instruction,
            "instruction_text": texts.get(pulled.instruction),
            **gain.model_dump(),
        }
        for gain in pulled.gains
    ]
