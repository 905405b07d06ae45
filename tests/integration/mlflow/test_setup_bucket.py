"""`hourcast setup bucket` on a real MinIO: buckets, accounts, and exactly what each may do."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import boto3
import pytest
from botocore.exceptions import ClientError

from hourcast.bucket import open_bucket
from tests.integration.conftest import hourcast, run_well
from tests.ports import find_port
from tests.servers import S3

pytestmark = pytest.mark.integration

_names = (f"hc-{n}" for n in itertools.count(1))
_SERVICES = ("packager", "controller", "serving", "tidy", "mlflow")


@dataclass(frozen=True)
class Buckets:
    """What a setup made, and how its accounts come in."""

    endpoint: str
    name: str
    environment: Mapping[str, str]

    def key(self, service: str) -> dict[str, str]:
        """The credentials of a service."""
        return {
            "AWS_ACCESS_KEY_ID": f"{self.name}-{service}",
            "AWS_SECRET_ACCESS_KEY": self.environment[f"HOURCAST_S3_SECRET_{service.upper()}"],
        }

    def may(self, service: str, action: str, bucket: str, key: str) -> bool:
        """Whether an account may do something."""
        own = self.key(service)
        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=own["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=own["AWS_SECRET_ACCESS_KEY"],
        )
        calls = {
            "get": lambda: client.get_object(Bucket=bucket, Key=key),
            "put": lambda: client.put_object(Bucket=bucket, Key=key, Body=b"x"),
            "delete": lambda: client.delete_object(Bucket=bucket, Key=key),
            "list": lambda: client.list_objects_v2(Bucket=bucket),
            "drop": lambda: client.delete_bucket(Bucket=bucket),
        }
        try:
            calls[action]()
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code not in ("NoSuchKey", "BucketNotEmpty", "AccessDenied"):
                raise
            return code != "AccessDenied"
        finally:
            client.close()
        return True


@pytest.fixture
def unmade(s3: S3) -> Buckets:
    """Names that nobody uses."""
    name = next(_names)
    environment = {
        **s3.environment, "HOURCAST_S3_ENDPOINT_URL": s3.endpoint, "HOURCAST_S3_BUCKET": name,
        "HOURCAST_S3_ARTIFACTS_BUCKET": f"{name}-mlflow", "HOURCAST_SETUP_WAIT_S": "20",
        **{f"HOURCAST_S3_SECRET_{service.upper()}": f"secret/+ {service}" for service in _SERVICES},
    }  # fmt: skip
    return Buckets(s3.endpoint, name, environment)


def test_buckets_accounts_and_rights_are_made_once(unmade: Buckets) -> None:
    """Again it changes nothing; who may do what is exactly the design's, tried by every account on every place."""
    name, artefacts = unmade.name, f"{unmade.name}-mlflow"
    out = run_well(unmade.environment, "setup", "bucket").splitlines()
    assert out[:2] == [f"bucket {name}: made", f"bucket {artefacts}: made"]
    assert run_well(unmade.environment, "setup", "bucket").splitlines() == out[2:]
    assert (
        out[-1] == f"S3 at {unmade.endpoint} is set up: bucket {name} for packages, {artefacts} for artefacts"
    )
    places = {"package": (name, "bentos/m/1.bento"), "other": (name, "else"), "artefact": (artefacts, "1/a")}
    found = {
        (service, action, place)
        for service in _SERVICES
        for place, (bucket, key) in places.items()
        # Deleting last, so that there is something to read.
        for action in ("put", "get", "list", "drop", "delete")
        if not (service == "mlflow" and place == "artefact" and action == "drop")
        and unmade.may(service, action, bucket, key)
    }
    look = {
        (s, "list", place)
        for s in ("packager", "controller", "serving", "tidy")
        for place in ("package", "other")
    }
    assert found == look | {
        ("packager", "put", "package"), ("packager", "get", "package"), ("controller", "get", "package"), ("serving", "get", "package"),
        ("tidy", "get", "package"), ("tidy", "delete", "package"),
        *(("mlflow", action, "artefact") for action in ("put", "get", "list", "delete")),
    }  # fmt: skip


