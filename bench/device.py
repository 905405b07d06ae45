"""`python -m bench.device`: do networks that are trained on the CPU and on another device forecast the same?

Ends with 1 where the difference is more than `DEVICE_TOLERANCE`. Where torch finds no CUDA, `auto` is the CPU again,
and the table says so.
"""

import argparse
import csv
import sys
import time

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.ground import DATA
from hourcast.contracts import Bars, parse_hour, to_epoch
from hourcast.features import build
from hourcast_trainer.calendar import plan_for
from hourcast_trainer.models import DEVICE_TOLERANCE, MODELS, FitRequest, Fitted
from hourcast_trainer.settings import TrainerSettings

__all__ = ["difference"]

_COLUMNS = ("open", "high", "low", "close", "volume")
_AS_OF = parse_hour("2025-03-03")


def difference(one: Fitted, other: Fitted, request: FitRequest) -> float:
    """How far the log-return quantiles of two fits are apart at most on the last 1,000 hours of their training span.

    A share of the scale, that is of the size of the return that the volatility makes expect.
    """
    assert one.spec.features is not None
    origins = request.known[request.settings.target.symbol].close_time[-1000:]
    x = build(request.known, one.spec.features, origins).x
    made = [fit.forecaster().adjust(fit.forecaster().run_network(x)) for fit in (one, other)]
    return float(np.abs(made[0] - made[1]).max())


def _recorded() -> Bars:
    with (DATA / "btc_1h.csv").open() as file:
        rows = list(csv.DictReader(file))
    opens = [to_epoch(parse_hour(row["datetime"])) for row in rows]
    return Bars.of("BTC/USDT", opens, [[float(row[name]) for name in _COLUMNS] for row in rows])


def main() -> int:
    """Fit each network on both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--device", default="auto", choices=("auto", "cuda"), help="what the CPU is compared with"
    )
    device = parser.parse_args().device
    bars = {"BTC/USDT": _recorded()}
    table = Table(title="Networks trained on two devices", title_justify="left", pad_edge=False)
    for name in ("kind", "CPU", "other device", "furthest quantiles apart", "allowed"):
        table.add_column(name)
    worst = 0.0
    for kind in ("lstm",):
        fits, told = [], []
        for where in ("cpu", device):
            settings = TrainerSettings.model_validate({"trainer_device": where})
            request = FitRequest(bars, plan_for(_AS_OF, 14, 365), settings)
            began = time.perf_counter()
            fits.append(MODELS[kind].fit(request))
            told.append(f"{fits[-1].params['device']}, {time.perf_counter() - began:.1f} s")
        apart = difference(fits[0], fits[1], request)
        worst = max(worst, apart)
        table.add_row(kind, *told, f"{apart:.1e}", f"{DEVICE_TOLERANCE:.0e}")
    Console().print(table)
    return int(worst > DEVICE_TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
