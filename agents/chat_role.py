"""The three roles as AgentChat agents, for use in any AgentChat team.

Each is a component: `dump_component` and `load_component` round-trip it with its model client.
They work on text and keep no memory between calls, as their actors do.
"""

from __future__ import annotations
