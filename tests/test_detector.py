"""The face detector: its pictures, its training and files, and what it does with any frame."""

from __future__ import annotations

import csv
import json
import math
import re
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest

from model import detector_motion, evaluate_detector, export_detector, mine_detector, train_detector
from model.demo import demo_frame
from model.detector import FAR, LEAST, OUTPUTS, STRIDE, Found, NetworkDetector, check_answers, decoded, overlaps, tilts
from model.detector_crops import TILTS, Crops, crops
from model.detector_figures import SIZE, VERSIONS, by_size, figures, in_rooms, judge, judged, turned
from model.detector_network import build_detector
from model.detector_scenes import Album, Patch, _cloth, make_scene, moved
from model.detector_set import Faces, LabelError, Picture, load, load_patches
from model.detector_targets import detector_loss, targets
from model.faces import Box, Frame
from model.fer2013 import FaceSet
from model.litert import WEIGHTS, WeightsError
from model.mine_detector import SCALES, TURNS, mined, missed
from tests.conftest import ROOT, command, grey_frame
from tests.test_training import killed, refused, run

HEADER = "file,x,y,w,h,ignore"
CARD = json.dumps(dict.fromkeys(("threshold", "film_threshold", "film_threshold_far"), 0.5))


def head(pixels: np.ndarray, box: tuple[float, float, float, float]) -> None:
    """Something round with two eyes and a mouth."""
    x, y, width, height = box
    middle = (int(x + width / 2), int(y + height / 2))
    cv2.ellipse(pixels, middle, (int(width / 2), int(height / 2)), 0, 0, 360, (150, 180, 220), -1)
    for share in (0.3, 0.7):
        cv2.circle(pixels, (int(x + share * width), int(y + 0.4 * height)), max(1, int(width / 12)), (30, 20, 20), -1)
    cv2.line(
        pixels, (int(x + width * 0.3), int(y + height * 0.75)), (int(x + width * 0.7), int(y + height * 0.75)), 0, 2
    )


def faces_at(*boxes: tuple[float, float, float, float], ignored: bool = False) -> Faces:
    """Faces with landmarks where `head` draws them."""
    places = np.array([(0.3, 0.4), (0.7, 0.4), (0.5, 0.55), (0.3, 0.75), (0.7, 0.75)], np.float32)
    found = np.array(boxes, np.float32).reshape(-1, 4)
    return Faces(found, found[:, None, :2] + places * found[:, None, 2:], np.full(len(found), ignored))


