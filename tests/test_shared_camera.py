"""One camera for several processes: who has it, who is shown it, and what happens when one goes."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import cv2
import psutil
import pytest

from camera import Camera, Snapshot, TooManyViewersError, Viewer
from model.demo import demo_frame
from tests.conftest import ROOT, Source, eventually, free_port, stub_recognizer
from tests.test_site import Site, running
from web.shared_camera import SharedCamera


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def shared(folder: Path, source: Source, key: bytes = b"key") -> SharedCamera:
    camera = Camera("fake", stub_recognizer(), idle_seconds=0.2, max_viewers=3, open_frames=source)
    return SharedCamera(camera, folder, key)


@pytest.fixture
def pair(folder: Path, source: Source) -> Iterator[tuple[SharedCamera, SharedCamera]]:
    """The cameras of two processes, of which neither has been needed yet."""
    one, other = shared(folder, source), shared(folder, source)
    yield one, other
    other.close()
    one.close()


Pair = tuple[SharedCamera, SharedCamera]


def first(viewer: Viewer | Iterator[Snapshot]) -> Snapshot:
    return next(snapshot for snapshot in viewer if snapshot.status == "live")


def test_nobody_has_a_camera_that_nobody_needs(pair: Pair, folder: Path, source: Source) -> None:
    """Asking what it sees starts nothing and takes nothing."""
    assert {camera.snapshot.status for camera in pair} == {"idle"}
    assert (source.opened, list(folder.iterdir())) == (0, [])


def test_one_source_for_all(pair: Pair, source: Source) -> None:
    """Whoever watches first opens the source; the viewers of both get its newest pictures and its reading."""
    with pair[0].watch() as here, pair[1].watch() as there:
        assert first(here).jpeg
        pictures_there = iter(there)
        seen = next(snapshot for snapshot in pictures_there if snapshot.faces)
        assert seen.jpeg.startswith(b"\xff\xd8")
        assert seen.faces[0].emotion == "happy"
        later = first(pictures_there)
        assert later.sequence > seen.sequence
        assert eventually(lambda: pair[1].snapshot.reading)
        assert pair[1].snapshot.jpeg == b""
    assert source.opened == 1
    assert eventually(lambda: source.open == 0)


def test_the_cap_is_for_all_together(pair: Pair) -> None:
    """Three viewers in all, wherever they are; a place that becomes free is free for both."""
    viewers = [pair[0].watch(), pair[1].watch(), pair[1].watch()]
    for camera in pair:
        with pytest.raises(TooManyViewersError, match="3 people are watching"):
            camera.watch()
    viewers[1].close()
    assert eventually(lambda: _can_watch(pair[1]))
    for viewer in viewers:
        viewer.close()


def _can_watch(camera: SharedCamera) -> bool:
    try:
        camera.watch().close()
    except TooManyViewersError:
        return False
    return True


def test_a_pause_reaches_the_camera(folder: Path, source: Source) -> None:
    """Released soon, asked by the process that does not have it, means at once."""
    camera = Camera("fake", stub_recognizer(), idle_seconds=60, open_frames=source)
    with closing(SharedCamera(camera, folder, b"key")) as one, closing(shared(folder, source)) as other:
        with one.watch() as viewer:
            first(viewer)
        other.release_soon()
        assert eventually(lambda: source.open == 0, 5)


def test_another_takes_over(pair: Pair, source: Source) -> None:
    """When who has it stops, its viewers' streams end everywhere, and the next to be asked opens the source."""
    here, there = pair[0].watch(), pair[1].watch()
    first(there)
    pair[0].close()
    assert list(there) == []
    there.close()
    here.close()
    with pair[1].watch() as viewer:
        assert first(viewer).jpeg
    assert source.opened == 2


def test_a_stop_ends_the_streams_of_who_only_watches(pair: Pair) -> None:
    """The process that does not have the camera stops without waiting for it."""
    with pair[0].watch(), pair[1].watch() as there:
        first(there)
        pair[1].close()
        began = time.monotonic()
        assert list(there) == []
        assert time.monotonic() - began < 5


def test_who_does_not_know_the_key_is_shown_nothing(folder: Path, source: Source) -> None:
    """A process without the key sees no picture, and does not disturb those that have it."""
    one, stranger = shared(folder, source), shared(folder, source, b"other")
    stranger.PATIENCE = 0.3
    with closing(one), closing(stranger), one.watch() as viewer:
        first(viewer)
        assert stranger.snapshot.status == "idle"
        with pytest.raises(TooManyViewersError, match="does not answer"):
            stranger.watch()
        assert first(viewer).jpeg


