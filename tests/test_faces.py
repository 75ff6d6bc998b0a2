"""Finding faces, cutting them out, and following them through a video."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import cv2
import numpy as np
import pytest

from model.emotions import Emotion, Prediction
from model.faces import CROP_SHARE, UPRIGHT, Box, Face, FaceTracker, Frame, TiltedBox, crop_faces, main_face
from tests.conftest import grey_frame, row_of


def face_at(box: Box) -> Face:
    return Face(box, Prediction.of(row_of(Emotion.HAPPY)))


def test_overlap() -> None:
    """Intersection over union: itself 1, half shifted a third, apart 0."""
    box = Box(0, 0, 100, 100)
    assert box.overlap(box) == 1
    assert box.overlap(Box(50, 0, 100, 100)) == pytest.approx(1 / 3)
    assert box.overlap(Box(200, 200, 10, 10)) == 0


def test_crops_are_what_the_network_takes() -> None:
    """Two boxes give (2, 48, 48, 1) float32, also where they cross the edge; none give (0, 48, 48, 1)."""
    crops = crop_faces(grey_frame(80), [Box(10, 10, 100, 100), Box(-5, -5, 60, 60)])
    assert (crops.shape, crops.dtype) == ((2, 48, 48, 1), np.float32)
    assert np.abs(crops - 80).max() <= 1
    assert crop_faces(grey_frame(), []).shape == (0, 48, 48, 1)


def ramp() -> Frame:
    """Brighter towards the right."""
    return np.tile(np.linspace(0, 255, 200, dtype=np.uint8)[None, :, None], (200, 1, 3))


def test_a_crop_is_the_square_around_a_box() -> None:
    """A crop spans CROP_SHARE of the root of the box's area, around its middle, whatever the box's shape."""
    narrow, wide = crop_faces(ramp(), [Box(80, 60, 40, 80), Box(60, 80, 80, 40)])[..., 0]
    assert np.abs(narrow - wide).max() <= 2
    spanned = CROP_SHARE * (40 * 80) ** 0.5 * 255 / 199
    assert narrow[20, -1] - narrow[20, 0] == pytest.approx(spanned * 47 / 48, abs=3)
    assert narrow[24].mean() == pytest.approx(100 * 255 / 199, abs=3)


def test_a_tilted_face_is_straightened() -> None:
    """The crop of a head that is tilted by UPRIGHT and a quarter of a turn is turned back by a quarter, either way."""
    (straight,) = crop_faces(ramp(), [Box(70, 70, 60, 60)])[..., 0]
    for turned, roll in ((cv2.ROTATE_90_CLOCKWISE, 90 + UPRIGHT), (cv2.ROTATE_90_COUNTERCLOCKWISE, -90 - UPRIGHT)):
        (back,) = crop_faces(cv2.rotate(ramp(), turned), [TiltedBox.of(Box(70, 70, 60, 60), roll)])[..., 0]
        assert np.abs(back - straight).max() <= 3
    (little,) = crop_faces(ramp(), [TiltedBox.of(Box(70, 70, 60, 60), UPRIGHT)])[..., 0]
    assert (little == straight).all()


def test_main_face_is_nobody_who_stands_where_they_stood() -> None:
    """Of two, one gone: the other one is not taken for it; one that moved far, or came, is."""
    prediction = Prediction.of(np.eye(7)[0])
    here, there, elsewhere = (Face(Box(x, 0, 50, 50), prediction) for x in (0, 100, 200))
    others = [here.box, there.box]
    assert main_face([there], here.box, others) is None
    assert main_face([there, elsewhere], here.box, others) is elsewhere
    assert main_face([elsewhere], here.box, [here.box]) is elsewhere


def test_main_face_is_the_largest_then_the_same() -> None:
    """Without a last box the largest face is chosen; with one, the face that is still there."""
    small, large = face_at(Box(0, 0, 50, 50)), face_at(Box(200, 200, 100, 100))
    assert main_face([small, large], None) is large
    assert main_face([small, large], Box(2, 2, 50, 50)) is small
    assert main_face([small, large], Box(500, 0, 50, 50)) is large
    assert main_face([], Box(0, 0, 5, 5)) is None


class Scripted:
    """Finds what the script says, frame by frame; counts the scans of whole frames."""

    def __init__(self, script: list[list[Box]]) -> None:
        self.script, self.scans = script, 0

    def detect(self, frame: Frame, near: Sequence[Box] = ()) -> list[Box]:
        self.scans += not near
        return self.script.pop(0)


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
    """A box that jumps to and fro by four pixels is shown with next to none of it."""
    script = [[Box(100 + 4 * (i % 2), 100, 80, 80)] for i in range(20)]
    tracker = FaceTracker(Scripted(script))
    shown = [tracker.detect(grey_frame()) for _ in range(20)][4:]
    jumps = [abs(a[0].x - b[0].x) for a, b in pairwise(shown)]
    assert max(jumps) <= 1


@pytest.mark.parametrize("speed", [1, 3, 9, 30, 40])
def test_a_face_that_moves_is_followed(speed: int) -> None:
    """However fast a face goes, its box is not left behind by more than an eighth of its size, and it is one face."""
    script = [[Box(10 + speed * i, 100, 80, 80)] for i in range(16)]
    tracker = FaceTracker(Scripted(list(script)))
    shown = [tracker.detect(grey_frame()) for _ in script]
    assert all(abs(a[0].x - b[0].x) <= 10 for a, b in zip(shown[2:], script[2:], strict=True))
    assert {len(boxes) for boxes in shown[1:]} == {1}


def test_following_is_a_look_around_the_last_face() -> None:
    """While a face is shown, the whole frame is scanned now and then only."""
    scripted = Scripted([[Box(100, 100, 80, 80)] for _ in range(62)])
    tracker = FaceTracker(scripted)
    shown = [bool(tracker.detect(grey_frame())) for _ in range(62)]
    assert shown == [False] + [True] * 61
    assert 4 <= scripted.scans <= 7


class Room:
    """Finds who is there by frame number, near the boxes that it is given as a real detector does."""

    def __init__(self, people: dict[Box, Callable[[int], bool]]) -> None:
        self.people, self.number, self.scans = people, -1, 0

    def detect(self, frame: Frame, near: Sequence[Box] = ()) -> list[Box]:
        self.number += 1
        there = [box for box, is_there in self.people.items() if is_there(self.number)]
        if near and all(any(box.overlap(one) > 0.3 for one in there) for box in near):
            return [one for one in there if any(box.overlap(one) > 0.3 for box in near)]
        self.scans += 1
        return there


def test_who_comes_second_is_seen() -> None:
    """A newcomer is found by the scans only, and needs two sightings in three frames; so does one who looked aside."""
    first, second = Box(50, 100, 80, 80), Box(300, 100, 80, 80)
    room = Room({first: lambda n: True, second: lambda n: 20 <= n < 60 or n >= 80})
    tracker = FaceTracker(room)
    shown = [len(tracker.detect(grey_frame())) for _ in range(120)]
    late = FaceTracker.SCAN_EVERY + FaceTracker.CONFIRM
    assert set(shown[1:20]) == {1}
    assert set(shown[20 + late : 60]) == {2}
    assert set(shown[60 + FaceTracker.MEMORY : 80]) == {1}
    assert set(shown[80 + late :]) == {2}
    assert room.scans < 20


def test_a_tilt_is_kept_and_steadied() -> None:
    """The box shown is tilted as the boxes found are, and follows them step by step."""
    tilted = [[TiltedBox.of(Box(100, 100, 80, 80), roll)] for roll in (10, 10, 20)]
    tracker = FaceTracker(Scripted(tilted))
    rolls = [box.roll for _ in range(3) for box in tracker.detect(grey_frame())]
    assert rolls[0] == 10
    assert 10 < rolls[1] < 20


def test_an_empty_room_is_scanned_less_often() -> None:
    """With nobody there, every third frame is scanned; the first face ends that at once."""
    scripted = Scripted([[] for _ in range(30)])
    tracker = FaceTracker(scripted)
    assert [tracker.detect(grey_frame()) for _ in range(30)] == [[]] * 30
    assert scripted.scans == 10
    box = Box(100, 100, 80, 80)
    scripted.script = [[box]] * 10
    assert sum(bool(tracker.detect(grey_frame())) for _ in range(6)) >= 3