def picture(seed: int, *boxes: tuple[float, float, float, float], size: int = 120, ignored: bool = False) -> Picture:
    """Smooth blobs with heads in front."""
    noise = np.random.default_rng(seed).integers(0, 255, (5, 5, 3), np.uint8)
    pixels = cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)
    for box in boxes:
        head(pixels, box)
    return Picture(f"{seed}.png", pixels, faces_at(*boxes, ignored=ignored))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of twelve made pictures of both splits, with landmarks, in the layout that people are asked for."""
    place = tmp_path_factory.mktemp("faces")
    (place / "faces").mkdir()
    rows = []
    for i in range(12):
        boxes = [(20.0 + i, 15.0, 56.0, 70.0)] if i % 3 else []
        one = picture(i, *boxes)
        cv2.imwrite(str(place / "faces" / one.name), one.pixels)
        split = "val" if i % 2 else "train"
        marks = [one.faces.landmarks[0].ravel().round(1).tolist() if boxes else [""] * 10][0]
        rows.append([one.name, *(boxes[0] if boxes else [""] * 4), "" if not boxes else 0, *marks, split])
    columns = [f"{name}_{axis}" for name in ("re", "le", "nose", "rm", "lm") for axis in "xy"]
    with (place / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([[*HEADER.split(","), *columns, "split"], *rows])
    return place


@pytest.fixture(scope="module")
def detector() -> NetworkDetector:
    return NetworkDetector()


# -- the pictures and their labels


def test_a_folder_and_a_zip_hold_the_same(folder: Path, tmp_path: Path) -> None:
    """Both layouts give the same pictures, faces and landmarks; a line with an empty box is a picture without faces."""
    archive = tmp_path / "faces.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in folder.rglob("*.*"):
            file.write(path, path.relative_to(folder))
    ours, zipped = load(folder, "train"), load(archive, "train")
    assert [one.name for one in ours] == [one.name for one in zipped] == [f"{i}.png" for i in (0, 10, 2, 4, 6, 8)]
    assert [len(one.faces) for one in ours] == [0, 1, 1, 1, 0, 1]
    for one, other in zip(ours, zipped, strict=True):
        assert (one.pixels == other.pixels).all()
        assert (one.faces.boxes == other.faces.boxes).all()
    assert ours[2].faces.landmarks[0, 0] == pytest.approx((22 + 0.3 * 56, 15 + 0.4 * 70), abs=0.1)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("a.png,1,2,3", "line 2: not as many fields"),
        ("a.png,1,2,30,40,0,9", "line 2: not as many fields"),
        ("a.png,,,,,\na.png,1,2,wide,40,0", "line 3: 'wide' is not a number"),
        ("a.png,1,2,-3,40,0", "line 2: the box '1,2,-3,40'"),
        ("a.png,1,,3,40,0", "line 2: the box '1,,3,40'"),
        ("a.png,nan,2,3,40,0", "line 2: the box"),
        ("a.png,1,2,3,40,maybe", "line 2: ignore is 'maybe'"),
        (",1,2,3,40,0", "line 2: no file"),
        ("b.png,1,2,3,40,0", "no picture 'b.png'"),
        ("broken.png,1,2,3,40,0", r"broken\.png is no picture"),
        ("", "lists no pictures"),
    ],
)
def test_broken_labels_are_named(tmp_path: Path, lines: str, says: str) -> None:
    """Whatever is wrong in the table ends in an error with its file and line, or the picture it names."""
    cv2.imwrite(str(tmp_path / "a.png"), grey_frame())
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    (tmp_path / "labels.csv").write_text(f"{HEADER}\n{lines}\n")
    with pytest.raises(LabelError, match=says):
        load(tmp_path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "has no labels.csv"),
        (b"picture,left\na.png,1\n", "labels.csv, line 1: no column file, x"),
        (b"\xff\xfe\x00", "not a table in UTF-8"),
        (b"", "line 1: no column file"),
    ],
)
def test_tables_that_are_none_are_named(tmp_path: Path, content: bytes | None, says: str) -> None:
    """No table, a foreign one and garbage are refused in words."""
    if content is not None:
        (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(LabelError, match=says):
        load(tmp_path)


def test_data_that_is_none_is_named(tmp_path: Path) -> None:
    """A missing path and a zip that is none."""
    with pytest.raises(LabelError, match="no pictures at"):
        load(tmp_path / "nothing")
    (tmp_path / "broken.zip").write_bytes(b"PK but not really")
    with pytest.raises(LabelError, match="neither a folder nor a zip"):
        load(tmp_path / "broken.zip")


def test_a_picture_that_a_zip_has_in_pieces_is_named(tmp_path: Path) -> None:
    """A member whose bytes are not those that were put in: the archive opens, and reads no further than that."""
    archive, picture_of = tmp_path / "faces.zip", cv2.imencode(".png", grey_frame())[1].tobytes()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("labels.csv", f"{HEADER}\na.png,1,2,30,40,0\n")
        file.writestr("a.png", picture_of)
    content = archive.read_bytes()
    at = content.index(picture_of) + len(picture_of) // 2
    archive.write_bytes(content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :])
    with pytest.raises(LabelError, match=r"faces\.zip: a\.png cannot be read .*: restore it"):
        load(archive)


def test_hard_patches_are_read_for_pictures_that_are_there(tmp_path: Path) -> None:
    """A table of mistakes gives places in known pictures; one that is missing says how to make it."""
    (tmp_path / "hard.csv").write_text(f"{HEADER},score\n1.png,5,6,20,30,0,0.9\nother.png,1,1,9,9,0,0.8\n")
    one = picture(1)
    assert load_patches(tmp_path / "hard.csv", [one]) == [(one, (5, 6, 20, 30))]
    with pytest.raises(LabelError, match="mine_detector"):
        load_patches(tmp_path / "none.csv", [one])


def test_patches_of_another_set_are_refused(tmp_path: Path) -> None:
    """A table none of whose rows is of these pictures is named; one without rows only has no mistakes."""
    (tmp_path / "hard.csv").write_text(f"{HEADER},score\nother.png,1,1,9,9,0,0.8\n")
    with pytest.raises(LabelError, match=r"hard\.csv lists none of these pictures"):
        load_patches(tmp_path / "hard.csv", [picture(1)])
    (tmp_path / "hard.csv").write_text(f"{HEADER},score\n")
    assert load_patches(tmp_path / "hard.csv", [picture(1)]) == []


# -- scenes and targets


def test_scenes_repeat_by_seed_and_hold_what_they_are_made_of() -> None:
    """The same seed gives the same scene; over many, there are faces, tilts, empty scenes and ignored faces."""
    pictures = [picture(i, (30, 20, 50, 62)) for i in range(4)] + [picture(i) for i in range(10, 14)]
    album = Album(pictures, [Patch(pictures[4], (10, 10, 40, 40))])
    made = [make_scene(album, 96, np.random.default_rng(i)) for i in range(60)]
    again = make_scene(album, 96, np.random.default_rng(7))
    assert (again[0] == made[7][0]).all()
    assert (again[1].boxes == made[7][1].boxes).all()
    assert all((pixels.shape, pixels.dtype) == ((96, 96, 3), np.uint8) for pixels, _ in made)
    counts = [int((~faces.ignored).sum()) for _, faces in made]
    assert min(counts) == 0
    assert max(counts) >= 2
    assert any(faces.ignored.any() for _, faces in made)
    rolls = [roll for _, faces in made for roll in tilts(faces.landmarks[~faces.ignored])]
    assert np.std(rolls) > 8


def test_without_empty_pictures_no_piece_of_a_face_covers_another() -> None:
    """What hides a face is then a skin or a colour: each row of it is plain."""
    one = picture(1, (30, 20, 50, 62))
    part, box = one.pixels[:30, :40], one.faces.boxes[0]
    for seed in range(40):
        cover = _cloth(part, box, one.pixels, Album([one]), np.random.default_rng(seed))
        assert (cover == cover[:, :1]).all()


def test_an_album_without_a_face_is_refused() -> None:
    """Pictures in which no face counts end in words before anything is trained on them."""
    with pytest.raises(LabelError, match="none of the 2 pictures"):
        Album([picture(1), picture(2, (10, 10, 60, 70), ignored=True)])


def test_missed_faces_are_shown_more_often() -> None:
    """Of the faces shown, a quarter are taken from those missed, on top of their own share; without any, none."""
    pictures = [picture(i, (30, 20, 50, 62)) for i in range(20)]
    rng = np.random.default_rng(5)
    often = Album(pictures, missed=[Patch(pictures[3], (30, 20, 50, 62))])
    shown = [often.face(rng) for _ in range(1000)]
    assert 240 < sum(one is pictures[3] for one, _ in shown) < 340
    assert all(box == pytest.approx((30, 20, 50, 62)) for _, box in shown)
    assert sum(Album(pictures).face(rng)[0] is pictures[3] for _ in range(1000)) < 90


def test_faces_found_badly_when_turned_are_missed() -> None:
    """A detector that sees all but one of the turned faces well: that one is listed, once each way, as it was given."""
    pictures = [picture(i, (30, 20, 50, 62)) for i in range(3)] + [picture(9)]

    tilted = {turned(one, degrees).pixels.tobytes(): (one, degrees) for one in pictures for degrees in TURNS}

    class SeesMost:
        """Finds every face, that of one picture badly."""

        def scan(self, pixels: np.ndarray, threshold: float) -> Found:
            one, degrees = tilted[pixels.tobytes()]
            faces = turned(one, degrees).faces
            return Found(faces.boxes, np.full(1, 0.3 if one is pictures[1] else 0.9, np.float32), faces.landmarks)

    rows = list(missed(SeesMost(), pictures))
    assert [(name, score) for name, _, score in rows] == [(pictures[1].name, pytest.approx(0.3))] * 2
    assert all(box == pytest.approx((30, 20, 50, 62)) for _, box, _ in rows)


def test_mistakes_that_are_likely_faces_are_not_mined() -> None:
    """Besides a face, what scores 0.6 may be one without a label; where there are none, all that is seen is listed.

    A box that overlaps a labelled face, or lies inside it, is no mistake; one that hardly touches it is.
    """
    boxes = [(62, 62, 56, 56), (80, 80, 10, 10), (0, 0, 64, 64), (150, 10, 30, 30), (150, 100, 30, 30)]
    scores = [0.5, 0.5, 0.45, 0.59, 0.61]

    class SeesFive:
        """Sees the boxes at the first of the scales, at the others nothing."""

        def find(self, pixels: np.ndarray, threshold: float) -> Found:
            count = len(boxes) if pixels.shape[0] == 200 * SCALES[0] else 0
            found = np.array(boxes, np.float32)[:count] * SCALES[0]
            return Found(found, np.array(scores, np.float32)[:count], np.zeros((count, 5, 2), np.float32))

    beside = list(mined(SeesFive(), [picture(1, (60, 60, 60, 60), size=200)]))
    assert [(name, score) for name, _, score in beside] == [("1.png", pytest.approx(s)) for s in (0.45, 0.59)]
    assert [tuple(box) for _, box, _ in beside] == [boxes[2], boxes[3]]
    assert [score for _, _, score in mined(SeesFive(), [picture(2, size=200)])] == pytest.approx(scores)


def test_mistakes_in_smaller_copies_are_listed_where_they_are() -> None:
    """A place that is seen only when the picture is shrunk is given in pixels of the picture."""

    class SeesSmall:
        """Sees one box in the smallest copy."""

        def find(self, pixels: np.ndarray, threshold: float) -> Found:
            count = int(pixels.shape[0] == 200 * SCALES[-1])
            box = np.array([[7, 14, 21, 28]], np.float32)
            return Found(box[:count], np.full(count, 0.5), np.zeros((count, 5, 2), np.float32))

    ((name, box, score),) = mined(SeesSmall(), [picture(2, size=200)])
    assert (name, score) == ("2.png", 0.5)
    assert box == pytest.approx((20, 40, 60, 80))


def test_a_mirrored_face_keeps_its_right_eye_on_the_left() -> None:
    """Mirroring swaps the sides of a person, so that the first eye stays the one on the picture's left."""
    faces = faces_at((20, 20, 40, 50))
    mirrored = moved(faces, np.array([[-1.0, 0, 100], [0, 1, 0]]))
    assert mirrored.boxes[0] == pytest.approx((40, 20, 40, 50))
    assert mirrored.landmarks[0, 0, 0] < mirrored.landmarks[0, 1, 0]


