"""The camera: a life cycle that nobody can block."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from itertools import pairwise

import cv2
import numpy as np
import pytest

from camera import SHORTEST, Camera, Snapshot, TooManyViewersError, Viewer
from model.emotions import Emotion
from model.faces import Box, Frame
from model.recognizer import Recognizer
from pictures.sources import REOPENED, OpenFrames, SourceError, frames, is_device
from tests.conftest import FixedDetector, Source, StubRecognizer, eventually, grey_frame, row_of, stub_recognizer
from tests.test_pictures import decoded


def test_it_sleeps_until_somebody_watches(camera: Camera, source: Source) -> None:
    """Without a viewer nothing is opened."""
    assert camera.snapshot.status == "idle"
    assert source.opened == 0


def test_a_viewer_sees_moving_pictures_with_a_reading(camera: Camera) -> None:
    """Snapshots come in order, decode, differ, and carry the reading."""
    with camera.watch() as viewer:
        live = (snapshot for snapshot in viewer if snapshot.status == "live" and snapshot.reading)
        first, second = next(live), next(live)
        assert second.sequence > first.sequence
        assert decoded(first.jpeg).shape == (480, 640, 3)
        assert first.reading is not None
        assert first.reading.emotion is Emotion.HAPPY
        assert eventually(lambda: camera.snapshot.fps > 10)


def test_two_viewers_share_one_device(camera: Camera, source: Source) -> None:
    """The device is opened once, whoever else comes."""
    with camera.watch() as one, camera.watch() as two:
        for viewer in (one, two):
            assert next(s for s in viewer if s.status == "live").jpeg
    assert source.opened == 1


def test_a_viewer_that_never_reads_slows_nobody(camera: Camera) -> None:
    """One viewer stands still; the other gets ten new pictures all the same."""
    with camera.watch() as idle, camera.watch() as busy:
        next(iter(idle))
        pictures = iter(busy)
        sequences = [next(pictures).sequence for _ in range(10)]
    assert sequences == sorted(set(sequences))


def test_it_stops_after_the_last_viewer_and_starts_again(camera: Camera, source: Source) -> None:
    """The device is released some time after the last viewer, and opened anew for the next."""
    with camera.watch() as viewer:
        next(s for s in viewer if s.status == "live")
    assert source.open == 1
    assert eventually(lambda: source.open == 0)
    assert camera.snapshot.status == "idle"
    with camera.watch() as viewer:
        assert next(s for s in viewer if s.status == "live").jpeg
    assert source.opened == 2


def test_nothing_seen_is_kept_when_nobody_watches() -> None:
    """With the last viewer gone for a while, no picture of the room is left in memory."""
    seen: list[weakref.ref[Frame]] = []

    def noting(name: str) -> Iterator[Frame]:
        while True:
            frame = grey_frame()
            seen.append(weakref.ref(frame))
            yield frame
            time.sleep(0.02)

    camera = Camera("fake", stub_recognizer(), idle_seconds=0.1, open_frames=noting)
    with camera.watch() as viewer:
        next(s for s in viewer if s.status == "live" and s.reading)
    assert eventually(lambda: camera.snapshot.status == "idle")
    assert eventually(lambda: gc.collect() >= 0 and not any(frame() is not None for frame in seen))
    camera.close()


def test_a_page_reloaded_keeps_the_device(source: Source) -> None:
    """A viewer who comes back within the idle time meets the same open device."""
    camera = Camera("fake", stub_recognizer(), idle_seconds=30, open_frames=source)
    for _ in range(2):
        with camera.watch() as viewer:
            next(s for s in viewer if s.status == "live")
    assert source.opened == 1
    camera.close()


def test_pause_releases_at_once(source: Source) -> None:
    """After release_soon the device goes with the last viewer, not seconds later."""
    camera = Camera("fake", stub_recognizer(), idle_seconds=600, open_frames=source)
    with camera.watch() as viewer:
        next(s for s in viewer if s.status == "live")
        camera.release_soon()
        assert source.open == 1
    assert eventually(lambda: source.open == 0)
    camera.close()


def test_a_pause_is_of_who_leaves_with_it(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who watches on for longer has the wait after the last viewer again: a reload does not reopen the device."""
    monkeypatch.setattr("camera.GOODBYE", 0.05)
    camera = Camera("fake", stub_recognizer(), idle_seconds=600, open_frames=source)
    with camera.watch() as stays:
        with camera.watch():
            camera.release_soon()
        next(s for s in stays if s.status == "live")
        time.sleep(0.1)
    assert not eventually(lambda: source.open == 0, 0.5)
    assert source.opened == 1
    camera.close()


