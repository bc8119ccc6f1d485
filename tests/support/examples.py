"""How many examples a property is tried on: a share by default, all with TEST_EXAMPLES=all."""

from __future__ import annotations

import math
import os

from hypothesis import settings

SHARE = 0.4
"""Of the examples, in `make test`. The runner of the project's CI asks for all."""


def examples(count: int, *, derandomize: bool = False) -> settings:
    """For properties of which an example takes long: it is a whole run of the campaign."""
    everything = os.environ.get("TEST_EXAMPLES") == "all"
    tried = count if everything else math.ceil(SHARE * count)
    return settings(max_examples=tried, deadline=None, derandomize=derandomize)