def test_a_turned_picture_turns_its_boxes() -> None:
    """After a quarter of a turn a box is as wide as it was high, around the same face."""
    one = turned(picture(1, (20, 30, 40, 50)), 90)
    x, y, width, height = one.faces.boxes[0]
    assert (width, height) == pytest.approx((50, 40), abs=0.1)
    assert one.pixels[int(y + height / 2), int(x + width / 2)].tolist() == [150, 180, 220]


def as_answers(asked: np.ndarray) -> np.ndarray:
    """What a network that knows the targets would answer."""
    answers = np.zeros((*asked.shape[:2], OUTPUTS), np.float32)
    answers[..., 0] = np.where(asked[..., 0] >= 1, 9, -9)
    answers[..., 1:5] = np.log(np.maximum(asked[..., 3:7], 0.1))
    answers[..., 5:] = asked[..., 7:17]
    return answers


def test_targets_lead_back_to_the_faces() -> None:
    """Decoding the targets gives boxes and landmarks as they were, also of faces that cross the edge."""
    faces = faces_at((10, 12, 30, 40), (-12, 60, 50, 60), (90, 90, 14, 17))
    found = decoded(as_answers(targets(faces, 160)), 0.5)
    alike = overlaps(faces.boxes, found.boxes)
    assert alike.max(axis=1) == pytest.approx(np.ones(3), abs=0.01)
    assert found.landmarks[alike.argmax(axis=1)] == pytest.approx(faces.landmarks, abs=0.1)


