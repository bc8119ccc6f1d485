"""How much the slowest tests try: a share in `make test`, everything with TEST_EXAMPLES=all."""

from __future__ import annotations

import math
import os

from hypothesis import settings

SHARE = 0.4
"""Of the examples, in `make test`. The runner of the project's CI asks for all."""


EVERYTHING = os.environ.get("TEST_EXAMPLES") == "all"


def examples(count: int, *, derandomize: bool = False) -> settings:
    """For properties of which an example takes long: it is a whole run of the campaign."""
    tried = count if EVERYTHING else math.ceil(SHARE * count)
    return settings(max_examples=tried, deadline=None, derandomize=derandomize)