def test_what_a_killed_process_left_is_in_nobodys_way(folder: Path, source: Source) -> None:
    """A socket without a process, and a lock file that nobody holds, are taken over."""
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(folder / "camera"))
    left.close()
    (folder / "camera.lock").touch()
    with closing(shared(folder, source)) as camera:
        assert camera.snapshot.status == "idle"
        with camera.watch() as viewer:
            assert first(viewer).jpeg


def test_a_folder_that_was_tidied_away_is_made_again(tmp_path: Path, source: Source) -> None:
    """Who cleans /tmp may take the empty folder in which the processes meet; the next viewer is shown the camera."""
    with closing(shared(tmp_path / "meeting", source)) as camera, camera.watch() as viewer:
        assert first(viewer).jpeg
        assert (tmp_path / "meeting").stat().st_mode & 0o777 == 0o700


def test_who_tidies_finds_the_lock_of_a_camera_in_use_new(folder: Path, source: Source) -> None:
    """What is asked touches it, or it would go one day, and another process would take the camera too."""
    lock = folder / "camera.lock"
    with closing(shared(folder, source)) as camera, camera.watch() as viewer:
        assert first(viewer).jpeg
        os.utime(lock, (0, 0))
        assert camera.snapshot.status == "live"
        assert time.time() - lock.stat().st_mtime < 60


