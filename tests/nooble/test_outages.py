"""What an outage of the broker or of the database may not do to a worker."""

from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from django.conf import settings
from django.db import connection
from kombu import Connection
from redis.exceptions import ConnectionError as RedisConnectionError

from nooble import embedded, servers
from nooble.results import ResultBackend
from tests.chaos.proxy import Proxy


def test_a_worker_that_listens_on_a_connection_that_breaks_is_told(engines: None) -> None:
    # What a worker does in the thread of its event loop: if it waited on a new connection here, it would wait for ever.
    sockets = embedded.socket_dir(Path(settings.NOOBLE_DATA_DIR))
    proxy = Proxy(sockets / servers.REDIS_SOCKET)
    options = settings.CELERY_BROKER_TRANSPORT_OPTIONS
    with Connection(f"redis://127.0.0.1:{proxy.port}/0", transport_options=options) as broker:
        channel: Any = broker.channel()
        listener = channel.subclient
        listener.subscribe("anything")
        listener.parse_response()
        proxy.reset()
        with pytest.raises(RedisConnectionError):
            listener.parse_response()
    proxy.close()


def test_a_result_that_cannot_be_written_is_no_failure_of_its_task(database: None) -> None:
    # Not the one that publishes: tests that follow need that.
    backend = ResultBackend(app=Celery(set_as_current=False))
    connection.ensure_connection()
    assert connection.connection is not None
    connection.connection.close()
    assert backend._store_result("a-task", {"run_id": "1"}, "SUCCESS") == {"run_id": "1"}
    # The next one is written: whatever was broken is open again.
    backend._store_result("another", {"run_id": "2"}, "SUCCESS")
    assert backend._get_task_meta_for("another")["status"] == "SUCCESS"
