"""Jobs of the node: packaging, one process a job, as a Job is on a cluster."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from hourcast_local import children
from hourcast_local.processes import last_line

__all__ = ["Jobs"]

_LOG = logging.getLogger("hourcast.node")


@dataclass(slots=True)
class _Job:
    name: str
    args: list[str]
    state: str = "running"
    exit_code: int | None = None
    message: str = ""
    ended_at: float | None = None


class Jobs:
    """The jobs that were asked for since the node began, the newest of each name."""

    def __init__(self, folder: Path, command: Callable[[Sequence[str]], Sequence[str]]) -> None:
        self._folder, self._command = folder, command
        self._jobs: dict[str, _Job] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def get(self, _request: web.Request) -> web.Response:
        """`GET /v1/jobs`."""
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

    async def post(self, request: web.Request) -> web.Response:
        """`POST /v1/jobs`: begin one, but for one of that name that runs."""
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
            task = asyncio.get_running_loop().create_task(self._run(job))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return web.json_response({"name": name}, status=201)

    async def _run(self, job: _Job) -> None:
        log = self._folder / f"{job.name}.log"
        try:
            process = await children.start(self._command(job.args), log, {})
        except OSError as error:
            # Without an exit code it speaks against nobody, and is tried again.
            job.state, job.ended_at = "failed", time.monotonic()
            job.message = f"it could not be started: {error}"
            _LOG.warning("job %s: %s", job.name, job.message)
            return
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            await children.stop(process)
            raise
        job.exit_code, job.ended_at = code, time.monotonic()
        job.state = "succeeded" if code == 0 else "failed"
        job.message = "" if code == 0 else last_line(log)
        if code:
            _LOG.warning("job %s failed with %d: %s", job.name, code, job.message)

    async def end(self) -> None:
        """Stop those that run."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
