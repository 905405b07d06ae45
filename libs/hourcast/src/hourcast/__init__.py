"""What Hourcast's services agree on: contracts, settings, store, bucket, features and forecaster."""

__all__ = ["__version__"]

__version__ = "0.1.0"
