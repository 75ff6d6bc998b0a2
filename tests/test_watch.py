"""The command line: lines and JSON from clips, cameras, addresses and photos, as units and as people run it."""

from __future__ import annotations

import base64
import http.server
import json
import os
import re
import resource
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
from flask.testing import FlaskClient
from PIL import Image

from camera import Camera
from model.demo import demo_frame
from model.emotions import EMOTIONS, Emotion, Prediction, Reading, Smoothing
from model.faces import Box, Frame
from model.recognizer import Recognizer
from pictures import sources
from pictures.drawing import encode_jpeg
from pictures.following import SeenFace
from pictures.recording import Recording
from pictures.stills import PictureError, decode_image
from terminal import watch
from terminal.report import Every, Lines, Sight, Terminal, as_json, as_text
from terminal.stdio import without_noise
from tests.conftest import ROOT, FixedDetector, StubRecognizer, grey_frame, row_of

BOX = Box(40, 40, 100, 100)
DARK, LIGHT = 40, 200
Answer = tuple[int, str, str]


def by_light(faces: np.ndarray) -> np.ndarray:
    """A network to which light faces are happy and dark ones sad."""
    return np.array([row_of(Emotion.HAPPY if face.mean() > 120 else Emotion.SAD) for face in faces])


def stub(*boxes: Box) -> Callable[[str], Recognizer]:
    return lambda engine: StubRecognizer(FixedDetector(*boxes), by_light)


