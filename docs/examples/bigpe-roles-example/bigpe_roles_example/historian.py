"""An observer that keeps a running summary of a run, a paragraph a round."""

from __future__ import annotations

import json

from pydantic import BaseModel, ConfigDict, Field

from bigpe.agents.messages.core import AnyMessage, PoolChanged, RunStopped
from bigpe.agents.plugins import Observer


class Options(BaseModel):
    """`[roles.NAME.options]`."""

    model_config = ConfigDict(extra="forbid")

    remember: int = Field(default=5, ge=1, le=100)
    """Rounds that the summary lists; older rounds are counted only."""


class Historian(Observer):
    """Keeps a running summary: rounds, who entered and left the pool, the best so far."""

    Options = Options
    # Both are said by the coordinator, in the order of rounds: equal runs have equal histories.
    reads = ("PoolChanged", "RunStopped")

    async def read(self, message: AnyMessage, last: str) -> str | None:
        """The summary with this round added. All that it knows is in `last`, as its first line."""
        state = json.loads(last.splitlines()[0]) if last else {"rounds": 0, "events": []}
        if isinstance(message, PoolChanged):
            state["rounds"] += 1
            state["best"] = message.best[:8]
            state["events"] += self._events(message)
            state["events"] = state["events"][-self.context.options.remember :]
        elif isinstance(message, RunStopped):
            state["events"].append(f"The run ended: {message.reason}.")
        summary = f"{state['rounds']} rounds; the best is {state.get('best', 'not known')}."
        return "\n".join([json.dumps(state), summary, *state["events"]])

    def _events(self, message: PoolChanged) -> list[str]:
        came = [f'"{i.text}" entered' for i in message.admitted]
        went = [f"{arm.instruction[:8]} left ({arm.reason})" for arm in message.retired]
        return [f"Round {message.round}: {'; '.join(came + went)}."] if came or went else []
