"""Whether a setting may change after its run has started: a marker on the configuration's field."""

from __future__ import annotations

from enum import StrEnum


class AfterStart(StrEnum):
    """The verdict on a change, as `Annotated[int, AfterStart.NEEDS_FORK]`.

    A marker on a section holds for every setting in it that has none of its own.
    """

    TAKES_EFFECT = "takes effect"
    """Also on a run that such a limit has stopped."""
    CHANGES_NO_RESULT = "changes no result"
    IF_SAME_MODEL = "if the model is the same"
    """It says where and how a model works. The model's fingerprint decides (see same_models)."""
    NEEDS_FORK = "needs a fork"
    """Results before and after could not be compared."""
