"""The three roles as AgentChat agents, for use in any AgentChat team.

Each is a component: `dump_component` and `load_component` round-trip it with its model client.
They work on text and keep no memory between calls, as their actors do.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Literal, Self, overload

from autogen_agentchat.agents import BaseChatAgent
from autogen_agentchat.base import Response
from autogen_agentchat.messages import BaseAgentEvent, BaseChatMessage, TextMessage
from autogen_core import CancellationToken, Component, ComponentModel
from autogen_core.models import ChatCompletionClient
from pydantic import BaseModel

from bigpe.agents.evidence import Pair, tabulate
from bigpe.agents.proposing import Proposal, propose
from bigpe.agents.rewriting import Asks, rewrite
from bigpe.agents.wording import Gradient, focus_rows, word_gradient
from bigpe.services.llm import LlmService
from bigpe.services.values import Instruction, derive_seed
