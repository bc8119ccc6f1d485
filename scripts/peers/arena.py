"""The one evaluation that every method is measured by, and the ledger that it is charged to.

An arena wraps bigpe's services for one run of one method. It rewrites, paints and scores exactly as
a bigpe run does, with the same picture and LLM seeds; so equal questions of different methods are
answered from the memo, and are charged to each of them.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from bigpe.agents.evidence.mixed_model import PairedComparison, fit_evidence_table
from bigpe.prompts.library import professional_prompts
from bigpe.runtime.run.services import Services
from bigpe.services.core.values import (
    Instruction,
    LlmUsage,
    RenderRequest,
    ScoreRequest,
    Value,
    derive_seed,
)
from peers.ledger import RenderLedger, Spent
from peers.meta import PromptEngineer
from peers.realise import realise
from peers.task import Task

SURE_ROWS = 6


class Evaluation(Value):
    """One paired comparison."""

    gain: float
    """Score units."""
    rewrite: str


class Arena:
    """What a method may ask, and what it has spent."""

    def __init__(self, services: Services, task: Task) -> None:
        self.task = task
        self.ledger = RenderLedger(task.budget)
        professional = [prompt.text for prompt in professional_prompts("world")]
        self.engineer = PromptEngineer(services.llm("generator"), professional, task.seed)
        self.usage = LlmUsage()
        """Of rewriting; the engineer counts its own."""
        self._services = services
        self._known: dict[tuple[str, str, int], Evaluation] = {}
        self._draws: Counter[tuple[str, str]] = Counter()
        self._pairs: list[PairedComparison] = []
        # One evaluation at a time: the ledger's order is then the method's own.
        self._lock = asyncio.Lock()

    async def evaluate(self, text: str, prompt: str, draw: int = 0) -> Evaluation:
        """The paired gain of the instruction that `text` is, at the prompt's `draw`-th seed.

        A repeated question costs nothing. Spent when its pictures do not fit the budget.
        """
        async with self._lock:
            return await self._evaluate(realise(text), prompt, draw)

    async def _evaluate(self, instruction: Instruction, prompt: str, draw: int) -> Evaluation:
        key = (instruction.id, prompt, draw)
        if key in self._known:
            return self._known[key]
        image_seed = derive_seed(self.task.seed, "image", prompt, draw)
        llm_seed = derive_seed(self.task.seed, "llm", instruction.id, prompt, draw)
        if self.ledger.spent >= self.ledger.budget:
            raise Spent(f"all {self.ledger.budget} renders are used")
        services = self._services
        llm = services.llm("generator")
        done = await services.style.rewrite(llm, instruction, prompt, llm_seed)
        self.usage += done.usage
        self.ledger.take((prompt, image_seed), (done.text, image_seed))
        naive, rewritten = await asyncio.gather(
            self._score(prompt, prompt, image_seed), self._score(done.text, prompt, image_seed)
        )
        found = Evaluation(gain=rewritten - naive, rewrite=done.text)
        self._known[key] = found
        self._pairs.append(
            PairedComparison(
                naive=prompt,
                rewrite=done.text,
                seed=image_seed,
                gain=found.gain,
                arm=instruction.id,
                fallback=done.fallback is not None,
            )
        )
        return found

    async def _score(self, painted: str, prompt: str, seed: int) -> float:
        image = await self._services.render.render(RenderRequest(prompt=painted, seed=seed))
        request = ScoreRequest(image=image.digest, prompt=prompt)
        return (await self._services.score.score(request)).value

    def evidence(self) -> str:
        """bigpe's evidence table of this run so far, a line a term, the surest first."""
        rows = [row for row in fit_evidence_table(self._pairs) if row.kind == "term"][:SURE_ROWS]
        return "\n".join(f"{row.term}: {row.effect:+.3f} (n={row.n})" for row in rows)

    @property
    def llm_usage(self) -> LlmUsage:
        """All that the method has asked of the language model."""
        return self.usage + self.engineer.usage
