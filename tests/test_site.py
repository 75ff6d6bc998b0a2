"""The site as people run it: started as a process, watched, stopped; and its start refused in words."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.conftest import ROOT, eventually, free_port


class Site:
    """A running site: its address and its process."""

    def __init__(self, port: int, process: subprocess.Popen[str]) -> None:
        self.port, self.process, self.address = port, process, f"http://127.0.0.1:{port}"

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.address + path, timeout=10) as response:
            return bytes(response.read())

    def state(self) -> dict[str, object]:
        return dict(json.loads(self.get("/state")))

    def stream(self) -> socket.socket:
        """A viewer by hand: the request is sent, nothing is read yet."""
        viewer = socket.socket()
        viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)  # so that it is soon full
        viewer.settimeout(10)
        viewer.connect(("127.0.0.1", self.port))
        viewer.sendall(b"GET /video_feed HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return viewer


@contextmanager
def running(cwd: Path = ROOT, **settings: str) -> Iterator[Site]:
    port = free_port()
    environment = {**os.environ, "VISAGE_PORT": str(port), "VISAGE_IDLE": "1", **settings}
    process = subprocess.Popen(
        [sys.executable, "app.py"],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    site = Site(port, process)
    try:
        assert eventually(lambda: answers(site), 30), "the site did not start"
        yield site
    finally:
        kill(process)
        process.communicate()


def kill(process: subprocess.Popen[str]) -> None:
    """The site with its workers, which would go on for a while after the first of its processes."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def answers(site: Site) -> bool:
    try:
        return bool(site.get("/healthz"))
    except (urllib.error.URLError, OSError):
        return False


def refused(code: int = 1, cwd: Path = ROOT, **settings: str) -> str:
    """What a start that is refused prints; it ends with an exit code and without a traceback."""
    environment = {**os.environ, "VISAGE_PORT": str(free_port()), **settings}
    done = subprocess.run(
        [sys.executable, "app.py"], cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def demo() -> Iterator[Site]:
    with running(VISAGE_SOURCE="demo", VISAGE_STALL="2") as site:
        yield site


def test_wrong_settings_end_the_start_with_a_sentence() -> None:
    """A typo in a name and a value of the wrong type each name the setting."""
    assert "VISAGE_SUORCE is not a setting: did you mean VISAGE_SOURCE?" in refused(VISAGE_SUORCE="demo")
    assert "VISAGE_VIEWERS='all': it takes a whole number" in refused(VISAGE_VIEWERS="all")


def test_a_taken_port_suggests_another(demo: Site) -> None:
    """A second site on the same port says so, and which to try."""
    assert f"VISAGE_PORT={demo.port + 1}" in refused(VISAGE_PORT=str(demo.port))


def test_weights_that_cannot_be_loaded_end_the_start_with_a_sentence(tmp_path: Path) -> None:
    """Without its network the site does not come up to guess, and does not try for ever."""
    copy = tmp_path / "site"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "runs", "docs", "tests", "__pycache__"))
    (copy / "model/weights/emotion.tflite").write_bytes(b"garbage")
    assert "emotion.tflite is not a LiteRT network" in refused(3, cwd=copy)
    (copy / "model/weights/emotion.json").unlink()
    assert "emotion.json is missing" in refused(3, cwd=copy)


def test_the_site_reads_the_demo(demo: Site) -> None:
    """With a viewer, the running site reads a mood on the demo's face and has songs for it."""
    with demo.stream():
        assert eventually(lambda: demo.state()["reading"], 20)
        assert demo.state()["songs"]
    assert eventually(lambda: demo.state()["camera"]["status"] == "idle", 10)  # type: ignore[index]


def test_two_tabs_and_one_that_never_reads() -> None:
    """While one viewer reads nothing, another gets its pictures and the page answers.

    There are more of them than lie unread on the way to the first, whom this site does not drop for a minute.
    """
    with running(VISAGE_SOURCE="demo", VISAGE_STALL="60") as site, site.stream(), site.stream() as reading:
        received = 0
        while received < 1_500_000:
            part = reading.recv(65536)
            assert part
            received += len(part)
        assert b"chips" in site.get("/")


def test_a_viewer_that_never_reads_is_dropped_in_the_end(demo: Site) -> None:
    """The server gives up on a viewer that leaves everything unread, and the camera goes to sleep."""
    with demo.stream():
        assert eventually(lambda: demo.state()["camera"]["status"] == "live", 10)  # type: ignore[index]
        assert eventually(lambda: demo.state()["camera"]["status"] == "idle", 60)  # type: ignore[index]


