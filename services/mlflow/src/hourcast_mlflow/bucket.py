"""`hourcast setup bucket`: buckets, and with MinIO an account and a policy for each service."""

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hourcast.errors import ConfigurationError, RefusedError, UnavailableError
from hourcast_mlflow.settings import MlflowSettings
from hourcast_mlflow.waiting import until_it_answers

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["policies", "setup_bucket"]

Say = Callable[[str], None]
_PACKAGES = "bentos"


def _statement(actions: list[str], *resources: str) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": actions, "Resource": [f"arn:aws:s3:::{r}" for r in resources]}


def policies(bucket: str, artifacts_bucket: str) -> dict[str, dict[str, Any]]:
    """Each service's policy. Only the packager writes packages, and only the tidying takes them away. Pure."""
    look = _statement(["s3:ListBucket"], bucket)
    read = _statement(["s3:GetObject"], f"{bucket}/{_PACKAGES}/*")
    write = _statement(["s3:GetObject", "s3:PutObject"], f"{bucket}/{_PACKAGES}/*")
    forget = _statement(["s3:GetObject", "s3:DeleteObject"], f"{bucket}/{_PACKAGES}/*")
    all_of_it = _statement(["s3:*"], artifacts_bucket, f"{artifacts_bucket}/*")
    return {
        service: {"Version": "2012-10-17", "Statement": statements}
        for service, statements in {
            "packager": [look, write],
            "controller": [look, read],
            "serving": [look, read],
            "tidy": [look, forget],
            "mlflow": [all_of_it],
        }.items()
    }


def setup_bucket(settings: MlflowSettings, say: Say) -> None:
    """Make buckets, accounts and policies; run again it changes only what differs.

    Raises:
        ConfigurationError: when a setting is missing.
        UnavailableError: when the server does not answer in time.
        RefusedError: when it does not allow what is needed.
    """
    import os

    bucket, artifacts = settings.needed("s3_bucket"), settings.needed("s3_artifacts_bucket")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        if not os.environ.get(name):
            raise ConfigurationError(f"{name} is not set; it belongs to the account that sets the buckets up")
    place = settings.s3_endpoint_url or "AWS"
    client = _client(settings.s3_endpoint_url)
    for name in dict.fromkeys((bucket, artifacts)):
        made = until_it_answers(
            f"S3 at {place}",
            lambda name=name: _bucket(client, name, settings.s3_provision),  # type: ignore[misc]
            settings.setup_wait_s,
            say,
        )
        if made:
            say(f"bucket {name}: made")
    if settings.s3_provision:
        # Secrets that people made for an earlier release know no account that tidies.
        secrets = {
            name: settings.needed(f"s3_secret_{name}")
            for name in policies(bucket, artifacts)
            if name != "tidy" or settings.s3_secret_tidy is not None
        }
        until_it_answers(
            f"MinIO's interface at {place}",
            lambda: _accounts(settings, bucket, artifacts, secrets),
            settings.setup_wait_s,
            say,
        )
        for service, secret in secrets.items():
            own = artifacts if service == "mlflow" else bucket
            until_it_answers(
                f"account {bucket}-{service}",
                lambda service=service, secret=secret, own=own: _comes_in(  # type: ignore[misc]
                    settings.s3_endpoint_url, f"{bucket}-{service}", secret, own
                ),
                settings.setup_wait_s,
                say,
            )
        say(f"accounts with their policies: {', '.join(f'{bucket}-{service}' for service in secrets)}")
    say(f"S3 at {place} is set up: bucket {bucket} for packages, {artifacts} for artefacts")


def _client(endpoint: str | None, key: str | None = None, secret: str | None = None) -> "S3Client":
    import os

    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=os.environ.get("AWS_DEFAULT_REGION", "us-east-1"),
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=Config(
            connect_timeout=3,
            read_timeout=30,
            retries={"max_attempts": 2, "mode": "standard"},
            s3={"addressing_style": "path"},
        ),
    )


def _bucket(client: "S3Client", name: str, make: bool) -> bool:
    """See that a bucket is there, or make it; whether it was made."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        try:
            client.head_bucket(Bucket=name)
        except ClientError as error:
            status = _status(error)
            if status == 403:
                raise RefusedError(
                    f"the account in AWS_ACCESS_KEY_ID may not see bucket {name!r}, or its secret key is wrong, or the "
                    "bucket is somebody else's; check the AWS_* credentials and the name"
                ) from error
            if status != 404:
                raise
            if not make:
                raise RefusedError(
                    f"there is no bucket {name!r}; make it, or let the setup do it (HOURCAST_S3_PROVISION=true)"
                ) from error
            region = client.meta.region_name
            # S3 takes every region here but its first.
            where: Any = (
                {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
            )
            try:
                client.create_bucket(Bucket=name, **where)
            except client.exceptions.BucketAlreadyOwnedByYou:
                return False
            return True
    except BotoCoreError as error:
        raise UnavailableError(f"it does not answer ({error})") from error
    except ClientError as error:
        raise UnavailableError(f"it answers {error}") from error
    return False


def _status(error: Any) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _accounts(settings: MlflowSettings, bucket: str, artifacts: str, secrets: Mapping[str, str]) -> None:
    import os

    import urllib3
    from minio import MinioAdmin
    from minio.credentials.providers import StaticProvider
    from minio.error import MinioAdminException

    if settings.s3_endpoint_url is None:
        raise ConfigurationError(
            "HOURCAST_S3_ENDPOINT_URL is not set, and only MinIO's accounts can be made; make them yourself and set "
            "HOURCAST_S3_PROVISION=false"
        )
    parts = urlsplit(settings.s3_endpoint_url)
    admin = MinioAdmin(
        endpoint=parts.netloc,
        credentials=StaticProvider(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]),
        secure=parts.scheme == "https",
        http_client=urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=3, read=30), retries=urllib3.Retry(1)
        ),
    )
    try:
        for service, policy in policies(bucket, artifacts).items():
            if service not in secrets:
                continue
            name = f"{bucket}-{service}"
            admin.policy_add(name, policy=policy)
            admin.user_add(name, secrets[service])
            admin.policy_set(name, user=name)
    except MinioAdminException as error:
        body = str(getattr(error, "_body", ""))
        if getattr(error, "_code", "") in ("503", 503):
            raise UnavailableError("it is not ready yet (503)") from error
        raise RefusedError(
            f"MinIO at {settings.s3_endpoint_url} does not make the accounts ({_message(body)}); AWS_ACCESS_KEY_ID must be "
            "its administrator, or make them yourself and set HOURCAST_S3_PROVISION=false"
        ) from error
    except urllib3.exceptions.HTTPError as error:
        raise UnavailableError(f"it does not answer ({type(error).__name__})") from error


def _message(body: str) -> str:
    try:
        return str(json.loads(body).get("Message", ""))[:200]
    except ValueError:
        return body[:200]


def _comes_in(endpoint: str | None, key: str, secret: str, bucket: str) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        _client(endpoint, key, secret).list_objects_v2(Bucket=bucket, MaxKeys=1)
    except (BotoCoreError, ClientError) as error:
        raise UnavailableError(f"it does not come in ({error})") from error
