"""Serves an arena to a peer in another environment: a JSON object a line, on the loopback."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from bigpe.services.core.errors import BigpeError
from peers.arena import Arena
from peers.ledger import Spent

HERE = Path(__file__).parent
LINE_LIMIT = 1 << 20


class PeerFailed(BigpeError):
    """A peer's process ended without handing in an instruction."""


async def race(arena: Arena, python: Path, script: str, *words: str) -> tuple[str, str]:
    """Run a peer's script to its end; returns its instruction and what it notes. PeerFailed."""
    handed_in: dict[str, str] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            answer = await _answer(arena, json.loads(line), handed_in)
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=LINE_LIMIT)
    async with server:
        port = server.sockets[0].getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            str(python),
            str(HERE / script),
            str(port),
            *words,
            # The Makefile's safe path would hide the script's neighbours from it.
            env={k: v for k, v in os.environ.items() if k not in ("PYTHONSAFEPATH", "PYTHONPATH")},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
    if process.returncode or "instruction" not in handed_in:
        last = output.decode("utf-8", "replace")[-2000:]
        raise PeerFailed(f"{script} {' '.join(words)} handed in nothing:\n{last}")
    return handed_in["instruction"], handed_in["note"]


async def _answer(
    arena: Arena, request: dict[str, Any], handed_in: dict[str, str]
) -> dict[str, Any]:
    try:
        match request["op"]:
            case "task":
                task = arena.task
                return {
                    "train": task.train,
                    "validation": task.validation,
                    "initial": task.initial,
                    "seed": task.seed,
                    "budget": task.budget,
                }
            case "evaluate":
                return await _evaluated(arena, request)
            case "ask":
                return {"instruction": await arena.engineer.ask(request["text"], request["number"])}
            case "finish":
                handed_in["instruction"] = request["instruction"]
                handed_in["note"] = request["note"]
                return {}
            case op:
                return {"error": f"no such operation: {op!r}"}
    except BigpeError as error:
        return {"error": str(error)}


async def _evaluated(arena: Arena, request: dict[str, Any]) -> dict[str, Any]:
    try:
        found = await arena.evaluate(request["instruction"], request["prompt"])
    except Spent:
        return {"refused": True, "spent": arena.ledger.spent}
    evidence = arena.evidence() if request["evidence"] else ""
    return {**found.model_dump(), "evidence": evidence, "spent": arena.ledger.spent}
