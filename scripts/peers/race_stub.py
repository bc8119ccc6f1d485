"""A peer for tests: evaluates random candidates until the budget is used, returns the best."""

from __future__ import annotations

import os
import sys

from client import Race, Spent


def main(port: int, behaviour: str) -> None:
    if "PYTHONSAFEPATH" in os.environ:
        raise SystemExit("a peer's script could not import the modules beside it")
    race = Race(port)
    if behaviour == "dies":
        raise SystemExit("the stub was told to die")
    means: dict[str, float] = {}
    try:
        for text in [*race.initial, *(race.ask("current: Add details.") for _ in range(20))]:
            gains = [race.evaluate(text, prompt)["gain"] for prompt in race.train[:4]]
            means[text] = sum(gains) / len(gains)
    except Spent:
        pass
    best = max(means, key=lambda text: means[text]) if means else race.initial[0]
    if behaviour == "trusts":
        race.finish(race.best(4), best)
    else:
        race.finish(best, f"{len(means)} tried")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
