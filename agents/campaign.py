"""The optimisation loop as a pure fold: a message goes in, the messages that it causes come out.

No clock, no randomness but hashes of the run's seed, no input or output: replaying the messages
that the coordinator handled rebuilds its state exactly, and a run is a function of its plan and
of what the models answered.

Pulls overlap, yet deterministically: pull t is chosen when exactly the pulls up to t - K have been
applied (K = plan.concurrency), with those after them counted as pending, however early any of them
ended. Everything that a round looks back on is what stood at that moment, plus its own results.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from bigpe.agents.attendance import Attendance
from bigpe.agents.budget import Usage, refusal
from bigpe.agents.evidence import Pair
from bigpe.agents.gating import Answer, Gates, Refused
from bigpe.agents.messages import (
    BUILT_IN_AUTHOR,
    CampaignPlan,
    GradientsComputed,
    ImageScored,
    InstructionsProposed,
    Message,
    PoolChanged,
    PromptsRewritten,
    ProposalRequested,
    Purpose,
    RenderRequested,
    RetiredArm,
    RewriteRequested,
    RewriteTask,
    RunStarted,
    RunStopped,
    StepFailed,
    StopRequested,
)
from bigpe.agents.policies import PolicyConfig, make_policy, selection_rng
from bigpe.agents.pool import Pool
from bigpe.agents.role_messages import (
    GateDecided,
    ReviewRequested,
    RoleReported,
    RolesChanged,
)
from bigpe.agents.rounds import Picture, Round
from bigpe.agents.statistics import ScaleEstimate
from bigpe.services.values import Instruction, LlmUsage, derive_seed

EXEMPLAR_PAIRS = 24
"""Comparisons shown to the Modifier, best first: enough choice, bounded messages."""
MEMORY = 5
EMPTY_ROUNDS = 3
"""Rounds in a row without one result after which a run stops."""


class Campaign:
    """The coordinator's state and decisions; see the module's text."""

    def __init__(self) -> None:
        self._start: RunStarted | None = None
        self._rounds: dict[int, Round] = {}
        self._chosen = 0
        self._applied = 0
        self._pairs: list[Pair] = []
        self._draws: Counter[tuple[str, str]] = Counter()
        self._painted: set[tuple[str, int]] = set()
        self.used = Usage()
        """By the pilot and the rounds that are over."""
        self._dearest = Usage()
        self._pilot_awaited: set[Picture] = set()
        self._pilot: dict[str, list[float]] = {}
        self._improvements: dict[str, str] = {}
        self._empty_rounds = 0
        self._last_failure = ""
        self._best_bound: float | None = None
        self._stale_rounds = 0
        self._stopping: str | None = None
        self.stopped: RunStopped | None = None
        self._gates = Gates()
        self.attendance = Attendance()

    @property
    def started(self) -> bool:
        """Whether RunStarted was applied."""
        return self._start is not None

    @property
    def plan(self) -> CampaignPlan:
        """The run's frozen inputs; RuntimeError before RunStarted was applied."""
        return self._started.plan

    @property
    def _started(self) -> RunStarted:
        if self._start is None:
            raise RuntimeError("a campaign begins with RunStarted")
        return self._start

    @property
    def pairs(self) -> Sequence[Pair]:
        """All paired comparisons of the rounds applied so far, professional prompts included."""
        return self._pairs

    @property
    def applied(self) -> int:
        """Rounds that are over."""
        return self._applied

    @property
    def renders(self) -> int:
        """Different pictures asked for so far."""
        return len(self._painted)

    @property
    def sigma(self) -> float:
        """Estimated standard deviation of one gain, score units."""
        return self._scale.sigma

    def apply(self, message: Message) -> list[Message]:
        """Take `message` in; returns what the coordinator says because of it."""
        match message:
            case RunStarted():
                return self._begin(message)
            case StopRequested():
                self._stopping = self._stopping or message.reason
                return self._choose()
            case PromptsRewritten() | GradientsComputed() | InstructionsProposed():
                return self._take_answer(message)
            case ImageScored():
                return self._take_score(message)
            case GateDecided():
                self._count_llm(message.round, message.role, message.usage)
                return self._follow(self._gates.decide(message))
            case RoleReported():
                return self._take_report(message)
            case RolesChanged():
                self.attendance.set(message.observers, self._applied + 1)
                self.attendance.changes += 1
                return self._settle_ready()
            case StepFailed():
                return self._take_failure(message)
            case _:
                raise TypeError(f"the coordinator has no use for a {message.kind}")

    # -- the beginning ------------------------------------------------------------------------

    def _begin(self, start: RunStarted) -> list[Message]:
        self._start = start
        plan = start.plan
        self.attendance.set(plan.observers, 1)
        policy = PolicyConfig.model_validate(plan.policy)
        self._policy = make_policy(policy)
        self.pool = Pool(
            [seed.instruction for seed in plan.instructions],
            size=plan.pool_size,
            paper=policy.name == "paper",
        )
        requests = [
            self._paint(start, "pilot", naive, naive, self._image_seed(naive, k))
            for naive in self._draw(plan.pilot_prompts, "pilot")
            for k in range(2)
        ]
        self._pilot_awaited = {(r.purpose, r.naive, r.seed) for r in requests}
        # Naive, rewritten and professional: what every round may paint and score.
        pictures = 3 * min(plan.batch_size, len(plan.train)) * plan.seeds_per_prompt
        self._dearest = plan.prices.of_pictures(pictures, pictures)
        return [*requests]

    def _end_pilot(self) -> list[Message]:
        scored = sum(len(scores) for scores in self._pilot.values())
        self.used = self.plan.prices.of_pictures(self.renders, scored)
        repeated = [scores for scores in self._pilot.values() if len(scores) == 2]
        if not repeated:
            self._stopping = f"no picture of the pilot could be scored: {self._last_failure}"
            self._scale = ScaleEstimate(sigma0=1.0, nu0=1.0)
            return self._choose()
        # A gain is a difference of two scores, so its variance is twice a score's.
        squares = sum((a - b) ** 2 for a, b in repeated)
        sigma0 = max((squares / len(repeated)) ** 0.5, 1e-9)
        self._scale = ScaleEstimate(sigma0=sigma0, nu0=float(len(repeated)))
        return self._choose()

    # -- choosing a pull ----------------------------------------------------------------------

    def _choose(self) -> list[Message]:
        said: list[Message] = []
        if self._pilot_awaited or self.stopped is not None:
            return said
        while self._may_choose():
            said += self._open_round(self._chosen + 1)
        if self._chosen == self._applied and self._stopping is not None:
            said.append(self._stop(self._stopping))
        return said

    def _may_choose(self) -> bool:
        plan = self.plan
        if self._stopping is None and self._chosen >= plan.rounds:
            self._stopping = f"all {plan.rounds} rounds are done"
        in_flight = self._chosen - self._applied
        if self._stopping is None and in_flight < plan.concurrency:
            self._stopping = refusal(plan.limits, self.used, self._dearest, in_flight)
        return self._stopping is None and in_flight < plan.concurrency

    def _open_round(self, index: int) -> list[Message]:
        plan = self.plan
        arm = self._policy.select(self.pool.arms(), self.sigma, selection_rng(plan.seed, index))
        instruction = self.pool.instruction(arm)
        tasks = [
            self._task(instruction, naive)
            for naive in self._draw(plan.batch_size, index)
            for _ in range(plan.seeds_per_prompt)
        ]
        request = RewriteRequested.make(
            self._started, round=index, instruction=instruction, tasks=tuple(tasks)
        )
        self.pool.start_pull(arm, index, len(tasks))
        current = self._rounds[index] = Round(
            request,
            history=len(self._pairs),
            living=tuple(self.pool.living()),
            tried=self._memory(),
        )
        paintings = [self._paint(request, "naive", t.naive, t.naive, t.image_seed) for t in tasks]
        for task in tasks:
            if professional := plan.professional.get(task.naive):
                paintings.append(
                    self._paint(request, "professional", task.naive, professional, task.image_seed)
                )
        current.awaited = {(p.purpose, p.naive, p.seed) for p in paintings}
        self._chosen = index
        return [request, *paintings]

    def _task(self, instruction: Instruction, naive: str) -> RewriteTask:
        draw = self._draws[instruction.id, naive]
        self._draws[instruction.id, naive] += 1
        return RewriteTask(
            naive=naive,
            image_seed=self._image_seed(naive, draw),
            llm_seed=derive_seed(self.plan.seed, "llm", instruction.id, naive, draw),
        )

    def _draw(self, count: int, index: int | str) -> list[str]:
        """Prompts for a pull, without replacement, by hash of the run's seed and the pull."""
        rng = random.Random(derive_seed(self.plan.seed, "prompts", index))
        train = self.plan.train
        return rng.sample(train, min(count, len(train)))

    def _image_seed(self, naive: str, draw: int) -> int:
        """The `draw`-th seed of a fixed list per prompt: all arms share the naive pictures."""
        return derive_seed(self.plan.seed, "image", naive, draw)

    def _paint(
        self, cause: Message, purpose: Purpose, naive: str, prompt: str, seed: int
    ) -> RenderRequested:
        if (prompt, seed) not in self._painted and cause.round in self._rounds:
            self._rounds[cause.round].renders += 1
        self._painted.add((prompt, seed))
        place = f"{purpose}/{seed}/{naive}"
        return RenderRequested.make(
            cause, place, purpose=purpose, naive=naive, prompt=prompt, seed=seed
        )

    def _memory(self) -> tuple[str, ...]:
        """What the latest improvements won, for the next gradient."""
        told = [
            f"{self._improvements[row.instruction.id]} (mean gain {row.mean:+.4f}, n={row.gains})"
            for row in self.pool.rows()
            if row.instruction.id in self._improvements and row.mean is not None
        ]
        return tuple(told[-MEMORY:])

    # -- results come in ----------------------------------------------------------------------

    def _take_answer(self, message: Answer) -> list[Message]:
        match message:
            case PromptsRewritten():
                role = "generator"
            case GradientsComputed():
                role = message.author
            case InstructionsProposed():
                role = "modifier"
        self._count_llm(message.round, role, message.usage)
        return self._follow(self._gates.ask(message, self.plan.gates))

    def _count_llm(self, index: int, role: str, usage: LlmUsage) -> None:
        self._rounds[index].llm += self.plan.prices.of_llm(role, usage)

    def _follow(self, message: Answer | ReviewRequested) -> list[Message]:
        """Ask the next gate, or take in what has passed all of them."""
        match message:
            case ReviewRequested():
                return [message]
            case PromptsRewritten():
                return self._take_rewrites(message)
            case GradientsComputed():
                return self._take_gradients(message.author, message)
            case InstructionsProposed():
                return self._take_proposals(message)

    def _take_rewrites(self, message: PromptsRewritten) -> list[Message]:
        current = self._rounds[message.round]
        current.rewrites = {(r.naive, r.image_seed): r for r in message.rewrites}
        paintings = [
            self._paint(message, "rewrite", r.naive, r.text, r.image_seed)
            for r in message.rewrites
            if r.fallback is None
        ]
        current.awaited |= {(p.purpose, p.naive, p.seed) for p in paintings}
        return [*paintings, *self._join(message.round)]

    def _take_score(self, message: ImageScored) -> list[Message]:
        picture: Picture = (message.purpose, message.naive, message.seed)
        if message.round == 0:
            self._pilot.setdefault(message.naive, []).append(message.score)
            return self._pilot_step(picture)
        current = self._rounds[message.round]
        current.awaited.discard(picture)
        current.scores[picture] = message
        return self._join(message.round)

    def _pilot_step(self, picture: Picture) -> list[Message]:
        self._pilot_awaited.discard(picture)
        return [] if self._pilot_awaited else self._end_pilot()

    def _take_failure(self, message: StepFailed) -> list[Message]:
        if message.will_retry or message.actor in self.attendance.ever:
            return []
        self._last_failure = message.cause
        picture: Picture | None = None
        if message.purpose is not None:
            picture = (message.purpose, message.naive, message.seed)
        if message.round == 0:
            return self._pilot_step(picture) if picture else []
        current = self._rounds[message.round]
        if picture is not None:
            current.awaited.discard(picture)
            return self._join(message.round)
        if message.step_kind == "RewriteRequested":
            current.rewrites = {}
            return self._join(message.round)
        if message.step_kind == "CritiqueRequested":
            known = message.actor in self.plan.authors
            return self._take_gradients(message.actor if known else BUILT_IN_AUTHOR, message)
        if message.step_kind == "ReviewRequested":
            return self._take_gate_failure(current, message)
        return self._complete(current, message)

    def _take_gate_failure(self, current: Round, message: StepFailed) -> list[Message]:
        """Go on unjudged; or, of a required gate, stop and lose what it should have judged."""
        outcome = self._gates.fail(message.step)
        if not isinstance(outcome, Refused):
            return self._follow(outcome)
        self._stopping = self._stopping or (
            f"the required gate {outcome.gate!r} failed: {message.cause}; mend it, or set "
            f"[roles.{outcome.gate}] required = false, and start a run of another name"
        )
        match outcome.answer:
            case PromptsRewritten():
                current.rewrites = {}
                return self._join(message.round)
            case GradientsComputed(author=author):
                return self._take_gradients(author, message)
            case InstructionsProposed():
                return self._complete(current, message)

    def _take_report(self, message: RoleReported) -> list[Message]:
        if not self.attendance.expects(message.role, message.round):
            # It joined in the middle and reads what went before.
            self.used += self.plan.prices.of_llm(message.role, message.usage)
            return []
        self.attendance.report(message.role, message.round, message.usage)
        return self._settle_ready()

    def _join(self, index: int) -> list[Message]:
        """Once every picture of the round is scored or lost: its result, and what it teaches."""
        current = self._rounds[index]
        if current.rewrites is None or current.awaited or current.pulled is not None:
            return []
        pulled = current.join()
        if not pulled.gains:
            return [pulled, *self._complete(current, pulled)]
        return [pulled, current.ask_critique(self._pairs, self.plan)]

    # -- from gradients to the pool -----------------------------------------------------------

    def _take_gradients(
        self, author: str, message: GradientsComputed | StepFailed
    ) -> list[Message]:
        """Once every author has written or failed: turn all of it into instructions."""
        current = self._rounds[message.round]
        current.replies[author] = message
        authors = self.plan.authors
        if any(author not in current.replies for author in authors):
            return []
        last = current.replies[authors[-1]]
        gradients = current.gradients(authors)
        if not gradients or current.critique is None:
            return self._complete(current, last)
        winners = sorted(
            (pair for pair in current.known(self._pairs) if pair.gain > 0 and not pair.fallback),
            key=lambda pair: (-pair.gain, pair.naive, pair.seed),
        )
        request = ProposalRequested.make(
            last,
            instruction=current.request.instruction,
            gradients=gradients,
            rows=current.critique.rows,
            pairs=tuple(winners[:EXEMPLAR_PAIRS]),
            living=current.living,
            batch=tuple(dict.fromkeys(task.naive for task in current.request.tasks)),
            seed=derive_seed(self.plan.seed, "proposal", message.round),
        )
        return [request]

    def _take_proposals(self, message: InstructionsProposed) -> list[Message]:
        current = self._rounds[message.round]
        current.proposed = message
        return self._complete(current, message)

    def _complete(self, current: Round, last: Message) -> list[Message]:
        """The round has said its last; apply it as soon as all earlier ones are applied."""
        current.complete = True
        current.last = last
        return self._settle_ready()

    def _settle_ready(self) -> list[Message]:
        """Settle the rounds that are complete, in order, once observers reported the one before."""
        said: list[Message] = []
        while (
            (following := self._rounds.get(self._applied + 1))
            and following.complete
            and self.attendance.complete(self._applied)
        ):
            said += self._settle(following)
            said += self._choose()
        return said

    def _settle(self, current: Round) -> list[Message]:
        assert current.pulled is not None or current.last is not None
        index = current.request.round
        gains = [(gain.naive, gain.gain) for gain in current.pulled.gains] if current.pulled else []
        self.pool.finish_pull(current.request.instruction.id, index, gains)
        self._scale = self._scale.with_groups(self.pool.replicates())
        self._pairs += current.own_pairs
        for proposal in current.proposed.proposals if current.proposed else ():
            self._improvements.setdefault(proposal.instruction.id, proposal.improvement)
            self.pool.propose(
                proposal.instruction,
                parent=current.request.instruction.id,
                round=index,
                gradient_mid=current.proposed.parent if current.proposed else "",
                author=proposal.author,
            )
        delta = self.pool.settle(self._policy, self.sigma)
        for role, used in self.attendance.count(index - 1).items():
            self._count_llm(index, role, used)
        usage = current.usage(self.plan.prices)
        self.used += usage
        self._dearest = self._dearest.or_more(usage)
        self._applied = index
        del self._rounds[index]
        self._look_for_an_end(bool(gains))
        return [
            PoolChanged.make(
                current.last or current.request,
                admitted=tuple(self.pool.instruction(arm) for arm in delta.admitted),
                retired=tuple(RetiredArm(instruction=i, reason=r) for i, r in delta.retired),
                waiting=delta.waiting,
                sigma=self.sigma,
                best=self.pool.best().instruction.id,
            )
        ]

    # -- the end ------------------------------------------------------------------------------

    def _look_for_an_end(self, had_results: bool) -> None:
        self._empty_rounds = 0 if had_results else self._empty_rounds + 1
        if self._empty_rounds >= EMPTY_ROUNDS:
            self._stopping = self._stopping or (
                f"{EMPTY_ROUNDS} rounds in a row gave no result; the last cause: "
                f"{self._last_failure or 'unknown'}"
            )
        bound = self.pool.best().lo
        if bound is not None and (self._best_bound is None or bound > self._best_bound):
            self._best_bound = bound
            self._stale_rounds = 0
        else:
            self._stale_rounds += 1
        patience = self.plan.patience
        if patience and self._stale_rounds >= patience:
            self._stopping = self._stopping or (
                f"the best instruction's lower bound has not risen for {patience} rounds"
            )

    def _stop(self, reason: str) -> RunStopped:
        best = self.pool.best().instruction.id
        self.stopped = RunStopped.make(self._started, round=self._applied, reason=reason, best=best)
        return self.stopped
