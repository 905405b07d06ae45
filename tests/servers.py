"""Real servers for the tests: MariaDB or MySQL, MinIO, MLflow, Hourcast's own. A program that is missing fails a test.

Each is started once a session on a free port of 127.0.0.1 and ended by its process id.
"""

import base64
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import psutil
import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser, Locator, Page, Request, expect, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from hourcast.store import grant_statements, rights_of
from tests.ports import find_port

_PASSWORD = "tests-only"


def wait_for(condition: Callable[[], bool], limit_s: float, what: str, every_s: float = 0.05) -> None:
    """Wait until `condition` holds; an AssertionError names `what` when it never did."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"within {limit_s:g} s there was no {what}"
        time.sleep(every_s)


def answers(url: str, status: int = 200) -> bool:
    """Whether a GET is answered with `status`."""
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(url, timeout=5, trust_env=False).status_code == status
    return False


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@dataclass
class Process:
    """A started process with its log; `end` stops it and all that it started."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(
        cls, name: str, command: Sequence[str | Path], folder: Path, env: Mapping[str, str] | None = None
    ) -> "Process":
        """Start `command`; output goes to `<folder>/<name>.log`."""
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / f"{name}.log"
        with log.open("ab") as out:
            popen = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=os.environ | dict(env or {}),
                start_new_session=True,
            )
        return cls(name, popen, log)

    def wait_until(self, condition: Callable[[], bool], limit_s: float, what: str) -> None:
        """As `wait_for`; ends at once, with the log, when the process has died."""

        def held() -> bool:
            assert self.popen.poll() is None, (
                f"{self.name} ended with {self.popen.returncode}:\n{self.text()[-3000:]}"
            )
            return condition()

        try:
            wait_for(held, limit_s, what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.text()[-3000:]}") from None

    def text(self) -> str:
        """What was logged."""
        return self.log.read_text(errors="replace")

    def end(self, number: signal.Signals = signal.SIGTERM, patience_s: float = 20) -> int:
        """Stop it and its children; the exit code."""
        children = []
        with contextlib.suppress(psutil.Error):
            children = psutil.Process(self.popen.pid).children(recursive=True)
        with contextlib.suppress(ProcessLookupError):
            self.popen.send_signal(number)
        try:
            self.popen.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        for child in children:
            with contextlib.suppress(psutil.Error):
                child.kill()
        return self.popen.returncode


def program(*names: str, package: str) -> str:
    """The first of these programs that is on the PATH."""
    for name in names:
        found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        if found:
            return found
    pytest.fail(f"none of {', '.join(names)} is on the PATH; install it (Debian's package: {package})")


# -- MariaDB or MySQL -----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def mysql_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database server of our own; gives the URL of its administrator, without a database.

    HOURCAST_TEST_MYSQL names the administrator of one that runs already, to run the tests on another version.
    """
    if given := os.environ.get("HOURCAST_TEST_MYSQL"):
        yield given
        return
    folder = tmp_path_factory.mktemp("mysql")
    data, port = folder / "data", find_port()
    server = program("mariadbd", "mysqld", package="mariadb-server")
    account = ["--user=root"] if os.geteuid() == 0 else []
    if "maria" in server:
        install = program("mariadb-install-db", package="mariadb-server")
        make = [
            install,
            "--no-defaults",
            f"--datadir={data}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            *account,
        ]
    else:
        make = [server, "--no-defaults", "--initialize-insecure", f"--datadir={data}", *account]
    subprocess.run(make, check=True, capture_output=True, timeout=120)
    process = Process.start(
        "mysql",
        [
            server, "--no-defaults", f"--datadir={data}", f"--port={port}", "--bind-address=127.0.0.1",
            f"--socket={folder / 'mysql.sock'}", f"--pid-file={folder / 'mysql.pid'}", "--innodb-buffer-pool-size=128M",
            # As MySQL has it by default and clusters need it: MLflow's triggers depend on both.
            # Accounts come from any address, as pods do; MariaDB's nameless one is of `localhost` only.
            "--skip-name-resolve",
            f"--log-bin={folder / 'binlog'}", "--server-id=1", "--log-bin-trust-function-creators=1",
            *account,
        ],
        folder,
    )  # fmt: skip
    try:
        process.wait_until(lambda: _accepts(port), 60, "database server")
        # root may come in over the socket only; the tests' user comes in over TCP, as services do.
        by_socket = sa.create_engine(f"mysql+pymysql://root@localhost/?unix_socket={folder / 'mysql.sock'}")
        with by_socket.connect() as connection:
            connection.execute(sa.text(f"CREATE USER 'tests'@'127.0.0.1' IDENTIFIED BY '{_PASSWORD}'"))
            connection.execute(sa.text("GRANT ALL ON *.* TO 'tests'@'127.0.0.1' WITH GRANT OPTION"))
        by_socket.dispose()
        yield f"mysql+pymysql://tests:{_PASSWORD}@127.0.0.1:{port}"
    finally:
        process.end()


@contextlib.contextmanager
def account_of(service: str, url: str) -> Iterator[str]:
    """The URL of the store at `url`, an administrator's, for an account with a service's rights and no more."""
    whole = sa.make_url(url)
    name, database = f"{service}_{whole.database}", str(whole.database)
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE USER '{name}'@'%' IDENTIFIED BY '{_PASSWORD}'"))
        for statement in grant_statements(f"'{name}'@'%'", rights_of(service, database), []):
            connection.execute(sa.text(statement))
    try:
        yield whole.set(username=name, password=_PASSWORD).render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.execute(sa.text(f"DROP USER '{name}'@'%'"))
        engine.dispose()


@contextlib.contextmanager
def read_only(url: str) -> Iterator[None]:
    """The server of an administrator's URL takes no writes meanwhile, but from those who may override that."""
    engine = sa.create_engine(url)
    try:
        with engine.connect() as connection:
            connection.execute(sa.text("SET GLOBAL read_only = 1"))
        yield
    finally:
        with engine.connect() as connection:
            connection.execute(sa.text("SET GLOBAL read_only = 0"))
        engine.dispose()


