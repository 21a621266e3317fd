"""`elysium app` on the command line, the address, and the wall before Gradio. No browser and no model."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time

import pytest

from elysium.app import server
from elysium.app.limits import Limits
from elysium.app.server import Wall, free_port, sweep_uploads
from elysium.cli import app as command
from elysium.cli.main import main
from elysium.errors import InputError


@pytest.fixture
def busy():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        yield taken.getsockname()[1]


@pytest.fixture
def installed(monkeypatch):
    """As if Gradio were there, which no test of this file needs."""
    monkeypatch.setattr(command, "check_installed", lambda: None)


def test_without_gradio_one_sentence_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["app"]) == 2
    assert capsys.readouterr().err == (
        "error: The web app needs gradio and gradio-image-annotation. "
        "Install it with: pip install 'elysium-video[app]'\n"
    )


def test_a_busy_port_is_told_before_anything_is_loaded(busy, installed, capsys):
    assert main(["app", "--port", str(busy)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: Cannot listen on port {busy} of '127.0.0.1': ") and err.count("\n") == 1
    assert "Choose another --port or --host." in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--host", "192.0.2.1"], "Cannot listen on port 7860 of '192.0.2.1'"),
        (["--host", "no.such.host.invalid"], "of 'no.such.host.invalid'"),
        (["--port", "65536"], "There is no port 65536"),
        (["--port", "-1"], "--port -1 is too small"),
        (["--max-mb", "0"], "--max-mb 0 is too small"),
        (["--port", "0", "--stream", "nosuch.mp4"], "No such file or folder: 'nosuch.mp4'"),
        (["--port", "0", "--samples", "nosuch"], "No such folder: 'nosuch'"),
    ],
)
def test_bad_options_are_one_sentence(installed, capsys, arguments, told):
    assert main(["app", *arguments]) == 2
    err = capsys.readouterr().err
    assert told in err and err.startswith("error: ") and err.count("\n") == 1


@pytest.mark.slow
def test_a_model_that_does_not_exist_is_told_and_no_folder_is_left(installed, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main(["app", "--port", "0", "--model", str(tmp_path / "nosuch")]) == 2
    err = capsys.readouterr().err
    assert "nosuch" in err and err.startswith("error: ") and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_port_0_is_any_free_one(busy):
    port = free_port("127.0.0.1", 0)
    assert port > 0 and port != busy
    with pytest.raises(InputError):
        free_port("127.0.0.1", busy)


def request(path: str, method: str = "GET", length: str | None = None) -> dict:
    headers = [] if length is None else [(b"Content-Length", length.encode())]
    return {"type": "http", "path": path, "method": method, "headers": headers}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", None),
        ("/gradio_api/file={root}/visit-abc/clip-1/000000.jpg", None),
        ("/gradio_api/file=/etc/passwd", 403),
        ("/gradio_api/file={root}/../secret", 403),
        ("/gradio_api/file={root}/link", 403),
        ("/gradio_api/file={root}", 403),
        ("/file=/etc/passwd", 403),
        ("/gradio_api/file=http://10.0.0.1/", 403),
        ("/gradio_api/file=https://example.org/", 403),
        ("/gradio_api/proxy=http://10.0.0.1/", 404),
        ("/gradio_api/file//etc/passwd", 404),
        ("/gradio_api/file/http://10.0.0.1/", 404),
        ("/gradio_api/deep_link", 404),
    ],
)
def test_only_files_of_visitors_are_served(tmp_path, path, status):
    root = tmp_path / "root"
    root.mkdir()
    os.symlink("/etc/passwd", root / "link")
    refusal = Wall(None, root, Limits()).refusal(request(path.format(root=root)))
    assert (None if refusal is None else refusal[0]) == status


@pytest.mark.parametrize(
    ("path", "length", "status"),
    [
        ("/gradio_api/upload", str(200 * 2**20), None),
        ("/gradio_api/upload", str(202 * 2**20), 413),
        ("/gradio_api/queue/join", str(2**20), None),
        ("/gradio_api/queue/join", str(3 * 2**20), 413),
        ("/gradio_api/queue/join", None, 411),
        ("/gradio_api/upload", "many", 411),
        ("/gradio_api/call/track", "9", None),
        ("/gradio_api/call/upload", str(3 * 2**20), 413),
        ("/gradio_api/process_recording", "9", 404),  # runs FFmpeg on what is sent
        ("/gradio_api/component_server", "9", 404),
        ("/gradio_api/vibe-edit/", "9", 404),
    ],
)
def test_bodies_are_limited(tmp_path, path, length, status):
    refusal = Wall(None, tmp_path, Limits(min_free_bytes=0)).refusal(request(path, "POST", length))
    assert (None if refusal is None else refusal[0]) == status


def test_a_full_disk_takes_no_upload(tmp_path):
    refusal = Wall(None, tmp_path, Limits(min_free_bytes=2**62)).refusal(request("/gradio_api/upload", "POST", "9"))
    assert refusal == (507, "The disk of this server is full.")


def test_old_uploads_are_swept_and_visitors_stay(tmp_path):
    for name in ("0ld", "new", "visit-a"):
        (tmp_path / name).mkdir()
    past = time.time() - 1000
    for name in ("0ld", "visit-a"):
        os.utime(tmp_path / name, (past, past))
    for name in ("tmpold", "tmpnew"):  # uploads that broke off, or are under way
        (tmp_path / name).touch()
    os.utime(tmp_path / "tmpold", (past, past))
    sweep_uploads(tmp_path, 600)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "tmpnew", "visit-a"]


def test_the_server_process_needs_no_pytorch():
    code = (
        "import sys, elysium.app.server, elysium.app.desk, elysium.app.timeline, elysium.app.labels;"
        "print(sorted({'torch', 'transformers', 'gradio'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_addresses_that_visitors_send_are_not_fetched():
    with pytest.raises(ValueError, match="addresses are not fetched"):
        server._no_download("http://127.0.0.1/")
