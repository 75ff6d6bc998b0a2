"""Pictures in and out: sources, what is drawn on a frame, and whose face is followed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import cv2
import numpy as np
import pytest

from model.emotions import Emotion, Prediction, Smoothing
from model.faces import Box, Face, Frame
from pictures import sources
from pictures.drawing import INK, annotate, encode_jpeg, fitted
from pictures.following import MOST_KEPT, Followed, Follower, follow
from pictures.sources import SourceError, frames, public_name
from pictures.stills import MOST_SCANS, PictureError, PictureTooLargeError, decode_image, read_header
from tests.conftest import grey_frame, row_of, stub_recognizer


def decoded(jpeg: bytes) -> Frame:
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)


def write_clip(path: Path, count: int = 5, size: tuple[int, int] = (320, 240), rate: float = 25) -> Path:
    """A clip whose frames grow lighter."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate, size)
    for i in range(count):
        writer.write(np.full((size[1], size[0], 3), 20 + i * 40, np.uint8))
    writer.release()
    return path


def take(source: Iterator[Frame], count: int) -> list[Frame]:
    taken = [next(source) for _ in range(count)]
    source.close()  # type: ignore[attr-defined]
    return taken


# -- sources


def test_a_file_plays_in_a_loop(tmp_path: Path) -> None:
    """A clip of five frames gives twelve, starting again at its first."""
    seen = take(frames(str(write_clip(tmp_path / "clip.avi"))), 12)
    levels = [int(frame.mean()) for frame in seen]
    assert levels[0] == pytest.approx(levels[5], abs=6)
    assert levels[4] > levels[0] + 100


def test_a_film_that_cannot_go_back_is_opened_again(tmp_path: Path) -> None:
    """Pictures one after another, without an index, play in a loop too."""
    levels = [20, 120, 220]
    clip = tmp_path / "clip.mjpeg"
    clip.write_bytes(b"".join(encode_jpeg(np.full((240, 320, 3), level, np.uint8)) for level in levels))
    assert [int(frame.mean()) for frame in take(frames(str(clip)), 7)] == pytest.approx([*levels, *levels, 20], abs=3)


@pytest.mark.parametrize(
    ("rate", "ticks", "shown"),
    [(120, 60, [0, 2, 4, 0]), (90, 45, [0, 2, 4, 0]), (60, 60, [0, 1, 2, 3]), (0.5, 1, [0, 0, 1, 1])],
)
def test_a_film_plays_at_its_own_speed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: float, ticks: float, shown: list[int]
) -> None:
    """Of more than 60 frames a second some are left out, of less than one each is repeated, and none is hurried."""
    asked: list[float] = []
    monkeypatch.setattr(sources, "_ticks", lambda rate: asked.append(rate) or repeat(0.0))
    levels = [int(frame.mean()) for frame in take(frames(str(write_clip(tmp_path / "clip.avi", rate=rate))), 4)]
    assert asked == [pytest.approx(ticks)]
    assert [round((level - 20) / 40) for level in levels] == shown


def test_a_missing_file_says_which(tmp_path: Path) -> None:
    """A path with nothing behind it names the path and what to do."""
    with pytest.raises(SourceError, match=r"no file at .*nothing\.mp4.*VISAGE_SOURCE"):
        next(frames(str(tmp_path / "nothing.mp4")))


@pytest.mark.parametrize("content", [b"", b"not a video at all" * 100])
def test_a_file_that_is_no_video_says_so(tmp_path: Path, content: bytes) -> None:
    """An empty or foreign file is refused in words."""
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceError, match="does not play as a video"):
        next(frames(str(path)))


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    """A folder is refused like a missing file."""
    with pytest.raises(SourceError, match="no file at"):
        next(frames(str(tmp_path)))


def test_a_missing_device_says_what_to_try() -> None:
    """A device number without a camera asks whether it is plugged in."""
    with pytest.raises(SourceError, match="no camera at 97: is it plugged in"):
        next(frames("97"))


