"""The one tree of errors. Each message names the thing, the value and the next step."""

__all__ = [
    "ConfigurationError",
    "DataError",
    "HourcastError",
    "RefusedError",
    "UnavailableError",
    "UndecidedError",
]


class HourcastError(Exception):
    """Root of every error that Hourcast raises on purpose; `exit_code` is what a command ends with."""

    exit_code = 1


class ConfigurationError(HourcastError):
    """A setting or an argument is wrong; trying again without a change cannot help."""

    exit_code = 2


class DataError(HourcastError):
    """Bars, a model or a package break their contract."""

    exit_code = 4


class UnavailableError(HourcastError):
    """Something that Hourcast depends on does not answer now; trying again later may help."""

    exit_code = 5

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RefusedError(HourcastError):
    """What was asked for is understood and not allowed."""

    exit_code = 6


class UndecidedError(HourcastError):
    """A decision that was asked for was not made or could not be stored; nothing has changed."""
