"""The serving process: listens at once, is ready when the model is loaded and warm, and ends without losing a request."""

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import uvicorn
import uvloop

from edgepod import admission, connections, loading
from edgepod.app import App
from edgepod.dataplane import Plane
from edgepod.engine import LoadError
from edgepod.marks import override
from edgepod.splitter import Splitter

DRAIN_SECONDS: Final = 30.0
SETTLE_SECONDS: Final = 3.0
"""After SIGTERM new connections still come until every node has heard that this pod is going."""
_IDLE_SECONDS: Final = 5.0
log = logging.getLogger("edgepod")


@dataclass(frozen=True, slots=True)
class Options:
    """What to serve and where."""

    source: loading.Local | loading.Remote
    host: str = "0.0.0.0"  # noqa: S104 (a pod is reached by its address)
    port: int = 8080
    agent: str = ""
    workload: str = ""
    max_requests: int = 64
    run_timeout: float = 30.0
    settle_seconds: float = SETTLE_SECONDS


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: it closes idle connections at once, while callers may be writing to them."""

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit as error:  # uvicorn's way to say that it cannot listen
            raise OSError(f"cannot listen on {self.config.host}:{self.config.port}; is it in use?") from error
        for server in self.servers:
            for listening in server.sockets:
                host, port = listening.getsockname()[:2]
                log.info("listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)

    @override
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(options: Options) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit status: 0, or 1 when a local model cannot be loaded."""
    return uvloop.run(_Process(options).run())


class _Process:
    def __init__(self, options: Options) -> None:
        self._options = options
        self._plane = Plane(options.run_timeout)
        self._splitter = Splitter(options.agent, options.workload) if options.agent else None
        app = App(self._plane, admission.Gate(options.max_requests), self._splitter)
        self._server = _Server(connections.config(app, options.host, options.port))
        self._failed = False
        self._ending: asyncio.Task[None] | None = None

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._end, self._options.settle_seconds)
        loop.add_signal_handler(signal.SIGINT, self._end, 0.0)
        # A daemon thread: loading may wait for the store for ever, and must not keep the process from ending.
        threading.Thread(target=self._load, args=(loop,), name="loading", daemon=True).start()
        polling = asyncio.create_task(self._splitter.run()) if self._splitter is not None else None
        try:
            await self._server.serve()
        except OSError as error:
            log.error("%s", error)  # noqa: TRY400 (the message says it all)
            self._failed = True
        if polling is not None:
            polling.cancel()
        if self._splitter is not None:
            self._splitter.close()
        return 1 if self._failed or not self._server.started else 0

    # -- loading --------------------------------------------------------------------------------------

    def _load(self, loop: asyncio.AbstractEventLoop) -> None:
        """On the loading thread."""

        def waiting(reason: str, message: str) -> None:
            loop.call_soon_threadsafe(self._plane.not_ready, reason, message)

        try:
            loaded = loading.load(self._options.source, waiting)
        except LoadError as error:
            loop.call_soon_threadsafe(self._cannot_load, error)
        except Exception as error:
            log.exception("loading failed")
            loop.call_soon_threadsafe(self._cannot_load, LoadError("LoadFailed", str(error)))
        else:
            loop.call_soon_threadsafe(self._loaded, loaded)

    def _loaded(self, loaded: loading.Loaded) -> None:
        if self._splitter is not None:
            self._splitter.model = loaded.identity.name
        self._plane.serve(loaded.identity, loaded.engine, loaded.run_ms)
        if self._plane.draining:
            self._plane.drain()
        # What is here now stays: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        speed = "not warmed up" if loaded.run_ms is None else f"{loaded.run_ms:.2f} ms a run"
        log.info("ready: %s version %s, %s", loaded.identity.name, loaded.identity.version, speed)

    def _cannot_load(self, error: LoadError) -> None:
        log.error("cannot serve: %s: %s", error.reason, error)
        self._plane.not_ready(error.reason, str(error))
        if isinstance(self._options.source, loading.Local):
            # The user is waiting in front of it. In a site the pod stays and tells its reason in the health document.
            self._failed = True
            self._server.should_exit = True

    # -- ending ---------------------------------------------------------------------------------------

    def _end(self, settle: float) -> None:
        if self._ending is not None:
            self._server.should_exit = self._server.force_exit = True  # asked twice
            return
        self._ending = asyncio.create_task(self._drain(settle))

    async def _drain(self, settle: float) -> None:
        """Not ready; every answer says `Connection: close`; when nobody is left, or at the end of the time, stop."""
        log.info("draining for up to %.0f s", DRAIN_SECONDS)
        self._plane.drain()
        began = time.monotonic()
        await asyncio.sleep(settle)
        while self._busy(idle_counts=settle > 0 and time.monotonic() < began + _IDLE_SECONDS):
            if time.monotonic() > began + DRAIN_SECONDS:
                break
            await asyncio.sleep(0.05)
        left = DRAIN_SECONDS - (time.monotonic() - began)
        self._server.config.timeout_graceful_shutdown = max(1, int(left))
        self._server.should_exit = True

    def _busy(self, *, idle_counts: bool) -> bool:
        """Whether somebody still waits for an answer, or (`idle_counts`) is connected and may be about to ask."""
        open_connections: set[Any] = self._server.server_state.connections
        return any(idle_counts or not connections.idle(connection) for connection in open_connections)
