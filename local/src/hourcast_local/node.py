"""The node of one machine: what a Deployment, its pods, its Service and Jobs are on a cluster.

It keeps the desired version on disk and brings about what it says: start the new server, wait until it is ready,
move traffic, drain the old one, stop it. It needs no controller for that, so a roll ends by itself.
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from aiohttp import web

from hourcast.contracts import ALIAS_ANNOTATION, VERSION_ANNOTATION, version_number
from hourcast.slots import raise_file_limit
from hourcast_local.processes import die_with_parent, last_line
from hourcast_local.proxy import Proxy, Upstream

__all__ = ["Commands", "Node", "main"]

_LOG = logging.getLogger("hourcast.node")
_QUICK_DEATH_S = 5.0
_STOP_PATIENCE_S = 8.0
_STARTS = 3
_RETRY_S, _LONGEST_RETRY_S = 10.0, 300.0
_PROBE_EVERY_S, _PROBE_TIMEOUT_S, _PROBES_FAILED = 2.0, 5.0, 3


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


@dataclass(slots=True)
class _Desired:
    """What `deployment.json` holds."""

    annotations: dict[str, str] = field(default_factory=dict)
    template: dict[str, str] = field(default_factory=dict)
    generation: int = 0
    last_served: dict[str, str] = field(default_factory=dict)

    @property
    def version(self) -> int | None:
        return version_number(self.template.get(VERSION_ANNOTATION))

    @property
    def alias(self) -> str | None:
        return self.template.get(ALIAS_ANNOTATION)


@dataclass(slots=True)
class _Server:
    version: int
    alias: str | None
    process: asyncio.subprocess.Process
    upstream: Upstream
    log: Path
    started_at: float
    ready: bool = False
    probes_failed: int = 0

    @property
    def alive(self) -> bool:
        return self.process.returncode is None


@dataclass(slots=True)
class _Job:
    name: str
    args: list[str]
    state: str = "running"
    exit_code: int | None = None
    message: str = ""
    ended_at: float | None = None


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
        self._desired = self._load()
        self._active: _Server | None = None
        self._progress = "idle"
        self._failed: tuple[int, int, str] | None = None
        self._failed_code: int | None = None
        self._failures, self._try_again_s = 0, 0.0
        self._retired: list[_Server] = []
        self._jobs: dict[str, _Job] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._ending = asyncio.Event()
        self._quick_deaths = 0
        self._proxy = Proxy(self._why_none)

    # -- what should be -------------------------------------------------------------------------

    def _load(self) -> _Desired:
        try:
            raw = json.loads(self._file.read_text())
            return _Desired(raw["annotations"], raw["template"], raw["generation"], raw["last_served"])
        except FileNotFoundError:
            return _Desired()
        except (ValueError, KeyError, TypeError):
            _LOG.error(
                "%s cannot be read and is set aside; the controller will ask for a version again", self._file
            )
            self._file.replace(self._file.with_suffix(".broken"))
            return _Desired()

    def _save(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        d = self._desired
        text = json.dumps(
            {
                "annotations": d.annotations,
                "template": d.template,
                "generation": d.generation,
                "last_served": d.last_served,
            }
        )
        temporary = self._file.with_suffix(".new")
        with temporary.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._file)

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
        d = self._desired
        for store, changes in ((d.annotations, annotations), (d.template, template)):
            for key, value in changes.items():
                if value is None:
                    store.pop(key, None)
                else:
                    store[key] = value
        if template:
            d.generation += 1
        self._save()
        self._wake.set()
        return await self._get_deployment(request)

    async def _get_jobs(self, _request: web.Request) -> web.Response:
        now = time.monotonic()
        return web.json_response(
            [
                {
                    "name": j.name, "state": j.state, "exit_code": j.exit_code, "message": j.message,
                    "ended_for_s": None if j.ended_at is None else now - j.ended_at,
                }
                for j in self._jobs.values()
            ]
        )  # fmt: skip

    async def _post_job(self, request: web.Request) -> web.Response:
        try:
            body = await request.json()
            name, args = str(body["name"]), [str(a) for a in body["args"]]
        except (ValueError, KeyError, TypeError):
            return web.json_response({"detail": 'a job is {"name": …, "args": […]}'}, status=422)
        if not args or args[0] != "package":
            return web.json_response({"detail": "only `package` runs as a job"}, status=422)
        present = self._jobs.get(name)
        if present is None or present.state != "running":
            job = _Job(name, args)
            self._jobs[name] = job
            self._spawn(self._run_job(job))
        return web.json_response({"name": name}, status=201)

    async def _run_job(self, job: _Job) -> None:
        log = self._folder / "jobs" / f"{job.name}.log"
        try:
            process = await self._start(self._commands.job(job.args), log, {})
        except OSError as error:
            # Without an exit code it speaks against nobody, and is tried again.
            job.state, job.ended_at = "failed", time.monotonic()
            job.message = f"it could not be started: {error}"
            _LOG.warning("job %s: %s", job.name, job.message)
            return
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            await self._stop(process)
            raise
        job.exit_code, job.ended_at = code, time.monotonic()
        job.state = "succeeded" if code == 0 else "failed"
        job.message = "" if code == 0 else last_line(log)
        if code:
            _LOG.warning("job %s failed with %d: %s", job.name, code, job.message)

    # -- processes ------------------------------------------------------------------------------

    async def _start(
        self, command: Sequence[str], log: Path, extra: dict[str, str]
    ) -> asyncio.subprocess.Process:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as file:
            return await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=os.environ | extra,
                start_new_session=True,
                preexec_fn=die_with_parent if sys.platform == "linux" else None,
            )

    async def _start_server(self, version: int, alias: str | None) -> _Server:
        port = _free_port()
        log = self._folder / "servers" / f"version-{version}.log"
        extra = {"HOURCAST_MODEL_VERSION": str(version)} | ({"HOURCAST_MODEL_ALIAS": alias} if alias else {})
        process = await self._start(self._commands.serve(version, port), log, extra)
        _LOG.info("version %d starts on port %d (pid %d)", version, port, process.pid)
        return _Server(version, alias, process, Upstream(port), log, time.monotonic())

    @staticmethod
    async def _stop(process: asyncio.subprocess.Process) -> None:
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), _STOP_PATIENCE_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    async def _wait_ready(self, server: _Server, session: aiohttp.ClientSession) -> str | None:
        """None once the server is ready, else why it will not be."""
        end = time.monotonic() + self._ready_timeout_s
        while time.monotonic() < end:
            if not server.alive:
                return f"the server ended with {server.process.returncode}: {last_line(server.log)}"
            # Between its choice and the server's bind another process may have taken the port, and answer there.
            if await self._ask(server, session, "/readyz") and _listens(
                server.process.pid, server.upstream.port
            ):
                return None
            await asyncio.sleep(0.05)
        return f"the server was not ready within {self._ready_timeout_s:g} s: {last_line(server.log)}"

    @staticmethod
    async def _ask(server: _Server, session: aiohttp.ClientSession, path: str) -> bool:
        try:
            url = f"http://127.0.0.1:{server.upstream.port}{path}"
            async with session.get(url, timeout=aiohttp.ClientTimeout(total=_PROBE_TIMEOUT_S)) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def _retire(self, server: _Server) -> None:
        """Let requests end, then stop the server."""
        self._retired.append(server)
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(server.upstream.idle.wait(), self._drain_timeout_s)
        finally:
            await self._stop(server.process)
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
            server = await self._start_server(version, alias)
            try:
                wrong = await self._wait_ready(server, session)
            except asyncio.CancelledError:
                await self._stop(server.process)
                raise
            # A server that was killed, or found its port taken, says nothing against its version; another end does.
            code = server.process.returncode
            excuse = "was killed" if code is not None and code < 0 else None
            if wrong is not None and code is not None and not _free(server.upstream.port):
                excuse = f"found port {server.upstream.port} taken"
            if excuse is None or attempt == _STARTS:
                break
            _LOG.warning("version %d %s before it was ready and is started again", version, excuse)
        if wrong is not None:
            _LOG.warning("version %d is not served: %s", version, wrong)
            code = server.process.returncode
            await self._stop(server.process)
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
        self._save()
        if old is not None:
            self._spawn(self._retire(old))
        self._progress = "idle"

    async def _probe(self, session: aiohttp.ClientSession) -> None:
        """A server that hangs is killed, and then started again like one that died."""
        server = self._active
        if server is None or not server.alive:
            return
        if await self._ask(server, session, "/livez"):
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
        control.router.add_get("/v1/jobs", self._get_jobs)
        control.router.add_post("/v1/jobs", self._post_job)
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
        if self._active is not None:
            await self._stop(self._active.process)
        await self._proxy.close()
        for runner in runners:
            await runner.cleanup()

    def end(self) -> None:
        """Stop everything."""
        self._ending.set()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _free(port: int) -> bool:
    with socket.socket() as probe:
        # Connections of a server that ended linger, and are in nobody's way.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _listens(pid: int, port: int) -> bool:
    """Whether a process or one that it started listens at a port; where the system does not say, it does."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        return any(
            c.laddr.port == port for p in family for c in p.net_connections("tcp") if c.status == "LISTEN"
        )
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


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
