"""The ledger reads only the kinds of messages that tell what a language model was asked for."""

from __future__ import annotations

import re

from bigpe.agents.messages import core as messages
from bigpe.agents.messages import plugin as role_messages
from bigpe.agents.messages.core import Message
from bigpe.services.store.database import QUERIES


def test_every_kind_that_tells_usage_is_counted_once() -> None:
    """What a role says is counted when its report of the round comes."""
    classes = [*vars(messages).values(), *vars(role_messages).values()]
    kinds = {cls for cls in classes if isinstance(cls, type) and issubclass(cls, Message)}
    telling = {kind.__name__ for kind in kinds if "usage" in kind.model_fields}
    counted = re.findall(r"'([A-Z]\w+)'", QUERIES["asked_of_llms"])
    assert sorted(counted) == sorted(telling - {"RoleSaid"}) and len(counted) == 6
