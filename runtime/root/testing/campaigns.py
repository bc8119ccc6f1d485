"""Runs a campaign without actors: a rule answers each request, in any order."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from bigpe.agents.campaign.campaign import CHANGEABLE, Campaign
from bigpe.agents.messages.core import (
    CritiqueRequested,
    Gradient,
    GradientsComputed,
    ImageScored,
    InstructionsProposed,
    Message,
    PlanChanged,
    PromptsRewritten,
    ProposalRequested,
    ProposedInstruction,
    RenderRequested,
    RewriteRequested,
    Rewritten,
    start_run,
)
from bigpe.agents.messages.plan import CampaignPlan, SeedInstruction
from bigpe.services.core.values import Exemplar, Instruction, digest

SEEDS = tuple(
    SeedInstruction(name=text, instruction=Instruction(text=text))
    for text in ("Add things.", "Say more.")
)


def plan(**changes: object) -> CampaignPlan:
    """A small plan: 8 rounds of 3 prompts, one seed per prompt; `changes` replace its fields."""
    values: dict[str, object] = {
        "rounds": 8,
        "batch_size": 3,
        "seeds_per_prompt": 1,
        "concurrency": 1,
        "seed": 5,
        "policy": {"name": "ucb1"},
        "pool_size": 3,
        "pilot_prompts": 3,
        "patience": 0,
        "improvements": 1,
        "train": tuple(f"a thing{i}" for i in range(12)),
        "professional": {"a thing3": "thing3, lofty, golden"},
        "instructions": SEEDS,
    }
    return CampaignPlan.model_validate(values | changes)


def score_of(prompt: str, seed: int) -> float:
    """The score of an image: about 0.25, 0.02 more for "golden", normal noise of sd 0.004."""
    noise = random.Random(digest([prompt, seed])).gauss(0, 0.004)
    return 0.25 + 0.02 * ("golden" in prompt) + noise


def answer(message: Message) -> Message | None:
    """The answer of the other actors to a request; None if `message` is no request."""
    match message:
        case RewriteRequested():
            tail = (
                message.instruction.exemplars[0].rewrite if message.instruction.exemplars else "old"
            )
            rewrites = [
                Rewritten(naive=t.naive, image_seed=t.image_seed, text=f"{t.naive}, {tail}")
                for t in message.tasks
            ]
            return PromptsRewritten.make(
                message, instruction=message.instruction.id, rewrites=tuple(rewrites)
            )
        case RenderRequested():
            return message.followed_by(
                ImageScored,
                image=digest([message.prompt, message.seed]),
                score=score_of(message.prompt, message.seed),
                scorer="s",
            )
        case CritiqueRequested():
            gradient = Gradient(inference="i", improvement="add golden", evidence=(), composed=True)
            return GradientsComputed.make(message, gradients=(gradient,))
        case ProposalRequested():
            word = ("golden", "tall", "blue", "odd")[message.seed % 4]
            text = f"Add {word} {message.seed % 7}."
            instruction = Instruction(
                text=text, exemplars=(Exemplar(naive="a b", rewrite=f"{word}"),)
            )
            proposal = ProposedInstruction(
                instruction=instruction, improvement="add golden", composed=True
            )
            return InstructionsProposed.make(
                message, parent_instruction=message.instruction.id, proposals=(proposal,)
            )
        case _:
            return None


def answer_anew(message: Message) -> Message | None:
    """Like `answer`, but each proposed instruction is new and of a usual length."""
    proposed = answer(message)
    if not isinstance(proposed, InstructionsProposed):
        return proposed
    text = (
        f"Rewrite the prompt so that thing number {message.round} stands out: name a style, a "
        "light and a palette, keep the subject first, and say in a few words how it is framed."
    )
    (proposal,) = proposed.proposals
    instruction = Instruction(text=text, exemplars=proposal.instruction.exemplars)
    other = proposal.model_copy(update={"instruction": instruction})
    return proposed.model_copy(update={"proposals": (other,)})


def drive(
    wanted: CampaignPlan,
    order: random.Random,
    reply: Callable[[Message], Message | None] = answer,
) -> tuple[Campaign, list[Message], list[Message]]:
    """Run a campaign to its end and answer its requests in a random order; see `go_on`.

    Returns:
        The campaign, the messages that it emitted, and the messages that it received.
    """
    campaign = Campaign()
    sent, handled = go_on(campaign, start_run("r", wanted), order, reply)
    return campaign, sent, handled


def go_on(
    campaign: Campaign,
    first: Message,
    order: random.Random,
    reply: Callable[[Message], Message | None] = answer,
) -> tuple[list[Message], list[Message]]:
    """Give `first` to a campaign, which changes, and answer the requests that follow.

    `order` decides the order of the answers. `reply` stands for the other actors: it returns the
    answer to a request, or None.

    Returns:
        The messages that the campaign emitted, and those that it received.
    """
    sent: list[Message] = []
    handled: list[Message] = []
    waiting: list[Message] = [first]
    while waiting:
        incoming = waiting.pop(order.randrange(len(waiting)))
        handled.append(incoming)
        outgoing = campaign.apply(incoming)
        sent += outgoing
        waiting += [a for message in outgoing if (a := reply(message)) is not None]
    return sent, handled


def change(campaign: Campaign, **changed: Any) -> PlanChanged:
    """A PlanChanged that keeps the plan of `campaign`, apart from the fields in `changed`."""
    now = campaign.plan.model_dump(include=set(CHANGEABLE))
    cause = start_run("r", campaign.plan)
    return PlanChanged.make(cause, str(campaign.changes + 1), **(now | changed))


def bodies(messages: list[Message]) -> dict[str, str]:
    """The JSON of each message by its id."""
    return {message.mid: message.model_dump_json() for message in messages}
