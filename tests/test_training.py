"""The data set, the training and its files, on small pictures made here."""

from __future__ import annotations

import csv
import importlib
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib
from dataclasses import fields, replace
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest

from model import evaluate, export, fer2013, train
from model.augment import augment, no_faces
from model.emotions import EMOTIONS, Emotion
from model.evaluate import load_network
from model.export import ExportError, averaged, mixed, norm_pictures, to_litert, with_new_norms
from model.ferplus import COLUMNS, Ballot, load_ballot
from model.figures import expected_calibration_error, report, wilson_interval
from model.network import build_network, with_probabilities
from model.recognizer import (
    WEIGHTS,
    LiteRTClassifier,
    WeightsError,
    check_labels,
    classify_in_batches,
    load_recognizer,
)
from model.train import (
    Batches,
    Run,
    Settings,
    WarmCosine,
    begin,
    begin_with,
    blended,
    digest,
    repeated,
    soft_targets,
    teachers_of,
    training_set,
)
from tests.conftest import ROOT, command


def picture(seed: int, size: int = 48) -> np.ndarray:
    """Smooth blobs: no two seeds alike."""
    noise = np.random.default_rng(seed).integers(0, 255, (6, 6), np.uint8)
    return cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)


def write_folder(folder: Path, splits: tuple[str, ...] = ("train", "test"), each: int = 4) -> Path:
    """The Kaggle layout with `each` pictures of every emotion."""
    for s, split in enumerate(splits):
        for e, emotion in enumerate(EMOTIONS):
            place = folder / split / emotion
            place.mkdir(parents=True)
            for i in range(each):
                seed = s * 1000 + e * 100 + i
                cv2.imwrite(str(place / f"{fer2013.USAGES[split]}_{seed}.png"), picture(seed))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("fer2013"))


def run(module: str, *arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """A command of the project, as a person types it."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    line = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False)


def killed(module: str, *arguments: object, at: int = 0) -> int:
    """The exit code of a training that dies once the checkpoint of epoch `at` is in place: 9.

    Its folder as it was just before that lies beside it, "-before" added to its name.
    """
    script = (
        f"import sys, os, shutil, {module} as trainer\n"
        "replace, checkpoints = os.replace, []\n"
        "def dying(source, target):\n"
        "    checkpoints.append(target) if target.name == 'checkpoint.keras' else None\n"
        f"    if len(checkpoints) <= {at}:\n"
        "        return replace(source, target)\n"
        "    shutil.copytree(target.parent, f'{target.parent}-before')\n"
        "    replace(source, target)\n"
        "    os._exit(9)\n"
        "os.replace = dying\n"
        "trainer.main(sys.argv[1:])\n"
    )
    line = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, timeout=300, check=False).returncode


def refused(module: str, *arguments: object) -> str:
    """What a command says that ends with one sentence, in this process: each new one loads TensorFlow anew."""
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(module).main([str(argument) for argument in arguments])
    return str(ended.value)


# -- the data


def test_folder_zip_and_csv_hold_the_same(folder: Path, tmp_path: Path) -> None:
    """The three layouts give the same pictures with the same labels."""
    archive, table = tmp_path / "fer.zip", tmp_path / "fer2013.csv"
    with zipfile.ZipFile(archive, "w") as file:
        for path in folder.rglob("*.png"):
            file.write(path, path.relative_to(folder))
    by_folder = fer2013.load(folder, "train")
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["emotion", "pixels", "Usage"])
        for pixels, label in zip(by_folder.pixels, by_folder.labels, strict=True):
            writer.writerow([label, " ".join(map(str, pixels.ravel())), "Training"])
    assert len(by_folder) == 28
    for other in (fer2013.load(archive, "train"), fer2013.load(table, "train")):
        assert (other.pixels == by_folder.pixels).all()
        assert (other.labels == by_folder.labels).all()


def test_labels_are_translated_by_name(folder: Path) -> None:
    """Folders sort alphabetically; labels follow the order of EMOTIONS all the same."""
    faces = fer2013.load(folder, "test")
    assert len(faces) == 28
    for name, label in zip(faces.names, faces.labels, strict=True):
        assert EMOTIONS[label] == Path(name).parent.name


def test_any_folder_of_emotions_can_be_measured(tmp_path: Path) -> None:
    """Sub-folders without a split, of some emotions, with pictures of any size, in colour."""
    for emotion, size, ending in ((Emotion.SAD, 200, "jpg"), (Emotion.HAPPY, 31, "tiff")):
        (tmp_path / emotion).mkdir()
        cv2.imwrite(str(tmp_path / emotion / f"a.{ending}"), cv2.merge([picture(1, size)] * 3))
    faces = fer2013.load(tmp_path, "test")
    assert faces.pixels.shape == (2, 48, 48)
    assert {EMOTIONS[label] for label in faces.labels} == {Emotion.SAD, Emotion.HAPPY}


def test_emotions_and_endings_in_any_case(folder: Path, tmp_path: Path) -> None:
    """Folders as people write them, a zip as a camera calls it; FER+ votes find the pictures all the same."""
    (tmp_path / "Sad").mkdir()
    cv2.imwrite(str(tmp_path / "Sad" / "PublicTest_1.png"), picture(1))
    faces = fer2013.load(tmp_path, "test")
    assert (faces.names, [EMOTIONS[label] for label in faces.labels]) == (("Sad/PublicTest_1.png",), [Emotion.SAD])
    table = tmp_path / "ferplus.csv"
    table.write_text(f"file,{','.join(COLUMNS)}\ntest/sad/PublicTest_1.png,{','.join('1' for _ in COLUMNS)}\n")
    assert load_ballot(table, faces.names).listed.all()
    with zipfile.ZipFile(tmp_path / "FER.ZIP", "w") as file:
        file.write(next(folder.rglob("*.png")), "sad/a.png")
    assert fer2013.load(tmp_path / "FER.ZIP", "test").names == ("sad/a.png",)


@pytest.mark.parametrize(
    ("folders", "train", "validation", "test"),
    [
        (("train", "test"), "train", "test", "test"),
        (("Training", "PublicTest", "PrivateTest"), "Training", "PublicTest", "PublicTest"),
        (("TRAIN", "Val"), "TRAIN", "Val", "Val"),
        (("train", "val", "test"), "train", "val", "test"),
        (("training", "validation", "PrivateTest"), "training", "validation", "validation"),
        (("Alice",), "Alice", "Alice", "Alice"),
        (("PrivateTest",), "PrivateTest", "PrivateTest", "PrivateTest"),
        (("train", "PrivateTest"), "train", None, None),
    ],
)
def test_a_split_is_one_folder(
    tmp_path: Path, folders: tuple[str, ...], train: str, validation: str | None, test: str | None
) -> None:
    """However the splits' folders are called, no picture is in two; FER2013's last split is in none, or alone.

    A copy with three has one to measure on that decides nothing while it is trained.
    """
    for i, name in enumerate(folders):
        (tmp_path / name / "sad").mkdir(parents=True)
        cv2.imwrite(str(tmp_path / name / "sad" / "a.png"), picture(i))
    assert fer2013.load(tmp_path, "train").names == (f"{train}/sad/a.png",)
    for split, found in (("validation", validation), ("test", test)):
        if found:
            assert fer2013.load(tmp_path, split).names == (f"{found}/sad/a.png",)
            continue
        with pytest.raises(fer2013.DataError, match=f"no {split} split: the emotions are under PrivateTest/, train/ a"):
            fer2013.load(tmp_path, split)


def test_two_splits_in_one_folder_are_told_apart_by_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Copies of FER2013 keep PrivateTest beside PublicTest under test/; by itself it is what somebody measures on."""
    for i, name in enumerate(("PublicTest_1.png", "PrivateTest_2.png", "PrivateTest_3.png")):
        (tmp_path / "test" / "sad").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "test" / "sad" / name), picture(i))
    assert fer2013.load(tmp_path, "test").names == ("test/sad/PublicTest_1.png",)
    assert "left out 2 pictures of PrivateTest" in caplog.text
    (tmp_path / "test" / "sad" / "PublicTest_1.png").unlink()
    assert len(fer2013.load(tmp_path, "test")) == 2


