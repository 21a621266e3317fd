"""Puts the page behind an address: the address is checked, files are walled in, everything is cleaned up at the end.

Knows Gradio's server, the network and the order in which things start and end.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from elysium.app import confine
from elysium.app.desk import Desk
from elysium.app.jobs import JobQueue, ModelProcess
from elysium.app.limits import Limits
from elysium.app.visitors import FOLDER_PREFIX, Visitors, inside
from elysium.app.worker import ModelSettings
from elysium.errors import ElysiumError, InputError

_SWEEP_S = 30.0
_END_S = 5.0  # how long the end waits for uploads that are being decoded
_UPLOADS_KEPT_S = 600.0  # raw uploads, which are not needed any more once they are frames
_MAX_REQUEST_BYTES = 2 * 2**20  # of anything but an upload
_UPLOAD = "/gradio_api/upload"
# What a page and a client send. The rest of what Gradio takes is not ours: among it, what runs FFmpeg on an upload.
_POSTS = re.compile(r"/gradio_api/(upload|queue/join|cancel|reset|(call|run|api)/.+)/?")


def free_port(host: str, port: int) -> int:
    """``port``, or any free one for 0. Raises InputError if nobody can listen there."""
    if not 0 <= port < 2**16:  # some systems take it modulo that
        raise InputError(f"There is no port {port}", "Give --port 1 to 65535, or 0 for any that is free.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
            return int(probe.getsockname()[1])
    except OSError as error:
        why = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"Cannot listen on port {port} of {host!r}: {why}", "Choose another --port or --host."
        ) from error


class Server:
    """Everything that runs while the app is served. Use as a context manager.

    Raises (on entering) InputError for an address that cannot be had, ModelError for a model that cannot be loaded.
    """

    def __init__(
        self, settings: ModelSettings, *, host: str = "127.0.0.1", port: int = 7860, limits: Limits | None = None,
        samples: Mapping[str, Path] | None = None, stream: str | None = None,
    ) -> None:  # fmt: skip
        self.settings, self.host, self.port = settings, host, port
        self.limits, self.samples, self.stream = limits or Limits(), dict(samples or {}), stream
        self.url = ""
        self._stopped = threading.Event()

    def __enter__(self) -> Server:
        self.port = free_port(self.host, self.port)
        self.root = Path(tempfile.mkdtemp(prefix="elysium-app-")).resolve()  # mode 0700
        try:
            process, gradio = ModelProcess(self.settings), threading.Thread(target=_quiet_gradio, args=(self.root,))
            gradio.start()  # which takes its time, as the model does
            process.start()
            gradio.join()
            self.queue = JobQueue(process, self.limits.max_waiting, self.limits.job_seconds)
            self.visitors = Visitors(self.root, self.limits, left=partial(self.queue.cancel, abandon=True))
            self._launch()
        except BaseException:
            self.__exit__()
            raise
        threading.Thread(target=self._sweep, name="elysium-sweep", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        if hasattr(self, "page"):
            self.page.close(verbose=False)
        if hasattr(self, "visitors"):
            self.visitors.close()  # which ends what is being decoded for them
            confine.wait_for_all(_END_S)
        if hasattr(self, "queue"):
            self.queue.close()
        shutil.rmtree(self.root, ignore_errors=True)

    def stop(self) -> None:
        """Let `wait` return."""
        self._stopped.set()

    def wait(self) -> None:
        """Serve until Ctrl-C, or until somebody calls `stop`."""
        while not self._stopped.wait(3600):
            pass

    def _launch(self) -> None:
        from starlette.middleware import Middleware

        from elysium.app import page
        from elysium.app.handlers import Handlers

        desk = Desk(self.queue, self.limits, self.root, self.samples, self.stream)
        self.page = page.build(Handlers(desk, self.visitors), self.settings.model)
        self.page.queue(default_concurrency_limit=None, max_size=100, api_open=False)
        try:
            _, self.url, _ = self.page.launch(
                server_name=self.host, server_port=self.port, prevent_thread_lock=True, quiet=True, share=False,
                inbrowser=False, show_error=False, max_file_size=self.limits.max_bytes, enable_monitoring=False,
                footer_links=[], run_history=False, ssr_mode=False, pwa=False, mcp_server=False,
                theme=page.theme(), css_paths=[page.CSS],
                app_kwargs={"middleware": [Middleware(Wall, root=self.root, limits=self.limits)]},
            )  # fmt: skip
        except OSError as error:
            raise InputError(f"Cannot listen on port {self.port}: {error}", "Choose another --port.") from error

    def _sweep(self) -> None:
        """Now and then forget idle visitors and raw uploads."""
        while not self._stopped.wait(_SWEEP_S):
            self.visitors.sweep(self.queue.busy)
            sweep_uploads(self.root, _UPLOADS_KEPT_S)


def sweep_uploads(root: Path, kept_s: float) -> None:
    """Remove what Gradio has put into ``root`` longer ago than ``kept_s``; visitors' folders stay."""
    for entry in root.iterdir():
        try:
            old = time.time() - entry.stat().st_mtime > kept_s
            if not old or entry.name.startswith(FOLDER_PREFIX):
                continue
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:  # of an upload that broke off
                entry.unlink()
        except OSError:
            continue