def test_services_come_in_as_they_do_in_a_cluster(unmade: Buckets, monkeypatch: pytest.MonkeyPatch) -> None:
    """The packager writes through the library's own bucket, serving reads it, and a missing package is no refusal."""
    run_well(unmade.environment, "setup", "bucket")
    for service in ("packager", "serving"):
        for name, value in unmade.key(service).items():
            monkeypatch.setenv(name, value)
        bucket = open_bucket(f"s3://{unmade.name}", unmade.endpoint)
        if service == "packager":
            bucket.put("bentos/m/1.json", b"{}")
        assert bucket.get("bentos/m/1.json") == b"{}"
        assert bucket.get("bentos/m/2.json") is None
        assert bucket.keys("bentos/m/") == ["bentos/m/1.json"]


def test_secrets_of_release_0_1_0_know_no_account_that_tidies(unmade: Buckets) -> None:
    """Everything else is made as before."""
    del (given := dict(unmade.environment))["HOURCAST_S3_SECRET_TIDY"]
    out = run_well(given, "setup", "bucket").splitlines()
    accounts = ", ".join(f"{unmade.name}-{service}" for service in _SERVICES if service != "tidy")
    assert out[-2] == f"accounts with their policies: {accounts}"
    assert unmade.may("packager", "put", unmade.name, "bentos/m/1.bento")
    with pytest.raises(ClientError, match="InvalidAccessKeyId"):
        unmade.may("tidy", "list", unmade.name, "bentos/m/1.bento")


def test_a_changed_secret_takes_hold(unmade: Buckets) -> None:
    """After a secret was changed and the setup ran again, it opens."""
    run_well(unmade.environment, "setup", "bucket")
    changed = Buckets(
        unmade.endpoint, unmade.name, {**unmade.environment, "HOURCAST_S3_SECRET_SERVING": "another one"}
    )
    run_well(changed.environment, "setup", "bucket")
    assert changed.may("serving", "list", changed.name, "")


def test_without_provisioning_nothing_is_made(unmade: Buckets) -> None:
    """A bucket that is not there is named, with what to do."""
    done = hourcast({**unmade.environment, "HOURCAST_S3_PROVISION": "false"}, "setup", "bucket")
    assert (done.returncode, done.stderr.strip()) == (
        6,
        f"hourcast: there is no bucket '{unmade.name}'; make it, or let the setup do it (HOURCAST_S3_PROVISION=true)",
    )


def test_secrets_are_not_told_and_a_wrong_key_is_refused(unmade: Buckets) -> None:
    """A wrong administrator's key ends with a sentence; no secret is in it, nor in what a good run tells."""
    wrong = hourcast({**unmade.environment, "AWS_SECRET_ACCESS_KEY": "hunter2hunter2"}, "setup", "bucket")
    assert wrong.returncode == 6
    assert wrong.stderr.startswith(
        f"hourcast: the account in AWS_ACCESS_KEY_ID may not see bucket '{unmade.name}', or "
    )
    good = hourcast(unmade.environment, "setup", "bucket")
    for text in (wrong.stdout, wrong.stderr, good.stdout, good.stderr):
        for secret in ("hunter2", "secret/+", unmade.environment["AWS_SECRET_ACCESS_KEY"]):
            assert secret not in text


def test_a_server_that_is_not_there_is_waited_for(unmade: Buckets) -> None:
    """Told once, then exit code 5."""
    place = f"http://127.0.0.1:{find_port()}"
    done = hourcast(
        {**unmade.environment, "HOURCAST_S3_ENDPOINT_URL": place, "HOURCAST_SETUP_WAIT_S": "1"}, "setup", "bucket"
    )  # fmt: skip
    assert done.returncode == 5
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"waiting up to 1 s: S3 at {place}: it does not answer (")