def test_a_source_that_fails_is_shown_and_retried(camera: Camera, source: Source) -> None:
    """A dead source is a picture with a message; when it lives again, so does the stream."""
    source.fail = SourceError("the cable is out")
    with camera.watch() as viewer:
        failed = next(s for s in viewer if s.status == "error")
        assert failed.message == "the cable is out"
        assert decoded(failed.jpeg).std() > 5
        source.fail = None
        assert next(s for s in viewer if s.status == "live").message == ""


def test_a_source_that_dies_midway_forgets_the_reading(camera: Camera, source: Source) -> None:
    """With the pictures gone, no old mood is shown as now."""
    with camera.watch() as viewer:
        next(s for s in viewer if s.status == "live" and s.reading)
        source.fail = SourceError("unplugged")
        failed = next(s for s in viewer if s.status == "error")
        assert failed.reading is None
        assert failed.faces == ()


def test_a_source_that_ends_is_opened_again(camera: Camera, source: Source) -> None:
    """A source without more pictures counts as lost, and is retried."""
    with camera.watch() as viewer:
        next(s for s in viewer if s.status == "live")
        source.end = True
        assert "has ended" in next(s for s in viewer if s.status == "error").message
        source.end = False
        next(s for s in viewer if s.status == "live")
    assert source.opened >= 2


def only_demo(source: Source, why: str) -> OpenFrames:
    """Frames of the demo; any camera does not open, and says why."""

    def opened(name: str) -> Iterator[Frame]:
        if name != "demo":
            raise SourceError(why)
        return source(name)

    return opened


def test_auto_falls_back_to_the_demo_and_says_so(source: Source) -> None:
    """Without a camera, auto shows the demo with a message, as a live picture."""
    camera = Camera("auto", stub_recognizer(), open_frames=only_demo(source, "no camera"))
    with camera.watch() as viewer:
        live = next(s for s in viewer if s.status == "live")
    assert (live.source, live.message.count("built-in demo")) == ("demo", 1)
    camera.close()


@pytest.mark.parametrize(
    ("found", "says"),
    [(["0"], "did not open, so this is the built-in demo: it is busy"), ([], "No camera was found")],
)
def test_auto_says_why_it_is_the_demo(
    source: Source, monkeypatch: pytest.MonkeyPatch, found: list[str], says: str
) -> None:
    """A camera that is there and does not open is not called missing."""
    monkeypatch.setattr("camera.devices", lambda: found)
    camera = Camera("auto", stub_recognizer(), open_frames=only_demo(source, "it is busy"))
    with camera.watch() as viewer:
        assert says in next(s for s in viewer if s.status == "live").message
    camera.close()


