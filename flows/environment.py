"""Prefect settings that CamNet relies on; import this before prefect.

Nothing is overwritten: what the user has set stays.
"""

from __future__ import annotations

import os

DEFAULTS = {
    # CamNet runs where nothing but the package registries is reachable, and tells nobody what it does.
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    # Logs of a Dask worker that ends within two seconds of its last task would be lost with the default.
    "PREFECT_LOGGING_TO_API_BATCH_INTERVAL": "0.2",
    # Our modules log with the standard library; their lines belong to the run in the UI.
    "PREFECT_LOGGING_EXTRA_LOGGERS": "flows,tasks,transfer",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    # Without persistence a lost Dask worker takes the finished results of its tasks with it.
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "true",
    # The default is pickle; a result may come from another site.
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    # horovod and dask print a lot; our own progress lines tell what a person needs.
    "TF_CPP_MIN_LOG_LEVEL": "2",
}


def prepare_environment() -> None:
    """Set the defaults above for this process and its children."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
