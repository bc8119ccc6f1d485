"""Writes the exchanges of `endpoint_from_files.py` as JSON lines, for a folder of results.

    python scripts docs_site.keep_exchanges FOLDER FILE

FOLDER/q holds the requests, FOLDER/a the answers. A line has the request's number, its messages and
the answer. Requests that nobody answered are left out and counted.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def keep(folder: Path, file: Path) -> tuple[int, int]:
    """Write the answered exchanges of `folder` to `file`; the numbers written and left out."""
    lines: list[str] = []
    requests = sorted((folder / "q").glob("*.json"))
    for request in requests:
        answer = folder / "a" / f"{request.stem}.txt"
        if answer.is_file():
            exchange = {
                "n": int(request.stem),
                "messages": json.loads(request.read_text("utf-8"))["messages"],
                "answer": answer.read_text("utf-8"),
            }
            lines.append(json.dumps(exchange, ensure_ascii=False) + "\n")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(lines), "utf-8")
    return len(lines), len(requests) - len(lines)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    written, open_ones = keep(Path(sys.argv[1]), Path(sys.argv[2]))
    print(f"{written} exchanges in {sys.argv[2]}; {open_ones} requests without an answer left out")