@pytest.fixture(autouse=True)
def signals_stay() -> Iterator[None]:
    """A command that ran in this process leaves its signals as they were; Ctrl-C works in a shell's background too."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, action in kept.items():
        signal.signal(number, action)


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """The command in this process, on a network of its own: its exit code, its lines, its complaints."""

    def answer(*arguments: object, boxes: tuple[Box, ...] = (BOX,)) -> Answer:
        code = watch.main([str(argument) for argument in arguments], stub(*boxes))
        return code, *capfd.readouterr()

    return answer


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command as a person runs it, with the network that is shipped."""
    line = [sys.executable, "-W", "error", "camera.py", *map(str, arguments)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def stopped(*arguments: object, after: int, by: Sequence[signal.Signals]) -> Answer:
    """The command as a process that gets signals, a moment apart, after so many lines; these are what it said."""
    line = [sys.executable, "camera.py", *map(str, arguments)]
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout
        assert running.stderr
        said = [running.stdout.readline() for _ in range(after)]
        for number in by:
            running.send_signal(number)
            time.sleep(0.005)
        complaints = running.stderr.read()
        running.stdout.read()
    return running.returncode, "".join(said), complaints


def write_clip(path: Path, *levels: int, rate: float = 25) -> Path:
    """A clip with a frame of each grey level."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate, (320, 240))
    for level in levels:
        writer.write(grey_frame(level, (240, 320)))
    writer.release()
    return path


def write_photo(path: Path, level: int = LIGHT, size: tuple[int, int] = (240, 320)) -> Path:
    assert cv2.imwrite(str(path), grey_frame(level, size))
    return path


def frames_of(path: Path) -> list[Frame]:
    capture, frames = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        frames.append(read[1])
    capture.release()
    return frames


def objects(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


# -- clips


def test_a_clip_says_what_changes_by_its_own_clock(run: Callable[..., Answer], tmp_path: Path) -> None:
    """Three light seconds and four dark ones are two lines, at times of the clip and not of the clock on the wall."""
    clip = write_clip(tmp_path / "clip.avi", *[LIGHT] * 75, *[DARK] * 100)
    code, out, complaints = run(clip, "--json")
    first, second = objects(out)
    assert (code, complaints) == (0, "")
    assert (first["at"], first["faces"][0]["emotion"]) == (0, "happy")  # type: ignore[index]
    assert second["faces"][0]["emotion"] == "sad"  # type: ignore[index]
    assert 3 + Smoothing().hold < second["at"] < 7  # type: ignore[operator]
    assert run(clip)[1].splitlines()[0] == "  0:00.0  happy 90%"


def test_every_asks_for_a_line_now_and_then(run: Callable[..., Answer], tmp_path: Path) -> None:
    """With --every 1 four seconds are four lines, changed or not; with --every 0 a line is a frame."""
    clip = write_clip(tmp_path / "clip.avi", *[LIGHT] * 100)
    assert [seen["at"] for seen in objects(run(clip, "--every", 1, "--json")[1])] == [0, 1, 2, 3]
    assert [seen["at"] for seen in objects(run(clip, "--every", 0, "--json")[1])] == [i / 25 for i in range(100)]


@pytest.mark.parametrize("gap", [1.6, 4])
def test_pictures_far_apart_are_each_what_they_show(run: Callable[..., Answer], tmp_path: Path, gap: float) -> None:
    """A mood of which no second picture could be seen in time is taken at once, and surely."""
    clip = write_clip(tmp_path / "clip.avi", *([LIGHT] * 20 + [DARK] * 20) * 3, rate=20 / gap)
    seen = [one["faces"][0] for one in objects(run(clip, "--every", gap, "--json")[1])]  # type: ignore[index]
    assert [face["emotion"] for face in seen] == ["happy", "sad"] * 3
    assert all(face["confidence"] > 0.5 for face in seen)


def test_a_film_of_varying_rate_has_its_own_times(run: Callable[..., Answer], tmp_path: Path) -> None:
    """A picture that stays for five seconds does, in the film saved of it too, which lasts as long."""
    levels = [LIGHT, DARK, LIGHT, DARK]
    pictures = [Image.fromarray(grey_frame(level, (240, 320))) for level in levels]
    film, target = tmp_path / "film.gif", tmp_path / "out.avi"
    pictures[0].save(film, save_all=True, append_images=pictures[1:], duration=[5000, 200, 200, 200])
    assert [at for at, _ in sources.shown_once(str(film)).frames] == pytest.approx([0, 5, 5.2, 5.4], abs=0.02)
    assert run(film, "--save", target)[0] == 0
    capture = cv2.VideoCapture(str(target))
    rate = capture.get(cv2.CAP_PROP_FPS)
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == pytest.approx(5.4 * rate + 1, abs=0.6)
    capture.release()
    dark = [i for i, frame in enumerate(frames_of(target)) if frame.mean() < (LIGHT + DARK) / 2]
    assert dark[0] == round(5 * rate)


def test_pictures_of_a_slide_show_have_their_times(tmp_path: Path) -> None:
    """Twelve seconds each, which is less than a tenth of a picture a second."""
    pictures = [Image.fromarray(grey_frame(level, (240, 320))) for level in (LIGHT, DARK, LIGHT)]
    pictures[0].save(tmp_path / "slides.gif", save_all=True, append_images=pictures[1:], duration=12_000)
    times = [at for at, _ in sources.shown_once(str(tmp_path / "slides.gif")).frames]
    assert times == pytest.approx([0, 12, 24], abs=0.1)


def test_a_slow_film_is_looked_at_picture_by_picture(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A face that shows in one picture of a second is a face: nobody is waited for to come twice."""
    film = write_clip(tmp_path / "slow.avi", DARK, DARK, LIGHT, DARK, rate=1)
    faces = iter([0, 0, 0, 1, 0])  # the first is asked for before the film

    class Seldom(FixedDetector):
        def detect(self, frame: Frame, near: Sequence[Box] = ()) -> list[Box]:
            return [BOX] * next(faces)

    class Recognizing(Recognizer):
        def for_video(self) -> Recognizer:
            raise AssertionError("that is for pictures a moment apart")

    assert watch.main([str(film)], lambda engine: Recognizing(Seldom(), by_light)) == 0
    assert [line.split()[0] for line in capfd.readouterr().out.splitlines()] == ["0:00.0", "0:02.0", "0:03.0"]


def test_every_picture_has_a_line_from_the_first_on(run: Callable[..., Answer], tmp_path: Path) -> None:
    """With --every 0, where nobody is seen too: lines and pictures go together."""
    clip = write_clip(tmp_path / "clip.avi", *[LIGHT] * 10)
    code, out, _ = run(clip, "--every", 0, boxes=())
    assert (code, out.count("no face")) == (0, 10)


@pytest.mark.parametrize("kind", [".mp4", ".mov", ".mkv"])
def test_films_of_many_pictures_a_second_are_saved(tmp_path: Path, kind: str) -> None:
    """A phone's slow motion: MPEG-4 cannot count in thousandths of a second of any rate."""
    recording = Recording(tmp_path / f"fast{kind}", 119.967)
    for i in range(12):
        recording.add(grey_frame(LIGHT, (240, 320)), i / 119.967)
    recording.keep()
    assert len(frames_of(tmp_path / f"fast{kind}")) == 12


@pytest.mark.parametrize(
    ("clock", "times"),
    [
        ([0, 0, 0, 0], [0, 0.1, 0.2, 0.3]),
        ([5, 5.1, 5.2, 5.3], [0, 0.1, 0.2, 0.3]),
        ([0, 0.13, 0.18, 0.32], [0, 0.1, 0.2, 0.3]),
        ([0, 4, 4.1, 4.2], [0, 4, 4.1, 4.2]),
        ([0, 0.1, 3600, 3600.1], [0, 0.1, 0.2, 0.3]),
        ([0, 0.1, 0, 0.1], [0, 0.1, 0.2, 0.3]),
    ],
    ids=["stands", "begins late", "trembles", "varies", "jumps", "begins anew"],
)
def test_the_clock_of_a_film_is_kept_where_it_can_be(clock: list[float], times: list[float]) -> None:
    """A clock that trembles must not cost pictures of a film that is saved, nor one that jumps fill a disk."""
    pictures = iter(clock)

    class Film:
        now = 0.0

        def read(self) -> tuple[bool, Frame | None]:
            self.now = next(pictures, -1.0)
            return self.now >= 0, grey_frame()

        def get(self, what: int) -> float:
            return 1000 * self.now

        def release(self) -> None:
            """Nothing to do."""

    read = sources._read_to_the_end(Film(), "film", 10, 4)  # type: ignore[arg-type]
    assert [at for at, _ in read] == pytest.approx(times)


def test_a_film_that_was_not_begun_leaves_no_trace(tmp_path: Path) -> None:
    """Somebody who stops while the computer tries how fast it can encode finds no hidden file."""
    recording = Recording(tmp_path / "live.avi", 30, live=True)
    recording._size = (320, 240)
    with suppress(KeyboardInterrupt), watch._kept(recording, sources.Showing(iter(())), Terminal()):
        recording._writer = recording._opened(30)
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_camera_waits_for_whoever_takes_its_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that is full, or a slow disk, is no camera that was lost."""

    class Healthy:
        def read(self) -> tuple[bool, Frame]:
            return True, grey_frame()

        def release(self) -> None:
            """Nothing to do."""

    clock = [0.0]
    monkeypatch.setattr(sources.time, "monotonic", lambda: clock[0])
    taken = sources._read_until_lost(Healthy(), "lost")  # type: ignore[arg-type]
    for _ in range(3):
        next(taken)
        clock[0] += 2 * sources.READ_TIMEOUT


@pytest.mark.parametrize("frames", [2, 30])
def test_a_clip_without_a_face_says_so_once(run: Callable[..., Answer], tmp_path: Path, frames: int) -> None:
    """Nobody in a clip, however short, is one line."""
    clip = write_clip(tmp_path / "clip.avi", *[LIGHT] * frames)
    code, out, _ = run(clip, boxes=())
    assert (code, out.count("\n"), out.strip().endswith("no face")) == (0, 1, True)


def test_json_is_shaped_like_the_site_s_answer(run: Callable[..., Answer], tmp_path: Path) -> None:
    """An object has the source, the time, boxes in pixels, seven probabilities, the reading and the picture's size."""
    clip = write_clip(tmp_path / "clip.avi", LIGHT, LIGHT)
    (seen,) = objects(run(clip, "--json")[1])
    shares = {
        emotion.value: pytest.approx(0.9 if emotion is Emotion.HAPPY else 0.1 / 6, abs=1e-4) for emotion in EMOTIONS
    }
    reading = {"emotion": "happy", "confidence": 0.9, "probabilities": shares}
    assert seen == {
        "source": str(clip),
        "at": 0,
        "faces": [{"box": [40, 40, 100, 100], **reading}],
        "reading": {**reading, "songs": "happy"},
        "image": {"width": 320, "height": 240},
    }


def test_a_photo_s_object_is_the_site_s_answer(
    capfd: pytest.CaptureFixture[str], client: FlaskClient, camera: Camera, tmp_path: Path
) -> None:
    """What /recognize answers to a photo with two faces and the command says of it differ in the file's name alone."""
    camera.recognizer.detector.boxes.append(Box(20, 20, 90, 90))  # type: ignore[attr-defined]
    photo = write_photo(tmp_path / "two.jpg", size=(480, 640))
    answer = client.post("/recognize?still=1", data=photo.read_bytes(), content_type="image/jpeg").get_json()
    assert watch.main([str(photo), "--json"], lambda engine: camera.recognizer) == 0
    assert objects(capfd.readouterr().out) == [{"file": str(photo), **answer}]
    assert len(answer["faces"]) == 2


def test_songs_come_with_a_new_mood_only(run: Callable[..., Answer], tmp_path: Path) -> None:
    """The first songs of the mood's list stand in the line in which the mood is new, and in no other."""
    clip = write_clip(tmp_path / "clip.avi", *[LIGHT] * 50)
    first, *others = objects(run(clip, "--json", "--every", 0.5, "--songs", 2)[1])
    assert [set(song) >= {"track_id", "title", "artist", "url"} for song in first["songs"]] == [True, True]  # type: ignore[attr-defined]
    assert len(others) == 3
    assert not any("songs" in seen for seen in others)
    lines = run(clip, "--every", 0.5, "--songs", 2)[1].splitlines()
    assert [line.strip().startswith("happy: ") for line in lines] == [False, True, True, False, False, False]
    assert "https://open.spotify.com/track/" in lines[1]


def test_a_list_without_songs_is_said(run: Callable[..., Answer], tmp_path: Path) -> None:
    """A mood whose list is not there has no songs, in words and as an empty JSON list."""
    photo = write_photo(tmp_path / "me.png")
    assert "happy: no songs in its list" in run(photo, "--songs", 2, "--lists", tmp_path)[1]
    assert objects(run(photo, "--songs", 2, "--lists", tmp_path, "--json")[1])[0]["songs"] == []


def test_a_folder_of_lists_that_is_not_there_is_named(
    run: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A typo is no mood without songs, in a flag or in the site's setting."""
    photo, none = write_photo(tmp_path / "me.png"), tmp_path / "none"
    assert run(photo, "--songs", 2, "--lists", none) == (2, "", f"--lists {none}: there is no such folder\n")
    assert "File name too long" in run(photo, "--songs", 2, "--lists", none.with_name("a" * 300))[2]
    monkeypatch.setenv("VISAGE_SONGS", str(none))
    assert run(photo, "--songs", 2) == (2, "", f"VISAGE_SONGS={none}: there is no such folder\n")


def test_a_clip_that_breaks_off_is_read_as_far_as_it_goes(run: Callable[..., Answer], tmp_path: Path) -> None:
    """Half a file gives its lines, and then the seconds at which it ends and exit code 1."""
    whole = write_clip(tmp_path / "whole.avi", *range(50, 150))
    half = tmp_path / "half.avi"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    code, out, complaints = run(half)
    assert (code, out) == (1, "  0:00.0  sad 90%\n")
    assert re.search(r"half\.avi breaks off at 1\.\d of 4\.0 seconds: is it whole\?\n$", complaints)


# -- saving


@pytest.mark.parametrize("kind", [".mp4", ".mov", ".mkv", ".avi", ".webm"])
def test_a_saved_clip_has_every_frame_and_the_boxes(run: Callable[..., Answer], tmp_path: Path, kind: str) -> None:
    """The film has the clip's frames, size and rate, with the box drawn in; nothing is left beside it."""
    clip = write_clip(tmp_path / "clip.avi", *[DARK] * 30)
    before, target = clip.read_bytes(), tmp_path / f"out{kind}"
    code, _, complaints = run(clip, "--save", target, "--every", 1)
    assert (code, complaints) == (0, f"{target}: 1.2 seconds saved\n")
    frames = frames_of(target)
    assert (len(frames), frames[0].shape) == (30, (240, 320, 3))
    assert [frames[i][60:120, 39:42].mean() > 130 for i in (0, 29)] == [True, True]
    assert frames[0][180:, 200:].mean() == pytest.approx(DARK, abs=8)
    capture = cv2.VideoCapture(str(target))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(25)
    assert clip.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"clip.avi", target.name}


def test_a_live_film_keeps_time(tmp_path: Path) -> None:
    """Until a frame comes the one before stays, frames too many are left out: all is seen when it was."""
    recording = Recording(tmp_path / "live.avi", 10)
    for at in (0.0, 0.01, 0.02, 1.0, 2.0):
        recording.add(grey_frame(int(at * 100), (240, 320)), at)
    recording.keep()
    assert [round(frame.mean(), -1) for frame in frames_of(tmp_path / "live.avi")] == [0] * 10 + [100] * 10 + [200]


def test_a_live_film_has_as_many_frames_as_can_be_encoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a frame takes 50 ms, thirty a second would leave the camera ever less time: half of the time is its own."""
    clock = [0.0]

    class Slow:
        written = 0

        def write(self, frame: Frame) -> None:
            clock[0] += 0.05
            Slow.written += 1

        def release(self) -> None:
            """Nothing to do."""

    monkeypatch.setattr("pictures.recording.time.perf_counter", lambda: clock[0])
    monkeypatch.setattr(Recording, "_opened", lambda recording, rate: Slow())
    recording = Recording(tmp_path / "live.avi", 30, live=True)
    apart = []
    for _ in range(100):
        before = clock[0]
        recording.add(grey_frame(50, (240, 320)), before)
        clock[0] += 1 / 30
        apart.append(clock[0] - before)
    assert recording.rate == 10
    assert max(apart[1:]) < 0.2
    film = Recording(tmp_path / "film.avi", 30)
    film.add(grey_frame(50, (240, 320)), 0.0)
    assert film.rate == 30


def test_a_film_whose_rate_is_rounded_is_kept_however_long(tmp_path: Path) -> None:
    """Of 0.1991 frames a second the file says 0.2: after 25 minutes that is more than a frame."""
    recording = Recording(tmp_path / "long.avi", 0.1991)
    for i in range(300):
        recording.add(grey_frame(i % 200, (48, 64)), i / 0.1991)
    recording.keep()
    assert len(frames_of(tmp_path / "long.avi")) == 300


def test_a_film_that_changes_its_size_keeps_the_first(tmp_path: Path) -> None:
    """A stream that comes back larger is shrunk into the film."""
    recording = Recording(tmp_path / "live.avi", 10)
    recording.add(grey_frame(50, (240, 320)), 0.0)
    recording.add(grey_frame(50, (480, 640)), 0.1)
    recording.keep()
    assert [frame.shape for frame in frames_of(tmp_path / "live.avi")] == [(240, 320, 3)] * 2


def test_an_unfinished_film_replaces_nothing(tmp_path: Path) -> None:
    """What is dropped leaves the film that was there, and no trace beside it."""
    (tmp_path / "out.mp4").write_bytes(b"good")
    recording = Recording(tmp_path / "out.mp4", 10)
    recording.add(grey_frame(), 0.0)
    recording.drop()
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("out.mp4", b"good")]


@pytest.mark.parametrize("kind", [".mp4", ".mkv", ".avi", ".webm"])
def test_a_full_disk_replaces_nothing(tmp_path: Path, kind: str) -> None:
    """A film that could not be written whole is refused, and the good one stays."""
    target = tmp_path / f"out{kind}"
    target.write_bytes(b"good")
    recording, limits = Recording(target, 25), resource.getrlimit(resource.RLIMIT_FSIZE)
    noise = np.random.default_rng(1).integers(0, 255, (10, 240, 320, 3), np.uint8)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
        for i in range(50):
            recording.add(noise[i % 10], i / 25)
        with pytest.raises(OSError, match="could not be written whole: is the disk full"):
            recording.keep()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(target.name, b"good")]


# -- photos


def test_a_folder_is_read_in_order_and_its_broken_pictures_named(run: Callable[..., Answer], tmp_path: Path) -> None:
    """Each photo is a line; a broken, an empty and a false one are named on stderr, and the exit code is 1."""
    write_photo(tmp_path / "b.jpg", DARK)
    write_photo(tmp_path / "a.PNG")
    whole = (tmp_path / "a.PNG").read_bytes()
    for name, content in (("cut.png", whole[:100]), ("empty.jpg", b""), ("text.jpg", b"hello"), ("notes.txt", b"no")):
        (tmp_path / name).write_bytes(content)
    code, out, complaints = run(tmp_path)
    assert (code, out) == (1, f"{tmp_path}/a.PNG: happy 90%\n{tmp_path}/b.jpg: sad 90%\n")
    assert [Path(line.partition(":")[0]).name for line in complaints.splitlines()[:-1]] == [
        "cut.png",
        "empty.jpg",
        "text.jpg",
    ]
    assert complaints.endswith("3 of 5 pictures could not be read\n")


def test_faces_of_a_photo_are_told_from_left_to_right(run: Callable[..., Answer], tmp_path: Path) -> None:
    """Two faces are counted, and named from left to right; JSON has them largest first, as the site has."""
    picture = grey_frame(LIGHT, (240, 480))
    picture[:, 240:] = DARK
    photo = tmp_path / "two.png"
    cv2.imwrite(str(photo), picture)
    boxes = (Box(300, 40, 150, 150), BOX)
    assert run(photo, boxes=boxes)[1] == f"{photo}: 2 faces: happy 90%, sad 90%\n"
    (seen,) = objects(run(photo, "--json", boxes=boxes)[1])
    assert (seen["file"], [face["emotion"] for face in seen["faces"]]) == (str(photo), ["sad", "happy"])  # type: ignore[attr-defined]
    assert seen["reading"]["emotion"] == "sad"  # type: ignore[index]
    assert "at" not in seen


def test_every_photo_has_its_songs(run: Callable[..., Answer], tmp_path: Path) -> None:
    """Photos are apart: the second of one mood has its songs too."""
    write_photo(tmp_path / "a.png")
    write_photo(tmp_path / "b.png")
    assert [len(seen["songs"]) for seen in objects(run(tmp_path, "--songs", 3, "--json")[1])] == [3, 3]  # type: ignore[arg-type]


def turned(jpeg: bytes) -> bytes:
    """The JPEG with an EXIF note that it is to be turned by a quarter (orientation 6)."""
    exif = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 0)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


# A plain light picture of 240 x 320 as printers have it, which OpenCV reads and does not write.
CMYK = zlib.decompress(
    base64.b64decode(
        "eNr7f+P/OwY+x5T8pFSGFAYQ+H+bwZlBWkhEXERQWlxMXE5GWkHDSVtDVVUj0MrWwCkhNDUlPjQ2OqtiZmNW4YTi6NjWrW0T5i1evXZ1esOek7"
        "uWHZ+5YvWS/wcYRDgYHRg+sDgLMvgKMkQKMngLMvw/wiDPwMDIyggGDFDAyMTMwsrGzsHJxQ1UsFWAgYmRmZmJhZmVlYUFKFsLlGdgEWQVUjR0"
        "ZBMOTGRXKhQxapy4kEPZaeNB0aCLH1SMk4qaOLnExCUkpVTV1DU0tUxMzcwtLK2cXVzd3D08vYJDQsPCIyKjklNS09IzMrOKS0rLyisqq5pbWt"
        "vaOzq7Jk2eMnXa9BkzZy1avGTpsuUrVq7atHnL1m3bd+zcdejwkaPHjp84eerS5StXr12/cfPWw0ePnzx99vzFy1cfP33+8vXb9x8/f/2/xcDH"
        "4szgyxDJ4M3AYM9wd+2qu+uaujQWjaJRNIpG0SgaRaNoFI2iUTSKRtEoGmlo//+bAJ5HvFo="
    )
)


def test_pictures_of_every_make_are_read(run: Callable[..., Answer], tmp_path: Path) -> None:
    """A turned photo stands upright; 16 bits, grey, alpha, WebP and CMYK are read, and a name says nothing."""
    makes = {
        "turned.jpg": turned(encode_jpeg(grey_frame(LIGHT, (240, 320)))),
        "deep.png": cv2.imencode(".png", np.full((320, 240, 3), LIGHT * 257, np.uint16))[1].tobytes(),
        "grey.png": cv2.imencode(".png", np.full((320, 240), LIGHT, np.uint8))[1].tobytes(),
        "alpha.png": cv2.imencode(".png", np.full((320, 240, 4), LIGHT, np.uint8))[1].tobytes(),
        "small.webp": cv2.imencode(".webp", grey_frame(LIGHT, (320, 240)))[1].tobytes(),
        "cmyk.jpg": CMYK,
    }
    for name, content in makes.items():
        (tmp_path / name).write_bytes(content)
    code, out, complaints = run(tmp_path, "--json")
    assert (code, complaints) == (0, "")
    assert [(seen["image"], seen["reading"]["emotion"]) for seen in objects(out)] == [  # type: ignore[index]
        ({"width": 240, "height": 320}, "happy")
    ] * len(makes)
    (tmp_path / "nameless").write_bytes(makes["grey.png"])
    assert run(tmp_path / "nameless")[1] == f"{tmp_path}/nameless: happy 90%\n"


def test_a_picture_of_too_many_pixels_is_refused(run: Callable[..., Answer], tmp_path: Path) -> None:
    """A small file that would be a huge picture is refused by its header, with its size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    size = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")
    (tmp_path / "huge.png").write_bytes(png)
    code, out, complaints = run(tmp_path / "huge.png")
    assert (code, out) == (1, "")
    assert re.search(r"huge\.png: .*10000 x 10000 pixels.*51 million", complaints)


def test_photos_are_saved_into_another_folder(run: Callable[..., Answer], tmp_path: Path) -> None:
    """The folder is made; each photo is there under its name, with a box, and the source is as it was."""
    source, target = tmp_path / "photos", tmp_path / "marked"
    source.mkdir()
    for name in ("a.png", "b.webp"):
        write_photo(source / name, DARK)
    before = {path: path.read_bytes() for path in source.iterdir()}
    assert run(source, "--save", target)[0] == 0
    assert sorted(path.name for path in target.iterdir()) == ["a.png", "b.webp.jpg"]
    assert all(cv2.imread(str(path))[60:120, 39:42].mean() > 130 for path in target.iterdir())
    assert {path: path.read_bytes() for path in source.iterdir()} == before


def test_a_photo_that_fails_in_full_size_is_named(
    run: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A photo whose smaller copy can be read, and all of it cannot, is a broken one; the others are saved."""
    source, target = tmp_path / "photos", tmp_path / "marked"
    source.mkdir()
    broken = write_photo(source / "a.png", DARK).read_bytes()
    write_photo(source / "b.png")

    def decoded(content: bytes) -> Frame:
        if content == broken:
            raise PictureError("the PNG picture is damaged")
        return decode_image(content)

    monkeypatch.setattr(watch, "decode_image", decoded)
    code, out, complaints = run(source, "--save", target)
    assert (code, out) == (1, f"{source}/b.png: happy 90%\n")
    assert complaints.startswith(f"{source}/a.png: the PNG picture is damaged\n")
    assert [path.name for path in target.iterdir()] == ["b.png"]


def test_one_photo_is_saved_as_a_file_or_into_a_folder(run: Callable[..., Answer], tmp_path: Path) -> None:
    """--save takes a .jpg or .png, or a folder that is there."""
    photo, folder = write_photo(tmp_path / "me.png", DARK), tmp_path / "marked"
    folder.mkdir()
    for save, path in ((tmp_path / "out.jpg", tmp_path / "out.jpg"), (folder, folder / "me.png")):
        assert run(photo, "--save", save)[0] == 0
        assert cv2.imread(str(path))[60:120, 39:42].mean() > 130


# -- what goes wrong


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("nothing.mp4", r"no file or folder at '.*nothing\.mp4': check its name"),
        ("empty.mp4", r"empty\.mp4 is empty: there is neither a film nor a picture"),
        ("text.mp4", r"text\.mp4 does not play as a video: try an mp4, or demo"),
        ("text.jpg", r"text\.jpg: this is no picture that can be read"),
        ("none", r"no pictures in .*none: it takes \.jpg, .*, and looks into no folders inside"),
        ("~nobody-of-that-name/clip.mp4", r"no file or folder at '~nobody.*': Could not determine home directory"),
        ("x" * 300, r"File name too long"),
        ("", r"no file or folder at ''"),
        ("97", r"no camera at 97: is it plugged in, and free\?.* or demo$"),
        ("9999999999999", r"no camera at 9999999999999: is it plugged in"),
        ("/dev/video97", r"no camera at /dev/video97"),
        (
            "http://me:secret@127.0.0.1:9/video?key=secret",
            r"no picture from http://127\.0\.0\.1:9/video: is the address",
        ),
        ("rtsp://127.0.0.1:9/live", r"no picture from rtsp://127\.0\.0\.1:9/live"),
        ("http://[::1", r"that address cannot be understood: write it like"),
        ("http://", r"that address cannot be understood"),
        ("http://127.0.0.1:port/", r"that address cannot be understood"),
        ("ftp://127.0.0.1/clip.mp4", r"no address begins with ftp:// here: it is http, https, rtsp or rtsps"),
    ],
)
def test_a_source_that_cannot_be_read_is_a_sentence(
    run: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, says: str
) -> None:
    """Exit code 1, nothing on stdout, and a last line that says which source and what now; no secret."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "notes.txt").write_text("no")
    (tmp_path / "empty.mp4").touch()
    for name in ("text.mp4", "text.jpg"):
        (tmp_path / name).write_text("hello\n" * 50)
    code, out, complaints = run(source)
    assert (code, out) == (1, "")
    assert re.search(says, complaints.splitlines()[-1])  # FFmpeg may have spoken before, if a test used it before
    assert "secret" not in complaints


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("clip.avi --save clip.avi", r"that is the source; choose another name"),
        ("clip.avi --save link.avi", r"that is the source; choose another name"),
        ("clip.avi --save out.xyz", r"a film is saved as \.mp4, \.mov, \.mkv, \.avi, \.webm"),
        ("clip.avi --save nowhere/out.mp4", r"nothing can be written into nowhere \(No such file or directory\)"),
        ("clip.avi --save me.png/out.mp4", r"nothing can be written into me\.png \(Not a directory\)"),
        ("clip.avi --save folder.mp4", r"that is a folder"),
        ("me.png --save me.png", r"that is the source"),
        ("me.png --save .", r"that is the source"),
        ("me.png --save out.mp4", r"a photo is saved as \.jpg, \.jpeg, \.png, or into a folder"),
        (". --save .", r"the photos are there; choose another folder"),
        (". --save out.mp4", r"the photos of a folder are saved into a folder"),
        (". --save nowhere/marked", r"the folder cannot be made \(No such file or directory\)"),
    ],
)
def test_a_place_that_cannot_be_saved_to_is_refused_at_once(
    run: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, says: str
) -> None:
    """Exit code 2 and a sentence before anything is read; the source and all else is as it was."""
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "clip.avi", LIGHT)
    write_photo(tmp_path / "me.png")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "link.avi").symlink_to("clip.avi")
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.iterdir()}
    code, out, complaints = run(*arguments.split())
    assert (code, out, complaints.count("\n")) == (2, "", 1)
    assert re.search(says, complaints)
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("", "required: SOURCE\n"),
        ("demo --songs 0", "'0' is not a number of songs: 1 or more"),
        ("demo --songs few", "'few' is not a number of songs"),
        ("demo --every -1", "'-1' is not a number of seconds: 0 or more"),
        ("demo --every nan", "'nan' is not a number of seconds"),
        ("demo --every often", "'often' is not a number of seconds"),
        ("demo --engine magic", "choose from"),
        ("demo --loud", "unrecognized arguments: --loud"),
        ("a.jpg b.jpg --json", "one source at a time: of several photos, give the folder they are in"),
    ],
)
def test_a_wrong_option_is_a_sentence(capsys: pytest.CaptureFixture[str], arguments: str, says: str) -> None:
    """argparse's exit code 2, and what the option takes."""
    with pytest.raises(SystemExit) as stop:
        watch.main(arguments.split())
    assert stop.value.code == 2
    assert says in capsys.readouterr().err