def test_where_a_face_is_ignored_no_score_is_asked_for() -> None:
    """An ignored small face has no weight over its box, a large one only around its middle; elsewhere all count."""
    small = targets(faces_at((16, 16, 24, 24), ignored=True), 96)
    assert small[2:5, 2:5, 1].max() == 0
    assert small[..., 1].sum() == 12 * 12 - 9
    large = targets(faces_at((0, 0, 96, 96), ignored=True), 96)
    assert large[6, 6, 1] == 0
    assert large[1, 1, 1] == 1


def test_the_loss_is_least_where_the_answer_is_right() -> None:
    """Right answers cost next to nothing; a missed face, a shifted box and a false face cost something."""
    asked = targets(faces_at((30, 30, 40, 50)), 96)
    right = as_answers(asked)

    def cost(answers: np.ndarray) -> float:
        return float(detector_loss(asked[None], answers[None]))

    missed, shifted, false = right.copy(), right.copy(), right.copy()
    missed[..., 0] = -9
    shifted[..., 1] += 0.5
    false[0, 0, 0] = 9
    assert cost(right) < 1e-3
    assert min(cost(missed), cost(shifted), cost(false)) > 0.1


def test_the_network_takes_any_multiple_of_its_step() -> None:
    """Height and width need not be alike; the answer has a place for every eighth pixel."""
    network = build_detector(widths=(4, 4, 8, 8, 8), merged=8)
    answers = keras.ops.convert_to_numpy(network(np.zeros((2, 64, 96, 3), np.float32)))
    assert answers.shape == (2, 64 // STRIDE, 96 // STRIDE, OUTPUTS)
    assert float(network.get_layer("score").bias[0]) == pytest.approx(math.log(0.01 / 0.99))


# -- figures


def seen(*boxes: tuple[float, ...]) -> object:
    """A detector that sees these, with scores from .9 downwards."""
    return lambda pixels: (np.array(boxes, np.float32).reshape(-1, 4), 0.9 - 0.1 * np.arange(len(boxes)))


def test_boxes_are_judged_as_counted_by_hand() -> None:
    """Found, found twice, beside it, missed: by hand."""
    one = picture(1, (10, 10, 50, 60), (70, 50, 50, 60), size=160)
    verdict = judge(seen((12, 12, 48, 58), (10, 10, 50, 55), (100, 0, 30, 30)), one)
    assert np.isnan(verdict.scores).tolist() == [False, True]
    assert verdict.false.tolist() == pytest.approx([0.8, 0.7])
    found = figures([verdict])
    assert (found.recall, found.precision, found.false_per_100) == pytest.approx((0.5, 1 / 3, 200))
    assert figures([verdict.at(0.85)]).precision == 1


def test_ignored_and_small_faces_count_neither_way() -> None:
    """A face under 48 px or marked `ignore` is neither missed nor a mistake when found."""
    small, ignored = picture(1, (10, 10, 30, 40)), picture(2, (10, 10, 60, 70), ignored=True)
    assert SIZE == 48
    for one in (small, ignored):
        box = tuple(one.faces.boxes[0])
        for boxes in ((), (box,)):
            verdict = judge(seen(*boxes), one)
            assert (len(verdict.scores), len(verdict.false)) == (0, 0)


def test_pictures_without_faces_and_no_pictures_have_figures() -> None:
    """Recall of nothing is unknown, null in JSON; false faces are counted all the same."""
    result = figures(judged(seen((0, 0, 50, 50)), [picture(1), picture(2)]))
    assert result.as_dict() == {
        "recall": None,
        "recall_96": None,
        "precision": 0.0,
        "false_per_100": 100.0,
        "n_faces": 0,
        "n_pictures": 2,
    }


def test_versions_keep_faces_where_they_are() -> None:
    """Each version of a picture has its faces; a made room has two pictures' faces, at least 48 px large."""
    pictures = [picture(i, (20, 20, 60, 70)) for i in range(4)] + [picture(9)]
    for change in VERSIONS.values():
        assert len(change(pictures[0]).faces) == 1
        assert not len(change(pictures[4]).faces)
    rooms = in_rooms(pictures)
    assert [room.pixels.shape for room in rooms] == [(480, 640, 3)] * 2
    assert all(len(room.faces) == 2 and room.faces.boxes[:, 3].min() >= 48 for room in rooms)
    for room in rooms:
        for x, y, width, height in room.faces.boxes:
            assert room.pixels[int(y + height / 2), int(x + width / 2)] == pytest.approx((150, 180, 220), abs=12)


def colours(file: Path) -> set[str]:
    """Which of the sheet's colours are in a .png."""
    known = {"missed": (0, 0, 255), "false": (255, 120, 0), "found": (0, 200, 0)}
    pixels = cv2.imread(str(file))
    return {name for name, colour in known.items() if (pixels == colour).all(axis=2).any()}


def test_a_sheet_colours_the_mistakes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Missed red, false blue, found green; pictures without mistakes are not on it, nor boxes of ignored faces."""
    file, find = tmp_path / "sheet.png", seen((10, 10, 50, 60))
    right, hidden = picture(1, (10, 10, 50, 60), size=200), picture(1, (10, 10, 50, 60), size=200, ignored=True)
    for pictures, expected in (
        ([right, hidden], set()),
        ([picture(2, (10, 10, 50, 60), (120, 90, 50, 60), size=200)], {"found", "missed"}),
        ([picture(3, (120, 90, 50, 60), size=200)], {"false", "missed"}),
    ):
        evaluate_detector.sheet(find, pictures, file)
        assert colours(file) == expected
    assert not caplog.records


@pytest.mark.parametrize("name", ["mistakes", "sheet.txt", "nowhere/sheet.png", "."])
def test_a_sheet_that_could_not_be_written_is_refused_first(tmp_path: Path, name: str) -> None:
    """No ending, one of no picture, a folder that is not there: before anything is measured or even read."""
    refusal = refused("model.evaluate_detector", "--data", tmp_path / "nothing", "--sheet", tmp_path / name)
    assert refusal.startswith(f"cannot write {tmp_path / name}: choose another --sheet")


def test_films_of_no_faces_are_no_number(tmp_path: Path) -> None:
    """What there were no pictures for is null in JSON, which knows no NaN."""
    films = detector_motion.Motion(float("nan"), float("nan"), 0.5, 0.25, 1, 1, 9, 1)
    assert json.loads(json.dumps(films.as_dict(), allow_nan=False))["steadiness"] is None


def test_a_sheet_says_what_it_leaves_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A sheet of 96 pictures is full; how many more there are is said."""
    file = tmp_path / "sheet.png"
    evaluate_detector.sheet(seen((10, 10, 50, 60)), [picture(i) for i in range(98)], file, side=20)
    assert cv2.imread(str(file)).shape == (240, 160, 3)
    assert "the first 96 of 98 pictures with mistakes" in caplog.text


def test_faces_that_are_never_found_are_read_by_nobody() -> None:
    """A detector that sees nothing gives zeros for every tilt."""

    class SeesNothing:
        def detect(self, frame: Frame) -> list[Box]:
            return []

    faces = FaceSet(np.zeros((3, 48, 48), np.uint8), np.arange(3), ("a", "b", "c"))
    found = list(crops(SeesNothing(), lambda several: np.eye(7)[: len(several)], faces, [picture(1)]))
    assert found == [Crops(tilt, 3, 0.0, 0.0, 0.0, 0.0) for tilt in TILTS]


def test_sizes_add_up() -> None:
    """The table by size has every face in one row."""
    several = judged(seen(), [picture(1, (0, 0, 50, 60)), picture(2, (0, 0, 80, 110))])
    assert sum(count for count, _ in by_size(several).values()) == 2


# -- at run time


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((1, 1, 3), np.uint8),
        np.zeros((0, 0, 3), np.uint8),
        np.zeros((480, 0, 3), np.uint8),
        np.zeros((5, 4000, 3), np.uint8),
        np.zeros((9, 9), np.uint8),
        np.zeros((120, 160), np.uint8),
        np.zeros((120, 160, 1), np.uint8),
        np.zeros((120, 160, 2), np.uint8),
        np.zeros((120, 160, 4), np.uint8),
        np.zeros((240, 320, 3), np.uint8)[::2, ::-2],
        np.full((48, 64, 3), np.nan),
        np.zeros((3000, 4000, 3), np.uint8),
        np.zeros(7, np.uint8),
    ],
    ids=lambda frame: f"{frame.shape}-{frame.dtype}",
)
def test_odd_frames_have_no_face_and_no_error(detector: NetworkDetector, frame: Frame) -> None:
    """Frames of odd shapes give an empty answer, with and without a place to look near."""
    assert detector.detect(frame) == []
    assert detector.detect(frame, [Box(2, 2, 50, 50), Box(900, 900, 50, 50), Box(5, 5, 0, 0)]) == []


