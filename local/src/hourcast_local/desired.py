"""Which version should be served, on disk: what a Deployment's annotations and generation are on a cluster."""

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from hourcast.contracts import ALIAS_ANNOTATION, VERSION_ANNOTATION, version_number

__all__ = ["Desired"]

_LOG = logging.getLogger("hourcast.node")


@dataclass(slots=True)
class Desired:
    """What `deployment.json` holds."""

    annotations: dict[str, str] = field(default_factory=dict)
    template: dict[str, str] = field(default_factory=dict)
    generation: int = 0
    last_served: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path) -> Self:
        """What the file says; nothing where there is none. One that cannot be read is set aside."""
        try:
            raw = json.loads(file.read_text())
            return cls(raw["annotations"], raw["template"], raw["generation"], raw["last_served"])
        except FileNotFoundError:
            return cls()
        except (ValueError, KeyError, TypeError):
            _LOG.error(
                "%s cannot be read and is set aside; the controller will ask for a version again", file
            )
            file.replace(file.with_suffix(".broken"))
            return cls()

    def save(self, file: Path) -> None:
        """Write it so that a crash leaves the old file or the new one, never half of one."""
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(".new")
        with temporary.open("w") as opened:
            opened.write(json.dumps(asdict(self)))
            opened.flush()
            os.fsync(opened.fileno())
        temporary.replace(file)

    @property
    def version(self) -> int | None:
        """The version that should be served."""
        return version_number(self.template.get(VERSION_ANNOTATION))

    @property
    def alias(self) -> str | None:
        """The alias under which it was rolled out."""
        return self.template.get(ALIAS_ANNOTATION)

    def patch(self, annotations: Mapping[str, str | None], template: Mapping[str, str | None]) -> None:
        """Set what has a value and remove what has none; a change of the template is a new generation."""
        for store, changes in ((self.annotations, annotations), (self.template, template)):
            for key, value in changes.items():
                if value is None:
                    store.pop(key, None)
                else:
                    store[key] = value
        if template:
            self.generation += 1