def test_a_missing_file_is_shown_not_fatal() -> None:
    """With a source that is not there the site comes up, says which, and serves songs."""
    with running(VISAGE_SOURCE="/no/such/file") as site, site.stream() as viewer:
        assert b"200 OK" in viewer.recv(65536)
        assert eventually(lambda: site.state()["camera"]["status"] == "error", 10)  # type: ignore[index]
        assert "no file at /no/such/file" in site.state()["camera"]["message"]  # type: ignore[index]
        assert b"open.spotify.com" in site.get("/songs?emotion=sad")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "Ctrl-C"])
def test_it_stops_within_three_seconds_with_viewers_watching(signum: int) -> None:
    """A stop does not wait for the streams: they end, the camera is released, the process is gone."""
    with running(VISAGE_SOURCE="demo") as site, site.stream() as one, site.stream() as two:
        assert one.recv(1000)
        assert two.recv(1000)
        # A terminal sends Ctrl-C to all of a program's processes, a supervisor sends TERM to the first.
        os.killpg(site.process.pid, signum) if signum == signal.SIGINT else site.process.terminate()
        site.process.wait(3)
        output = site.process.stdout.read() if site.process.stdout else ""
    assert site.process.returncode == 0
    assert "Traceback" not in output
    assert f"http://127.0.0.1:{site.port}" in output


IN_A_TERMINAL = """
import os, signal, sys
os.close(os.open(os.ttyname(0), os.O_RDWR))  # who opens it first is its master, and is told when it closes
if sys.argv[1:] == ["nohup"]:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
os.execv(sys.executable, [sys.executable, "app.py"])
"""


@pytest.mark.parametrize("how", ["", "nohup"])
def test_it_ends_with_its_terminal(tmp_path: Path, how: str) -> None:
    """Closing the window stops the site and frees its port; under nohup it stays. Nothing is left in the home."""
    ours, its = pty.openpty()
    port = free_port()
    named = {"VISAGE_PORT": str(port), "VISAGE_SOURCE": "demo", "HOME": str(tmp_path), "XDG_CONFIG_HOME": ""}
    environment = {**os.environ, **named}
    environment.pop("XDG_RUNTIME_DIR", None)
    command = [sys.executable, "-c", IN_A_TERMINAL, *how.split()]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=its, stdout=its, stderr=its, text=True, start_new_session=True
    ) as process:
        site = Site(port, process)
        try:
            os.close(its)
            assert eventually(lambda: answers(site), 30)
            os.close(ours)
            if how:
                with pytest.raises(subprocess.TimeoutExpired):
                    process.wait(2)
                assert answers(site)
            else:
                assert process.wait(10) == 0
                assert not answers(site)
        finally:
            kill(process)
    assert not (tmp_path / ".gunicorn").exists()


def test_songs_change_without_a_restart(tmp_path: Path) -> None:
    """A list replaced on disk is served at once; garbage in its place leaves the last good one."""
    header = "track_id,title,artist,album,duration_ms,added_at\n"
    row = "0snQkGI5qnAmohLE7jTs{:02d},Song {},Artist,Album,200000,2026-01-01\n"
    path = tmp_path / "happy.csv"
    path.write_text(header + row.format(1, "one"))
    with running(VISAGE_SOURCE="demo", VISAGE_SONGS=str(tmp_path)) as site:
        assert b"Song one" in site.get("/songs?emotion=happy")
        path.write_text(header + row.format(2, "two") + "garbage\n")
        assert b"Song two" in site.get("/songs?emotion=happy")
        path.write_bytes(bytes(range(256)) * 10)
        assert b"Song two" in site.get("/songs?emotion=happy")


def test_a_network_camera_is_a_source_and_its_loss_is_shown() -> None:
    """An MJPEG address (here another site's stream) gives faces; when it dies the page says so, not a frozen face."""
    with (
        running(VISAGE_SOURCE="demo") as far,
        running(VISAGE_SOURCE=f"{far.address}/video_feed") as near,
        near.stream(),
    ):
        assert eventually(lambda: near.state()["reading"], 30)
        far.process.terminate()
        assert eventually(lambda: near.state()["camera"]["status"] == "error", 30)  # type: ignore[index]
        assert near.state()["reading"] is None
        assert f"no picture from {far.address}" in near.state()["camera"]["message"]  # type: ignore[index]
