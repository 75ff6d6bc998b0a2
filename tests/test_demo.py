"""The demo: real pixels that the real pipeline finds and reads."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from model import demo
from model.demo import ATLAS, LOOP_SECONDS, ORDER, SECONDS_EACH, DemoError, demo_frame, emotion_at
from model.detector import NetworkDetector
from model.emotions import EMOTIONS, Emotion
from model.faces import to_grey
from model.recognizer import load_recognizer

STEPS = np.arange(0.0, LOOP_SECONDS, 0.5)


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Mean difference of two frames, in levels of 255."""
    return float(np.mean(cv2.absdiff(a, b)))


def face_levels(frame: np.ndarray) -> np.ndarray:
    return to_grey(frame)[90:430, 190:450]


def test_a_frame_is_a_frame() -> None:
    """A frame is 480 x 640 x 3, uint8, in colour, and nobody else's to change."""
    frame = demo_frame(1.0)
    assert (frame.shape, frame.dtype) == ((480, 640, 3), np.uint8)
    assert difference(frame[..., 0], frame[..., 2]) > 5
    frame[:] = 0
    assert demo_frame(1.0).max() > 100


def test_the_same_time_gives_the_same_frame() -> None:
    """The demo has no memory and no dice."""
    assert np.array_equal(demo_frame(12.3), demo_frame(12.3))


def test_exactly_one_face_is_found() -> None:
    """The detector finds one face, in the middle and of a good size, in all frames but one in fifty."""
    detector = NetworkDetector()
    found = [detector.detect(demo_frame(t)) for t in STEPS]
    assert np.mean([len(boxes) == 1 for boxes in found]) >= 0.98
    for box in (boxes[0] for boxes in found if boxes):
        assert 180 <= box.width <= 340
        assert abs(box.x + box.width / 2 - 320) < 40


def test_the_picture_moves_slowly() -> None:
    """A face at rest sways: frames a second apart differ, frames 40 ms apart hardly."""
    for t in (1.0, 20.0, 50.0):
        assert difference(demo_frame(t), demo_frame(t + 1.0)) > 0.3
        assert difference(demo_frame(t), demo_frame(t + 0.04)) < 1.0


def test_nothing_jumps() -> None:
    """No two frames 40 ms apart differ much, in blends and where the loop closes too."""
    seam = [difference(demo_frame(LOOP_SECONDS - 0.02), demo_frame(LOOP_SECONDS + 0.02))]
    steps = [difference(demo_frame(t), demo_frame(t + 0.04)) for t in np.arange(7.3, LOOP_SECONDS, 0.9)]
    assert max(steps + seam) < 2.0


def test_the_loop_closes() -> None:
    """After LOOP_SECONDS the same frame comes again."""
    assert difference(demo_frame(3.0), demo_frame(3.0 + LOOP_SECONDS)) < 0.01


def test_all_seven_have_their_turn() -> None:
    """Each emotion is meant for one stretch of equal length; the loop opens happy."""
    meant = [emotion_at(t) for t in np.arange(0.05, LOOP_SECONDS, 0.1)]
    assert {emotion: meant.count(emotion) for emotion in EMOTIONS} == pytest.approx(dict.fromkeys(EMOTIONS, 90), abs=1)
    assert meant[0] is Emotion.HAPPY
    assert emotion_at(LOOP_SECONDS + 1.0) is emotion_at(1.0)
    assert emotion_at(SECONDS_EACH - 0.9) is Emotion.HAPPY
    assert emotion_at(SECONDS_EACH - 0.6) is ORDER[1]


def test_the_seven_faces_differ() -> None:
    """No two emotions show the same face."""
    faces = [face_levels(demo_frame(k * SECONDS_EACH + 3)).astype(float).ravel() for k in range(len(ORDER))]
    alike = np.corrcoef(faces) - np.eye(len(faces))
    assert alike.max() < 0.98


def test_the_faces_are_a_small_file() -> None:
    """What ships is under 300 kB."""
    assert ATLAS.stat().st_size < 300_000


@pytest.mark.parametrize("content", [None, b"", b"no picture", cv2.imencode(".png", np.zeros((9, 9), np.uint8))[1]])
def test_missing_or_broken_faces_say_what_to_do(tmp_path: Path, content: bytes | None) -> None:
    """A missing, empty, foreign or odd-sized atlas is named, with the remedy."""
    atlas = tmp_path / "faces.png"
    if content is not None:
        atlas.write_bytes(content)
    with pytest.raises(DemoError, match=r"faces\.png.*make_demo"):
        demo._stage(atlas)


def test_the_network_reads_the_faces() -> None:
    """The shipped network reads at least five of the seven faces as what they mean, for most of their time."""
    recognizer = load_recognizer()
    read = {emotion: [] for emotion in EMOTIONS}
    for turn in range(len(ORDER)):
        for t in np.arange(0.5, SECONDS_EACH - demo.BLEND_SECONDS, 1.0) + turn * SECONDS_EACH:
            faces = recognizer.recognize(demo_frame(t))
            read[emotion_at(t)].append(bool(faces) and faces[0].prediction.emotion is emotion_at(t))
    right = [emotion for emotion, hits in read.items() if np.mean(hits) > 0.5]
    assert len(right) >= 5, f"read as meant: {', '.join(right)}"
