"""Run a command until a trained model is served, then stop it as Ctrl-C does: `python serve.py make up …`. Standard library alone."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request

_LIMIT_S = 300.0


def _served(api: str) -> str:
    """Kind of the version that answers, or nothing."""
    try:
        # The present hour's forecast stays that of the version that issued it, so that this is asked of the server.
        with urllib.request.urlopen(f"{api}/health", timeout=5) as answer:
            body = json.load(answer)
    except (OSError, ValueError):
        return ""
    return "" if body["kind"] == "naive" else f"version {body['version']} ({body['kind']})"


def main() -> int:
    """0 when a trained model was served and Ctrl-C ended everything."""
    began = time.monotonic()
    process = subprocess.Popen(
        sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    printed: list[str] = []

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            printed.append(line)
            print(line, end="", flush=True)

    reader = threading.Thread(target=read)
    reader.start()
    served = ""
    while not served and process.poll() is None and time.monotonic() - began < _LIMIT_S:
        api = re.search(r"API\s+(http://127\.0\.0\.1:\d+)", "".join(printed))
        served = _served(api[1]) if api else ""
        time.sleep(0.5)
    print(f"{time.monotonic() - began:.1f} s: {served or 'no trained model is served'}", flush=True)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
    code = process.wait(60)
    reader.join(10)
    assert process.stdout is not None
    process.stdout.close()
    return 0 if served and code in (0, 130, -signal.SIGINT, 2) else 1


if __name__ == "__main__":
    sys.exit(main())