@pytest.mark.skipif(sys.platform != "linux", reason="only on Linux are cameras files")
def test_a_camera_of_others_is_not_called_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this user may not open a camera, that is said, and what to do; where another one is, its number."""
    monkeypatch.setattr(sources, "devices", lambda: ["0", "2"])
    with pytest.raises(SourceError, match=r"no camera at 97: .* another number \(0, 2\), a video"):
        next(frames("97"))
    monkeypatch.setattr(sources.os, "access", lambda path, mode: False)
    monkeypatch.setattr(Path, "exists", lambda path: True)
    with pytest.raises(SourceError, match="may not open the camera at /dev/video7: sudo usermod -aG video"):
        next(frames("/dev/video7"))


def test_an_address_nobody_answers_says_so() -> None:
    """A URL that refuses is named, without its password."""
    with pytest.raises(SourceError, match=r"no picture from http://127\.0\.0\.1:9/cam") as error:
        next(frames("http://user:secret@127.0.0.1:9/cam?key=1"))
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("rtmp://me:pw@10.0.0.2/live", "no address begins with rtmp:// here: it is http, https, rtsp or rtsps"),
        ("rtsp://me:p/w@10.0.0.2/live", "that address cannot be understood: .* in a password %40 for @, %2F for /"),
    ],
)
def test_an_address_that_is_none_says_how_one_is_written(source: str, says: str) -> None:
    """It is not taken for a file, and its password is not repeated."""
    with pytest.raises(SourceError, match=says) as error:
        frames(source)
    assert "pw" not in str(error.value)


def test_public_name_hides_secrets() -> None:
    """User, password and query of a URL are for nobody's eyes; other sources stay as they are."""
    assert public_name("rtsp://me:pw@10.0.0.2:554/live?token=x") == "rtsp://10.0.0.2:554/live"
    assert public_name("rtmp://me:pw@10.0.0.2/live") == "rtmp://10.0.0.2/live"
    assert {public_name(f"rtsp://me:p{sign}w@10.0.0.2/live") for sign in "/?#"} == {"rtsp://..."}
    assert public_name("clip.mp4") == "clip.mp4"


def test_the_demo_is_a_source() -> None:
    """The demo gives pictures like any camera."""
    first, *_ = take(frames("demo"), 3)
    assert (first.shape, first.dtype) == ((480, 640, 3), np.uint8)


def test_large_frames_are_shrunk() -> None:
    """A 4K frame reaches the site no wider than WIDEST."""
    assert fitted(np.zeros((2160, 3840, 3), np.uint8)).shape == (720, 1280, 3)


# -- pictures


def test_annotate_draws_on_a_copy() -> None:
    """The box is drawn where the face is, on a copy."""
    frame = grey_frame()
    follower = Follower(Smoothing())
    follower.follow([Face(Box(200, 120, 160, 160), Prediction.of(row_of(Emotion.HAPPY)))], 0.0)
    picture = annotate(frame, follower.faces)
    assert (frame == 90).all()
    assert picture[200, 200].mean() > 200
    assert picture[200, 280].mean() == 90


def test_a_label_at_the_edge_stays_in_the_picture() -> None:
    """All of the label of a box that touches or crosses the frame's edge can be seen."""
    for box in (Box(200, 200, 80, 80), Box(0, 0, 40, 40), Box(600, 440, 80, 80), Box(-20, -20, 900, 900)):
        follower = Follower(Smoothing())
        follower.follow([Face(box, Prediction.of(row_of(Emotion.SURPRISE)))], 0.0)
        picture = annotate(grey_frame(), follower.faces)
        assert (picture == INK).all(axis=2).sum() > 2600


def test_jpeg_round_trip() -> None:
    """An encoded frame decodes to nearly the same pixels."""
    assert abs(decoded(encode_jpeg(grey_frame(120))).astype(int) - 120).max() <= 2


# -- stills


def test_a_photo_may_have_a_film_behind_it() -> None:
    """What a phone appends to a JPEG is no part of it, whatever bytes are in it."""
    photo = encode_jpeg(grey_frame(120)) + 2 * MOST_SCANS * b"\xff\xda\xff\xd9"
    assert read_header(photo).pixels == 640 * 480
    assert decode_image(photo).shape == (480, 640, 3)


