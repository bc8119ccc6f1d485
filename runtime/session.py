"""A run, from opening to its end: the only place that names concrete actors and services.

    async with Session.open("my-run", config) as session:
        async for message in session.run():
            ...
        print(session.pool.best())

Leaving the block, or `pause`, loses nothing: open it again and run on.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import structlog
from autogen_core import SingleThreadedAgentRuntime

import bigpe
from bigpe.agents.coordinator import Coordinator
from bigpe.agents.generator import Generator
from bigpe.agents.gradient import GradientCalculator
from bigpe.agents.journal import Journal
from bigpe.agents.messages import (
    CampaignPlan,
    Message,
    PlanChanged,
    RunStarted,
    RunStopped,
    StopRequested,
    start_run,
)
from bigpe.agents.modifier import InstructionModifier
from bigpe.agents.plugin_config import FoundRole, find_roles
from bigpe.agents.pool import Pool
from bigpe.agents.role import RetryRule, Role, UnhandledMessageError
from bigpe.agents.role_messages import RolesChanged
from bigpe.agents.workers import RenderWorker, ScoreWorker
from bigpe.runtime.changes import Change, compare, require_allowed
from bigpe.runtime.config import BigpeConfig, check_config
from bigpe.runtime.forks import best_of, require_forkable
from bigpe.runtime.guests import Guests, names_of, with_guests, with_observers_of
from bigpe.runtime.history import COORDINATOR, plan_of, replayed_campaign, scorer_of
from bigpe.runtime.locks import run_lock
from bigpe.runtime.plan import make_plan, naive_set, seed_instructions
from bigpe.runtime.project import Project
from bigpe.runtime.run_clock import RunClock
from bigpe.runtime.stack import Services, open_services
from bigpe.services.effects import Effects
from bigpe.services.errors import BigpeError, ConfigError
from bigpe.services.held_out import TrainOnlyMemo
from bigpe.services.library import PromptLibrary
from bigpe.services.render import Renderer
from bigpe.services.score import Scorer, require_same_scorer
from bigpe.services.store import Store

log = structlog.get_logger("bigpe.session")

CONSUMERS: Mapping[str, tuple[str, ...]] = {
    "RunStarted": (COORDINATOR,),
    "PlanChanged": (COORDINATOR,),
    "StopRequested": (COORDINATOR,),
    "PromptsRewritten": (COORDINATOR,),
    "ImageScored": (COORDINATOR,),
    "GradientsComputed": (COORDINATOR,),
    "InstructionsProposed": (COORDINATOR,),
    "StepFailed": (COORDINATOR,),
    "GateDecided": (COORDINATOR,),
    "RoleReported": (COORDINATOR,),
    "RolesChanged": (COORDINATOR,),
    "RewriteRequested": ("generator",),
    "RenderRequested": ("renderer",),
    "ScoreRequested": ("scorer",),
    "CritiqueRequested": ("gradient",),
    "ProposalRequested": ("modifier",),
}
"""Who each kind of message is delivered to; kinds that are not here are facts for readers."""

STOP_WAIT_S = 30.0


class Session:
    """One run of a project, open for writing in this process. Make it with `Session.open`."""

    def __init__(
        self,
        name: str,
        config: BigpeConfig,
        project: Project,
        store: Store,
        services: Services,
        scores: TrainOnlyMemo,
        changes: Sequence[Change] = (),
    ) -> None:
        self.name = name
        self.changes = tuple(changes)
        """What `config` changes of the run's stored configuration."""
        self.config = config
        self.project = project
        self.services = services
        self._store = store
        self._scores = scores
        self._journal = Journal(store, name)
        self._coordinator: Coordinator | None = None
        self._guests = Guests()
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        self._wakers: set[asyncio.Task[Any]] = set()
        self._clock: RunClock | None = None

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        name: str,
        config: BigpeConfig | Mapping[str, Any] | None = None,
        *,
        project: Path | str = ".",
        llms: Mapping[str, Any] | None = None,
        renderer: Renderer | None = None,
        scorer: Scorer | None = None,
        retry: RetryRule | None = None,
        parent: str = "",
        from_best: bool = False,
    ) -> AsyncGenerator[Session]:
        """Open a run for writing: a new one by `config`, or the stored one of that name.

        `llms` (by role, "default" for the rest), `renderer` and `scorer` replace what the
        configuration names. Of a stored run `config` may raise or lower the limits, and what else
        changes.MAY_CHANGE lists; a run that such a limit has stopped goes on. `parent` makes it a
        fork of that run, `from_best` with the parent's best instruction among its seeds. Raises
        RunLockedError when another process writes the run, ConfigError when `config` changes what
        the run's results depend on.
        """
        place = Project(Path(project))
        place.check_run_name(name)
        async with AsyncExitStack() as stack:
            stack.enter_context(run_lock(place.lock(name), name))
            given = None if config is None else _as_config(config).with_word_files(place.folder)
            wanted = given or await _stored(place, name)
            durability = wanted.run.durability
            # Sealed: nothing in a run can read what is known of the prompts it is judged by.
            store = await stack.enter_async_context(
                Store(place.database, durability=durability, sealed=True)
            )
            if parent:
                await require_forkable(store, parent, name)
            changes = await _changes(store, name, wanted)
            scores = TrainOnlyMemo(effects := Effects(store))
            services = await stack.enter_async_context(
                open_services(
                    wanted,
                    place,
                    effects,
                    scores,
                    run=name,
                    llms=llms,
                    renderer=renderer,
                    scorer=scorer,
                )
            )
            session = cls(name, wanted, place, store, services, scores, changes)
            await session._prepare(retry or RetryRule(), parent, from_best)
            stack.push_async_callback(session._close)
            yield session

    # -- what people ask ----------------------------------------------------------------------

    @property
    def coordinator(self) -> Coordinator:
        """The coordinator actor, with the campaign's state."""
        if self._coordinator is None:
            raise RuntimeError("open the session with `async with Session.open(...)`")
        return self._coordinator

    @property
    def pool(self) -> Pool:
        """The instruction pool as it stands."""
        return self.coordinator.campaign.pool

    @property
    def started(self) -> bool:
        """Whether the coordinator has taken up the run's first message."""
        return self.coordinator.campaign.started

    @property
    def complete(self) -> bool:
        """Whether the run has reached its end."""
        return self.coordinator.campaign.stopped is not None

    @property
    def seconds(self) -> float:
        """How long the run has worked, over all processes that ran it; 0 before `run`."""
        return self._clock.seconds if self._clock else 0.0

    async def run(self) -> AsyncIterator[Message]:
        """Run until the end or a pause, yielding every message once it is stored.

        Raises what broke the run from inside (a full disk, say); all that was stored stays.
        ScoreError when the scorer is not the one that gave the run's earlier scores.
        """
        if self.complete:
            await self._guests.catch_up()
            while not self._events.empty():
                yield self._events.get_nowait()
            return
        await self._start_clock()
        await self.services.open_models()
        await self._require_same_scorer()
        self._runtime.start()
        await self._store.write([("set_run_state", self._state("running", ""))])
        await self._journal.publish("", await self._journal.owed())
        ended = asyncio.create_task(self._ended())
        self._wakers.add(ended)
        while True:
            waiting = asyncio.create_task(self._events.get())
            await asyncio.wait({waiting, ended}, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                yield waiting.result()
                continue
            waiting.cancel()
            break
        while not self._events.empty():
            yield self._events.get_nowait()
        await self._note_end(ended)

    @property
    def pausing(self) -> bool:
        """Whether a pause was asked for."""
        return self._journal.draining

    def pause(self) -> None:
        """Take up no further message; what is in flight is finished and stored."""
        self._journal.draining = True
        if not self._pausing.done():
            self._pausing.set_result(None)

    async def request_stop(self, reason: str) -> None:
        """Start no further round; those in flight end, then the run is complete."""
        campaign = self.coordinator.campaign
        cause = start_run(self.name, campaign.plan)
        place = str(campaign.changes or "")  # a change lifts the stop, and another may follow
        message = StopRequested.make(cause, place, reason=reason)
        await self._journal.commit("", [message])
        await self._journal.publish("", [message])

    # -- inside -------------------------------------------------------------------------------

    async def _require_same_scorer(self) -> None:
        earlier = await scorer_of(self._store, self.name)
        if earlier is not None:
            require_same_scorer(earlier, await self.services.score.open())

    async def _prepare(self, retry: RetryRule, parent: str, from_best: bool) -> None:
        self._pausing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        campaign = await replayed_campaign(self._store, self.name)
        self._runtime = SingleThreadedAgentRuntime(ignore_unhandled_exceptions=False)
        roles = find_roles(self.config.roles)
        self._journal.attach(self._runtime, with_guests(CONSUMERS, roles))
        self._coordinator = Coordinator(self._journal, campaign)
        library = PromptLibrary(self._store)
        llm, journal = self.services.llm, self._journal
        rules = self.config.constraints
        actors: dict[str, Role] = {
            COORDINATOR: self._coordinator,
            "generator": Generator(
                journal,
                llm("generator"),
                constraints=rules,
                concurrency=self.config.run.concurrency,
                retry=retry,
            ),
            "gradient": GradientCalculator(
                journal, llm("gradient"), sees=llm("gradient").sees, retry=retry
            ),
            "modifier": InstructionModifier(
                journal, llm("modifier"), library.search, constraints=rules, retry=retry
            ),
            "renderer": RenderWorker(journal, self.services.render, retry=retry),
            "scorer": ScoreWorker(journal, self.services.score, retry=retry),
        }
        for name, actor in actors.items():
            kinds = [kind for kind, consumers in CONSUMERS.items() if name in consumers]
            await actor.join(self._runtime, name, kinds)
        owed = await self._journal.owed()
        await self._guests.join(roles, self._runtime, journal, self.services, retry)
        if campaign.started or owed:
            plan = campaign.plan if campaign.started else _plan_of(owed)
            self._scores.admit(plan.train)
            await self._tell_observers(plan, names_of(roles, "observer"))
            await self._change_plan(owed)
        else:
            await self._start(library, roles, parent, from_best)
        self._journal.listen(self._events.put_nowait)

    async def _tell_observers(self, plan: CampaignPlan, observers: tuple[str, ...]) -> None:
        """Tell the coordinator when others than before read along."""
        campaign = self.coordinator.campaign
        before = tuple(campaign.attendance.since) if campaign.started else plan.observers
        if observers != before and not self.complete:
            place = f"{campaign.attendance.changes}/{','.join(observers)}"
            cause = start_run(self.name, plan)
            await self._journal.commit("", [RolesChanged.make(cause, place, observers=observers)])

    async def _change_plan(self, owed: Sequence[Message]) -> None:
        """Let the coordinator take up changes now, so that it is known whether the run goes on."""
        changed = any(change.verdict == "takes effect" for change in self.changes)
        early = [m for m in owed if isinstance(m, RunStarted | PlanChanged)]
        if changed or any(isinstance(message, PlanChanged) for message in early):
            for message in early:
                await self.coordinator.fold(message)
        store_config = {"name": self.name, "config": self.config.model_dump_json()}
        if changed:
            campaign, run, budget = self.coordinator.campaign, self.config.run, self.config.budget
            message = PlanChanged.make(
                start_run(self.name, campaign.plan),
                str(campaign.changes + 1),
                rounds=run.rounds,
                concurrency=run.concurrency,
                patience=run.patience,
                limits=budget.limits,
                prices=self.config.prices,
            )
            await self._journal.commit("", [message], also=[("set_run_config", store_config)])
            await self.coordinator.fold(message)
        elif self.changes:
            await self._store.write([("set_run_config", store_config)])
        if self.changes and (stopped := self.coordinator.campaign.stopped):
            state = self._state("complete", stopped.reason)
            await self._store.write([("set_run_state", state)])

    async def _start(
        self, library: PromptLibrary, roles: Sequence[FoundRole], parent: str, from_best: bool
    ) -> None:
        """Freeze the run's inputs into its first message."""
        await library.add_packaged()
        prompts = naive_set(self.config, self.project.folder)
        if prompts.warning:
            log.warning("naive prompts", note=prompts.warning)
        seeds = seed_instructions()
        if from_best:
            best = await best_of(self._store, parent)
            seeds += [best] if best.instruction not in [s.instruction for s in seeds] else []
        plan = await make_plan(self.config, prompts.of("train"), seeds, library, roles)
        # A model that cannot be loaded is found here, before the run exists.
        await self.services.open_models()
        record = {
            "name": self.name,
            "created": time.time(),
            "config": self.config.model_dump_json(),
            "version": bigpe.__version__,
        }
        lineage = {"name": self.name, "parent": parent}
        await self._store.write([("add_run", record), ("set_run_parent", lineage)])
        await self._journal.commit("", [start_run(self.name, plan)])
        self._scores.admit(plan.train)

    async def _start_clock(self) -> None:
        row = await self._store.one("get_run", name=self.name)
        self._clock = RunClock(self._store, self.name, row["seconds"] if row else 0.0)
        self._wakers.add(asyncio.create_task(self._clock.keep()))
        if minutes := self.config.budget.minutes:
            self._wakers.add(asyncio.create_task(self._stop_in_time(self._clock, minutes)))

    async def _stop_in_time(self, clock: RunClock, minutes: float) -> None:
        await clock.reach(minutes)
        await self.request_stop(
            f"the budget of {minutes:g} minutes is used; raise [budget] minutes to go on"
        )

    async def _ended(self) -> None:
        """Returns when the run is complete, paused and idle, or broken."""
        stopped = asyncio.create_task(self._wait_for_stop())
        try:
            await asyncio.wait(
                {stopped, self._pausing, self._journal.broken},
                return_when=asyncio.FIRST_COMPLETED,
            )
            if stopped.done():
                await self._guests.catch_up()
        finally:
            stopped.cancel()
        self._journal.draining = True
        await self._journal.drained()

    async def _wait_for_stop(self) -> None:
        arrived = asyncio.Event()

        def notice(message: Message) -> None:
            if isinstance(message, RunStopped):
                arrived.set()

        self._journal.listen(notice)
        if not self.complete:
            await arrived.wait()

    async def _note_end(self, ended: asyncio.Task[None]) -> None:
        await ended
        if self._journal.broken.done() and (error := self._journal.broken.exception()):
            with contextlib.suppress(BigpeError):
                await self._store.write([("set_run_state", self._state("failed", str(error)))])
            raise error
        stopped = self.coordinator.campaign.stopped
        state = self._state("complete", stopped.reason) if stopped else self._state("paused", "")
        await self._store.write([("set_run_state", state)])

    def _state(self, state: str, reason: str) -> dict[str, str]:
        return {"name": self.name, "state": state, "reason": reason}

    async def _close(self) -> None:
        self._journal.draining = True
        for task in self._wakers:
            task.cancel()
        await asyncio.gather(*self._wakers, return_exceptions=True)
        if self._clock is not None:
            with contextlib.suppress(BigpeError):
                await self._clock.note()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._journal.drained(), STOP_WAIT_S)
        await self._guests.close()
        if self._journal.broken.done():
            self._journal.broken.exception()
        else:
            self._journal.broken.cancel()
        # Either it was never started, or its error was told already, through the journal.
        with contextlib.suppress(RuntimeError, UnhandledMessageError):
            await self._runtime.stop()


