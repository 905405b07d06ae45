"""A forecaster's folder: written, and read again with a reason for whatever does not fit."""

import json
from pathlib import Path

from pydantic import ValidationError

from hourcast import __version__
from hourcast.errors import ConfigurationError, DataError
from hourcast.forecaster._forecaster import Forecaster
from hourcast.forecaster._spec import SCHEMA, ForecasterSpec

__all__ = ["load", "save"]

_SPEC, _NETWORK, _MEMBERS = "spec.json", "network.onnx", "members"


def save(directory: Path, forecaster: Forecaster) -> None:
    """Write a forecaster's directory."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / _SPEC).write_text(forecaster.spec.model_dump_json(indent=1))
    if forecaster.network is not None:
        (directory / _NETWORK).write_bytes(forecaster.network)
    for member in forecaster.members:
        save(directory / _MEMBERS / member.spec.kind, member)


def load(directory: Path) -> Forecaster:
    """Load a forecaster's directory.

    Raises:
        DataError: when a file is missing, is not what it should be, or the parts do not fit each other; what is wrong
            with a member begins with its folder.
        ConfigurationError: when a later release wrote it, in a form that this one does not know.
    """
    try:
        written = (directory / _SPEC).read_bytes()
        spec = ForecasterSpec.model_validate_json(written)
    except FileNotFoundError:
        raise DataError("spec.json is missing; this is no forecaster") from None
    except ValidationError as error:
        schema = _schema_of(written)
        if isinstance(schema, int) and schema > SCHEMA:
            raise ConfigurationError(
                f"spec.json has schema {schema}, and this Hourcast ({__version__}) reads schema {SCHEMA}; upgrade Hourcast"
            ) from None
        if schema not in (None, SCHEMA):
            raise DataError(
                f"spec.json has schema {schema}, and this Hourcast reads schema {SCHEMA}; train again with `hourcast train`"
            ) from None
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"]) or "spec"
        raise DataError(f"spec.json is not valid: {where}: {problem['msg']}") from None
    network = directory / _NETWORK
    members = []
    for member in spec.members:
        try:
            members.append(load(directory / _MEMBERS / member.kind))
        except DataError as error:
            raise DataError(f"{_MEMBERS}/{member.kind}: {error}") from None
    return Forecaster(spec, network.read_bytes() if network.exists() else None, members)


def _schema_of(written: bytes) -> object:
    try:
        return json.loads(written).get("schema_version")
    except (ValueError, AttributeError):
        return None
