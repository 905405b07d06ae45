"""One served version: its parts, wired."""

from hourcast.bucket import Bucket, open_bucket
from hourcast.clock import Clock, clock_from
from hourcast.forecaster import Forecaster
from hourcast.store import Store, open_store
from hourcast_bento.calibrating import Calibrator
from hourcast_bento.forecasting import Forecasting
from hourcast_bento.issued import IssuedRecord
from hourcast_bento.live import LiveRecord
from hourcast_bento.market import Market
from hourcast_bento.measures import Measures
from hourcast_bento.models import Models
from hourcast_bento.package import PackageInfo
from hourcast_bento.recorder import Recorder
from hourcast_bento.settings import ServingSettings

__all__ = ["Serving"]

# The longest of its statements takes a second. One that hangs may be waited for twice, with the handshake before it.
_STORE_WAIT_S = 8.0


class Serving:
    """What the endpoints ask: `models`, `market`, `forecasting`, `recorder`, `measures`. Thread-safe."""

    def __init__(self, settings: ServingSettings, info: PackageInfo, forecaster: Forecaster) -> None:
        self.settings = settings
        self.store: Store = open_store(settings.resolved_database_url, _STORE_WAIT_S)
        self.bucket: Bucket = open_bucket(settings.resolved_bucket_url, settings.s3_endpoint_url)
        self.clock: Clock = clock_from(settings.clock, self.store.clock)
        model, symbol = settings.model_name, settings.target.symbol
        self.models = Models(settings, self.bucket, info, forecaster)
        self.market = Market(settings, self.store)
        self.issued = IssuedRecord(self.store, model, symbol)
        self.live = LiveRecord(self.store, model, symbol, tuple(forecaster.spec.levels))
        calibrator = Calibrator(self.live)
        around = settings, self.store, self.clock, self.models, self.market
        self.measures = Measures(*around, self.live, calibrator)
        self.recorder = Recorder(*around, calibrator, self.issued, self.measures)
        self.forecasting = Forecasting(*around, calibrator, self.issued, self.recorder)

    def start(self) -> None:
        """Begin recording live forecasts."""
        self.recorder.start()

    def stop(self) -> None:
        """End the recorder and give connections back."""
        self.recorder.stop()
        self.store.close()
