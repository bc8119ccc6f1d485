"""By which rules a run decides; its plan says so, and a run goes on by those that it began with."""

RULES = 3
"""Of a new run; raised whenever the loop would decide otherwise. 1: until docs/decisions/0020;
2: until docs/decisions/0025."""
GROWTH = {1: 2.0, 2: 3.0, 3: 5.0}
"""How fast newcomers come to the pool. By the third rules a run of 20 rounds pulls another
instruction in nearly each, and one of 200 pulls each three times."""
KNOWN_PULLS = {1: 2, 2: 1, 3: 1}
"""Finished pulls after which an instruction may give way to a newcomer."""
EVERY_ROUND_TEACHES = {1: True, 2: True, 3: False}
"""Whether gradients are asked for in every round, or in those that a newcomer may follow."""
