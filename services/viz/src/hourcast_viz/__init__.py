"""The dashboard: candles, forecasts of any alias, and how good they were. It knows only serving's HTTP."""

__all__: list[str] = []
