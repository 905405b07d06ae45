"""The plain way of a back-test: one network a week, 100 epochs, then called once for each hour of the week."""

import time
from collections.abc import Mapping
from datetime import timedelta

import numpy as np
import torch

from hourcast.contracts import HOUR_S, Bars
from hourcast.forecaster import HORIZONS, LEVELS
from hourcast_trainer.datasets import fit_features, make_samples
from hourcast_trainer.lab.walk import Fold
from hourcast_trainer.settings import TrainerSettings

__all__ = ["EPOCHS", "plain_week"]

EPOCHS = 100
_BATCH = 256


class _Network(torch.nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(width, hidden, batch_first=True)
        self.head = torch.nn.Linear(hidden, len(HORIZONS) * len(LEVELS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        steps, _ = self.lstm(x)
        made: torch.Tensor = self.head(steps[:, -1])
        return made.reshape(-1, len(HORIZONS), len(LEVELS))


def plain_week(bars: Mapping[str, Bars], settings: TrainerSettings, week: Fold) -> float:
    """Seconds for one week: the same samples and the same size of network as ours, without its economies."""
    began = time.perf_counter()
    plan = week.plan
    known = {symbol: part.known_at(plan.train_end_s) for symbol, part in bars.items()}
    features = fit_features(
        known,
        settings.target.symbol,
        settings.model_series,
        settings.lstm_window_h,
        plan.start_s,
        plan.train_end_s,
    )
    samples = make_samples(known, features, plan.start_s, plan.train_end_s)
    torch.manual_seed(settings.seed)
    torch.set_num_threads(2)
    network = _Network(features.width, settings.lstm_hidden)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    levels = torch.tensor(LEVELS)
    x, z = torch.from_numpy(samples.x), torch.from_numpy(samples.z)
    for _ in range(EPOCHS):
        for part in torch.split(torch.randperm(len(x)), _BATCH):
            off = z[part][:, :, None] - network(x[part])
            loss = torch.maximum(levels * off, (levels - 1) * off).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    from hourcast.features import build

    hour = week.start
    with torch.no_grad():
        while hour < week.end:
            origin = int(hour.timestamp())
            seen = {
                s: p.known_at(origin).take(slice(-(features.history_h + 2), None)) for s, p in bars.items()
            }
            made = build(seen, features, np.array([origin], np.int64))
            network(torch.from_numpy(made.x))
            hour += timedelta(seconds=HOUR_S)
    return time.perf_counter() - began
