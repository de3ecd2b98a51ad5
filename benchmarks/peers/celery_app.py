"""The peer's app: a Celery worker with one task, as small as its documentation makes it."""

import os
from importlib import import_module
from pathlib import Path
from typing import Any

celery: Any = import_module("celery")  # installed by `make bench` only, and untyped
signals: Any = import_module("celery.signals")
place = Path(os.environ["CELERY_PLACE"])
place.mkdir(exist_ok=True)
app: Any = celery.Celery("peer", broker="filesystem://")
app.conf.update(
    broker_transport_options={
        "data_folder_in": str(place),
        "data_folder_out": str(place),
        "control_folder": str(place.with_name("control")),
    },
    broker_connection_retry_on_startup=True,
    task_ignore_result=True,
    worker_send_task_events=False,
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
)


@app.task
def nothing() -> None:
    """Do nothing."""


@signals.worker_ready.connect
def tell(**_: object) -> None:
    """Say that this worker takes tasks now."""
    os.write(int(os.environ["READY_FD"]), b".")
