"""A kind of model is registered in one place, and known everywhere by that."""

from collections.abc import Iterator

import numpy as np
import pytest

from hourcast.contracts import HOUR_S, from_epoch
from hourcast.errors import ConfigurationError
from hourcast_trainer.calendar import plan_for
from hourcast_trainer.lab.analysis import analyse
from hourcast_trainer.lab.walk import variants_of
from hourcast_trainer.models import COMPARED, MODELS, FitRequest, Kind, register, spoken, title_of, trainable
from hourcast_trainer.models.prophet import ProphetModel
from hourcast_trainer.settings import TrainerSettings
from tests.markets import START, market
from tests.toys import ToyModel, toy_registered
from tests.walks import scaled, synthetic_walk

_HOURS = 2700


@pytest.fixture
def toy() -> Iterator[None]:
    """The toy kind, registered for a test."""
    with toy_registered():
        yield


@pytest.mark.usefixtures("toy")
def test_a_registered_kind_is_one_of_all() -> None:
    """Settings take it, as what is trained and as a member; comparison and report name it; it is forgotten afterwards."""
    settings = TrainerSettings(model_kind="toy", ensemble_members=("volatility", "toy"))
    assert trainable() == (*(kind for kind in MODELS if kind not in ("naive", "toy")), "toy")
    assert [v.kind for v in variants_of(["toy+QQQ"], settings)] == ["toy"]
    assert (title_of("toy"), spoken("toy")) == ("Toy", "the toy")
    assert (title_of("boosting"), spoken("boosting")) == ("boosting", "the boosting model")
    bars = {"BTC/USDT": market(_HOURS)}
    plan = plan_for(from_epoch(START + (_HOURS - 24) * HOUR_S), 7, 60)
    fitted = MODELS["ensemble"].fit(
        FitRequest(bars, plan, settings.model_copy(update={"feature_series": ()}))
    )
    assert [member.spec.kind for member in fitted.members] == ["volatility", "toy"]
    assert np.isfinite(fitted.forecaster().predict(bars).quantiles).all()


@pytest.mark.usefixtures("toy")
def test_a_report_can_be_headed_by_a_registered_kind() -> None:
    """One that can be served heads a comparison when it is best, and one for comparison only does not."""
    walk = synthetic_walk(600)
    rows = {
        "naive": walk["naive"],
        "toy": scaled(walk["exact"], "toy", 1.2),
        "prophet": scaled(walk["exact"], "prophet", 1.0),
    }
    assert analyse(rows, draws=50).headline == "toy"


def test_what_is_not_registered_is_refused_with_what_there_is() -> None:
    """A name that no kind has is told with the names of all that could be meant; naive is no choice."""
    for wrong in ("toy", "naive", "prophet"):
        with pytest.raises(ConfigurationError) as caught:
            TrainerSettings.load(model_kind=wrong)
        assert str(caught.value) == (
            f"HOURCAST_MODEL_KIND: Value error, there is no kind of model {wrong!r} to train; "
            f"there are {', '.join(trainable())} (given: {wrong!r})"
        )
    with pytest.raises(
        ConfigurationError, match="there is no kind of model 'ensemble' to be a member of an ensemble; "
    ):
        TrainerSettings.load(ensemble_members=("volatility", "ensemble"))


def test_a_kind_that_there_was_is_told_apart_from_one_that_never_was() -> None:
    """Who still sets the Transformer is told that it is gone, what to name instead, and that nothing served stops."""
    told = (
        "the kind of model 'transformer' is trained no more; take `lstm`, which was as good, or another; "
        "versions of it that were made go on being served"
    )
    for wrong in ({"model_kind": "transformer"}, {"ensemble_members": ("volatility", "transformer")}):
        with pytest.raises(ConfigurationError) as caught:
            TrainerSettings.load(**wrong)
        assert told in str(caught.value)


@pytest.mark.usefixtures("toy")
def test_a_name_that_is_taken_or_none_is_refused() -> None:
    """A name becomes a folder and a part of `toy+QQQ`, and is one kind's alone."""
    with pytest.raises(ValueError, match="^there is a kind of model 'toy' already$"):
        register(Kind(ToyModel()))
    odd = ProphetModel()
    odd.kind = "../prophet"
    with pytest.raises(ValueError, match=r"^'\.\./prophet' is no name for a kind of model: a small letter"):
        register(Kind(odd))
    assert "../prophet" not in COMPARED