_databases = iter(range(1, 100_000))


@pytest.fixture
def mysql_url(mysql_server: str) -> Iterator[str]:
    """The URL of a new, empty database."""
    name = f"hourcast_{next(_databases)}"
    engine = sa.create_engine(f"{mysql_server}/")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    yield f"{mysql_server}/{name}"
    with engine.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name}"))
    engine.dispose()


# -- S3 -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class S3:
    """An S3 server and an empty bucket of it."""

    endpoint: str
    url: str
    environment: Mapping[str, str] = field(default_factory=dict)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """MinIO; HOURCAST_TEST_MINIO names the program where it is not on the PATH."""
    program = os.environ.get("HOURCAST_TEST_MINIO") or shutil.which("minio")
    if not program or not Path(program).exists():
        pytest.fail("the MinIO program is not on the PATH; set HOURCAST_TEST_MINIO to where it is")
    folder = tmp_path_factory.mktemp("minio")
    port = find_port()
    process = Process.start(
        "minio",
        [program, "server", folder / "data", "--address", f"127.0.0.1:{port}", "--console-address", f"127.0.0.1:{find_port()}"],
        folder,
        {"MINIO_ROOT_USER": "tests", "MINIO_ROOT_PASSWORD": _PASSWORD, "HOME": str(folder)},
    )  # fmt: skip
    try:
        process.wait_until(
            lambda: answers(f"http://127.0.0.1:{port}/minio/health/ready"), 60, "answer of MinIO"
        )
        yield f"http://127.0.0.1:{port}"
    finally:
        process.end()


_buckets = iter(range(1, 100_000))


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> S3:
    """A new bucket; credentials are in the environment, as services get them."""
    import boto3

    environment = {
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": _PASSWORD,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    # boto3's common session keeps the first credentials that anyone in the process had.
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    name = f"bucket-{next(_buckets)}"
    client = boto3.client("s3", endpoint_url=s3_server)
    client.create_bucket(Bucket=name)
    client.close()
    return S3(s3_server, f"s3://{name}/models", environment)


# -- MLflow ---------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """MLflow's own server on SQLite and a folder; tests tell their models apart by name."""
    folder = tmp_path_factory.mktemp("mlflow")
    port = find_port()
    process = Process.start(
        "mlflow",
        [
            sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}",
            "--artifacts-destination", (folder / "artifacts").as_uri(), "--serve-artifacts",
            "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        ],
        folder,
        {
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https", "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
        },
    )  # fmt: skip
    try:
        process.wait_until(lambda: answers(f"http://127.0.0.1:{port}/health"), 90, "answer of MLflow")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.end()


# -- an MLflow that asks who is there -----------------------------------------------------------------


@pytest.fixture
def guarded_mlflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server that knows a model without aliases, for `reader` with `p@ss:word` alone; both are in the environment."""
    wanted = "Basic " + base64.b64encode(b"reader:p@ss:word").decode()

    class Guard(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name that http.server calls
            known = self.headers.get("Authorization") == wanted
            body = b'{"registered_model": {"name": "hourcast"}}' if known else b"You are not authenticated."
            self.send_response(200 if known else 401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as above
            """Requests are not worth a line each."""

    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "reader")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "p@ss:word")
    with ThreadingHTTPServer(("127.0.0.1", 0), Guard) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


# -- Chromium ---------------------------------------------------------------------------------------

_FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium; HOURCAST_TEST_CHROMIUM names it where it is not at its usual place."""
    program = os.environ.get("HOURCAST_TEST_CHROMIUM", "/usr/bin/chromium")
    if not Path(program).exists():
        pytest.fail(f"there is no {program}; install Chromium, or set HOURCAST_TEST_CHROMIUM")
    # A page that is drawn on a busy machine is not wrong for being slow.
    expect.set_options(timeout=30_000)
    with sync_playwright() as player:
        started = player.chromium.launch(executable_path=program, args=_FLAGS)
        yield started
        started.close()


def visit(page: Page, url: str, wanted: Locator, limit_s: float = 60) -> None:
    """Open a page until `wanted` is there, anew when the machine's network changed meanwhile.

    Chromium drops what it is loading when an interface comes or goes, as with each pod of a cluster on the same machine, and
    the page then lacks a part for good; a person reloads it.
    """
    dropped: list[str] = []

    def drop(asked: Request) -> None:
        if "ERR_NETWORK_CHANGED" in (asked.failure or ""):
            dropped.append(asked.url)

    page.on("requestfailed", drop)
    until = time.monotonic() + limit_s
    while True:
        dropped.clear()
        with contextlib.suppress(PlaywrightError):
            page.goto(url)
            while not (wanted.is_visible() or dropped or time.monotonic() > until):
                page.wait_for_timeout(200)
        if time.monotonic() > until or (wanted.is_visible() and not dropped):
            break
        page.wait_for_timeout(1000)
    expect(wanted).to_be_visible()