def test_a_process_that_hangs_keeps_nobody_waiting(folder: Path, source: Source) -> None:
    """The one that has the camera takes calls no more: the others say "idle", and that it does not answer."""
    with socket.socket(socket.AF_UNIX) as silent, (folder / "camera.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        silent.bind(str(folder / "camera"))
        silent.listen()
        with closing(shared(folder, source)) as camera:
            camera.PATIENCE = 0.3
            assert _soon(lambda: camera.snapshot.status) == ["idle"]
            with pytest.raises(TooManyViewersError, match="does not answer"):
                camera.watch()


def test_a_camera_that_hangs_ends_the_streams_of_the_others(folder: Path, source: Source) -> None:
    """A picture that does not come from the other process is waited for, but not for ever."""
    go = threading.Event()

    class Hanging(Camera):
        def newer(self, than: int, timeout: float) -> Snapshot | None:
            go.wait(30)
            return super().newer(than, timeout)

    hanging = SharedCamera(Hanging("fake", stub_recognizer(), open_frames=source), folder, b"key")
    with closing(hanging), closing(shared(folder, source)) as other:
        hanging.watch().close()
        other.PATIENCE = 0.3
        with other.watch() as there:
            ended = _soon(lambda: list(there))
            go.set()
        assert ended == [[]]


def _soon(call: Callable[[], object]) -> list[object]:
    """What comes of a call within some seconds; nothing if it is still waiting then."""
    came: list[object] = []
    thread = threading.Thread(target=lambda: came.append(call()), daemon=True)
    thread.start()
    thread.join(6)
    return list(came)


# -- the whole site with two workers


@pytest.fixture(scope="module")
def two() -> Iterator[Site]:
    with running(VISAGE_SOURCE="demo", VISAGE_WORKERS="2", VISAGE_STALL="1") as site:
        yield site


def workers(site: Site) -> list[psutil.Process]:
    return psutil.Process(site.process.pid).children()


def holder(site: Site) -> psutil.Process | None:
    """The worker that has the camera."""
    held = [worker for worker in workers(site) if any("camera.lock" in f.path for f in worker.open_files())]
    return held[0] if held else None


def pictures(viewer: socket.socket, count: int) -> None:
    """Read so many pictures of a stream."""
    received = b""
    while received.count(b"Content-Length") < count:
        part = viewer.recv(65536)
        assert part, "the stream has ended"
        received = received[-20:] + part if count == 1 else received + part


def test_visitors_are_shared_out(two: Site) -> None:
    """Of twelve connections that come at once each worker gets nearly half, on average, once both have started."""
    assert eventually(lambda: all(_shared_out(two)), 20)
    fewest = [min(_shared_out(two)) for _ in range(27)]
    assert sum(fewest) / len(fewest) > 4.5, fewest


def _shared_out(site: Site) -> list[int]:
    """How many of twelve connections each worker has."""
    with ExitStack() as stack:
        for _ in range(12):
            stack.enter_context(begun(site, b"GET /static/icon.svg HTTP/1.1\r\nHost: localhost\r\n\r\n")).recv(1000)
        return [len(worker.net_connections("tcp4")) - 1 for worker in workers(site)]


def test_every_worker_shows_the_same_camera(two: Site) -> None:
    """With many viewers all get pictures, and every worker knows the reading."""
    with ExitStack() as stack:
        viewers = [stack.enter_context(two.stream()) for _ in range(12)]
        for viewer in viewers:
            pictures(viewer, 5)
        assert eventually(lambda: two.state()["reading"], 20)
        assert all(two.state()["camera"]["status"] == "live" for _ in range(10))  # type: ignore[index]
    assert eventually(lambda: two.state()["camera"]["status"] == "idle", 10)  # type: ignore[index]


def test_a_killed_worker_costs_its_viewers_a_reconnection(two: Site) -> None:
    """The camera moves to another worker: streams end, and who comes back is shown it again."""
    with two.stream() as viewer:
        pictures(viewer, 2)
        before = holder(two)
        assert before
        os.kill(before.pid, signal.SIGKILL)
        while viewer.recv(65536):
            pass
    assert eventually(lambda: len(workers(two)) == 2, 10)
    with two.stream() as again:
        pictures(again, 5)
        after = holder(two)
        assert after
        assert after.pid != before.pid


def test_a_stop_leaves_no_folder_behind() -> None:
    """The folder in which the workers meet goes with the site, viewers or not; it is the owner's alone."""
    with running(VISAGE_SOURCE="demo", VISAGE_WORKERS="2") as site, site.stream() as viewer:
        pictures(viewer, 1)
        held = holder(site)
        assert held
        (lock,) = [Path(f.path) for f in held.open_files() if "camera.lock" in f.path]
        assert lock.parent.stat().st_mode & 0o777 == 0o700
        site.process.terminate()
        site.process.wait(5)
    assert not lock.parent.exists()


def test_a_folder_with_a_strange_name_does_not_keep_the_site_from_starting(tmp_path: Path) -> None:
    """What a killed site has left in /tmp is removed; what no process can be called is left alone."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left, strange = (tmp_path / f"visage-fm-{os.getuid()}-{number}" for number in (ended.pid, 99999999999))
    left.mkdir()
    strange.mkdir()
    settings = {"TMPDIR": str(tmp_path), "VISAGE_WORKERS": "2", "VISAGE_SECRET_KEY": "k" * 40}
    assert configured("_shared", **settings).startswith(str(tmp_path))
    assert (left.exists(), strange.exists()) == (False, True)


def configured(what: str, **settings: str) -> str:
    """A part of gunicorn's configuration under some settings."""
    command = [sys.executable, "-c", f"import runpy; print(runpy.run_path('gunicorn.conf.py')[{what!r}])"]
    if what.endswith("()"):
        command[-1] = f"import runpy; print(runpy.run_path('gunicorn.conf.py')[{what[:-2]!r}]())"
    environment = {**os.environ, "VISAGE_SECRET_KEY": "k" * 40, **settings}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=60, capture_output=True, text=True)
    return done.stdout.strip()


def test_a_long_name_of_the_folder_for_passing_files_keeps_nobody_from_the_camera(tmp_path: Path) -> None:
    """A socket's name has 107 bytes at most; where that is too little the processes meet in /tmp."""
    folder = tmp_path / ("a" * 100)
    folder.mkdir()
    shared = Path(configured("_shared", TMPDIR=str(folder), VISAGE_WORKERS="2"))
    assert shared.parent == Path("/tmp")
    shared.rmdir()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "http://127.0.0.1:5000"),
        ({"HOST": "::1"}, "http://[::1]:5000"),
        (
            {"HOST": "0.0.0.0", "NAMES": "a.example, b.example"},
            "http://127.0.0.1:5000; from elsewhere http://a.example:5000",
        ),
        ({"HOST": "0.0.0.0", "NAMES": "a.example", "PROXIES": "1"}, "http://127.0.0.1:5000"),
    ],
)
def test_the_address_that_is_said_is_one_that_answers(settings: dict[str, str], said: str) -> None:
    """With names it answers to those alone, and to the loopback ones."""
    assert configured("_whereabouts()", **{f"VISAGE_{name}": value for name, value in settings.items()}) == said