def test_only_known_noise_is_kept_back(capfd: pytest.CaptureFixture[str]) -> None:
    """What C writes to stderr passes, but for lines that are known to mean nothing."""
    with without_noise():
        os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\nERROR: out of memory\n")
    assert capfd.readouterr().err == "ERROR: out of memory\n"


def test_a_terminal_that_has_gone_takes_no_noise(capfd: pytest.CaptureFixture[str]) -> None:
    """What cannot be written to stderr any more ends nothing."""
    kept, full = os.dup(2), os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, 2)
    try:
        with without_noise():
            os.write(2, b"ERROR: out of memory\n")
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(full)


# -- addresses


class Server(http.server.BaseHTTPRequestHandler):
    """Serves a clip at /clip.avi, and at any other path a camera that sends ten pictures and goes away."""

    clip = b""

    def do_GET(self) -> None:
        film = self.path == "/clip.avi"
        self.send_response(200)
        self.send_header("Content-Type", "video/avi" if film else "multipart/x-mixed-replace; boundary=frame")
        if film:
            self.send_header("Content-Length", str(len(self.clip)))
        self.end_headers()
        picture = encode_jpeg(grey_frame(LIGHT, (240, 320)))
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n".encode()
        self.wfile.write(self.clip if film else (head + picture + b"\r\n") * 10)

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    Server.clip = write_clip(tmp_path / "served.avi", *[LIGHT] * 50).read_bytes()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_film_elsewhere_is_played_once(run: Callable[..., Answer], address: str) -> None:
    """A clip behind an address comes to its end, on its own clock; its query is not repeated."""
    code, out, complaints = run(f"{address}/clip.avi", "--every", 1, "--json")
    assert (code, complaints) == (0, "")
    assert [(seen["source"], seen["at"]) for seen in objects(out)] == [
        (f"{address}/clip.avi", 0),
        (f"{address}/clip.avi", 1),
    ]


