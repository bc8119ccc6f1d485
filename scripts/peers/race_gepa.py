"""GEPA (gepa.optimize_anything) in the race. Usage: race_gepa.py PORT [evidence]

Settings: its FAQ's minibatch of 3 and validation on a held-out set of the pool; its own
reflective search, acceptance and Pareto front are left as they are. The reflection prompt is its
published content in few lines, for a 135M model.
"""

from __future__ import annotations

import sys
from typing import Any

from client import Race, Spent
from gepa.optimize_anything import (
    EngineConfig,
    GEPAConfig,
    ReflectionConfig,
    TrackingConfig,
    optimize_anything,
)

MINIBATCH = 3
MOST_PROPOSALS = 400
FLOOR = -1e9
"""What an evaluation past the budget is worth: GEPA ends its last iteration harmlessly."""
TEMPLATE = "current: <curr_param>\n<side_info>"


class Quiet:
    def log(self, message: str) -> None:
        """Say nothing."""


def main(port: int, evidence: bool) -> None:
    race = Race(port)

    def evaluator(candidate: str, example: str) -> tuple[float, dict[str, Any]]:
        try:
            outcome = race.evaluate(candidate, example, evidence=evidence)
        except Spent:
            return FLOOR, {"reward": "none"}
        side: dict[str, Any] = {f"reward {outcome['gain']:+.3f}": outcome["rewrite"]}
        if evidence and outcome["evidence"]:
            side["measured effects"] = outcome["evidence"]
        return outcome["gain"], side

    def reflect(prompt: str | list[dict[str, Any]]) -> str:
        text = prompt if isinstance(prompt, str) else str(prompt[-1]["content"])
        return f"```\n{race.ask(text.replace('#', '')) or race.initial[0]}\n```"

    result = optimize_anything(
        race.initial[0],
        evaluator=evaluator,
        dataset=race.train,
        valset=race.validation,
        config=GEPAConfig(
            engine=EngineConfig(
                seed=race.seed, parallel=False, max_candidate_proposals=MOST_PROPOSALS
            ),
            reflection=ReflectionConfig(
                reflection_lm=reflect,
                reflection_minibatch_size=MINIBATCH,
                reflection_prompt_template=TEMPLATE,
            ),
            tracking=TrackingConfig(logger=Quiet()),
            stop_callbacks=[lambda state: race.out or race.spent >= race.budget],
        ),
    )
    best = result.best_candidate
    text = best if isinstance(best, str) else next(iter(best.values()))
    race.finish(text, f"{result.num_candidates} candidates accepted")


if __name__ == "__main__":
    main(int(sys.argv[1]), "evidence" in sys.argv[2:])
