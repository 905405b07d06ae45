"""What a walk-forward leaves of each kind: its forecasts beside the closes that came."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hourcast.conformal import ConformalState, walk
from hourcast.contracts import Bars, FloatArray, IntArray, from_epoch
from hourcast.errors import DataError
from hourcast.forecaster import HORIZONS, LEVELS
from hourcast_trainer.datasets import realised

__all__ = ["FoldRows", "WalkRows", "joined", "read_parquet", "sha256_of", "write_parquet"]


@dataclass(frozen=True, slots=True)
class FoldRows:
    """Forecasts from n origins of one fold, as they are kept: `returns` (n, H, Q) float32, before online calibration.

    The closes that came are not among them: they are read with the bars, so that what was kept never changes.
    """

    origin: IntArray
    last_close: FloatArray
    returns: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class WalkRows:
    """Forecasts of one kind from N origins, in order of time.

    `kind` is a model's name, or an ablation's such as `boosting+QQQ`; `origin` (N,) epoch seconds; `last_close` (N,)
    quote currency; `actual` (N, H) the closes that came, NaN where none did; `returns` (N, H, Q) the forecast
    log-return quantiles after online calibration, `raw` (N, H, Q) before it.
    """

    kind: str
    origin: IntArray
    last_close: FloatArray
    actual: FloatArray
    returns: FloatArray
    raw: FloatArray

    def __len__(self) -> int:
        return int(self.origin.shape[0])

    @property
    def quantiles(self) -> FloatArray:
        """(N, H, Q) quantiles of the close, in quote currency."""
        prices: FloatArray = self.last_close[:, None, None] * np.exp(self.returns)
        return prices

    def take(self, index: IntArray) -> "WalkRows":
        """The forecasts at `index`."""
        return WalkRows(
            self.kind,
            self.origin[index],
            self.last_close[index],
            self.actual[index],
            self.returns[index],
            self.raw[index],
        )


def write_parquet(rows: FoldRows) -> bytes:
    """A fold as a Parquet file: equal rows give equal bytes.

    Columns: `origin` (epoch seconds), `last_close`, `returns` (a list over horizons and levels, levels running faster).
    """
    import pyarrow as pa
    from pyarrow import parquet

    flat = pa.array(np.ascontiguousarray(rows.returns, np.float32).ravel())
    table = pa.table(
        {
            "origin": pa.array(rows.origin),
            "last_close": pa.array(rows.last_close),
            "returns": pa.FixedSizeListArray.from_arrays(flat, len(HORIZONS) * len(LEVELS)),
        },
        metadata={"horizons": ",".join(map(str, HORIZONS)), "levels": ",".join(map(str, LEVELS))},
    )
    out = io.BytesIO()
    parquet.write_table(
        table, out, compression="zstd", use_dictionary=False, use_byte_stream_split=["returns.list.element"]
    )
    return out.getvalue()


def read_parquet(body: bytes) -> FoldRows:
    """Inverse of `write_parquet`.

    Raises:
        DataError: when it is not such a file.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(io.BytesIO(body))
        returns = table.column("returns").combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return FoldRows(
            table.column("origin").to_numpy().astype(np.int64),
            table.column("last_close").to_numpy().astype(np.float64),
            returns.astype(np.float32).reshape(len(table), len(HORIZONS), len(LEVELS)),
        )
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise DataError(f"a fold of the walk cannot be read: {str(error)[:120]}") from None


def sha256_of(body: bytes) -> str:
    """64 hex digits."""
    return hashlib.sha256(body).hexdigest()


def joined(kind: str, parts: Sequence[FoldRows], target: Bars, calibrate: bool = True) -> WalkRows:
    """Folds in order of time as one walk beside the closes of `target`, calibrated on the way.

    The conformal state is carried from fold to fold; without `calibrate` forecasts stay as they are.
    """
    origin = np.concatenate([p.origin for p in parts])
    last = np.concatenate([p.last_close for p in parts])
    actual = realised(target, origin)
    # float32 is what is kept; five years of it fit where twice as much might not.
    raw = np.concatenate([p.returns for p in parts])
    if not calibrate or not len(origin):
        return WalkRows(kind, origin, last, actual, raw, raw)
    state = ConformalState.start(from_epoch(origin[0]), HORIZONS, LEVELS)
    returns, _state = walk(state, origin, raw, np.log(actual / last[:, None]))
    return WalkRows(kind, origin, last, actual, returns, raw)
