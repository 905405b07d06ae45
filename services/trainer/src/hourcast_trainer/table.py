"""What a model saw, as a table: one row an hour, with the fingerprint that its forecasts carry."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hourcast.contracts import HOUR_S, Bars, IntArray
from hourcast.errors import DataError
from hourcast.features import Features, feature_names
from hourcast.forecaster import Forecaster, Looked

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FeatureTable", "feature_table", "write_table"]


@dataclass(frozen=True, slots=True)
class FeatureTable:
    """What `forecaster` looked at from N hours, `origin` (N,) epoch s.

    `usable` (N,) is False where it could not forecast; `recorded` (N,) where no record of the hour says what was known at
    it, so that it is reconstructed.
    """

    forecaster: Forecaster
    origin: IntArray
    looked: Looked
    recorded: npt.NDArray[np.bool_]

    @property
    def usable(self) -> npt.NDArray[np.bool_]:
        """(N,): every table has the history that it needs."""
        whole: npt.NDArray[np.bool_] = np.logical_and.reduce([t.usable for t in self.looked.tables.values()])
        return whole


def feature_table(forecaster: Forecaster, bars: Mapping[str, Bars], start_s: int, end_s: int) -> FeatureTable:
    """What a model looked at from each hour with start <= hour < end.

    Args:
        forecaster: the model.
        bars: by symbol, as `Store.read_recorded` gives them.
        start_s: epoch seconds.
        end_s: epoch seconds.

    Raises:
        DataError: when there are no bars of the target, or the model looks at no features.
    """
    if not forecaster.feature_specs:
        raise DataError(
            f"the {forecaster.spec.kind} model sees no features; name another version with --alias"
        )
    symbol = forecaster.spec.target
    target = bars.get(symbol, Bars.empty(symbol))
    if not len(target):
        raise DataError(f"there are no bars of {symbol} yet; run `hourcast etl run`")
    offset = int(target.close_time[0]) % HOUR_S
    first = -(-(start_s - offset) // HOUR_S) * HOUR_S + offset
    origins: IntArray = np.arange(first, end_s, HOUR_S, dtype=np.int64)
    if not len(origins):
        raise DataError(f"no bar of {symbol} closes in that span; hours end {offset // 60} minutes past")
    seen = target.seen
    recorded = np.zeros(len(origins), np.bool_) if seen is None else np.isin(origins, seen.hour)
    return FeatureTable(forecaster, origins, forecaster.look(bars, origins), recorded)


def write_table(table: FeatureTable, about: Mapping[str, str]) -> bytes:
    """The table as a Parquet file; equal tables give equal bytes.

    Columns: `hour` (the target's close, UTC), `usable`, `recorded`, `fingerprint`, `last_close`; then of each table of
    features, named by the first kind that looks at it: each feature of the hour itself (`lstm.trend_6h`), the logarithms of
    its volatilities, and `window`, all hours of the window as the model sees them, oldest first, features running faster. Where
    an hour is not usable all but the first three are null.
    """
    import pyarrow as pa
    from pyarrow import parquet

    missing = ~table.usable
    tables = table.looked.tables
    marks = np.array(table.looked.fingerprints, object)
    columns: dict[str, pa.Array] = {
        "hour": pa.array(table.origin).cast(pa.timestamp("s", tz="UTC")),
        "usable": pa.array(table.usable),
        "recorded": pa.array(table.recorded),
        "fingerprint": pa.array(marks, pa.string(), mask=missing),
        "last_close": pa.array(next(iter(tables.values())).last_close, mask=missing),
    }
    for spec, kind in table.forecaster.feature_specs.items():
        names = feature_names(spec), [f"log_volatility_{h:g}h" for h in spec.volatility.halflives_h]
        for name, array in _columns(tables[spec], *names, missing).items():
            columns[f"{kind}.{name}"] = array
    out = io.BytesIO()
    parquet.write_table(pa.table(columns, metadata=dict(about)), out, compression="zstd")
    return out.getvalue()


def _columns(
    made: Features, names: tuple[str, ...], volatilities: list[str], missing: npt.NDArray[np.bool_]
) -> "dict[str, pa.Array]":
    import pyarrow as pa

    out = {
        name: pa.array(np.ascontiguousarray(made.x[:, -1, i]), mask=missing) for i, name in enumerate(names)
    }
    for k, name in enumerate(volatilities):
        out[name] = pa.array(np.ascontiguousarray(made.log_volatility[:, k]), mask=missing)
    # Lists of one length would do, but Arrow cannot read those again where some are null.
    ends = np.cumsum(~missing) * (made.x.shape[1] * made.x.shape[2])
    offsets = pa.array(np.concatenate([[0], ends]).astype(np.int32))
    values = pa.array(np.ascontiguousarray(made.x[~missing]).ravel())
    out["window"] = pa.ListArray.from_arrays(offsets, values, mask=pa.array(missing))
    return out
