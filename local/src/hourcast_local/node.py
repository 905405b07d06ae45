"""The node of one machine: what a Deployment, its pods, its Service and Jobs are on a cluster.

It keeps the desired version on disk and brings about what it says: start the new server, wait until it is ready,
move traffic, drain the old one, stop it. It needs no controller for that, so a roll ends by itself.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from hourcast.contracts import version_number
from hourcast.slots import raise_file_limit
from hourcast_local import children
from hourcast_local.desired import Desired
from hourcast_local.jobs import Jobs
from hourcast_local.proxy import Proxy
from hourcast_local.servers import Server, free_port, is_free

__all__ = ["Commands", "Node", "main"]

_LOG = logging.getLogger("hourcast.node")
_QUICK_DEATH_S = 5.0
_STARTS = 3
_RETRY_S, _LONGEST_RETRY_S = 10.0, 300.0
_PROBE_EVERY_S, _PROBES_FAILED = 2.0, 3


@dataclass(frozen=True, slots=True)
class Commands:
    """How servers and jobs are started; tests start others."""

    serve: Callable[[int, int], Sequence[str]] = lambda version, port: [
        sys.executable, "-m", "hourcast_bento", "serve", "--version", str(version), "--port", str(port),
    ]  # fmt: skip
    job: Callable[[Sequence[str]], Sequence[str]] = lambda args: [
        sys.executable,
        "-m",
        "hourcast_bento",
        *args,
    ]


class Node:
    """One node. `run` serves the API, the control interface and the roll until told to stop."""

    def __init__(
        self,
        folder: Path,
        api_port: int,
        node_port: int,
        *,
        commands: Commands | None = None,
        ready_timeout_s: float = 60.0,
        drain_timeout_s: float = 30.0,
        host: str = "127.0.0.1",
    ) -> None:
        self._folder, self._api_port, self._node_port, self._host = folder, api_port, node_port, host
        self._commands = commands or Commands()
        self._ready_timeout_s, self._drain_timeout_s = ready_timeout_s, drain_timeout_s
        self._file = folder / "deployment.json"
        self._desired = Desired.read(self._file)
        self._active: Server | None = None
        self._progress = "idle"
        self._failed: tuple[int, int, str] | None = None
        self._failed_code: int | None = None
        self._failures, self._try_again_s = 0, 0.0
        self._retired: list[Server] = []
        self._jobs = Jobs(folder / "jobs", self._commands.job)
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._ending = asyncio.Event()
        self._quick_deaths = 0
        self._proxy = Proxy(self._why_none)

    # -- control interface ----------------------------------------------------------------------

    async def _get_deployment(self, _request: web.Request) -> web.Response:
        d, active = self._desired, self._active
        failed = self._failed if self._failed and self._failed[0] == d.generation else None
        replicas = [s for s in (active, *self._retired) if s is not None]
        serving = active if active is not None and active.ready and active.alive else None
        return web.json_response(
            {
                "annotations": d.annotations,
                "pod_template": {"annotations": d.template},
                "generation": d.generation,
                "status": {
                    "serving_version": serving.version if serving else None,
                    "serving_alias": serving.alias if serving else None,
                    "rolling": self._rolling(),
                    "progress": self._progress,
                    "failed_version": failed[1] if failed else None,
                    "failure": failed[2] if failed else None,
                    "failed_exit_code": self._failed_code if failed else None,
                    "replicas": [
                        {
                            "pid": s.process.pid,
                            "port": s.upstream.port,
                            "version": s.version,
                            "ready": s.ready,
                        }
                        for s in replicas
                    ],
                },
            }
        )

    def _rolling(self) -> bool:
        wanted = self._desired.version
        if wanted is None or (self._failed is not None and self._failed[0] == self._desired.generation):
            return False
        return self._active is None or self._active.version != wanted or not self._active.ready

    async def _patch_deployment(self, request: web.Request) -> web.Response:
        try:
            body = await request.json()
            annotations = body.get("annotations", {})
            template = body.get("pod_template", {}).get("annotations", {})
            values = [*annotations.values(), *template.values()]
            if not all(value is None or isinstance(value, str) for value in values):
                raise TypeError("annotations are strings or null")
        except (ValueError, AttributeError, TypeError) as error:
            return web.json_response({"detail": f"not a patch: {error}"}, status=422)
        expected = body.get("expected_generation")
        if expected is not None and expected != self._desired.generation:
            return web.json_response({"detail": f"generation is {self._desired.generation}"}, status=409)
        self._desired.patch(annotations, template)
        self._desired.save(self._file)
        self._wake.set()
        return await self._get_deployment(request)

    async def _retire(self, server: Server) -> None:
        """Let requests end, then stop the server."""
        self._retired.append(server)
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(server.upstream.idle.wait(), self._drain_timeout_s)
        finally:
            await children.stop(server.process)
            self._retired.remove(server)

    # -- the roll -------------------------------------------------------------------------------

    async def _reconcile_forever(self, session: aiohttp.ClientSession) -> None:
        last = self._desired.last_served
        before = version_number(last.get("version"))
        if before is not None and before != self._desired.version:
            # What served before is known to work: serve it while the other is tried.
            try:
                await self._bring_up(before, last.get("alias"), session, note_failure=False)
            except OSError:
                _LOG.exception("version %d could not be started at first", before)
        next_probe = 0.0
        while True:
            try:
                await self._reconcile(session)
                if time.monotonic() >= next_probe:
                    next_probe = time.monotonic() + _PROBE_EVERY_S
                    await self._probe(session)
            except OSError:
                _LOG.exception("the node failed at a step and goes on")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), 0.2)
            self._wake.clear()

    async def _reconcile(self, session: aiohttp.ClientSession) -> None:
        wanted = self._desired.version
        active = self._active
        if active is not None and not active.alive:
            _LOG.warning(
                "version %d ended with %s and is started again", active.version, active.process.returncode
            )
            lived = time.monotonic() - active.started_at
            self._quick_deaths = self._quick_deaths + 1 if lived < _QUICK_DEATH_S else 0
            self._active = self._proxy.active = None
            await asyncio.sleep(min(10.0, 0.5 * (2**self._quick_deaths - 1)))
            await self._bring_up(active.version, active.alias, session, note_failure=False)
            active = self._active
        if wanted is None or (active is not None and active.version == wanted):
            self._progress = "idle"
            return
        if self._failed is not None and self._failed[0] == self._desired.generation:
            self._progress = "idle"
            # Who is not to blame gets ready when what was in the way is mended.
            if time.monotonic() < self._try_again_s:
                return
        else:
            self._failures = 0
        await self._bring_up(wanted, self._desired.alias, session, note_failure=True)

    async def _bring_up(
        self, version: int, alias: str | None, session: aiohttp.ClientSession, *, note_failure: bool
    ) -> None:
        generation = self._desired.generation
        self._progress = "waiting_ready"
        for attempt in range(1, _STARTS + 1):
            port = free_port()
            log = self._folder / "servers" / f"version-{version}.log"
            server = await Server.start(self._commands.serve(version, port), version, alias, port, log)
            try:
                wrong = await server.wait_ready(session, self._ready_timeout_s)
            except asyncio.CancelledError:
                await children.stop(server.process)
                raise
            # A server that was killed, or found its port taken, says nothing against its version; another end does.
            code = server.process.returncode
            excuse = "was killed" if code is not None and code < 0 else None
            if wrong is not None and code is not None and not is_free(server.upstream.port):
                excuse = f"found port {server.upstream.port} taken"
            if excuse is None or attempt == _STARTS:
                break
            _LOG.warning("version %d %s before it was ready and is started again", version, excuse)
        if wrong is not None:
            _LOG.warning("version %d is not served: %s", version, wrong)
            code = server.process.returncode
            await children.stop(server.process)
            if note_failure:
                self._failed, self._failed_code = (generation, version, wrong), code
                self._try_again_s = time.monotonic() + min(_LONGEST_RETRY_S, _RETRY_S * 2**self._failures)
                self._failures = min(self._failures + 1, 10)
            self._progress = "idle"
            return
        self._progress = "switching"
        server.ready = True
        if self._failed is not None and self._failed[:2] == (generation, version):
            self._failed = None
        old, self._active = self._active, server
        self._proxy.active = server.upstream
        _LOG.info("version %d is served", version)
        self._desired.last_served = {"version": str(version)} | ({"alias": alias} if alias else {})
        self._desired.save(self._file)
        if old is not None:
            self._spawn(self._retire(old))
        self._progress = "idle"

    async def _probe(self, session: aiohttp.ClientSession) -> None:
        """A server that hangs is killed, and then started again like one that died."""
        server = self._active
        if server is None or not server.alive:
            return
        if await server.answers(session, "/livez"):
            server.probes_failed = 0
            return
        server.probes_failed += 1
        if server.probes_failed >= _PROBES_FAILED:
            _LOG.warning("version %d does not answer and is killed", server.version)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.process.pid, signal.SIGKILL)
            await server.process.wait()

    def _why_none(self) -> str:
        if self._desired.version is None:
            return "no model is served yet: the first one is being trained and packaged; `hourcast status` tells more"
        if self._failed is not None and self._failed[0] == self._desired.generation:
            return "no model is served: the last one could not be started; `hourcast status` tells why"
        return f"version {self._desired.version} is starting; try again in a moment"

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- lifetime -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until `end` is called or SIGTERM comes."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, self._ending.set)
        await self._proxy.open()
        control = web.Application()
        control.router.add_get("/v1/deployment", self._get_deployment)
        control.router.add_patch("/v1/deployment", self._patch_deployment)
        control.router.add_get("/v1/jobs", self._jobs.get)
        control.router.add_post("/v1/jobs", self._jobs.post)
        api = web.Application(client_max_size=2**27)
        api.router.add_route("*", "/{path:.*}", self._proxy.handle)
        runners = []
        for app, port in ((api, self._api_port), (control, self._node_port)):
            runner = web.AppRunner(app, access_log=None, handle_signals=False)
            await runner.setup()
            runners.append(runner)
            await web.TCPSite(runner, self._host, port, backlog=2048).start()
        async with aiohttp.ClientSession(trust_env=False) as session:
            work = loop.create_task(self._reconcile_forever(session))
            ended = loop.create_task(self._ending.wait())
            await asyncio.wait({work, ended}, return_when=asyncio.FIRST_COMPLETED)
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._jobs.end()
        if self._active is not None:
            await children.stop(self._active.process)
        await self._proxy.close()
        for runner in runners:
            await runner.cleanup()

    def end(self) -> None:
        """Stop everything."""
        self._ending.set()


def main() -> None:
    """`python -m hourcast_local.node`: run by `hourcast up`."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    from hourcast_local.settings import LocalSettings

    raise_file_limit()
    settings = LocalSettings.load()
    node = Node(
        settings.state_dir / "node",
        settings.api_port,
        settings.node_port,
        ready_timeout_s=settings.ready_timeout_s,
        drain_timeout_s=settings.drain_timeout_s,
    )
    asyncio.run(node.run())


if __name__ == "__main__":
    main()
