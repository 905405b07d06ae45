"""`python -m hourcast_viz --port 8501`: the dashboard's server."""

import argparse
from pathlib import Path

__all__ = ["main"]


def main() -> None:
    """Run Streamlit, quiet and without telemetry."""
    parser = argparse.ArgumentParser(prog="hourcast_viz")
    parser.add_argument("--port", type=int, default=8501)
    parser.add_argument("--host", default="127.0.0.1")
    asked = parser.parse_args()
    from streamlit.web import bootstrap

    options = {
        "server.port": asked.port,
        "server.address": asked.host,
        "server.headless": True,
        "server.fileWatcherType": "none",
        "server.runOnSave": False,
        "browser.gatherUsageStats": False,
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
        "theme.light.primaryColor": "#0072B2",
        "theme.dark.primaryColor": "#56B4E9",
        "theme.dark.backgroundColor": "#0f151c",
        "theme.dark.secondaryBackgroundColor": "#18212b",
    }
    bootstrap.load_config_options(options)
    bootstrap.run(str(Path(__file__).with_name("app.py")), False, [], options)


if __name__ == "__main__":
    main()
