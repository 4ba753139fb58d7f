"""A real HTTP server in a thread, on a free port."""

from __future__ import annotations

import socket
import time
from collections.abc import Generator
from contextlib import contextmanager
from threading import Thread

import uvicorn
from starlette.types import ASGIApp


@contextmanager
def serving(app: ASGIApp) -> Generator[str]:
    """
    Serve an app as long as the context lasts; give its address, such as `http://127.0.0.1:40123`.

    Raises:
        RuntimeError: The app did not start; why is in the log.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
        thread = Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while thread.is_alive() and not server.started:
                time.sleep(0.01)
            if not server.started:
                raise RuntimeError("The app did not start; why is in the log.")
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
