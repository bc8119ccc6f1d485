"""Logging: readable lines on the terminal, JSON lines in the run's folder."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import structlog

from bigpe.services.core.errors import StoreError


def configure_logging(
    log_file: Path | None = None, *, verbose: bool = False, quiet: bool = False
) -> None:
    """Route structlog and the standard library's logging to stderr and, as JSON, to `log_file`.

    stderr gets warnings (with `verbose`, everything; with `quiet`, errors only), in colour if it is
    a terminal.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for handler in root.handlers[:]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(logging.INFO)
    console = logging.StreamHandler(sys.stderr)
    least = logging.ERROR if quiet else logging.WARNING
    console.setLevel(logging.INFO if verbose else least)
    renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    root.addHandler(_formatted(console, renderer, shared))
    if log_file is not None:
        file = _open_log(log_file)
        root.addHandler(_formatted(file, structlog.processors.JSONRenderer(), shared))
    # These loggers print whole payloads, which the transcript has already.
    for name in ("autogen_core", "autogen_core.events", "httpx", "httpcore", "openai"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _open_log(path: Path) -> logging.Handler:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror}; choose a project folder that you may write"
        ) from error


def _formatted(
    handler: logging.Handler,
    renderer: structlog.typing.Processor,
    shared: list[structlog.typing.Processor],
) -> logging.Handler:
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=shared,
        )
    )
    return handler
