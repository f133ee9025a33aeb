"""The one connection of a site to its hub: orders and policy down, beats and reports up.

Everything here may fail for weeks; nothing outside of here waits for it. Absence on the hub, a lost right or an
empty namespace is never an instruction.
"""

import asyncio
import base64
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from edgefleet.agent.identity import Identity, JoinRefused
from edgefleet.agent.journal import Journal, JournalError, Policy
from edgefleet.agent.keeping import keep_open
from edgefleet.agent.orders import Orders
from edgefleet.agent.outbox import Outbox
from edgefleet.agent.policy import SitePolicy
from edgefleet.agent.renewal import Renewals
from edgefleet.agent.silence import Silence
from edgefleet.core import names
from edgefleet.core.order import Report
from edgefleet.kube import apply, errors, kinds, watching
from edgefleet.kube.client import Api, Object
from edgefleet.kube.watching import Pace, Watcher

log = logging.getLogger(__name__)

REGISTRY: Final = "registry"
"""Secret in the site's namespace on the hub, of type kubernetes.io/dockerconfigjson."""
_DOCKER_CONFIG: Final = ".dockerconfigjson"
_SPREAD: Final = 30.0
"""Seconds over which a fleet that comes back together lists, reports and pulls; see `watching.spread`."""
_WATCH: Final = Pace(shortest=1800.0, longest=3600.0, first_pause=1.0, longest_pause=20.0, spread=_SPREAD)
_FIRST_RETRY: Final = 2.0
_LONGEST_RETRY: Final = 30.0
_REJOIN_EVERY: Final = 300.0
_AGENT_EVERY: Final = 3600.0


