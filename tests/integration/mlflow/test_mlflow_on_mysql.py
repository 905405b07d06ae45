"""MLflow on a real MySQL and S3: its tables after kills, its server, its webhook."""

import base64
import contextlib
import hashlib
import hmac
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import httpx
import psutil
import pytest
import sqlalchemy as sa

from hourcast_mlflow.migration import newest_revision
from tests.integration.conftest import hourcast, run_well
from tests.ports import find_port
from tests.servers import S3, Process, answers, wait_for

pytestmark = pytest.mark.integration
_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


@dataclass(frozen=True)
class Database:
    """MLflow's database under an account that owns nothing else."""

    url: sa.URL
    environment: Mapping[str, str]

    def execute(self, statement: str) -> list[sa.Row[tuple[object, ...]]]:
        """Run a statement."""
        engine = sa.create_engine(self.url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            result = connection.execute(sa.text(statement))
            return list(result.all()) if result.returns_rows else []

    def tables(self) -> set[str]:
        """What is there."""
        return {str(row[0]) for row in self.execute("SHOW TABLES")}

    def revision(self) -> str | None:
        """Where its schema is."""
        if "alembic_version" not in self.tables():
            return None
        rows = self.execute("SELECT version_num FROM alembic_version")
        return str(rows[0][0]) if rows else None


@pytest.fixture
def database(mysql_url: str) -> Iterator[Database]:
    """An empty database and an account whose rights end there."""
    admin = sa.make_url(mysql_url)
    password = "p@ss:/%#"
    engine = sa.create_engine(admin, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    user = f"'{admin.database}_m'@'%'"
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE USER {user} IDENTIFIED BY :p"), {"p": password})
        connection.execute(sa.text(f"GRANT ALL PRIVILEGES ON `{admin.database}`.* TO {user}"))
    url = admin.set(username=f"{admin.database}_m", password=password)
    environment = {
        "HOURCAST_MLFLOW_DATABASE_URL": url.set(password=None).render_as_string(hide_password=False),
        "HOURCAST_MLFLOW_DATABASE_PASSWORD": password, "HOURCAST_SETUP_WAIT_S": "60",
    }  # fmt: skip
    yield Database(url, environment)
    with engine.connect() as connection:
        connection.execute(sa.text(f"DROP USER {user}"))


def _kill_when(database: Database, held: "Iterator[int]") -> int:
    """Start a setup and kill it when so many tables are there; how many were."""
    goal = next(held)
    process = subprocess.Popen(
        [sys.executable, "-m", "hourcast.cli", "setup", "mlflow"],
        env=os.environ | dict(database.environment), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(lambda: len(database.tables()) >= goal or process.poll() is not None, 60, "progress")
        assert process.poll() is None, "the setup ended before it was to be killed"
    finally:
        process.kill()
        process.wait()
    return len(database.tables())


def test_a_first_migration_that_is_killed_is_mended_and_one_with_data_is_never_dropped(
    database: Database,
) -> None:
    """Killed twice amid its first migration a setup begins anew; whole, marked and with a row, all of it stays."""
    for goal in (3, 25):
        assert _kill_when(database, iter([goal])) >= goal
        assert database.revision() != newest_revision()
    out = run_well(database.environment, "setup", "mlflow").splitlines()
    assert out[0].startswith("a first migration was cut short and left ")
    assert out[0].endswith(" tables without a row; they are dropped, and it begins anew")
    assert out[1:] == [
        f"MLflow's tables: from revision none to {newest_revision()}", f"MLflow's tables are at revision {newest_revision()}",
    ]  # fmt: skip
    assert database.revision() == newest_revision()
    assert database.execute("SELECT COUNT(*) FROM hourcast_setup") == [(1,)]
    assert run_well(database.environment, "setup", "mlflow").splitlines() == out[2:]

    # As a later migration that was cut short leaves it: an older revision, tables that stand in the way, and no row.
    database.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    before = database.tables()
    done = hourcast(database.environment, "setup", "mlflow")
    assert done.returncode == 5
    assert (
        "; nothing was dropped; run it again, and where it fails the same way restore the database from a backup"
        in done.stderr
    )
    assert database.tables() == before

    # Nor without the marker, as soon as anybody's row is there.
    database.execute("DROP TABLE hourcast_setup")
    database.execute("INSERT INTO experiments (name, lifecycle_stage) VALUES ('mine', 'active')")
    assert hourcast(database.environment, "setup", "mlflow").returncode == 5
    assert database.execute("SELECT name FROM experiments") == [("mine",)]
    database.execute(f"UPDATE alembic_version SET version_num = '{newest_revision()}'")
    run_well(database.environment, "setup", "mlflow")
    assert database.execute("SELECT name FROM experiments") == [("mine",)]


def test_a_database_of_something_else_is_left_alone(database: Database) -> None:
    """MLflow gets a database of its own; another's is refused with the names of its tables."""
    database.execute("CREATE TABLE theirs (id INT)")
    database.execute("INSERT INTO theirs VALUES (1)")
    done = hourcast(database.environment, "setup", "mlflow")
    assert (done.returncode, done.stderr.strip()) == (
        6,
        "hourcast: the database holds tables that are not MLflow's (theirs); give MLflow a database of its own in "
        "HOURCAST_MLFLOW_DATABASE_URL",
    )
    assert database.tables() == {"theirs"}


class _Heard(BaseHTTPRequestHandler):
    """Keeps what it is sent."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.heard.append((dict(self.headers), body))  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def listener() -> Iterator[ThreadingHTTPServer]:
    """What the controller would hear."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Heard)
    server.heard = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


_counter = itertools.count()


@contextlib.contextmanager
def _serving(
    database: Database, folder: Path, bucket: S3, **more: str
) -> Iterator[tuple[str, Process, dict[str, str]]]:
    port = find_port()
    environment = {
        **database.environment, **bucket.environment, "HOURCAST_MLFLOW_ARTIFACTS": bucket.url.rsplit("/", 1)[0],
        "MLFLOW_S3_ENDPOINT_URL": bucket.endpoint, "HOURCAST_MLFLOW_ALLOWED_HOSTS": '["hourcast-mlflow", "mlflow.example:80"]',
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": _KEY, "MLFLOW_WEBHOOK_CACHE_TTL": "1", "HOME": str(folder), **more,
    }  # fmt: skip
    process = Process.start(
        f"mlflow-server-{next(_counter)}",
        [sys.executable, "-m", "hourcast.cli", "mlflow-server", "--port", str(port)],
        folder,
        environment,
    )
    try:
        yield f"http://127.0.0.1:{port}", process, environment
    finally:
        process.end()


def test_the_server_waits_for_its_tables_hides_its_password_and_heeds_its_hosts(
    database: Database, tmp_path: Path, s3: S3
) -> None:
    """It comes up once the setup has ended; no process argument has the password; other Hosts are refused."""
    with _serving(database, tmp_path, s3) as (url, process, _environment):
        process.wait_until(lambda: "waiting up to 60 s: MLflow's tables" in process.text(), 60, "wait")
        assert (
            f"they are at revision none and MLflow needs {newest_revision()}; `hourcast setup mlflow` brings them up"
            in process.text()
        )
        run_well(database.environment, "setup", "mlflow")
        process.wait_until(lambda: answers(f"{url}/health"), 90, "answer of MLflow")
        password = database.environment["HOURCAST_MLFLOW_DATABASE_PASSWORD"]
        family = [
            psutil.Process(process.popen.pid),
            *psutil.Process(process.popen.pid).children(recursive=True),
        ]
        for word in (password, quote(password, safe=""), "mysql+pymysql"):
            assert not [p for p in family if any(word in part for part in p.cmdline())]
            assert word == "mysql+pymysql" or word not in process.text()
        port = url.rsplit(":", 1)[1]
        probe = f"{url}/api/2.0/mlflow/registered-models/search?max_results=1"
        for host, status in (
            (f"localhost:{port}", 200), ("hourcast-mlflow", 200), ("hourcast-mlflow:5000", 200), ("mlflow.example:80", 200),
            ("mlflow.example", 403), ("10.1.2.3:5000", 403), ("evil.example", 403),
        ):  # fmt: skip
            answer = httpx.get(probe, headers={"Host": host}, trust_env=False, timeout=30)
            assert answer.status_code == status, host
        for path in ("health", "version"):
            assert (
                httpx.get(f"{url}/{path}", headers={"Host": "10.1.2.3"}, trust_env=False).status_code == 200
            )


def test_the_probe_sees_a_database_that_is_gone_and_the_health_page_does_not(
    database: Database, tmp_path: Path, s3: S3
) -> None:
    """Readiness asks for a registered model: the page for liveness answers without the database."""
    run_well(database.environment, "setup", "mlflow")
    with _serving(database, tmp_path, s3, MLFLOW_SQLALCHEMYSTORE_POOLCLASS="NullPool") as (url, process, _):
        process.wait_until(lambda: answers(f"{url}/health"), 90, "answer of MLflow")
        probe = f"{url}/api/2.0/mlflow/registered-models/search?max_results=1"
        assert answers(probe)
        database.execute("RENAME TABLE registered_models TO elsewhere")
        try:
            assert httpx.get(probe, trust_env=False, timeout=60).status_code >= 400
            assert answers(f"{url}/health")
        finally:
            database.execute("RENAME TABLE elsewhere TO registered_models")
        assert answers(probe)


def test_the_webhook_is_one_signed_and_outlives_a_restart(
    database: Database, tmp_path: Path, s3: S3, listener: ThreadingHTTPServer
) -> None:
    """Set up twice there is one; a changed address moves it; after a restart MLflow still signs with the same key."""
    run_well(database.environment, "setup", "mlflow")
    there = f"http://127.0.0.1:{listener.server_address[1]}/webhook"
    heard: list[tuple[dict[str, str], bytes]] = listener.heard  # type: ignore[attr-defined]
    for turn in range(2):
        with _serving(database, tmp_path, s3) as (url, process, _):
            process.wait_until(lambda url=url: answers(f"{url}/health"), 90, "answer of MLflow")  # type: ignore[misc]
            job = {
                "HOURCAST_MLFLOW_URL": url,
                "HOURCAST_WEBHOOK_URL": there,
                "HOURCAST_WEBHOOK_SECRET": "s3cret",
            }
            if turn == 0:
                first = run_well(
                    {**job, "HOURCAST_WEBHOOK_URL": "http://127.0.0.1:9/old"}, "setup", "webhook"
                )
                assert (
                    first
                    == "webhook to http://127.0.0.1:9/old: registered; MLflow heeds it within a minute\n"
                )
                for _ in range(2):
                    again = run_well(job, "setup", "webhook")
                    assert again == f"webhook to {there}: renewed; MLflow heeds it within a minute\n"
            hooks = httpx.get(f"{url}/api/2.0/mlflow/webhooks", trust_env=False, timeout=30).json()[
                "webhooks"
            ]
            assert [(h["url"], h["status"]) for h in hooks] == [(there, "ACTIVE")]
            assert {(e["entity"], e["action"]) for e in hooks[0]["events"]} == {
                ("MODEL_VERSION", "CREATED"), ("MODEL_VERSION_TAG", "SET"), ("MODEL_VERSION_ALIAS", "CREATED"),
                ("MODEL_VERSION_ALIAS", "DELETED"),
            }  # fmt: skip

            def post(endpoint: str, body: dict[str, str], url: str = url) -> None:
                done = httpx.post(f"{url}/api/2.0/mlflow/{endpoint}", json=body, trust_env=False, timeout=30)
                assert done.status_code == 200, done.text

            name = f"m{turn}"
            post("registered-models/create", {"name": name})
            post("model-versions/create", {"name": name, "source": "s3://elsewhere/model"})
            post("registered-models/alias", {"name": name, "alias": "20240101", "version": "1"})
            wait_for(lambda turn=turn: len(heard) >= 2 * (turn + 1), 60, "webhooks")  # type: ignore[misc]
    assert len(heard) == 4
    for headers, body in heard:
        low = {key.lower(): value for key, value in headers.items()}
        signed = f"{low['x-mlflow-delivery-id']}.{low['x-mlflow-timestamp']}.{body.decode()}"
        mac = base64.b64encode(hmac.new(b"s3cret", signed.encode(), hashlib.sha256).digest()).decode()
        assert low["x-mlflow-signature"] == f"v1,{mac}"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY", "short", "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY is not 32 bytes in base64; "),
        ("HOURCAST_MLFLOW_ARTIFACTS", "", "HOURCAST_MLFLOW_ARTIFACTS is not set (where MLflow keeps artefacts: `s3://bucket/prefix`), and "),
        ("HOURCAST_MLFLOW_DATABASE_URL", "sqlite:///x", "HOURCAST_MLFLOW_DATABASE_URL is not a URL of MySQL; write it as "),
    ],
)  # fmt: skip
def test_a_server_that_lacks_something_says_what(name: str, value: str, message: str) -> None:
    """A sentence and exit code 2 before anything is waited for."""
    environment = {
        "HOURCAST_MLFLOW_DATABASE_URL": "mysql+pymysql://u@127.0.0.1:9/d", "HOURCAST_MLFLOW_ARTIFACTS": "s3://a",
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": _KEY, name: value,
    }  # fmt: skip
    done = hourcast(environment, "mlflow-server")
    assert done.returncode == 2
    assert done.stderr.startswith(f"hourcast: {message}")
