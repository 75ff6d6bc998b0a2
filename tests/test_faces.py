"""Finding faces, cutting them out, and following them through a video."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from model.demo import demo_frame
from model.emotions import Emotion, Prediction
from model.faces import Box, Face, FaceTracker, Frame, HaarDetector, crop_faces, main_face
from tests.conftest import grey_frame, row_of


@pytest.fixture(scope="module")
def haar() -> HaarDetector:
    return HaarDetector()


def face_at(box: Box) -> Face:
    return Face(box, Prediction.of(row_of(Emotion.HAPPY)))


def test_overlap() -> None:
    """Intersection over union: itself 1, half shifted a third, apart 0."""
    box = Box(0, 0, 100, 100)
    assert box.overlap(box) == 1
    assert box.overlap(Box(50, 0, 100, 100)) == pytest.approx(1 / 3)
    assert box.overlap(Box(200, 200, 10, 10)) == 0


def test_widened_stays_inside_the_frame() -> None:
    """A widened box is cut at the edges."""
    assert Box(0, 0, 640, 480).widened(0.5, grey_frame()) == Box(0, 0, 640, 480)
    assert Box(100, 100, 100, 100).widened(0.1, grey_frame()) == Box(90, 90, 120, 120)


def test_a_face_is_found(haar: HaarDetector) -> None:
    """The demo's face is found, once, where it is."""
    (box,) = haar.detect(demo_frame(1.0))
    assert box.overlap(Box(200, 120, 240, 240)) > 0.3


def test_an_empty_room_has_no_face(haar: HaarDetector) -> None:
    """Plain grey, noise and a gradient hold no face."""
    noise = np.random.default_rng(1).integers(0, 255, (480, 640, 3), np.uint8)
    gradient = np.tile(np.linspace(0, 255, 640, dtype=np.uint8)[None, :, None], (480, 1, 3))
    for frame in (grey_frame(), noise, gradient):
        assert haar.detect(frame) == []


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((1, 1, 3), np.uint8),
        np.zeros((0, 0, 3), np.uint8),
        np.zeros((5, 4000, 3), np.uint8),
        np.zeros((120, 160), np.uint8),
        np.zeros((120, 160, 4), np.uint8),
        np.zeros((240, 320, 3), np.uint8)[::2, ::2],
    ],
    ids=["1x1", "empty", "strip", "grey", "alpha", "not contiguous"],
)
def test_odd_frames_have_no_face_and_no_error(haar: HaarDetector, frame: Frame) -> None:
    """Frames of odd shapes give an empty answer, alone and in a video."""
    assert haar.detect(frame) == []
    assert FaceTracker(haar).detect(frame) == []


def test_crops_are_what_the_network_takes() -> None:
    """Two boxes give (2, 48, 48, 1) float32, also where they cross the edge; none give (0, 48, 48, 1)."""
    crops = crop_faces(grey_frame(80), [Box(10, 10, 100, 100), Box(-5, -5, 60, 60)])
    assert (crops.shape, crops.dtype) == ((2, 48, 48, 1), np.float32)
    assert np.abs(crops - 80).max() <= 1
    assert crop_faces(grey_frame(), []).shape == (0, 48, 48, 1)


def test_main_face_is_the_largest_then_the_same() -> None:
    """Without a last box the largest face is chosen; with one, the face that is still there."""
    small, large = face_at(Box(0, 0, 50, 50)), face_at(Box(200, 200, 100, 100))
    assert main_face([small, large], None) is large
    assert main_face([small, large], Box(2, 2, 50, 50)) is small
    assert main_face([small, large], Box(500, 0, 50, 50)) is large
    assert main_face([], Box(0, 0, 5, 5)) is None


class Scripted(HaarDetector):
    """Finds what the script says, frame by frame, in any region."""

    def __init__(self, script: list[list[Box]]) -> None:
        super().__init__()
        self.script, self.scans = script, 0

    def detect(self, frame: Frame) -> list[Box]:
        self.scans += 1
        return self.script.pop(0)

    def search(self, frame: Frame, smallest: int, largest: int = 0, scan_width: int = 320) -> list[Box]:
        return []


def test_a_box_that_blinks_once_is_no_face() -> None:
    """A box seen in one frame of three is not shown; seen in two, it is."""
    box = Box(100, 100, 80, 80)
    tracker = FaceTracker(Scripted([[box], [], [], [box], [box]]))
    assert [tracker.detect(grey_frame()) for _ in range(5)] == [[], [], [], [], [box]]


def test_a_missed_frame_is_bridged() -> None:
    """A face that one frame misses is still shown."""
    box = Box(100, 100, 80, 80)
    tracker = FaceTracker(Scripted([[box], [box], [], [box]]))
    assert [bool(tracker.detect(grey_frame())) for _ in range(4)] == [False, True, True, True]


def test_a_box_that_trembles_is_steadied() -> None:
    """A box that jumps to and fro by four pixels is shown with less of it."""
    script = [[Box(100 + 4 * (i % 2), 100, 80, 80)] for i in range(20)]
    tracker = FaceTracker(Scripted(script))
    shown = [tracker.detect(grey_frame()) for _ in range(20)][4:]
    jumps = [abs(a[0].x - b[0].x) for a, b in pairwise(shown)]
    assert 0 < max(jumps) < 4


def test_following_is_a_look_around_the_last_face(haar: HaarDetector) -> None:
    """Over a film, the whole frame is scanned now and then, and the face stays found."""
    scans = 0

    class Counting(HaarDetector):
        def detect(self, frame: Frame) -> list[Box]:
            nonlocal scans
            scans += 1
            return super().detect(frame)

    tracker = FaceTracker(Counting())
    found = [len(tracker.detect(demo_frame(i / 30))) for i in range(60)]
    assert found[2:].count(1) >= 55
    assert scans <= 12


def test_an_empty_room_is_scanned_less_often() -> None:
    """With nobody there, every third frame is scanned; the first face ends that at once."""
    scripted = Scripted([[] for _ in range(30)])
    tracker = FaceTracker(scripted)
    assert [tracker.detect(grey_frame()) for _ in range(30)] == [[]] * 30
    assert scripted.scans == 10
    box = Box(100, 100, 80, 80)
    scripted.script = [[box]] * 10
    assert sum(bool(tracker.detect(grey_frame())) for _ in range(6)) >= 3