def _quiet_gradio(root: Path) -> None:
    """Before Gradio's first use: no news sent or fetched, all of its files under ``root``."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(root)
    os.environ["GRADIO_EXAMPLES_CACHE"] = str(root / "examples")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import gradio.processing_utils
    import gradio.routes

    vars(gradio.routes)["print"] = lambda *values: None  # it tells the terminal of every part of a custom component
    for name in ("ssrf_protected_download", "async_ssrf_protected_download"):
        setattr(gradio.processing_utils, name, _no_download)


def _no_download(*_: object, **__: object) -> str:
    """In the place of Gradio's fetching of addresses that visitors send as files."""
    raise ValueError("addresses are not fetched")


class Wall:
    """Stands before Gradio (ASGI): files only out of ``root``, no fetching of addresses, no bodies that are too large.

    Gradio serves files of its cache and of the visitors' folders; both are in ``root``, with names that nobody guesses.
    It would also fetch public addresses for whoever asks.
    """

    def __init__(self, app: Any, root: Path, limits: Limits) -> None:
        self.app, self.root, self.limits = app, root, limits

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        refusal = self.refusal(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self.app(scope, receive, send)
            return
        from starlette.responses import PlainTextResponse

        status, text = refusal
        await PlainTextResponse(text, status)(scope, receive, send)

    def refusal(self, scope: Mapping[str, Any]) -> tuple[int, str] | None:
        """Why a request goes no further, None if it does."""
        path = str(scope["path"])
        if "/proxy=" in path or "/file/" in path.split("file=", 1)[0] or path.rstrip("/").endswith("/deep_link"):
            return 404, "Not here."
        if scope["method"] == "POST" and not _POSTS.fullmatch(path):
            return 404, "Not here."
        if "file=" in path:
            try:
                inside(self.root, Path(path.split("file=", 1)[1]))
            except (ElysiumError, OSError, ValueError):
                return 403, "This file is not served."
        if scope["method"] in ("POST", "PUT", "PATCH"):
            headers = {name.lower(): value for name, value in scope["headers"]}
            upload = path == _UPLOAD
            if upload and shutil.disk_usage(self.root).free < self.limits.min_free_bytes:
                return 507, "The disk of this server is full."
            most = self.limits.max_bytes + 2**20 if upload else _MAX_REQUEST_BYTES
            try:
                length = int(headers.get(b"content-length", b""))
            except ValueError:
                return 411, "Say how long the request is."
            if length > most:
                return 413, f"That is too large: the limit is {most / 2**20:.0f} MB."
        return None