def test_no_scan_is_hidden_behind_a_false_end() -> None:
    """A comment that holds an end marker ends nothing: the scans after it count, and so does a missing end."""
    photo = encode_jpeg(grey_frame(120))
    comment, scan = b"\xff\xfe\0\6\xff\xd9\0\0", photo[photo.rindex(b"\xff\xda") : -2]
    with pytest.raises(PictureTooLargeError, match="more scans"):
        read_header(photo[:-2] + comment + MOST_SCANS * scan + photo[-2:])
    with pytest.raises(PictureError, match="cut off"):
        read_header(photo[:-2] + comment)


# -- following


def test_the_chosen_face_stays_chosen() -> None:
    """A larger face that comes later does not take the reading while the first one is there, unless by far larger."""
    follower = Follower(Smoothing())
    mine, other = Box(50, 100, 100, 100), Box(300, 100, 170, 170)
    happy, sad = Prediction.of(row_of(Emotion.HAPPY)), Prediction.of(row_of(Emotion.SAD))
    follower.follow([Face(mine, happy)], 0.0)
    for i in range(1, 50):
        follower.follow([Face(other, sad), Face(mine, happy)], i / 10)
    assert follower.reading is not None
    assert follower.reading.emotion is Emotion.HAPPY
    assert [face.emotion for face in follower.faces] == ["sad", "happy"]


def test_who_is_chosen_next_has_a_mood_of_their_own() -> None:
    """When the chosen face leaves, the next one does not go on with its mood; the songs stay for a while."""
    follower = Follower(Smoothing())
    mine, other = Box(50, 100, 100, 100), Box(300, 100, 90, 90)
    happy, sad = Prediction.of(row_of(Emotion.HAPPY)), Prediction.of(row_of(Emotion.SAD))
    for i in range(50):
        follower.follow([Face(mine, happy), Face(other, sad)], i / 10)
    seen = []
    for i in range(50, 70):
        follower.follow([Face(other, sad)], i / 10)
        seen.append(follower.faces[0].emotion)
    assert set(seen) == {"sad"}
    assert follower.reading
    assert (follower.reading.emotion, follower.reading.songs) == (Emotion.SAD, Emotion.HAPPY)


def test_of_a_crowd_the_largest_faces_are_remembered() -> None:
    """And where one is waited for: a face whose place is known is not taken for somebody who has moved there."""
    boxes = [Box(20 + 100 * (i % 6), 20 + 100 * (i // 6), 80 - i, 80 - i) for i in range(MOST_KEPT + 3)]
    frame, rules = grey_frame(), Smoothing()
    _, kept = follow(stub_recognizer(*boxes), frame, Followed(), 0.0, rules)
    places = kept.near
    assert len(places) == MOST_KEPT
    assert places[0][2] == boxes[0].width / frame.shape[1]
    _, kept = follow(stub_recognizer(*boxes[1:]), frame, kept, 0.1, rules)
    assert kept.chosen == places[0]
    assert kept.near == (*places[1:], places[0])


@pytest.mark.parametrize("blurred", [(), (29,), (30, 31)])
def test_a_face_that_is_missed_once_stays_chosen(blurred: tuple[int, ...]) -> None:
    """A hand before it, a look aside, a picture of nothing: the larger face beside it does not take the reading."""
    follower = Follower(Smoothing())
    mine, other = Face(Box(50, 100, 100, 100), Prediction.of(row_of(Emotion.HAPPY))), Box(300, 100, 170, 170)
    friend = Face(other, Prediction.of(row_of(Emotion.SAD)))
    follower.follow([mine], 0.0)
    for i in range(1, 100):
        seen = [friend] if i in (30, 31, 32) else [mine, friend]
        follower.follow([] if i in blurred else seen, i / 10)
        assert follower.reading
        assert follower.reading.emotion is Emotion.HAPPY


def test_the_next_face_is_chosen_when_the_first_has_gone() -> None:
    """With the chosen face gone, the largest that is left gives the reading."""
    follower = Follower(Smoothing())
    happy, sad = Prediction.of(row_of(Emotion.HAPPY)), Prediction.of(row_of(Emotion.SAD))
    follower.follow([Face(Box(50, 100, 100, 100), happy)], 0.0)
    for i in range(1, 60):
        follower.follow([Face(Box(300, 100, 200, 200), sad)], i / 10)
    assert follower.reading is not None
    assert follower.reading.emotion is Emotion.SAD