def test_a_camera_elsewhere_that_goes_away_leaves_its_film(
    run: Callable[..., Answer], address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was seen of a stream is told and saved; that it stopped is a sentence and exit code 1."""
    monkeypatch.setattr(sources, "READ_TIMEOUT", 0.2)
    code, out, complaints = run(f"{address}/live?key=secret", "--save", tmp_path / "live.avi")
    assert (code, out) == (1, "  0:00.0  happy 90%\n")
    assert re.search(
        rf"live\.avi: \d+\.\d seconds saved\nno picture from {address}/live: is the address right", complaints
    )
    assert "secret" not in complaints
    assert frames_of(tmp_path / "live.avi")


# -- as a process


def test_as_people_run_it(tmp_path: Path) -> None:
    """The shipped network reads the built-in face in a photo; stderr is silent, however C libraries chatter."""
    photo = tmp_path / "face.jpg"
    photo.write_bytes(encode_jpeg(demo_frame(0.0)))
    done = command(photo, "--json", "--songs", 1)
    assert (done.returncode, done.stderr) == (0, "")
    (seen,) = objects(done.stdout)
    (face,) = seen["faces"]  # type: ignore[misc]
    assert set(face["probabilities"]) == set(EMOTIONS)
    assert len(seen["songs"]) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_live_source_with_its_film_saved(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C, a supervisor's wish, a closed terminal: exit code 130 (143, 129), no traceback, and a film that plays."""
    target = tmp_path / "out.mp4"
    code, said, complaints = stopped("demo", "--json", "--every", 0.1, "--save", target, after=3, by=[number])
    assert [json.loads(line)["source"] for line in said.splitlines()] == ["demo"] * 3
    assert code == 128 + number
    assert re.fullmatch(rf"{re.escape(str(target))}: \d+\.\d seconds saved\n", complaints)
    assert len(frames_of(target)) >= 6
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_a_second_signal_costs_no_film(tmp_path: Path) -> None:
    """Some come twice: from a supervisor to the process and to its group, from a shell and from the kernel."""
    target = tmp_path / "out.mp4"
    twice = [signal.SIGTERM, signal.SIGTERM]
    code, _, complaints = stopped("demo", "--every", 0.1, "--save", target, after=4, by=twice)
    assert code == 128 + signal.SIGTERM
    assert re.fullmatch(rf"{re.escape(str(target))}: \d+\.\d seconds saved\n", complaints)
    assert len(frames_of(target)) > 0


def test_photos_that_would_be_saved_under_one_name_are_named(run: Callable[..., Answer], tmp_path: Path) -> None:
    """Before any is read: the second would take the first one's place."""
    photos = tmp_path / "photos"
    photos.mkdir()
    write_photo(photos / "a.webp")
    write_photo(photos / "A.webp.jpg")
    code, out, complaint = run(photos, "--save", tmp_path / "out")
    assert (code, out) == (2, "")
    assert "A.webp.jpg and a.webp would both be a.webp.jpg there; rename one" in complaint


def test_a_signal_that_a_library_swallows_still_ends_the_run() -> None:
    """Whoever takes the exception for a failure of its own delays the end by a frame, and no more."""

    def load(engine: str) -> Recognizer:
        return Recognizer(Careless(), stub()(engine).classify)

    assert watch.main(["demo", "--every", "0"], load) == 128 + signal.SIGINT


class Careless:
    """A detector that is interrupted at its third frame, and takes no notice."""

    frames = 0

    def detect(self, frame: Frame, near: Sequence[Box] = ()) -> list[Box]:
        self.frames += 1
        if self.frames == 3:
            with suppress(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(1)
        assert self.frames < 9
        return []


def test_what_is_to_outlive_its_terminal_does(run: Callable[..., Answer], tmp_path: Path) -> None:
    """Under nohup the hang-up of the terminal stays ignored; other signals end the run."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert run(write_photo(tmp_path / "me.png"))[0] == 0
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    assert signal.getsignal(signal.SIGTERM) not in (signal.SIG_IGN, signal.SIG_DFL)


def test_a_clip_that_is_stopped_replaces_nothing(tmp_path: Path) -> None:
    """Ctrl-C in the middle of a clip leaves the film that was there before."""
    clip, target = write_clip(tmp_path / "clip.avi", *[LIGHT] * 1500), tmp_path / "out.webm"
    target.write_bytes(b"good")
    code, _, complaints = stopped(clip, "--every", 0, "--save", target, after=3, by=[signal.SIGINT])
    assert (code, target.read_bytes()) == (130, b"good")
    assert complaints == f"{target} is not saved: the film was stopped before its end\n"
    assert {path.name for path in tmp_path.iterdir()} == {"clip.avi", "out.webm"}


def test_photos_that_nobody_waits_for_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """`| head -1` ends a run that saves photos too, which then says how far it came."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in "abc":
        write_photo(photos / f"{name}.png")

    def gone(self: Terminal, line: str) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(Terminal, "say", gone)
    monkeypatch.setattr(watch, "close_output", lambda: None)
    assert watch.main([str(photos), "--save", str(tmp_path / "out")], stub(BOX)) == 0
    assert capfd.readouterr().err == "1 of 3 photos saved: nobody takes the lines any more\n"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]


def test_whoever_has_seen_enough_may_go() -> None:
    """`| head -1` ends a live source, without a word."""
    line = [sys.executable, "camera.py", "demo", "--every", "0.1"]
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout
        assert running.stderr
        running.stdout.readline()
        running.stdout.close()
        assert running.stderr.read() == ""
    assert running.returncode == 0


def test_a_full_output_is_a_sentence() -> None:
    """Lines that nobody can take are an error, not a traceback."""
    with open("/dev/full", "w") as full:
        line = [sys.executable, "camera.py", "demo", "--every", "0.1"]
        done = subprocess.run(line, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, "the output: No space left on device\n")


def test_a_bar_at_a_terminal_only(tmp_path: Path) -> None:
    """A clip shows how far it is when stderr is a terminal, gone at the end; the lines go where they always go."""
    clip = write_clip(tmp_path / "clip.avi", *[LIGHT] * 50)
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 90))
    line = [sys.executable, "camera.py", str(clip)]
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=theirs, text=True) as running:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 4096):
                shown += part
        except OSError:  # Linux's way to say that the other side is closed
            pass
        finally:
            os.close(ours)
        assert running.stdout
        out = running.stdout.read()
    assert running.returncode == 0
    assert out.endswith("no face\n")
    assert "/50 [" in shown.decode()
    assert shown.decode().rstrip(" ").endswith("\r")


