"""A webhook is a hint, and only a genuine one."""

import urllib.error
import urllib.request

import pytest

from hourcast_controller.webhook import Deliveries, Webhook, sign, verify
from tests.ports import find_port


@pytest.mark.parametrize(
    ("stamp", "signature", "reason"),
    [
        ("1000", None, None),
        ("600", None, "the timestamp is missing or more than 300 s off"),
        ("", None, "the timestamp is missing or more than 300 s off"),
        ("1000", "v1,AAAA", "the signature does not match"),
    ],
)
def test_only_genuine_and_recent_deliveries_pass(
    stamp: str, signature: str | None, reason: str | None
) -> None:
    """The HMAC and the age decide, and the reason says which failed."""
    signature = signature or sign("secret", "id", stamp, b"{}")
    assert verify("secret", "id", stamp, signature, b"{}", 1010.0) == reason


def test_the_signature_is_the_one_that_mlflow_makes() -> None:
    """Our signature equals that of MLflow's own sender."""
    from mlflow.webhooks.delivery import _generate_hmac_signature

    assert sign("s", "d", "1", b'{"a": 1}') == _generate_hmac_signature("s", "d", "1", '{"a": 1}')


def test_a_delivery_wakes_the_controller_and_a_forged_one_does_not() -> None:
    """Over HTTP: a genuine delivery is answered 204 and hints once, a forged one 401 and hints never."""
    import time

    hints: list[int] = []
    webhook = Webhook("127.0.0.1", find_port(), "secret", lambda: hints.append(1))
    webhook.start()
    try:
        stamp = str(int(time.time()))
        headers = {
            "X-MLflow-Delivery-Id": "d",
            "X-MLflow-Timestamp": stamp,
            "X-MLflow-Signature": sign("secret", "d", stamp, b"{}"),
        }
        url = f"http://127.0.0.1:{webhook.port}/webhook"
        with urllib.request.urlopen(urllib.request.Request(url, b"{}", headers), timeout=5) as answer:
            assert answer.status == 204
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(urllib.request.Request(url, b"{ }", headers), timeout=5)
        assert caught.value.code == 401
        caught.value.close()
        assert hints == [1]
    finally:
        webhook.stop()


def test_a_replayed_delivery_is_refused_with_its_reason() -> None:
    """The same genuine delivery again, or one that another controller has heard: 401, and no hint."""
    import time

    hints: list[int] = []
    outcomes: list[str] = []
    webhook = Webhook(
        "127.0.0.1",
        find_port(),
        "secret",
        lambda: hints.append(1),
        hear=lambda delivery: delivery != "heard elsewhere",
        count=outcomes.append,
    )
    webhook.start()
    stamp = str(int(time.time()))

    def send(delivery: str) -> tuple[int, str]:
        headers = {
            "X-MLflow-Delivery-Id": delivery,
            "X-MLflow-Timestamp": stamp,
            "X-MLflow-Signature": sign("secret", delivery, stamp, b"{}"),
        }
        url = f"http://127.0.0.1:{webhook.port}/webhook"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, b"{}", headers), timeout=5) as answer:
                return answer.status, ""
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    try:
        assert send("one") == (204, "")
        assert send("one") == (401, "the delivery was heard before\n")
        assert send("heard elsewhere") == (401, "the delivery was heard before\n")
        assert send("two") == (204, "")
    finally:
        webhook.stop()
    assert hints == [1, 1]
    assert outcomes == ["accepted", "refused", "refused", "accepted"]


def test_deliveries_are_forgotten_once_their_timestamp_would_not_pass() -> None:
    """Ten minutes, and ten thousand of them at most."""
    deliveries = Deliveries()
    assert deliveries.first("a", 0)
    assert not deliveries.first("a", 600)
    assert deliveries.first("a", 601)
    for number in range(10_000):
        assert deliveries.first(str(number), 602)
    assert deliveries.first("a", 602)