class Link:
    """Holds the connection while it can be held. `run` never returns."""

    def __init__(
        self,
        identity: Identity,
        journal: Journal,
        site: str,
        *,
        policy: SitePolicy,
        ring: Callable[[str], None],
        back: Callable[[], None],
        changed: Callable[[], None],
        registry: Callable[[bytes], None],
        describe: Callable[[], Awaitable[dict[str, Any]]],
    ) -> None:
        """`ring(name)` asks for a pass over a model, `back()` says that the hub is heard again, `changed()` that
        another policy is in the journal.
        `registry(config)` takes the docker config.json with which bundles are read; `describe` gives the
        agent's own status.
        """
        self.heard: float | None = None
        """Monotonic seconds of the hub's latest answer in this life of the agent."""
        self.trouble: tuple[str, str] = ("Joining", "")
        """Why there is no link, as reason and message; empty reason while there is one."""
        self.synced = asyncio.Event()
        """Set once the hub's orders were listed completely in this life."""
        self._identity = identity
        self._renewal = Renewals(identity)
        self._journal = journal
        self._site = site
        self._namespace = names.site_namespace(site)
        self._ring = ring
        self._back = back
        self._policy = policy
        self._changed = changed
        self._registry = registry
        self._describe = describe
        self._orders = Orders(journal)
        self._outbox = Outbox(self._orders, self._namespace, ring, self._heard)
        self._arrivals: asyncio.Queue[tuple[str, Object]] = asyncio.Queue()
        self._agent_now = asyncio.Event()
        self._policy_changed = asyncio.Event()
        self._fetching_policy = asyncio.Lock()
        self._silence = Silence(journal)

    # -- for the rest of the agent ---------------------------------------------------------------------
    @property
    def silent(self) -> float:
        """Seconds since the hub was last heard, in this life of the agent or an earlier one."""
        return self._silence.seconds

    def knows(self, name: str) -> bool:
        """Return whether the hub has this order now, as far as was heard."""
        return name in self._orders.live

    def report(self, name: str, report: Report) -> None:
        """Have a report sent when it is worth it."""
        self._outbox.put(name, report)

    def news(self) -> None:
        """Have the agent's own status sent."""
        self._agent_now.set()

    # -- the link ----------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Join, hold the link, join again; for ever."""
        await asyncio.gather(self._silence.keep(), self._join_and_hold())

    async def _join_and_hold(self) -> None:
        pause = _FIRST_RETRY
        while True:
            try:
                await self._identity.ensure()
                await self._hold()
                pause = _FIRST_RETRY
            except JoinRefused as error:
                self._troubled(error.reason, str(error))
                pause = min(_REJOIN_EVERY, max(15.0, pause * 2))
            except errors.ApiError as error:
                self._troubled("HubUnreachable", error.message)
                pause = min(_LONGEST_RETRY, pause * 2)
            except (ValueError, JournalError) as error:
                self._troubled("LinkBroken", str(error))
                pause = min(_REJOIN_EVERY, pause * 2)
            await asyncio.sleep(pause * random.uniform(0.7, 1.0))  # noqa: S311  jitter is no secret

    def _troubled(self, reason: str, message: str) -> None:
        if self.trouble != (reason, message):
            log.warning("No link to the hub", extra={"reason": reason, "error": message})
        self.trouble = (reason, message)

    async def _hold(self) -> None:
        """Run everything that needs the hub until the credential changes or is refused."""
        access = self._identity.access()
        self._orders.connected()
        self._arrivals = asyncio.Queue()
        async with Api.explicit(access, manager=names.AGENT_MANAGER, in_flight=2, keepalive=None) as api:
            watcher = Watcher(
                api, kinds.EDGE_DEPLOYMENT, self._arrive, namespace=self._namespace, pace=_WATCH
            )
            work = [
                watcher.run(),
                self._beats(api, watcher),
                self._take_orders(),
                self._outbox.run(api),
                self._send_agent(api),
                self._renewals(),
                keep_open(api),
            ]
            tasks = [asyncio.ensure_future(item) for item in work]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _renewals(self) -> None:
        """End the hold with a fresh certificate when it is time for one; without one the hold goes on."""
        while not (self._renewal.due() and await self._renewal.attempt()):  # noqa: ASYNC110  time is all there is
            await asyncio.sleep(random.uniform(30.0, 90.0))  # noqa: S311  jitter is no secret

    # -- beats -------------------------------------------------------------------------------------------
    async def _beats(self, api: Api, watcher: Watcher) -> None:
        refused, pause = 0, _FIRST_RETRY
        while True:
            try:
                lease = await api.merge_patch(kinds.LEASE, self._namespace, names.LEASE, self._beat())
            except errors.Unauthorized as error:
                refused += 1
                self._troubled("HubRefuses", error.message)
                if refused >= 3:  # not a server that is just starting: the certificate is worth nothing
                    await self._rejoin()
                    return
                await asyncio.sleep(10.0)
            except errors.ApiError as error:
                self._troubled("HubUnreachable", error.message)
                pause = min(_LONGEST_RETRY, pause * 2)
                await asyncio.sleep(pause * random.uniform(0.7, 1.0))  # noqa: S311  jitter
            else:
                refused, pause = 0, _FIRST_RETRY
                self._heard(api)
                await self._compare(api, lease, watcher)
                await self._until_next_beat()

    async def _until_next_beat(self) -> None:
        """Wait for one interval; a new policy may shorten it."""
        self._policy_changed.clear()
        with contextlib.suppress(TimeoutError):
            pause = self._policy.interval * random.uniform(0.95, 1.0)  # noqa: S311  jitter is no secret
            await asyncio.wait_for(self._policy_changed.wait(), pause)

    async def _fetch_policy(self, api: Api) -> Object:
        """Bring policy and journal in line; return the EdgeAgent. Raises ApiError, JournalError.

        One at a time: of two answers the older one must not be written last.
        """
        async with self._fetching_policy:
            found = await api.get(kinds.EDGE_AGENT, self._namespace, names.AGENT)
            policy = Policy(spec=found.get("spec") or {}, generation=found["metadata"]["generation"])
            if policy != self._journal.policy:
                await self._journal.set_policy(policy)
                self._policy_changed.set()
                self._agent_now.set()
                self._changed()  # what was allowed may be so no more, and the other way round
        return found

    def _beat(self) -> Object:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        seconds = max(1, int(self._policy.interval * 3))
        return {"spec": {"holderIdentity": self._site, "renewTime": now, "leaseDurationSeconds": seconds}}

    def _heard(self, api: Api) -> None:
        was_troubled, self.trouble = self.trouble[0], ("", "")
        silent = self._silence.seconds
        self.heard = time.monotonic()
        self._silence.heard()
        if api.server_date:
            self._policy.clock.heard(parsedate_to_datetime(api.server_date).timestamp())
            self._renewal.heard(api.server_date)
        if was_troubled:
            log.info("Link to the hub", extra={"site": self._site})
            # everybody who was cut off comes back now: those who were away long take their time
            pause = watching.spread(silent, _SPREAD)
            asyncio.get_running_loop().call_later(pause, self._resume)

    def _resume(self) -> None:
        """Take up what waited for the hub: reports, the agent's own status, downloads that failed."""
        self._agent_now.set()
        self._outbox.wake()
        self._back()

    async def _compare(self, api: Api, lease: Object, watcher: Watcher) -> None:
        """Find out whether something was missed: a watch may be dead without anybody noticing."""
        told = (lease["metadata"].get("annotations") or {}).get(names.FINGERPRINT)
        if told is None or watcher.listing or told == self._orders.fingerprint():
            return
        await self._fetch_policy(api)
        self._agent_now.set()
        if told != self._orders.fingerprint():
            watcher.relist()

    async def _rejoin(self) -> None:
        try:
            await self._identity.join()
        except JoinRefused as error:
            self._troubled(error.reason, str(error))
            await asyncio.sleep(_REJOIN_EVERY)

    # -- orders --------------------------------------------------------------------------------------------
    def _arrive(self, event: str, item: Object) -> None:
        self._arrivals.put_nowait((event, item))

    async def _take_orders(self) -> None:
        while True:
            event, item = await self._arrivals.get()
            if event == watching.SYNCED:
                self._orders.complete()
                self.synced.set()
                self._agent_now.set()
                for name in self._journal.models:
                    self._ring(name)
                continue
            name = item["metadata"]["name"]
            if event == watching.DELETED:
                self._orders.gone(name)
                self._agent_now.set()  # one more orphan, perhaps
            else:
                await self._orders.take(name, item)
            self._ring(name)

    # -- the agent's own status ---------------------------------------------------------------------------
    async def _send_agent(self, api: Api) -> None:
        """Say what the site is, when it changes; small changes of free space are none."""
        pause = _FIRST_RETRY
        while True:
            self._agent_now.clear()
            try:
                live = await self._fetch_policy(api)
                await self._read_registry(api)
                await apply.patch_status(api, kinds.EDGE_AGENT, live, await self._describe())
                pause = _FIRST_RETRY
            except errors.ApiError as error:
                pause = min(_LONGEST_RETRY, pause * 2)
                log.info("Agent status not sent", extra={"error": error.message})
                await asyncio.sleep(pause * random.uniform(0.7, 1.0))  # noqa: S311  jitter
                continue
            await self._wait_for_agent_news()

    async def _read_registry(self, api: Api) -> None:
        """Fetch the credential the hub may have for the registry; without one, what there was stays."""
        try:
            found = await api.get(kinds.SECRET, self._namespace, REGISTRY)
            self._registry(base64.b64decode((found.get("data") or {}).get(_DOCKER_CONFIG, "")))
        except (errors.NotFound, errors.Forbidden):
            return
        except ValueError as error:
            log.warning("Registry credential unreadable", extra={"secret": REGISTRY, "error": str(error)})

    async def _wait_for_agent_news(self) -> None:
        try:
            await asyncio.wait_for(self._agent_now.wait(), _AGENT_EVERY)
        except TimeoutError:
            return
        await asyncio.sleep(2.0)  # several reasons come together