@pytest.mark.parametrize(("folders", "named"), [(("train", "Prueba"), "Prueba/"), (("", "test"), "./")])
def test_a_folder_of_no_known_split_is_named(tmp_path: Path, folders: tuple[str, ...], named: str) -> None:
    """Beside other splits a folder could be either: it is asked what it is, rather than read as both."""
    for name in folders:
        (tmp_path / name / "sad").mkdir(parents=True)
        cv2.imwrite(str(tmp_path / name / "sad" / "a.png"), picture(1))
    with pytest.raises(fer2013.DataError, match=f"under {named}[?] Call the folders train and test"):
        fer2013.load(tmp_path, "test")


def test_folders_that_are_links_are_read(tmp_path: Path) -> None:
    """Pictures that lie elsewhere are pictures; a link to a folder above is no second copy of them."""
    elsewhere, here = tmp_path / "elsewhere", tmp_path / "here"
    for i, folder in enumerate((elsewhere, here / "sad")):
        folder.mkdir(parents=True)
        cv2.imwrite(str(folder / "a.png"), picture(i))
    (here / "happy").symlink_to(elsewhere)
    (here / "again").symlink_to(here)
    (here / "sad" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert fer2013.load(here, "test").names == ("happy/a.png", "sad/a.png")


@pytest.mark.parametrize("inner", ["images/train", "mine/train"])
def test_a_split_that_is_there_twice_is_named(tmp_path: Path, inner: str) -> None:
    """Some copies hold all pictures at two depths: each would count twice, and the interval be too narrow."""
    for name in ("train", inner):
        (tmp_path / name / "sad").mkdir(parents=True)
        cv2.imwrite(str(tmp_path / name / "sad" / "a.png"), picture(1))
    with pytest.raises(fer2013.DataError, match=rf"the same split more than once, in {inner}/ and train/: give"):
        fer2013.load(tmp_path, "train")


def test_what_a_mac_adds_to_a_zip_is_no_split(folder: Path, tmp_path: Path) -> None:
    """A zip of emotions with a Mac's __MACOSX beside them is read whole, and so is what was in it."""
    with zipfile.ZipFile(tmp_path / "mac.zip", "w") as file:
        file.write(next(folder.rglob("*.png")), "sad/a.png")
        file.writestr("__MACOSX/sad/._a.png", b"no picture")
    assert fer2013.load(tmp_path / "mac.zip", "test").names == ("sad/a.png",)
    with zipfile.ZipFile(tmp_path / "mac.zip") as file:
        file.extractall(tmp_path / "mac")
    assert fer2013.load(tmp_path / "mac", "test").names == ("sad/a.png",)


def test_broken_pictures_and_unknown_folders_are_named(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What does not decode and what is no emotion is left out, by name."""
    (tmp_path / "sad").mkdir()
    (tmp_path / "bored").mkdir()
    cv2.imwrite(str(tmp_path / "sad" / "good.png"), picture(1))
    cv2.imwrite(str(tmp_path / "bored" / "b.png"), picture(2))
    (tmp_path / "sad" / "broken.png").write_bytes(b"not a picture")
    (tmp_path / "sad" / "empty.png").write_bytes(b"")
    (tmp_path / "sad" / "huge.png").write_bytes(claiming(2**20, (tmp_path / "sad" / "good.png").read_bytes()))
    assert len(fer2013.load(tmp_path, "test")) == 1
    for name in ("broken", "empty", "huge"):
        assert f"{name}.png does not decode" in caplog.text
    assert "bored" in caplog.text
    assert "not square" not in caplog.text


def test_pictures_of_other_kinds_are_pointed_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A phone's, say: a figure of the one picture in a folder of hundreds would mislead."""
    (tmp_path / "sad").mkdir()
    cv2.imwrite(str(tmp_path / "sad" / "a.png"), picture(1))
    for name in ("b.HEIC", "c.gif", ".DS_Store", "notes"):
        (tmp_path / "sad" / name).write_bytes(b"of another kind")
    (tmp_path / "about.txt").write_text("beside the pictures")
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as file:
        for path in (tmp_path / "sad").iterdir():
            file.write(path, f"sad/{path.name}")
    for source in (tmp_path, tmp_path / "faces.zip"):
        caplog.clear()
        assert fer2013.load(source, "test").names == ("sad/a.png",)
        assert [line.rpartition(": ")[2] for line in caplog.messages] == [".HEIC, .gif"]


def claiming(side: int, png: bytes) -> bytes:
    """The PNG with a header that says that it is `side` pixels wide and high."""
    header = b"IHDR" + struct.pack(">II", side, side) + png[24:29]
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]


def test_photos_that_are_no_cut_out_faces_are_pointed_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A whole photo would be squeezed into what should be a face; how many are such is said."""
    (tmp_path / "happy").mkdir()
    for number, shape in enumerate([(480, 640), (640, 480), (300, 280), (48, 48)]):
        cv2.imwrite(str(tmp_path / "happy" / f"{number}.png"), np.zeros(shape, np.uint8))
    assert len(fer2013.load(tmp_path, "test")) == 4
    assert "2 pictures are not square" in caplog.text


def test_a_broken_csv_row_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A row with too few pixels or an eighth emotion is left out with its line."""
    good = f"3,{' '.join(['7'] * 2304)},PublicTest"
    path = tmp_path / "fer2013.csv"
    bad = ["3,1 2 3,PublicTest", good.replace("3,", "9,", 1), good.replace("3,", "-1,", 1), good.replace("7", "300", 1)]
    path.write_text("\n".join(["emotion,pixels,Usage", good, *bad]))
    assert len(fer2013.load(path, "test")) == 1
    assert [f"line {line} left out" in caplog.text for line in range(2, 7)] == [False, True, True, True, True]


def test_lines_are_counted_as_an_editor_does(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Blank ones too; and one quote too many does not swallow what follows."""
    path, good = tmp_path / "fer2013.csv", f"3,{' '.join(['7'] * 2304)},PublicTest"
    path.write_text("\n".join(["emotion,pixels,Usage", "", good, "3,1 2 3,PublicTest", good]))
    assert fer2013.load(path, "test").names == ("PublicTest_2", "PublicTest_4")
    assert "line 4 left out" in caplog.text
    path.write_text("\n".join(["emotion,pixels,Usage", good, good.replace("7", '"7', 1), good]))
    with pytest.raises(fer2013.DataError, match=r"broken in line 4 or above"):
        fer2013.load(path, "test")


def test_a_csv_row_of_no_split_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A row that ends early and one whose split is misspelt belong to nobody knows which; other splits are silent."""
    path, pixels = tmp_path / "fer2013.csv", " ".join(["7"] * 2304)
    rows = [f"3,{pixels},{usage}" for usage in ("PublicTest", "PrivateTest", "Training", "PublicTes")]
    path.write_text("\n".join(["emotion,pixels,Usage", *rows, "3,7 7 7"]))
    assert len(fer2013.load(path, "test")) == 1
    assert [line for line in range(2, 7) if f"line {line} left out" in caplog.text] == [5, 6]
    path.write_text("\n".join(["emotion,pixels,Usage", *rows[1:3]]))
    with pytest.raises(fer2013.DataError, match="expected rows whose Usage is PublicTest"):
        fer2013.load(path, "test")


def test_votes_as_fer_plus_publishes_them_go_by_lines(tmp_path: Path) -> None:
    """fer2013new.csv names no label: its lines are those of fer2013.csv, also after a row that is broken."""
    data, votes, pixels = tmp_path / "fer2013.csv", tmp_path / "fer2013new.csv", " ".join(["7"] * 2304)
    rows = [f"3,{pixels},Training", "3,7 7,Training", f"4,{pixels},PublicTest", f"0,{pixels},Training"]
    data.write_text("\n".join(["emotion,pixels,Usage", *rows]))
    seen = [("Training", "happiness"), ("Training", "fear"), ("PublicTest", "sadness"), ("Training", "anger")]
    counts = [",".join("10" if column == one else "0" for column in COLUMNS) for _, one in seen]
    published = [f"{usage},fer{i:07d}.png,{counts[i]}" for i, (usage, _) in enumerate(seen)]
    votes.write_text("\n".join([f"Usage,Image name,{','.join(COLUMNS)}", *published]))
    ballots = {split: load_ballot(votes, fer2013.load(data, split).names).counts for split in ("train", "test")}
    named = {split: [COLUMNS[row.argmax()] for row in ballot] for split, ballot in ballots.items()}
    assert named == {"train": ["happiness", "anger"], "test": ["sadness"]}
    for lines, told in (
        ([*published[:1], *published[2:]], r"line 3 is of fer0000002\.png: lines are missing"),
        ([published[0].replace("10", "x")], "line 2 is broken .* mend the line$"),
    ):
        votes.write_text("\n".join([f"Usage,Image name,{','.join(COLUMNS)}", *lines]))
        with pytest.raises(fer2013.DataError, match=told):
            load_ballot(votes, ("Training_2",))


def test_tables_that_a_spreadsheet_saved_are_read(tmp_path: Path) -> None:
    """With a byte order mark, and with blanks around the names of columns."""
    data, votes = tmp_path / "fer2013.csv", tmp_path / "ferplus.csv"
    data.write_text(f"emotion, Usage, pixels\n3,PublicTest,{' '.join(['7'] * 2304)}\n", encoding="utf-8-sig")
    votes.write_text(f"Usage, {', '.join(COLUMNS)}\nPublicTest{',1' * len(COLUMNS)}\n", encoding="utf-8-sig")
    assert load_ballot(votes, fer2013.load(data, "test").names).listed.all()


@pytest.mark.parametrize("name", ["nothing", "empty", "broken.zip", "other.csv"])
def test_data_that_is_none_says_so(tmp_path: Path, name: str) -> None:
    """A missing path, an empty folder, a zip that is none and a foreign table are refused in words."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.zip").write_bytes(b"PK but not really")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(fer2013.DataError, match=name.replace(".", r"\.")):
        fer2013.load(tmp_path / name, "train")


def test_near_copies_are_found() -> None:
    """Copies, mirrored, brighter and slightly noisy ones are near-copies; other pictures are not."""
    known = np.stack([picture(i) for i in range(20)])
    noise = np.random.default_rng(0).normal(0, 4, (48, 48))
    mirrored, brighter = known[0][:, ::-1], (known[1] * 0.7 + 40).astype(np.uint8)
    noisy = (known[2] + noise).clip(0, 255).astype(np.uint8)
    others = [picture(i) for i in range(50, 60)]
    found = fer2013.near_copies(np.stack([known[3], mirrored, brighter, noisy, *others]), known)
    assert found.tolist() == [True] * 4 + [False] * 10


def test_pictures_of_one_grey_are_copies_of_their_equals() -> None:
    """The original table has blank pictures in both splits: without contrast only the same grey is a copy."""
    black, grey = np.zeros((1, 48, 48), np.uint8), np.full((1, 48, 48), 7, np.uint8)
    assert fer2013.near_copies(np.concatenate([black, grey]), black).tolist() == [True, False]


def test_copies_of_validation_pictures_are_not_trained_on(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A training picture that is a validation picture, mirrored, is left out, and it is said; all are no data."""
    data, settings = tmp_path / "data", Settings(rarity=0)
    shutil.copytree(folder, data)
    theirs = fer2013.load(folder, "test").pixels[9]
    cv2.imwrite(str(data / "train" / "sad" / "Training_9.png"), theirs[:, ::-1])
    with caplog.at_level("INFO"):
        pixels, targets, validation = training_set(data, None, settings)
    assert "left out 1 of 29 training pictures" in caplog.text
    assert (len(pixels), len(targets), len(validation)) == (28, 28, 28)
    assert not (pixels == theirs[:, ::-1]).all(axis=(1, 2)).any()
    with pytest.raises(fer2013.DataError, match="trains and validates on the same pictures: give a folder with train/"):
        training_set(data / "train", None, settings)


def test_votes_become_shares(tmp_path: Path) -> None:
    """Votes for the seven become shares; contempt and unknown count for nothing; a picture not listed has none."""
    path = tmp_path / "ferplus.csv"
    columns = "file,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF,match"
    path.write_text(
        f"{columns}\ntrain/happy/Training_1.png,0,6,2,0,0,0,0,1,1,0,2\ntrain/sad/Training_2.png,0,0,0,0,0,0,0,0,0,10,2\n"
    )
    ballot = load_ballot(path, ("train/happy/Training_1.png", "sad/Training_2.png", "angry/Training_1.png"))
    assert ballot.shares[0, EMOTIONS.index(Emotion.HAPPY)] == pytest.approx(0.75)
    assert ballot.shares[0].sum() == pytest.approx(1)
    assert ballot.shares[1:].sum() == 0
    assert ballot.saw_no_face.tolist() == [0, 10, 0]


@pytest.mark.parametrize("row", [",0,6,2,0,0,0,0,1,1,0,2", "happy/Training_1.png,0,6", "a.png,x,6,2,0,0,0,0,1,1,0,2"])
def test_a_broken_row_of_votes_is_named(tmp_path: Path, row: str) -> None:
    """A row without a picture's name, one that ends early and one with a word for a number are refused by line."""
    path = tmp_path / "ferplus.csv"
    path.write_text(f"file,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF,match\n{row}\n")
    with pytest.raises(fer2013.DataError, match=r"line 2 is broken .*: restore the file, or mend or delete the line"):
        load_ballot(path, ("happy/Training_1.png",))


def test_votes_become_the_labels_that_pictures_of_such_votes_have() -> None:
    """Of faces that all people call neutral a quarter is labelled sad: so much is asked of each, whatever its label."""
    counts = np.zeros((200, 10), int)
    counts[:, 6] = 10
    counts[100:, 6], counts[100:, 3] = 0, 10
    counts[199] = 0
    neutral, sad, happy = (EMOTIONS.index(emotion) for emotion in (Emotion.NEUTRAL, Emotion.SAD, Emotion.HAPPY))
    labels = np.array([sad] * 25 + [neutral] * 75 + [happy] * 100)
    expected = Ballot(counts).expected_labels(labels)
    np.testing.assert_allclose(expected[:199].sum(axis=1), 1, rtol=1e-5)
    assert expected[:100, sad] == pytest.approx(0.25, abs=0.03)
    assert expected[100:199, happy].min() > 0.95
    assert expected[199].sum() == 0
    asked = soft_targets(labels, Ballot(counts), Settings(label_share=0.5, smoothing=0, votes="labels"))
    assert asked[0, sad] == pytest.approx(0.5 + expected[0, sad] / 2)
    assert asked[199, happy] == 1
    with pytest.raises(fer2013.DataError, match="one label"):
        Ballot(counts).expected_labels(np.full(200, sad))


def test_copies_are_one_photograph() -> None:
    """A picture, its mirror image and a duller copy of that have one number, other pictures their own."""
    first, second = picture(1), picture(2)
    duller = (first[:, ::-1] * 0.8 + 20).astype(np.uint8)
    shown = fer2013.photographs(np.stack([second, first, first[:, ::-1], picture(3), duller]))
    assert shown[1] == shown[2] == shown[4]
    assert len(set(shown.tolist())) == 3


def test_copies_of_a_photograph_ask_for_one_thing(folder: Path, tmp_path: Path) -> None:
    """A picture that is labelled sad and, mirrored, happy asks for half of either; others ask for their label."""
    data = tmp_path / "data"
    shutil.copytree(folder, data)
    twice = cv2.imread(str(data / "train" / "happy" / "Training_302.png"), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(data / "train" / "sad" / "Training_999.png"), twice[:, ::-1])
    pixels, targets, _ = training_set(data, None, Settings(rarity=0))
    ours = (pixels == twice).all(axis=(1, 2)) | (pixels == twice[:, ::-1]).all(axis=(1, 2))
    half = (np.eye(7)[EMOTIONS.index(Emotion.HAPPY)] + np.eye(7)[EMOTIONS.index(Emotion.SAD)]) / 2
    assert targets[ours].tolist() == [half.tolist()] * 2
    assert (targets[~ours].max(axis=1) == 1).all()


def test_augmentation_changes_pictures_and_repeats_by_seed() -> None:
    """Each picture changes, shapes stay, and the same seed gives the same pictures."""
    pictures = np.stack([picture(i) for i in range(8)])
    one, two = (augment(pictures, np.random.default_rng(5)) for _ in range(2))
    assert (one == two).all()
    assert (one.shape, one.dtype) == (pictures.shape, np.uint8)
    assert all((a != b).any() for a, b in zip(one, pictures, strict=True))


def test_augmentation_of_no_strength_only_mirrors() -> None:
    """At strength 0 every picture is itself or its mirror image, and both occur."""
    pictures = np.stack([picture(i) for i in range(16)])
    changed = augment(pictures, np.random.default_rng(5), strength=0.0)
    same = [(a == b).all() for a, b in zip(changed, pictures, strict=True)]
    mirrored = [(a == b[:, ::-1]).all() for a, b in zip(changed, pictures, strict=True)]
    assert all(np.logical_or(same, mirrored))
    assert any(same)
    assert any(mirrored)


# -- figures


def test_pictures_without_a_face_repeat_by_seed_and_ask_for_nothing(folder: Path) -> None:
    """A share of a batch shows no face, the same each time, and asks for all emotions alike; other targets stay."""
    faces = fer2013.load(folder, "train")
    targets = np.eye(7, dtype=np.float32)[faces.labels]
    settings = Settings(batch=28, no_faces=0.5, augmentation=0.0, mixup=0.0)
    (pictures, asked), (again, _) = (Batches(faces.pixels, targets, settings)[0] for _ in range(2))
    assert (pictures == again).all()
    none = (asked == np.float32(1 / 7)).all(axis=1)
    assert 5 < none.sum() < 23
    assert (asked[~none].max(axis=1) == 1).all()
    assert not (targets == np.float32(1 / 7)).any()
    made = no_faces(np.repeat(faces.pixels[:1], 40, axis=0), np.random.default_rng(2))
    assert made.shape == (40, 48, 48)
    assert made.dtype == np.uint8
    assert len({one.tobytes() for one in made}) > 30


def test_the_rate_rises_and_falls_to_where_it_is_asked_to() -> None:
    """Half the way down it is half-way between peak and last; a schedule saved by an older run ends at nothing."""
    rates = [float(WarmCosine(0.1, 10, 110, 0.02)(step)) for step in (0, 9, 10, 60, 110)]
    assert rates == pytest.approx([0.01, 0.1, 0.1, 0.06, 0.02])
    older = WarmCosine.from_config({"peak": 0.1, "warm_up": 10, "steps": 110})
    assert float(older(110)) == pytest.approx(0, abs=1e-6)


def test_teachers_say_part_of_what_is_asked_of_each_changed_picture(folder: Path, tmp_path: Path) -> None:
    """A target moves by the share towards what teachers read, on average, on the picture as the network sees it."""
    faces = fer2013.load(folder, "train")
    tiny = with_probabilities(build_network((4, 8), (0,)))
    (tmp_path / "emotion.tflite").write_bytes(to_litert(tiny))
    shutil.copy(WEIGHTS / "emotion.json", tmp_path)
    settings = Settings(batch=len(faces), mixup=0.4, teacher=f"{WEIGHTS},{tmp_path}", teacher_share=0.4)
    targets = np.eye(7, dtype=np.float32)[faces.labels]
    pictures, asked = Batches(faces.pixels, targets, settings)[0]
    untaught, before = Batches(faces.pixels, targets, replace(settings, teacher=""))[0]
    assert (pictures == untaught).all()
    answers = LiteRTClassifier(WEIGHTS)(pictures) + keras.ops.convert_to_numpy(tiny(pictures))
    np.testing.assert_allclose(asked, 0.6 * before + 0.2 * answers, atol=1e-3)


def test_what_cannot_teach_is_named(tmp_path: Path) -> None:
    """A folder without a network, or with one of something else, ends the training before it begins."""
    shutil.copy(WEIGHTS / "emotion.json", tmp_path)
    for content in (None, b"not a network", to_litert(build_network((4, 8), (0,)))):
        if content:
            (tmp_path / "emotion.tflite").write_bytes(content)
        with pytest.raises(SystemExit, match=f"--teacher takes folders of exports: {tmp_path}"):
            teachers_of(Settings(teacher=f"{WEIGHTS},{tmp_path}"))


def test_blended_pictures_ask_for_blended_emotions(folder: Path) -> None:
    """Where a picture is a blend of two, its target is the same blend of theirs; little evenness hardly blends."""
    faces = fer2013.load(folder, "train")
    pixels, targets = faces.pixels, np.eye(7, dtype=np.float32)[faces.labels]
    settings = Settings(batch=len(pixels), augmentation=0.0, mixup=1.0)
    (pictures, asked), (again, _) = (Batches(pixels, targets, settings)[0] for _ in range(2))
    assert (pictures == again).all()
    np.testing.assert_allclose(asked.sum(axis=1), 1, rtol=1e-5)
    assert (asked.max(axis=1) < 0.9).any()
    flat = np.stack([np.full((2, 2, 1), level, np.float32) for level in range(7)])
    pictures, asked = blended(flat, np.eye(7, dtype=np.float32), 1.0, np.random.default_rng(1))
    np.testing.assert_allclose(pictures[:, 0, 0, 0], asked @ np.arange(7), rtol=1e-5)
    _, asked = blended(flat, np.eye(7, dtype=np.float32), 0.01, np.random.default_rng(1))
    assert (asked.max(axis=1) > 0.99).sum() >= 6


def test_report_by_hand() -> None:
    """Four pictures, three right: accuracy, precision, recall and F1 as counted by hand."""
    happy, sad = EMOTIONS.index(Emotion.HAPPY), EMOTIONS.index(Emotion.SAD)
    probabilities = np.eye(7)[[happy, happy, happy, sad]]
    figures = report(probabilities, np.array([happy, happy, sad, sad]))
    assert figures.accuracy == 0.75
    assert figures.per_emotion["happy"] == {"n": 2, "precision": 2 / 3, "recall": 1.0, "f1": 0.8}
    assert figures.as_dict()["per_emotion"]["happy"] == {"n": 2, "precision": 0.6667, "recall": 1.0, "f1": 0.8}
    assert figures.per_emotion["sad"]["recall"] == 0.5
    assert set(figures.per_emotion) == {"happy", "sad"}
    assert figures.confusion[sad, happy] == 1


def test_wilson_interval_of_a_known_case() -> None:
    """81 of 263, an example of the literature: 0.2553 to 0.3662."""
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)


def test_an_interval_stays_a_share() -> None:
    """None right, or all, of a few pictures: never below nothing, nor above all, by a rounding."""
    for n in range(1, 200):
        assert wilson_interval(0, n)[0] >= 0
        assert wilson_interval(n, n)[1] <= 1


def test_calibration_error_of_known_cases() -> None:
    """Sure and always right is 0; sure and half right is 0.5."""
    sure = np.eye(7)[[0, 0]]
    assert expected_calibration_error(sure, np.array([0, 0])) == 0
    assert expected_calibration_error(sure, np.array([0, 1])) == 0.5


# -- the commands


SMALL = ("--widths", "8,16,16,16", "--blocks", "0,1,0")
TINY = ("--epochs", 3, "--batch", 8, "--peak-rate", 0.1, *SMALL)


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three epochs, without a stop."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    done = run("model.train", "--data", folder, "--out", out, *TINY)
    assert done.returncode == 0, done.stderr
    return out


def test_training_logs_every_epoch(trained: Path) -> None:
    """log.csv has a line an epoch with training and validation figures."""
    rows = list(csv.DictReader((trained / "log.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= rows[0].keys()


@pytest.fixture(scope="module")
def broken_off(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a run lies that was killed in its second epoch: once its checkpoint was in place, and just before."""
    place = tmp_path_factory.mktemp("runs")
    assert killed("model.train", "--data", folder, "--out", place / "broken", *TINY, at=1) == 9
    return place


@pytest.mark.parametrize(("name", "done"), [("broken", 2), ("broken-before", 1)])
def test_a_resumed_run_ends_where_an_unbroken_one_does(
    trained: Path, broken_off: Path, folder: Path, name: str, done: int
) -> None:
    """Killed between the writes of an epoch's end and resumed, the training ends with the same rows and weights."""
    out = broken_off / name
    assert Run(out, 1).epochs_done() == done
    assert len((out / "log.csv").read_text().splitlines()) == 1 + 2
    command(train, "--data", folder, "--out", out, "--resume", *TINY)
    whole, broken = ((place / "log.csv").read_text().splitlines() for place in (trained, out))
    assert [row.split(",")[0] for row in broken] == ["epoch", "1", "2", "3"]
    assert [float(x) for x in broken[-1].split(",")] == pytest.approx(
        [float(x) for x in whole[-1].split(",")], rel=1e-4
    )
    ours, theirs = (keras.models.load_model(place / "checkpoint.keras", compile=False) for place in (out, trained))
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


def test_a_checkpoint_says_how_many_epochs_it_has_seen(tmp_path: Path) -> None:
    """One that does not, as a network saved elsewhere, is none of a run; garbage neither."""
    one = Run(tmp_path, 1)
    with zipfile.ZipFile(one.checkpoint, "w") as archive:
        archive.writestr("metadata.json", "{}")
    with pytest.raises(SystemExit, match=r"checkpoint\.keras is no checkpoint of a run .*state\.json"):
        one.epochs_done()
    with zipfile.ZipFile(one.checkpoint, "a") as archive:
        archive.writestr("state.json", '{"epochs_done": 27}')
    assert one.epochs_done() == 27
    one.checkpoint.write_bytes(b"garbage")
    with pytest.raises(SystemExit, match=r"checkpoint\.keras is no checkpoint"):
        one.epochs_done()


def test_a_run_begins_with_the_weights_of_another(trained: Path, folder: Path, tmp_path: Path) -> None:
    """With --start and a rate of nearly nothing, a new run stays where the other one ended."""
    gentle = ("--epochs", 1, "--batch", 8, "--peak-rate", 1e-9, "--start", trained / "checkpoint.keras", *SMALL)
    command(train, "--data", folder, "--out", tmp_path / "next", *gentle)
    checkpoints = (place / "checkpoint.keras" for place in (tmp_path / "next", trained))
    ours, theirs = (keras.models.load_model(checkpoint, compile=False) for checkpoint in checkpoints)
    for one, other in zip(ours.trainable_variables, theirs.trainable_variables, strict=True):
        assert np.abs(one - other).max() < 1e-6


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras', while it saves
def test_a_deeper_network_begins_as_a_shallower_one(tmp_path: Path) -> None:
    """Blocks that the start lacks begin as the identity: the answers are the same."""
    pictures = np.stack([picture(seed) for seed in range(4)])[..., None].astype(np.float32)
    shallow, deep = (build_network((4, 8, 8), blocks) for blocks in ((1, 0), (1, 2)))
    for layer in shallow.layers:
        layer.set_weights([np.random.default_rng(1).uniform(0.1, 0.5, w.shape) for w in layer.get_weights()])
    shallow.save(tmp_path / "shallow.keras")
    begin_with(deep, tmp_path / "shallow.keras")
    answers = [keras.ops.convert_to_numpy(one(pictures, training=False)) for one in (deep, shallow)]
    np.testing.assert_allclose(answers[0], answers[1], rtol=1e-4)
    deep.save(tmp_path / "deep.keras")
    with pytest.raises(SystemExit, match="cannot be started from"):
        begin_with(shallow, tmp_path / "deep.keras")


def test_rare_emotions_are_shown_more_often() -> None:
    """With a rarity of 0.5, an emotion a sixteenth as common as the mean comes about four times as often."""
    labels = np.repeat(np.arange(7), [400, 20, 400, 400, 400, 400, 400])
    assert np.bincount(labels[repeated(labels, 0.5)]).tolist() == [400, 80, 400, 400, 400, 400, 400]
    assert repeated(labels, 0.0).tolist() == list(range(len(labels)))


def test_a_start_that_is_no_network_is_named(folder: Path, tmp_path: Path) -> None:
    """Weights of nothing end the training in a sentence, and leave no run behind that could be resumed."""
    wrong = ("--start", tmp_path / "other.keras", "--out", tmp_path / "out")
    (tmp_path / "other.keras").write_bytes(b"not a network")
    assert "cannot be started from" in refused("model.train", "--data", folder, *wrong, *TINY)
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        archive.writestr("holiday.txt", "no network either")
    assert "cannot be started from" in refused("model.train", "--data", folder, *wrong, *TINY)
    assert "nothing to resume" in refused("model.train", "--data", folder, *wrong, *TINY, "--resume")


def test_a_run_is_not_overwritten_or_resumed_as_another(trained: Path, folder: Path) -> None:
    """Without --resume a finished run is kept; with other settings it is not continued."""
    assert "holds a run already" in refused("model.train", "--data", folder, "--out", trained, *TINY)
    other = ("--data", folder, "--out", trained, "--resume", *TINY, "--mixup", 0.5, "--votes", "shares")
    assert "was begun with --votes labels, --mixup 0.2: resume with that" in refused("model.train", *other)


def test_a_run_is_not_resumed_with_other_votes_or_without_its_settings(
    trained: Path, folder: Path, tmp_path: Path
) -> None:
    """Votes where there were none would be learnt from unsaid; a checkpoint without its settings could be anyone's."""
    votes, again = tmp_path / "ferplus.csv", ("--data", folder, "--out", trained, "--resume", *TINY)
    votes.write_text(f"file,{','.join(COLUMNS)}\n")
    assert "was begun with another --ferplus" in refused("model.train", *again, "--ferplus", votes)
    moved = tmp_path / "moved"
    moved.mkdir()
    shutil.copy(trained / "checkpoint.keras", moved)
    for content in (None, "", "[1]"):
        if content is not None:
            (moved / "settings.json").write_text(content)
        says = refused("model.train", "--data", folder, "--out", moved, "--resume", *TINY)
        assert re.search(r"settings\.json is missing or broken .*: put it back beside the checkpoint", says)


def test_a_run_is_not_resumed_with_pictures_that_came_or_went(trained: Path, folder: Path, tmp_path: Path) -> None:
    """Of a folder too: order and schedule follow from how many pictures there are."""
    data = tmp_path / "data"
    shutil.copytree(folder, data)
    shutil.copytree(trained, tmp_path / "run")
    (data / ".DS_Store").write_text("what a Mac writes into a folder that is looked at")
    assert digest(data) == digest(folder)
    again = ("model.train", "--data", data, "--out", tmp_path / "run", "--resume", *TINY)
    cv2.imwrite(str(data / "train" / "sad" / "another.png"), picture(1))
    assert "was begun with another --data: resume with that" in refused(*again)


def test_a_run_is_not_resumed_with_a_teacher_that_was_exported_anew(tmp_path: Path) -> None:
    """In the same folder, so that the settings are the same; without a change it is."""
    one, teacher = Run(tmp_path / "run", 1), tmp_path / "emotion.tflite"
    teacher.write_bytes(b"a network")
    begin(one, Settings(), resume=False, files={"data": None, "teacher export": teacher})
    with zipfile.ZipFile(one.checkpoint, "w") as archive:
        archive.writestr("state.json", '{"epochs_done": 2}')
    assert begin(one, Settings(), resume=True, files={"data": None, "teacher export": teacher}) == 2
    teacher.write_bytes(b"another network")
    with pytest.raises(SystemExit, match="was begun with another --teacher export: resume with that"):
        begin(one, Settings(), resume=True, files={"data": None, "teacher export": teacher})


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras', while it saves
def test_a_checkpoint_of_another_network_is_not_continued(trained: Path, folder: Path, tmp_path: Path) -> None:
    """Copied into the folder of a run, or made by an older version of ours."""
    one = Run(tmp_path / "run", 1)
    shutil.copytree(trained, one.folder)
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(one.checkpoint)
    with zipfile.ZipFile(one.checkpoint, "a") as archive:
        archive.writestr("state.json", '{"epochs_done": 1}')
    says = refused("model.train", "--data", folder, "--out", one.folder, "--resume", *TINY)
    assert re.search(r"checkpoint\.keras cannot be continued by this network .*: choose another --out", says)


def test_devices_that_keras_would_not_share_among_are_refused(folder: Path, tmp_path: Path) -> None:
    """On TensorFlow one device would do all the work, unsaid."""
    out = tmp_path / "out"
    assert "KERAS_BACKEND=jax" in refused("model.train", "--data", folder, "--out", out, "--distribute")
    late = refused("model.train", "--data", folder, "--out", out, "--epochs", 3, "--keep-from", 4)
    assert late == "--keep-from is 4: choose 1 to 3, the last epoch, or 0"
    assert not out.exists()


@pytest.mark.parametrize("module", ["model.export", "model.export_detector"])
def test_an_export_needs_tensorflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """A training may run on JAX or PyTorch; what makes LiteRT files of it would end in errors of a compiler's."""
    monkeypatch.setattr("model.export.keras.backend.backend", lambda: "jax")
    assert "set KERAS_BACKEND=tensorflow" in refused(module, "--run", tmp_path, "--data", tmp_path, "--out", tmp_path)


def test_a_run_that_cannot_begin_is_explained(folder: Path, tmp_path: Path) -> None:
    """Too few pictures for one batch, and a file where the run's folder should be."""
    few = refused("model.train", "--data", folder, "--out", tmp_path / "few", *TINY, "--batch", 64, "--rarity", 0)
    assert few == "28 training pictures fill no batch of 64: choose a smaller --batch"
    (tmp_path / "file").write_text("mine")
    for out in ("file", "file/below"):
        says = refused("model.train", "--data", folder, "--out", tmp_path / out, *TINY)
        assert re.search(rf"{out} cannot be made .*: choose another --out", says)


@pytest.mark.parametrize(
    ("flag", "value", "wanted"),
    [
        ("--mixup", -1.0, "0 or more"),
        ("--peak-rate", "nan", "0 or more"),
        ("--epochs", 0, "1 or more"),
        ("--label-share", 1.5, "0 to 1"),
        ("--no-faces", -0.1, "0 to 1"),
        ("--momentum", 1.5, "0 to 1"),
        ("--seed", 2**32, "0 to 4294967295"),
    ],
)
def test_a_setting_out_of_range_is_named(folder: Path, tmp_path: Path, flag: str, value: object, wanted: str) -> None:
    """The flag, what it was and what it may be, for either network; no run is begun."""
    out = tmp_path / "out"
    refusal = refused("model.train", "--data", folder, "--out", out, flag, value)
    assert refusal == f"{flag} is {value}: choose {wanted}"
    if flag in ("--peak-rate", "--epochs"):
        assert refused("model.train_detector", "--data", folder, "--out", out, flag, value) == refusal
    assert not out.exists()


@pytest.mark.parametrize("module", ["model.train", "model.train_detector"])
def test_help_explains_every_setting(capsys: pytest.CaptureFixture[str], module: str) -> None:
    """What it does and what it is unless given; of those that are empty, only what they do."""
    assert refused(module, "--help") == "0"
    helped = " ".join(capsys.readouterr().out.split())
    for one in fields(importlib.import_module(module).Settings):
        assert f"{one.metadata['help']}{'' if one.default == '' else ' ('}" in helped
    assert "of all that is drawn (2013)" in helped
    assert "()" not in helped


@pytest.mark.parametrize("text", ["8,16", "8,16,16,16,16", "8,16,16,", "8,-16,16,16", "small"])
def test_as_many_numbers_as_a_network_has_are_asked_for(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    """Widths that are too few, too many or no numbers are named, with the shipped ones as an example."""
    assert refused("model.train", "--data", folder, "--out", tmp_path / "out", "--widths", text) == "2"
    wanted = f"argument --widths: {text!r} is not 4 whole numbers with commas between, such as 32,64,128,256\n"
    assert capsys.readouterr().err.endswith(wanted)


@pytest.mark.parametrize("text", ["8,16,16,15", "0,16,16,16"])
def test_a_width_that_has_no_halves_is_named(folder: Path, tmp_path: Path, text: str) -> None:
    """Half of the channels mirror the others: see model/mirror.py. No run is begun."""
    out = tmp_path / "out"
    refusal = refused("model.train", "--data", folder, "--out", out, "--widths", text)
    assert refusal == f"--widths is {text}: choose even numbers, 2 or more"
    assert not out.exists()


def test_wrong_data_ends_the_training_in_words(tmp_path: Path) -> None:
    """A path that is not there is one sentence, not a traceback."""
    assert "no data at" in refused("model.train", "--data", tmp_path / "nothing", "--out", tmp_path / "out")


def test_export_refuses_what_is_no_run(folder: Path, tmp_path: Path) -> None:
    """A folder without a run is named, and nothing is written."""
    out = ("--out", tmp_path / "weights")
    assert "no run at" in refused("model.export", "--run", tmp_path / "none", "--data", folder, *out)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "settings.json").write_text('{"widths": [8], "blocks": 1}')
    assert "no run at" in refused("model.export", "--run", tmp_path / "other", "--data", folder, *out)
    assert not (tmp_path / "weights").exists()


def test_export_writes_four_files_that_agree(trained: Path, folder: Path, tmp_path: Path) -> None:
    """An export into a new place has both networks, golden answers and a card, and answers mirror images alike."""
    out = tmp_path / "new" / "weights"
    command(export, "--run", trained, "--data", folder, "--out", out)
    assert {path.name for path in out.iterdir()} == {"emotion.keras", "emotion.tflite", "golden.npz", "emotion.json"}
    assert check_labels(out)["labels"] == list(EMOTIONS)
    with np.load(out / "golden.npz") as golden:
        pictures, recorded = golden["pixels"][..., None].astype(np.float32), golden["probabilities"]
    assert recorded.shape == (64, 7)
    slight = 0.1 * recorded.std(axis=0).max()  # of how far the answers to these pictures lie apart
    for engine in ("keras", "litert"):
        classify = load_recognizer(engine, out).classify
        for view in (pictures, pictures[:, :, ::-1]):
            assert np.abs(classify(view) - recorded).max() < slight


def test_norms_are_measured_on_pictures_as_they_are_trained_on(folder: Path) -> None:
    """Blended where the training blended: what the network met there has less contrast."""
    plain, mixed_up = (norm_pictures(folder, Settings(seed=1, mixup=mixup)) for mixup in (0.0, 0.5))
    assert plain.shape == mixed_up.shape
    contrast, less = (pictures.std(axis=(1, 2, 3)).mean() for pictures in (plain, mixed_up))
    assert less < 0.95 * contrast


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras', while it saves
def test_kept_weights_are_averaged_and_norms_measured_anew(folder: Path, tmp_path: Path) -> None:
    """The mean is of what was kept from the epoch on; where weights agree the norms become those of the pictures."""
    network = build_network((4, 8), (0,))
    begun = network.get_weights()
    for epoch, more in ((1, 9.0), (2, 1.0), (3, 3.0)):
        network.set_weights([weights + more for weights in begun])
        network.save_weights(tmp_path / f"epoch-{epoch:03d}.weights.h5")
    pictures = fer2013.load(folder, "train").pixels[..., None].astype(np.float32)
    with_new_norms(averaged(network, tmp_path, 2), pictures)
    first, norm = network.get_layer("first"), network.get_layer("first_norm")
    np.testing.assert_allclose(first.get_weights()[0], begun[0] + 2, rtol=1e-5)
    seen = keras.ops.convert_to_numpy(first(pictures / 127.5 - 1))
    np.testing.assert_allclose(norm.moving_mean, seen.mean(axis=(0, 1, 2)), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(norm.moving_variance, seen.var(axis=(0, 1, 2)), rtol=1e-3)
    with pytest.raises(ExportError, match="keeps no weights of epoch 4 or later"):
        averaged(network, tmp_path, 4)
    (tmp_path / "epoch-004.weights.h5").write_bytes(b"garbage")
    with pytest.raises(ExportError, match=r"epoch-004\.weights\.h5 holds no weights of this network"):
        averaged(network, tmp_path, 2)


def test_a_run_keeps_weights_that_are_exported_averaged(folder: Path, tmp_path: Path) -> None:
    """With --keep-from the later epochs' weights stay; the export of their mean says so in its card."""
    keeping, out = tmp_path / "keeping", tmp_path / "weights"
    command(train, "--data", folder, "--out", keeping, *TINY, "--keep-from", 2, "--last-rate", 0.01)
    assert sorted(path.name for path in keeping.glob("epoch-*")) == ["epoch-002.weights.h5", "epoch-003.weights.h5"]
    command(export, "--run", keeping, "--data", folder, "--out", out, "--mean-from", 2)
    assert check_labels(out)["mean_from"] == 2
    means = [
        keras.models.load_model(file, compile=False).get_layer("logits").get_weights()[0]
        for file in (out / "emotion.keras", keeping / "checkpoint.keras")
    ]
    assert np.abs(means[0] - means[1]).max() > 1e-6


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras', while it saves
def test_weights_of_where_a_run_began_are_mixed_in(trained: Path, tmp_path: Path) -> None:
    """No share changes nothing, all of it gives the other network, half lies between; another network is refused."""
    network = keras.models.load_model(trained / "checkpoint.keras", compile=False)
    ours = network.get_weights()
    theirs = [weights + 1 for weights in ours]
    network.set_weights(theirs)
    network.save(tmp_path / "other.keras")
    for share in (0.0, 0.5, 1.0):
        network.set_weights(ours)
        for got, weights in zip(mixed(network, tmp_path / "other.keras", share).get_weights(), ours, strict=True):
            np.testing.assert_allclose(got, weights + share, atol=1e-5)
    build_network((4, 8), (0,)).save(tmp_path / "foreign.keras")
    for file in ("foreign.keras", "none.keras"):
        with pytest.raises(ExportError, match=f"{file} cannot be mixed in"):
            mixed(network, tmp_path / file, 0.5)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--share", 0.2), "--mix and --share go together"),
        (("--mix", "other.keras"), "--mix and --share go together"),
        (("--mix", "other.keras", "--share", 1.5), "--share is 1.5: choose 0 to 1"),
        (("--mean-from", -1), "--mean-from is -1: choose an epoch"),
    ],
)
def test_flags_that_say_nothing_are_refused(
    trained: Path, folder: Path, capsys: pytest.CaptureFixture[str], flags: tuple[object, ...], message: str
) -> None:
    """A share of nothing, a mix without its share, an epoch below zero: one sentence says what to choose."""
    refused("model.export", "--run", trained, "--data", folder, *flags)
    assert message in capsys.readouterr().err


def test_a_failed_export_keeps_the_good_files(trained: Path, folder: Path, tmp_path: Path) -> None:
    """A checkpoint that is garbage replaces nothing."""
    out, broken = tmp_path / "weights", tmp_path / "run"
    out.mkdir()
    broken.mkdir()
    (out / "emotion.tflite").write_bytes(b"good")
    for name in ("settings.json", "files.json"):
        shutil.copy(trained / name, broken)
    (broken / "checkpoint.keras").write_bytes(b"garbage")
    says = refused("model.export", "--run", broken, "--data", folder, "--out", out)
    assert "not a checkpoint of this network" in says
    shutil.copy(trained / "checkpoint.keras", broken)
    says = refused("model.export", "--run", broken, "--data", folder / "train", "--out", out)
    assert f"learnt from other data than {folder / 'train'}: give the same --data" in says
    (broken / "files.json").unlink()
    assert "does not say what it learnt from" in refused(
        "model.export", "--run", broken, "--data", folder, "--out", out
    )
    assert [path.name for path in out.iterdir()] == ["emotion.tflite"]
    assert (out / "emotion.tflite").read_bytes() == b"good"


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras', while it saves
def test_an_export_that_answers_otherwise_keeps_the_good_files(
    trained: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file off by more than it may be, and one that quantisation costs too much, replace nothing."""
    out = tmp_path / "weights"
    out.mkdir()
    (out / "emotion.tflite").write_bytes(b"good")
    flags = ("--run", trained, "--data", folder, "--out")
    for limit, says in (("LITERT_TOLERANCE", "LiteRTClassifier is off by"), ("LITERT_COST", "quantisation costs")):
        with monkeypatch.context() as patched:
            patched.setattr(export, limit, -2.0)
            assert says in refused("model.export", *flags, out)
    assert [path.name for path in out.iterdir()] == ["emotion.tflite"]
    assert (out / "emotion.tflite").read_bytes() == b"good"
    assert "is a file: choose another --out" in refused("model.export", *flags, out / "emotion.tflite")
    assert "cannot be written" in refused("model.export", *flags, out / "emotion.tflite" / "below")


def test_golden_answers_that_are_not_given_are_noticed(tmp_path: Path) -> None:
    """One probability of one picture, off by a fifth in what was recorded."""
    for file in ("emotion.keras", "emotion.tflite", "emotion.json"):
        shutil.copy(WEIGHTS / file, tmp_path)
    with np.load(WEIGHTS / "golden.npz") as golden:
        pixels, answers = golden["pixels"], golden["probabilities"].copy()
    answers[5, 3] += 0.2
    np.savez(tmp_path / "golden.npz", pixels=pixels, probabilities=answers)
    with pytest.raises(ExportError, match=r"KerasClassifier is off by 0\.2000 in probability"):
        export.check_golden(tmp_path)


def test_evaluate_prints_one_json_object(folder: Path) -> None:
    """The shipped network measured on a folder: the promised keys, nothing else on stdout."""
    done = run("model.evaluate", "--data", folder, "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures.keys() == {"n", "accuracy", "interval", "macro_f1", "per_emotion", "ece", "ms_per_face"}
    assert figures["n"] == 28
    assert 0 < figures["ms_per_face"] < 1000


def test_evaluate_measures_the_network_before_its_export_too(folder: Path) -> None:
    """What quantisation cost can be seen: the other file answers as closely as the export allows."""
    before, after = (
        classify_in_batches(load_network(WEIGHTS / file), fer2013.load(folder, "test").pixels)
        for file in ("emotion.keras", "emotion.tflite")
    )
    assert 0 < np.abs(before - after).max() < 0.08


def test_evaluate_prints_a_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --json a person reads accuracy, a line an emotion, and the confusion matrix."""
    command(evaluate, "--data", folder)
    printed = capsys.readouterr().out
    assert "accuracy" in printed
    assert all(printed.count(emotion) >= 2 for emotion in EMOTIONS)


# -- the shipped files


def test_the_shipped_engines_agree() -> None:
    """Keras and LiteRT answer the golden pictures as recorded, and each other."""
    export.check_golden(WEIGHTS)


def test_the_shipped_card_is_complete() -> None:
    """Labels in order, the seed, the data's hash and the figures lie beside the weights; it meets its floor."""
    card = check_labels(WEIGHTS)
    assert card["labels"] == list(EMOTIONS)
    assert {"settings", "seed", "data", "validation", "temperature"} <= card.keys()
    assert card["validation"]["accuracy"] >= 0.70
    assert card["float32_accuracy"] - card["validation"]["accuracy"] <= 0.003


def test_the_figures_people_read_are_the_cards() -> None:
    """What the README and the model card say of the network as a whole and of each emotion is beside the weights."""
    beside = check_labels(WEIGHTS)
    figures = beside["validation"]
    n, hits = figures["n"], round(figures["accuracy"] * figures["n"])
    low, high = wilson_interval(hits, n)
    readme, card = ((ROOT / file).read_text(encoding="utf-8") for file in ("README.md", "docs/model-card.md"))
    assert f"{100 * hits / n:.1f} % (95 %: {100 * low:.1f} to {100 * high:.1f}) of the {n:,} validation" in readme
    assert f"pictures {n}   accuracy {hits / n:.2%} (95 %: {low:.2%} to {high:.2%})   macro F1 " in card
    means = re.search(r"^pictures .*macro F1 ([.\d]+)   calibration error ([.\d]+) ", card, re.MULTILINE)
    assert means
    assert list(map(float, means.groups())) == pytest.approx([figures["macro_f1"], figures["ece"]], abs=6e-4)
    assert f"({100 * beside['float32_accuracy']:.2f} % before, {100 * hits / n:.2f} % after" in card
    for emotion, ours in figures["per_emotion"].items():
        row = re.search(rf"^{emotion} +(\d+) +([.\d]+) +([.\d]+) +([.\d]+)$", card, re.MULTILINE)
        assert row
        assert list(map(float, row.groups())) == pytest.approx(list(ours.values()), abs=6e-4)


@pytest.mark.parametrize(
    ("card", "says"),
    [
        (None, "emotion.json is missing"),
        ("{}", "not readable"),
        ("nonsense", "not readable"),
        (json.dumps({"labels": sorted(EMOTIONS)}), "export again"),
    ],
)
def test_weights_for_another_order_are_refused(tmp_path: Path, card: str | None, says: str) -> None:
    """No card, a broken one, or one with another order of labels: a message, not a wrong mood."""
    if card is not None:
        (tmp_path / "emotion.json").write_text(card)
    with pytest.raises(WeightsError, match=says):
        load_recognizer("litert", tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"not a network" * 50])
def test_missing_or_foreign_networks_are_refused(tmp_path: Path, content: bytes | None) -> None:
    """Without its network, or with garbage in its place, the recognizer says which file."""
    (tmp_path / "emotion.json").write_text(json.dumps({"labels": list(EMOTIONS)}))
    if content is not None:
        (tmp_path / "emotion.tflite").write_bytes(content)
    with pytest.raises(WeightsError, match=r"emotion\.tflite"):
        load_recognizer("litert", tmp_path)


def test_an_unknown_engine_is_refused() -> None:
    """Only engines that exist are taken."""
    with pytest.raises(WeightsError, match="litert, keras"):
        load_recognizer("onnx")


def test_one_face_reads_the_same_alone_and_in_company() -> None:
    """All faces of a frame are classified in one call, with the same answers as one by one, on either engine."""
    faces = np.stack([picture(i) for i in range(5)])[..., None].astype(np.float32)
    for engine in ("litert", "keras"):
        classify = load_recognizer(engine).classify
        together = classify(faces)
        alone = np.concatenate([classify(face[None]) for face in faces])
        assert np.abs(together - alone).max() < 1e-4