def _as_config(config: BigpeConfig | Mapping[str, Any]) -> BigpeConfig:
    if isinstance(config, BigpeConfig):
        return config
    return check_config(dict(config), where="the configuration given to Session.open")


def _plan_of(messages: Iterable[Message]) -> CampaignPlan:
    """The plan in a run's first message, which is among those owed."""
    return next(message.plan for message in messages if isinstance(message, RunStarted))


async def _stored(project: Project, name: str) -> BigpeConfig:
    """The configuration that a run has. ConfigError when there is no such run."""
    if project.database.exists():
        async with Store(project.database, read_only=True) as store:
            # Of any schema: the file may be older than this bigpe.
            row = await store.one("get_run_config", name=name)
        if row is not None:
            return BigpeConfig.model_validate_json(row["config"])
    raise ConfigError(f"there is no run {name!r} here; start it with `bigpe run {name}`")


async def _changes(store: Store, name: str, wanted: BigpeConfig) -> list[Change]:
    """What `wanted` changes of the run's configuration; ConfigError when it may not."""
    row = await store.one("get_run", name=name)
    if row is None:
        return []
    stored = BigpeConfig.model_validate_json(row["config"])
    current = await _with_observers(store, name, stored, wanted)
    changes = compare(current, wanted)
    require_allowed(name, changes)
    if current != stored:
        record = {"name": name, "config": current.model_dump_json()}
        await store.write([("set_run_config", record)])
    return changes


async def _with_observers(
    store: Store, name: str, stored: BigpeConfig, wanted: BigpeConfig
) -> BigpeConfig:
    """The run's configuration with the observers of `wanted`, which may come and go."""
    if (stored.roles, stored.llm) == (wanted.roles, wanted.llm):
        return stored
    plan = await plan_of(store, name)
    return with_observers_of(stored, wanted, plan) if plan else stored
