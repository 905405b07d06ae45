"""BentoML's application of an unpacked package under uvicorn, in one process.

`bentoml serve` of the same folder answers alike; it starts an arbiter and a worker, where a rollout starts one
process a replica and stops it with SIGTERM.
"""

import gc
import logging
import os
import sys
from pathlib import Path

__all__ = ["main"]


def main() -> None:
    """Serve `argv[1]` (an unpacked package) on `argv[2]`:`argv[3]`."""
    # Nothing that is imported becomes garbage; the service turns the collector on again when it has started.
    gc.disable()
    folder, host, port = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    os.environ.setdefault("BENTOML_HOME", str(folder / "home"))
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    from hourcast.errors import HourcastError
    from hourcast_bento.package import MODEL_FOLDER, load_model
    from hourcast_bento.running import run

    try:
        # BentoML would bury the reason under a stack trace.
        loaded = load_model(folder / MODEL_FOLDER)
    except HourcastError as error:
        print(f"hourcast: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    from hourcast_bento import service

    service.give(loaded)
    run(service.Hourcast.to_asgi(), host, port)  # type: ignore[attr-defined]  # the decorator makes it a Service


if __name__ == "__main__":
    main()