def test_an_empty_room_has_no_face(detector: NetworkDetector) -> None:
    """Plain grey, noise and a gradient hold no face."""
    noise = np.random.default_rng(1).integers(0, 255, (480, 640, 3), np.uint8)
    gradient = np.tile(np.linspace(0, 255, 640, dtype=np.uint8)[None, :, None], (480, 1, 3))
    for frame in (grey_frame(), noise, gradient):
        assert detector.detect(frame) == []


def demo_in(size: tuple[int, int], channels: int = 3) -> Frame:
    frame = cv2.resize(demo_frame(1.0), size, interpolation=cv2.INTER_AREA)
    if channels == 1:
        return cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
    return frame if channels == 3 else cv2.cvtColor(frame, cv2.COLOR_BGR2BGRA)


@pytest.mark.parametrize("size", [(160, 120), (320, 240), (640, 480), (1280, 960), (2560, 1920)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_demo_face_is_found_at_any_size(detector: NetworkDetector, size: tuple[int, int], channels: int) -> None:
    """One box, in the same place of the picture, for grey, colour and alpha."""
    (box,) = detector.detect(demo_in(size, channels))
    scale = size[0] / 640
    assert box.scaled(1 / scale).overlap(detector.detect(demo_frame(1.0))[0]) > 0.7


def test_looking_near_finds_the_same_face(detector: NetworkDetector) -> None:
    """Around where it was, a face is found in about the same place; where it is not, the whole frame is searched."""
    frame = demo_frame(1.0)
    (box,) = detector.detect(frame)
    (near,) = detector.detect(frame, [box.moved(8, -8)])
    assert near.overlap(box) > 0.75
    (elsewhere,) = detector.detect(frame, [Box(0, 0, 60, 60)])
    assert elsewhere.overlap(box) > 0.9
    assert len(detector.detect(frame, [box, box.moved(3, 3)])) == 1


def test_new_faces_of_a_film_must_be_surer(detector: NetworkDetector) -> None:
    """In films a face needs a higher score to be new, and no higher one to stay."""
    film = detector.for_films()
    assert film.threshold > detector.threshold
    frame = demo_frame(1.0)
    assert film.detect(frame, detector.detect(frame)) == detector.detect(frame, detector.detect(frame))
    film.threshold = 0.999
    assert film.detect(frame) == []
    assert len(detector.detect(frame)) == len(detector.for_films().detect(frame)) == 1


def test_new_small_faces_of_a_film_must_be_surest(tmp_path: Path) -> None:
    """In films a face far away needs a score of its own to be new; a large one, and one on a photo, do not."""
    (tmp_path / "detector.tflite").write_bytes((WEIGHTS / "detector.tflite").read_bytes())
    (tmp_path / "detector.json").write_text(json.dumps(json.loads(CARD) | {"film_threshold_far": 0.999}))
    strict = NetworkDetector(tmp_path)
    far = np.full((480, 640, 3), 110, np.uint8)
    far[200:290, 200:320] = cv2.resize(demo_frame(9.0), (120, 90), interpolation=cv2.INTER_AREA)
    (box,) = strict.detect(far)
    assert max(box.width, box.height) < 2 * FAR
    assert strict.for_films().detect(far) == []
    assert len(strict.for_films().detect(demo_frame(9.0))) == 1


def test_a_tilt_is_told(detector: NetworkDetector) -> None:
    """The box of a face that is tilted by 20 degrees says so, either way."""
    for degrees in (-20, 20):
        matrix = cv2.getRotationMatrix2D((320, 240), -degrees, 1.0)
        (box,) = detector.detect(cv2.warpAffine(demo_frame(1.0), matrix, (640, 480)))
        assert box.roll == pytest.approx(degrees, abs=8)


def test_boxes_stay_inside_the_frame(detector: NetworkDetector) -> None:
    """A face that the edge cuts has a box that ends there."""
    frame = demo_frame(1.0)[:, 260:]
    (box,) = detector.detect(frame)
    assert box.x == 0
    assert box.x + box.width <= frame.shape[1]
    assert box.y + box.height <= frame.shape[0]


def test_several_threads_get_the_answers_of_one(detector: NetworkDetector) -> None:
    """Called from eight threads with frames of several sizes, each gets what it would get alone."""
    frames = [demo_in(size) for size in ((640, 480), (480, 640), (320, 240), (300, 200))] * 6
    alone = [detector.detect(frame) for frame in frames]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(detector.detect, frames)) == alone


def test_a_face_is_found_once() -> None:
    """Of boxes that overlap, the best stays; boxes apart all stay."""
    answers = np.full((10, 10, OUTPUTS), -9.0, np.float32)
    answers[..., 1:5] = math.log(2.5)
    for place, score in (((2, 2), 3.0), ((2, 4), 1.0), ((7, 7), 2.0)):
        answers[(*place, 0)] = score
    found = decoded(answers, 0.5)
    assert found.scores == pytest.approx(1 / (1 + np.exp([-3.0, -2.0])))
    assert found.boxes[:, 2:] == pytest.approx(np.full((2, 2), 40.0))


@pytest.mark.parametrize(
    ("network", "card", "says"),
    [
        (None, None, r"detector\.json is missing"),
        (None, CARD, r"detector\.tflite is missing.*export_detector"),
        (b"", CARD, "not a LiteRT network"),
        (b"not a network" * 50, CARD, "not a LiteRT network"),
        ("detector.tflite", "{}", "names no threshold"),
        ("detector.tflite", '{"threshold": "high"}', "names no threshold"),
        ("detector.tflite", '{"threshold": 0.5}', "names no film_threshold"),
        ("detector.tflite", CARD.replace("0.5", "7"), "between 0 and 1"),
        ("detector.tflite", "nonsense", "not readable"),
        ("emotion.tflite", CARD, "it is no detector"),
    ],
)
def test_missing_or_foreign_weights_are_refused(
    tmp_path: Path, network: bytes | str | None, card: str | None, says: str
) -> None:
    """Without its files, or with others in their place, the detector says which and what to do, when it is made."""
    if card is not None:
        (tmp_path / "detector.json").write_text(card)
    if network is not None:
        content = network if isinstance(network, bytes) else (WEIGHTS / network).read_bytes()
        (tmp_path / "detector.tflite").write_bytes(content)
    with pytest.raises(WeightsError, match=says):
        NetworkDetector(tmp_path)


def test_answers_that_are_no_numbers_are_refused() -> None:
    """Weights that are NaN are noticed when the detector is made."""

    def broken(pixels: np.ndarray) -> np.ndarray:
        return np.full((1, pixels.shape[1] // STRIDE, pixels.shape[2] // STRIDE, OUTPUTS), np.nan)

    with pytest.raises(WeightsError, match="no number"):
        check_answers(broken, Path("detector.tflite"))


# -- the commands


SMALL = ("--widths", "8,8,16,16,16", "--blocks", "0,1,0,0", "--merged", 16)
TINY = ("--epochs", 2, "--scenes", 16, "--batch", 8, "--side", 64, *SMALL)


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs, without a stop."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    command(train_detector, "--data", folder, "--out", out, *TINY)
    return out


def test_a_resumed_run_ends_where_an_unbroken_one_does(trained: Path, folder: Path, tmp_path: Path) -> None:
    """Killed after an epoch and resumed, the training ends with the same figures."""
    out = tmp_path / "broken"
    assert killed("model.train_detector", "--data", folder, "--out", out, *TINY) == 9
    command(train_detector, "--data", folder, "--out", out, "--resume", *TINY)
    whole, broken = ((place / "log.csv").read_text().splitlines()[-1].split(",") for place in (trained, out))
    assert [float(x) for x in broken] == pytest.approx([float(x) for x in whole], rel=1e-4)


def test_wrong_calls_of_the_training_end_in_words(trained: Path, folder: Path, tmp_path: Path) -> None:
    """A finished run, other settings, no pictures, an odd size, no patches: one sentence each."""
    train = "model.train_detector"
    assert "holds a run already" in refused(train, "--data", folder, "--out", trained, *TINY)
    other = ("--data", folder, "--out", trained, "--resume", "--epochs", 9)
    assert "was begun with --epochs " in refused(train, *other)
    assert "no pictures at" in refused(train, "--data", tmp_path / "none", "--out", tmp_path / "out")
    assert "multiple of 32" in refused(train, "--data", folder, "--out", tmp_path / "out", "--side", 100)
    hard = ("--data", folder, "--out", tmp_path / "out", "--hard", tmp_path / "none.csv")
    assert "no table of patches" in refused(train, *hard)


def test_mistakes_are_mined_and_a_run_goes_on_with_them(
    trained: Path, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The tables of mistakes are made beside the run; a run begins with its weights and says how many it takes in."""
    command(mine_detector, "--run", trained, "--data", folder)
    hard, overlooked = trained / "hard.csv", trained / "missed.csv"
    assert hard.read_text().startswith(HEADER)
    assert overlooked.read_text().startswith(HEADER)
    hard.write_text(f"{HEADER},score\n0.png,5,6,60,70,0,0.9\n")
    overlooked.write_text(f"{HEADER},score\n2.png,22,15,56,70,0,0.3\n")
    tables = ("--hard", hard, "--missed", overlooked)
    goes_on = ("--start", trained / "checkpoint.keras", *tables, "--peak-rate", 1e-9)
    short = ("--epochs", 1, *TINY[2:])
    with caplog.at_level("INFO"):
        command(train_detector, "--data", folder, "--out", tmp_path / "on", *short, *goes_on)
    assert "1 hard places and 1 missed faces" in caplog.text
    ours, theirs = (
        keras.models.load_model(place / "checkpoint.keras", compile=False) for place in (tmp_path / "on", trained)
    )
    for one, other in zip(ours.trainable_variables, theirs.trainable_variables, strict=True):
        assert np.abs(one - other).max() < 1e-6


def test_export_and_evaluation_of_a_run(trained: Path, folder: Path, tmp_path: Path) -> None:
    """An export into a new place has a network and a card, loads, and is measured: the promised keys, nothing else.

    However high the threshold, that of films is no lower.
    """
    out = tmp_path / "new" / "weights"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(export_detector, "THRESHOLDS", np.arange(0.6, 0.64, 0.01))
        command(export_detector, "--run", trained, "--data", folder, "--out", out)
    card = json.loads((out / "detector.json").read_text())
    assert 0.6 <= card["threshold"] == card["film_threshold"] < card["film_threshold_far"] == 0.66
    assert {path.name for path in out.iterdir()} == set(export_detector.FILES)
    done = run("model.evaluate_detector", "--data", folder, "--weights", out, "--json")
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    promised = {"recall", "recall_96", "precision", "false_per_100", "ms_per_frame", "n_faces", "n_pictures"}
    assert measured.keys() == promised
    assert measured["n_faces"] == 4
    assert 0 < measured["ms_per_frame"] < 1000


def test_a_broken_run_is_not_exported(trained: Path, folder: Path, tmp_path: Path) -> None:
    """Without a run, with garbage for a checkpoint, or with NaN in it, the good files stay."""
    out, broken = tmp_path / "weights", tmp_path / "run"
    out.mkdir()
    broken.mkdir()
    (out / "detector.tflite").write_bytes(b"good")
    export = ("model.export_detector", "--data", folder, "--out", out, "--run")
    assert "no detector's run at" in refused(*export, tmp_path / "none")
    (broken / "settings.json").write_text((trained / "settings.json").read_text())
    (broken / "checkpoint.keras").write_bytes(b"garbage")
    assert "not a checkpoint of a detector" in refused(*export, broken)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = keras.models.load_model(trained / "checkpoint.keras", compile=False)
        network.set_weights([weight * np.nan for weight in network.get_weights()])
        network.save(broken / "checkpoint.keras")
    with pytest.raises(SystemExit, match="no number"):
        command(export_detector, *export[1:], broken)
    assert [path.name for path in out.iterdir()] == ["detector.tflite"]
    assert (out / "detector.tflite").read_bytes() == b"good"


def test_evaluation_prints_tables_for_people(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --json: a line, a row a size and a version, films, and a sheet of the mistakes to look at."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(detector_motion, "MINUTES", 0.02)
        patched.setattr(detector_motion, "LOOP_SECONDS", 1.0)
        sheet = tmp_path / "sheet.png"
        flags = ["--data", str(folder), "--versions", "--motion", "--sheet", str(sheet)]
        evaluate_detector.main(flags)
    printed = capsys.readouterr().out
    for words in (
        "recall",
        "96 to 160 px",
        "turned +25 degrees",
        "in rooms, 640 x 480",
        "a face at rest",
        "empty rooms",
    ):
        assert words in printed
    assert cv2.imread(str(sheet)) is not None


# -- the shipped files


def test_the_shipped_detector_meets_its_floor() -> None:
    """The card says how well it finds faces on the validation split; it is small."""
    card = json.loads((WEIGHTS / "detector.json").read_text())
    assert {"threshold", "settings", "seed", "data", "validation", "versions"} <= card.keys()
    assert card["validation"]["recall"] >= 0.95
    assert card["validation"]["false_per_100"] <= 2
    assert (WEIGHTS / "detector.tflite").stat().st_size < 1_000_000
    assert LEAST < SIZE


def test_the_figures_people_read_are_the_cards() -> None:
    """The model card's thresholds and figures, of the pictures as given and of each version, are detector.json's."""
    card = json.loads((WEIGHTS / "detector.json").read_text())
    text = (ROOT / "docs" / "model-card.md").read_text(encoding="utf-8")
    whole = "pictures {n_pictures}   faces {n_faces}   recall (.+)   from 96 px (.+)   precision (.+)   false a hundred"
    rows = {whole.format(**card["validation"]) + " pictures ([.\\d]+)": card["validation"]}
    rows |= {re.escape(name) + f" +{one['n_faces']}" + 4 * " +([.\\d]+)": one for name, one in card["versions"].items()}
    for row, ours in rows.items():
        found = re.search(f"^{row}", text, re.MULTILINE)
        assert found, row
        *shares, false = map(float, found.groups())
        assert shares == pytest.approx([ours[name] for name in ("recall", "recall_96", "precision")], abs=6e-4)
        assert false == pytest.approx(ours["false_per_100"], abs=0.06)
    said = " ".join(text.split())
    assert f"a hundred validation pictures: {card['threshold']}." in said
    assert f"new in a film needs {card['film_threshold']} in" in said
    assert f" {card['film_threshold_far']} when it is far" in said
