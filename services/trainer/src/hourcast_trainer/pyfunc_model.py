"""The MLflow flavour of a forecaster, logged as code: bars in, quantiles out.

Input: a table with `symbol`, `open_time` and `close_time` (epoch seconds) and open, high, low, close, volume.
Output: a row per horizon: `origin`, `target_time` (epoch seconds), `horizon` (h) and a column per quantile.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from hourcast.contracts import Bars
from hourcast.forecaster import load


class ForecasterModel(PythonModel):
    """Forecasts from the newest bar that it is given."""

    def load_context(self, context: Any) -> None:
        """Load spec and network from the logged artefacts."""
        self._forecaster = load(Path(context.artifacts["forecaster"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """Forecast every horizon from the newest close of the target."""
        bars = {}
        for symbol, part in model_input.groupby("symbol"):
            ordered = part.sort_values("open_time")
            bars[str(symbol)] = Bars.of(
                str(symbol),
                ordered["open_time"].to_numpy(np.int64),
                ordered[["open", "high", "low", "close", "volume"]].to_numpy(np.float64),
                ordered["close_time"].to_numpy(np.int64),
            )
        made = self._forecaster.predict(bars)
        out: dict[str, Any] = {
            "origin": np.repeat(made.origin, len(made.horizons)),
            "target_time": made.target_time[0],
            "horizon": np.array(made.horizons, np.int64),
        }
        for i, level in enumerate(made.levels):
            out[f"q{level:.2f}"] = made.quantiles[0, :, i]
        return pd.DataFrame(out)


set_model(ForecasterModel())
