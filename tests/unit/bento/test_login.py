"""An MLflow that exists already may ask who is there."""

from hourcast_bento.registry import Registry


def test_the_packager_says_who_it_is(guarded_mlflow: str) -> None:
    """MLFLOW_TRACKING_USERNAME and _PASSWORD reach the server, whatever characters they have."""
    with Registry(guarded_mlflow, "hourcast", None) as registry:
        assert registry.aliases() == {}