def test_auto_finds_a_camera_of_another_number(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the first device does not open the next one is tried, and a camera that comes back as another is found."""
    monkeypatch.setattr("camera.devices", lambda: ["0", "2"])
    working = "2"

    def one_works(name: str) -> Iterator[Frame]:
        for frame in source(name):
            if name != working:
                raise SourceError("nothing there")
            yield frame

    camera = Camera("auto", stub_recognizer(), open_frames=one_works)
    with camera.watch() as viewer:
        assert next(s for s in viewer if s.status == "live").source == "2"
        working = "0"
        assert next(s for s in viewer if s.status == "live" and s.source != "2").source == "0"
    camera.close()


@pytest.mark.parametrize("before", [["0"], []], ids=["in use", "absent"])
def test_auto_turns_from_the_demo_to_a_camera_that_comes(
    source: Source, monkeypatch: pytest.MonkeyPatch, before: list[str]
) -> None:
    """While somebody watches: one that is plugged in at once, one that another program held after a while."""
    there, free = before, False

    def freed(name: str) -> Iterator[Frame]:
        if name != "demo" and not free:
            raise SourceError("it is busy")
        return source(name)

    monkeypatch.setattr("camera.devices", lambda: there)
    monkeypatch.setattr("camera.LOOK_AGAIN", 0.2)
    camera = Camera("auto", stub_recognizer(), open_frames=freed)
    with camera.watch() as viewer:
        assert next(s for s in viewer if s.status == "live").source == "demo"
        there, free = ["0"], True
        assert eventually(lambda: (camera.snapshot.source, camera.snapshot.message) == ("0", ""), 20)
    camera.close()


def test_nobody_has_the_mood_of_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """When auto turns to a camera its reading begins anew: in front of it is nobody whom the demo showed."""
    there: list[str] = []

    def dark_or_light(name: str) -> Iterator[Frame]:
        while name == "demo" or there:
            yield grey_frame(200 if name == "demo" else 50)
            time.sleep(0.02)

    def by_light(faces: np.ndarray) -> np.ndarray:
        return np.array([row_of(Emotion.HAPPY if face.mean() > 100 else Emotion.SAD) for face in faces])

    monkeypatch.setattr("camera.devices", lambda: list(there))
    camera = Camera("auto", StubRecognizer(FixedDetector(Box(9, 9, 90, 90)), by_light), open_frames=dark_or_light)
    with camera.watch() as viewer:
        assert next(s for s in viewer if s.reading and s.reading.emotion).reading.emotion is Emotion.HAPPY  # type: ignore[union-attr]
        there.append("0")
        moods = [s.reading.emotion for s in viewer_until(viewer, 20) if s.source == "0" and s.reading]
    camera.close()
    assert set(moods) == {Emotion.SAD}


def viewer_until(viewer: Viewer, readings: int) -> Iterator[Snapshot]:
    """What a viewer sees until the camera has been read so often."""
    for snapshot in viewer:
        yield snapshot
        readings -= snapshot.source == "0" and snapshot.reading is not None
        if not readings:
            return


def test_a_source_without_a_pace_is_slowed(source: Source) -> None:
    """A camera of 240 pictures a second, or a stream that pushes, is shown at about a film's pace."""
    source.rate = 1000
    camera = Camera("fake", stub_recognizer(), open_frames=source)
    with camera.watch() as viewer:
        pictures = (s for s in viewer if s.status == "live")
        next(pictures)
        began = time.monotonic()
        for _ in range(40):
            next(pictures)
        assert time.monotonic() - began >= 38 * SHORTEST
    camera.close()


@pytest.mark.parametrize(
    ("source", "device"),
    [
        ("0", True),
        ("/dev/video2", True),
        ("/dev/v4l/by-id/usb-cam", True),
        ("/dev/webcam", True),
        ("/dev/shm/x.mp4", False),
        ("demo", False),
    ],
)
def test_what_is_a_camera(source: str, device: bool) -> None:
    """A number or a video device; a film in shared memory is a film."""
    assert is_device(source) is device


def test_a_snapshot_address_is_not_asked_without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an address has one picture at a time, each costs a connection: some five a second."""
    opened: list[float] = []

    class Picture:
        def __init__(self, *about: object) -> None:
            opened.append(time.monotonic())
            self.left = 1

        def read(self) -> tuple[bool, Frame]:
            self.left -= 1
            return self.left == 0, grey_frame()

        def get(self, what: int) -> float:
            return 1.0 if what == cv2.CAP_PROP_FRAME_COUNT else 25.0

        def set(self, what: int, value: float) -> bool:
            return False

        def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
            return True

        def release(self) -> None: ...

        def grab(self) -> bool:
            return False

    monkeypatch.setattr("pictures.sources.cv2.VideoCapture", Picture)
    shown = frames("http://127.0.0.1:9/snapshot.jpg")
    for _ in range(4):
        next(shown)
    assert min(b - a for a, b in pairwise(opened)) >= REOPENED * 0.99


def test_a_camera_behind_a_proxy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg asks the proxy for a camera in the house; what helps is said, and not where none is asked."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    for no_proxy, said in (("", True), ("127.0.0.1", False)):
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")  # which FFmpeg does not read
        monkeypatch.setenv("no_proxy", no_proxy)
        with pytest.raises(SourceError) as error:
            next(frames("http://127.0.0.1:9/video"))
        assert ("no_proxy=127.0.0.1 asks the camera itself" in str(error.value)) is said


def test_the_demo_goes_on_while_cameras_are_tried(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begun again with each try, its face would never come past its first moods."""
    tried: list[str] = []

    def refusing(name: str) -> Iterator[Frame]:
        tried.append(name)
        if name != "demo":
            raise SourceError("it is busy")
        return source(name)

    monkeypatch.setattr("camera.devices", lambda: ["0"])
    monkeypatch.setattr("camera.LOOK_AGAIN", 0.1)
    camera = Camera("auto", stub_recognizer(), open_frames=refusing)
    with camera.watch():
        assert eventually(lambda: tried.count("0") > 2, 20)
    camera.close()
    assert tried.count("demo") == 1


def test_auto_waits_for_a_camera_that_was_there(source: Source) -> None:
    """A camera that worked and is unplugged is waited for, not replaced by the demo's face; after a pause too."""
    names: list[str] = []

    def noting(name: str) -> Iterator[Frame]:
        names.append(name)
        return source(name)

    camera = Camera("auto", stub_recognizer(), idle_seconds=0.1, open_frames=noting)
    with camera.watch() as viewer:
        next(s for s in viewer if s.status == "live")
        source.fail = SourceError("unplugged")
        next(s for s in viewer if s.status == "error")
        assert eventually(lambda: len(names) >= 3)
    assert eventually(lambda: camera.snapshot.status == "idle")
    with camera.watch() as viewer:
        next(s for s in viewer if s.status == "error")
    camera.close()
    assert "demo" not in names


def test_viewers_are_capped(camera: Camera) -> None:
    """One viewer too many is refused in words; a place given back is free again."""
    viewers = [camera.watch() for _ in range(4)]
    with pytest.raises(TooManyViewersError, match="4 people"):
        camera.watch()
    viewers.pop().close()
    viewers.append(camera.watch())
    for viewer in viewers:
        viewer.close()
        viewer.close()
    assert eventually(lambda: camera.snapshot.status == "idle")


def test_a_crash_in_the_recognizer_is_shown(source: Source, caplog: pytest.LogCaptureFixture) -> None:
    """An error nobody foresaw becomes an error picture and a log entry; the stream goes on."""

    class Broken(FixedDetector):
        def detect(self, frame: Frame, near: Sequence[Box] = ()) -> list[Box]:
            raise ZeroDivisionError("a bug")

    camera = Camera("fake", StubRecognizer(Broken(), lambda faces: faces), open_frames=source)
    with camera.watch() as viewer:
        assert "a bug" in next(s for s in viewer if s.status == "error").message
    camera.close()
    assert "ZeroDivisionError" in caplog.text


def test_nan_from_the_network_is_an_error_not_a_mood(source: Source) -> None:
    """A network that answers NaN never becomes a reading."""
    recognizer = StubRecognizer(FixedDetector(Box(9, 9, 90, 90)), lambda faces: np.full((len(faces), 7), np.nan))
    camera = Camera("fake", recognizer, open_frames=source)
    with camera.watch() as viewer:
        assert "finite" in next(s for s in viewer if s.status == "error").message
    camera.close()


def test_close_ends_the_streams(camera: Camera, source: Source) -> None:
    """Closing the camera ends every viewer's stream and releases the device."""
    with camera.watch() as viewer:
        next(s for s in viewer if s.status == "live")
        threading.Timer(0.2, camera.close).start()
        for _ in viewer:
            pass
    assert eventually(lambda: source.open == 0)


def test_a_hanging_device_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that hangs in a read is an error on the page, not a frozen picture."""
    monkeypatch.setattr("camera.READ_TIMEOUT", 0.2)
    hang = threading.Event()

    def hanging(name: str) -> Iterator[Frame]:
        yield grey_frame()
        hang.wait(30)

    camera = Camera("fake", stub_recognizer(), open_frames=hanging)
    with camera.watch() as viewer:
        failed = next(s for s in viewer if s.status == "error")
        assert "no picture from fake" in failed.message
    hang.set()
    camera.close()


def test_recognizer_is_made_for_the_video(source: Source) -> None:
    """Each run asks for a recognizer of its own, which may remember faces."""
    asked: list[Recognizer] = []

    class Asked(StubRecognizer):
        def for_video(self) -> Recognizer:
            asked.append(self)
            return self

    camera = Camera("fake", Asked(FixedDetector(), lambda faces: faces), open_frames=source)
    with camera.watch() as viewer:
        next(s for s in viewer if s.status == "live")
    camera.close()
    assert len(asked) == 1


def test_a_viewer_closed_by_two_threads_leaves_once(camera: Camera) -> None:
    """A place is given back once, whoever says so how often; the cap stays true."""
    viewer, other = camera.watch(), camera.watch()
    closers = [threading.Thread(target=viewer.close) for _ in range(20)]
    for closer in closers:
        closer.start()
    for closer in closers:
        closer.join()
    rest = [camera.watch() for _ in range(3)]
    with pytest.raises(TooManyViewersError):
        camera.watch()
    for one in (other, *rest):
        one.close()


def test_a_camera_that_broke_starts_anew_for_the_next_viewer(source: Source) -> None:
    """After an error nobody foresaw, reloading the page starts a new run, as the page says."""
    detector = FixedDetector()
    detector.detect = lambda frame: 1 / 0  # type: ignore[assignment, method-assign, return-value]
    camera = Camera("fake", StubRecognizer(detector, lambda faces: faces), open_frames=source)
    with camera.watch() as first:
        next(s for s in first if s.status == "error")
        del detector.detect
        with camera.watch() as second:
            assert next(s for s in second if s.status == "live")
    camera.close()