def test_a_clip_that_does_not_play_is_one_line(tmp_path: Path) -> None:
    """FFmpeg's own words are kept back; ours are all there is."""
    (tmp_path / "text.mp4").write_text("hello\n" * 50)
    done = command(tmp_path / "text.mp4")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{tmp_path}/text.mp4 does not play as a video: try an mp4, or demo\n"


def test_help_has_examples() -> None:
    """--help names every option and kind of source, and shows how each is used."""
    done = command("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for word in ("examples:", "--json", "--songs N", "--save", "--every", "--engine", "rtsp", "demo", "exit codes:"):
        assert word in done.stdout


def test_the_docs_show_every_option() -> None:
    """docs/command-line.md names what the parser takes, and nothing else."""
    text = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    known = {name for action in watch.parser()._actions for name in action.option_strings if name.startswith("--")}
    assert set(re.findall(r"(?<![\w-])--[a-z]+", text)) == known


# -- lines


def sight(*faces: tuple[int, Emotion | None], at: float | None = 0.0, mood: Emotion | None = None) -> Sight:
    """A picture with faces at some x, settled on an emotion or on none."""
    prediction = Prediction.of(row_of(Emotion.HAPPY, 0.4))
    seen = tuple(SeenFace(Box(x, 0, 9, 9), Reading(prediction, 0.0, emotion)) for x, emotion in faces)
    return Sight("source", at, seen, Reading(prediction, 0.0, mood) if mood else None, (640, 480))


@pytest.mark.parametrize(
    ("seen", "line"),
    [
        (sight(), "  0:00.0  no face"),
        (sight(at=0.58, mood=Emotion.SAD), "  0:00.5  no face (sad a moment ago)"),
        (sight((0, None), at=59.96), "  0:59.9  happy? 40%"),
        (sight((9, Emotion.SAD), (3, Emotion.HAPPY), at=3725.0), " 62:05.0  2 faces: happy 40%, sad 10%"),
        (sight(at=None), "source: no face"),
    ],
)
def test_lines_as_they_are_read(seen: Sight, line: str) -> None:
    """A clock in minutes, a question mark while a mood is unsure, and where the mood has gone."""
    assert as_text(seen) == line


def test_an_unsure_mood_is_no_reading_in_json() -> None:
    """As on the site: null until a mood has settled."""
    prediction = Prediction.of(row_of(Emotion.HAPPY, 0.3))
    assert as_json(Sight("s", 1.0, (), Reading(prediction, 0.0), (640, 480)))["reading"] is None


def test_a_line_for_each_change_and_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    """Confidences and places are no change; who is there and what mood they have is. An early "no face" waits."""
    lines = Lines(Terminal(), settles=0.5)
    for at, faces in ((0.0, ()), (0.4, ((0, None),)), (1.0, ((5, None),)), (2.0, ((5, Emotion.SAD),)), (3.0, ())):
        lines.watch(sight(*faces, at=at))
    lines.end()
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["0:00.4", "0:02.0", "0:03.0"]


def test_every_keeps_its_grid() -> None:
    """What comes late does not move what follows, and what was missed is not caught up on."""
    every = Every(1.0)
    assert [at for at in (0.0, 0.9, 1.2, 1.9, 2.0, 5.5, 6.0, 6.5) if every.due(at)] == [0.0, 1.2, 2.0, 5.5, 6.5]


def test_frames_of_a_film_are_followed_on_its_clock(tmp_path: Path) -> None:
    """shown_once knows a film's rate and length, and gives each frame once; of what is live it knows neither."""
    clip = write_clip(tmp_path / "clip.avi", *range(100, 130), rate=15)
    film = sources.shown_once(str(clip))
    assert (film.rate, film.length, len(list(film.frames))) == (15, 30, 30)
    live = sources.shown_once("demo")
    assert (live.rate, live.length, next(live.frames)[1].shape) == (0, 0, (480, 640, 3))
