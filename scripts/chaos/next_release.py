"""A release after this one, whose schema has one more step."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from bigpe.services.store import migrations

ROWS = 300_000
"""That the new step adds: enough for it to be killed in its midst."""
STEP = (
    "CREATE TABLE chaos(n INTEGER)",
    "INSERT INTO chaos WITH RECURSIVE c(n) AS "
    "(SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 300000) SELECT n FROM c",
    "ALTER TABLE run ADD COLUMN chaos TEXT NOT NULL DEFAULT 'yes'",
)
THIS_VERSION = migrations.VERSION


@contextmanager
def next_release(wanted: bool = True) -> Generator[None]:
    """This process is of the next release (or stays of this one)."""
    steps, version = migrations.STEPS, migrations.VERSION
    if wanted:
        migrations.STEPS = (*steps, STEP)
        migrations.VERSION = version + 1
    try:
        yield
    finally:
        migrations.STEPS, migrations.VERSION = steps, version