def test_a_phone_is_told_an_address_in_numbers() -> None:
    """Where there is a network; it need not know this computer's name."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            name = probe.getsockname()[0]
        except OSError:
            name = socket.gethostname()
    said = configured("_whereabouts()", VISAGE_HOST="0.0.0.0")
    assert said == f"http://127.0.0.1:5000; from elsewhere http://{name}:5000"


# -- requests that are begun and not finished


def begun(site: Site, text: bytes) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", site.port), timeout=15)
    client.sendall(text)
    return client


def test_an_unfinished_head_does_not_hold_a_thread(two: Site) -> None:
    """More of them than there are threads: the page answers again within seconds, and they are hung up on."""
    with ExitStack() as stack:
        clients = [stack.enter_context(begun(two, b"GET / HTTP/1.1\r\nHost: local")) for _ in range(130)]
        assert b"chips" in two.get("/")
        assert clients[0].recv(100) == b""


def test_an_unfinished_picture_is_a_408(two: Site) -> None:
    """A body that stops half way is answered in words, and the connection closed."""
    head = b"POST /recognize HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: 5000\r\n\r\n"
    with begun(two, head + b"x" * 100) as client:
        answer = b""
        while part := client.recv(65536):
            answer += part
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"did not come in time" in answer


def test_a_byte_now_and_then_does_not_keep_a_request_alive(two: Site) -> None:
    """A request that never ends, though something of it comes each half second, is cut off."""
    with begun(two, b"GET / HTTP/1.1\r\nHost: localhost\r\n") as client:
        assert eventually(lambda: not _takes_a_line(client), 30)


def _takes_a_line(client: socket.socket) -> bool:
    time.sleep(0.5)
    try:
        client.sendall(b"X-A: b\r\n")
    except OSError:
        return False
    return True


def test_a_request_that_came_whole_is_answered_however_long_that_takes() -> None:
    """A playlist that a service keeps for longer than a request may be unfinished: the page comes in the end."""
    with socket.create_server(("127.0.0.1", 0)) as slow:
        lookup = f"http://127.0.0.1:{slow.getsockname()[1]}"
        hanging_up = threading.Thread(target=_hang_up, args=(slow,), daemon=True)
        with running(VISAGE_SOURCE="none", VISAGE_STALL="1", VISAGE_LOOKUP=lookup) as site:
            hanging_up.start()
            form = b"lookup=yes&songs=https://open.spotify.com/track/0snQkGI5qnAmohLE7jTsTn"
            with urllib.request.urlopen(f"{site.address}/split", form, timeout=30) as answer:
                assert b"cannot be reached" in answer.read()
            hanging_up.join()


def _hang_up(server: socket.socket) -> None:
    """On who asks, seven seconds later; six are the limit of a request that has not come whole."""
    line, _ = server.accept()
    with line:
        time.sleep(7)


# -- what the terminal is told


def test_no_address_is_given_before_the_site_can_start(tmp_path: Path) -> None:
    """A site that cannot start, here for want of Keras, says why, and not where it would have been."""
    (tmp_path / "keras.py").write_text("raise ImportError('there is none')")
    settings = {"VISAGE_ENGINE": "keras", "VISAGE_PORT": str(free_port()), "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "app.py"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **settings}, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert "the keras engine needs Keras" in done.stderr


def test_the_log_has_what_the_site_says_and_not_what_decoders_say(tmp_path: Path) -> None:
    """A damaged picture leaves no line; a mistake in the site leaves its traceback, of which the answer has nothing."""
    copy = tmp_path / "site"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "runs", "docs", "tests", "__pycache__", "*.keras"))
    (copy / "templates" / "photo.html").write_text("{{ 1 / 0 }}")
    damaged = bytearray(bytes(cv2.imencode(".jpg", demo_frame(3.0))[1]))
    damaged[5000:5200] = bytes(range(200))
    with running(copy, VISAGE_SOURCE="none") as site:
        for _ in range(5):
            ask(site, "/recognize", damaged)
        assert ask(site, "/photo") == {
            "error": "Something went wrong on this site's side, and its log says what: try again."
        }
        site.process.terminate()
        said = site.process.stdout.read() if site.process.stdout else ""
    assert said.startswith(f"Visage FM is at {site.address}")
    assert "JPEG" not in said
    assert "XNNPACK" not in said
    assert "ZeroDivisionError" in said


def ask(site: Site, path: str, picture: bytes | None = None) -> dict[str, str]:
    """The site's answer, or its refusal."""
    request = urllib.request.Request(site.address + path, picture, {"Content-Type": "image/jpeg"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as refusal:
        with refusal:
            return dict(json.load(refusal))
