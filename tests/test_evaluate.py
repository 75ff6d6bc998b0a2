"""The figures about the network and the data set, on small pictures made here."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from model import evaluate, explore, fer2013
from model.corruptions import CORRUPTIONS, corrupted, faceless
from model.emotions import EMOTIONS, Emotion
from model.ferplus import COLUMNS, Ballot, agreement, load_ballot
from model.figures import calibration_bins, restricted
from model.recognizer import WEIGHTS, WeightsError, classify_in_batches
from model.robustness import robustness
from tests.conftest import ROOT, row_of

ANGRY, DISGUST, FEAR, HAPPY, SAD, SURPRISE, NEUTRAL = range(7)
KEYS = {"n", "accuracy", "interval", "macro_f1", "per_emotion", "ece", "ms_per_face"}


def picture(seed: int) -> np.ndarray:
    """Smooth blobs: no two seeds alike."""
    noise = np.random.default_rng(seed).integers(0, 255, (6, 6), np.uint8)
    return cv2.resize(noise, (48, 48), interpolation=cv2.INTER_CUBIC)


def votes_for(**votes: int) -> list[int]:
    return [votes.get(column, 0) for column in COLUMNS]


def write_votes(path: Path, rows: dict[str, list[int]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", *COLUMNS, "match"])
        writer.writerows([name, *votes, 2] for name, votes in rows.items())
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Kaggle layout, three pictures of every emotion; ferplus.csv and a run's log.csv beside it.

    Happy validation picture 0 is a training picture too, under surprise; a sad training picture occurs twice.
    """
    made = tmp_path_factory.mktemp("fer2013")
    for s, split in enumerate(("train", "test")):
        for e, emotion in enumerate(EMOTIONS):
            place = made / "faces" / split / emotion
            place.mkdir(parents=True)
            for i in range(3):
                number = s * 1000 + e * 100 + i
                cv2.imwrite(str(place / f"{fer2013.USAGES[split]}_{number}.png"), picture(number))
    train, test = made / "faces" / "train", made / "faces" / "test"
    (train / "surprise" / "Training_9000.png").write_bytes((test / "happy" / "PublicTest_1300.png").read_bytes())
    (train / "sad" / "Training_9001.png").write_bytes((train / "sad" / "Training_400.png").read_bytes())
    names = {str(path): votes_for(happiness=6, neutral=4) for path in made.rglob("*.png") if path.parent.name == "sad"}
    names |= {str(path): votes_for(neutral=9, NF=1) for path in made.rglob("*.png") if path.parent.name == "neutral"}
    names |= {str(path): votes_for(fear=5, NF=5) for path in made.rglob("*.png") if path.parent.name == "fear"}
    write_votes(made / "ferplus.csv", names)
    (made / "log.csv").write_text("epoch,accuracy,loss,val_accuracy,val_loss\n1,0.2,1.9,0.3,1.8\n2,0.4,1.6,0.4,1.5\n")
    return made


# -- poor pictures


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_is_fixed(name: str) -> None:
    """Shape and type stay, the same pictures come out each time, and all but the first differ from what went in."""
    pictures = np.stack([picture(i) for i in range(4)])
    one, two = (corrupted(pictures, CORRUPTIONS[name]) for _ in range(2))
    assert (one.shape, one.dtype) == (pictures.shape, np.uint8)
    assert (one == two).all()
    changed = [bool((before != after).any()) for before, after in zip(pictures, one, strict=True)]
    assert changed == [name != "as it is"] * 4


def test_boxes_move_the_way_they_say() -> None:
    """A loose crop brings an off-centre spot nearer to the middle, a tight one drives it off."""
    spot = np.zeros((1, 48, 48), np.uint8)
    spot[0, 22:26, 10:14] = 255
    column = {name: corrupted(spot, CORRUPTIONS[name])[0].max(axis=0).argmax() for name in ("loose crop", "tight crop")}
    assert column["tight crop"] < 10 < column["loose crop"]


def test_scrambled_faces_keep_their_light() -> None:
    """What is no face has the shape of pictures; scrambled ones have a face's pixels in another order."""
    made = faceless(np.stack([picture(1)] * 3), count=5)
    assert {one.shape for one in made.values()} == {(5, 48, 48)}
    assert {str(one.dtype) for one in made.values()} == {"uint8"}
    scrambled = made["scrambled faces"][0]
    assert (np.sort(scrambled.ravel()) == np.sort(picture(1).ravel())).all()
    assert (scrambled != picture(1)).any()


def test_robustness_by_hand() -> None:
    """A network that calls dark pictures sad and others happy: accuracy, neutral faces and doubts as counted."""

    def classify(faces: np.ndarray) -> np.ndarray:
        return np.array(
            [row_of(Emotion.SAD, 0.9) if face.mean() < 60 else row_of(Emotion.HAPPY, 0.4) for face in faces]
        )

    pixels = np.full((4, 48, 48), 120, np.uint8)
    faces = fer2013.FaceSet(pixels, np.array([HAPPY, HAPPY, HAPPY, NEUTRAL]), ("a", "b", "c", "d"))
    found = robustness(classify, faces, None)
    assert found.corruptions["as it is"].accuracy == 0.75
    assert found.corruptions["dark"].accuracy == 0
    assert (found.n_neutral, found.neutral_read_as["happy"]) == (1, 1.0)
    assert (found.doubts["faces"].confidence, found.doubts["faces"].sure) == (pytest.approx(0.4), 0)
    assert found.doubts["noise"].n == 256


# -- what people saw


def test_measuring_needs_only_what_serves() -> None:
    """A machine that was set up by `make run` can measure: nothing that trains is imported, nor needed by votes."""
    script = (
        "import sys; from model import evaluate, ferplus;"
        "heavy = {'tensorflow', 'keras', 'scipy', 'sklearn', 'matplotlib'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_majority_stands_alone(tmp_path: Path) -> None:
    """A tie, contempt, "no face" and a picture without votes have no majority among the seven."""
    path = write_votes(
        tmp_path / "ferplus.csv",
        {
            "train/happy/Training_1.png": votes_for(happiness=6, neutral=4),
            "train/sad/Training_2.png": votes_for(sadness=5, neutral=5),
            "train/sad/Training_3.png": votes_for(contempt=6, sadness=4),
            "train/sad/Training_4.png": votes_for(NF=8, sadness=2),
        },
    )
    ballot = load_ballot(path, ("mine/happy/Training_1.jpg", *(f"mine/sad/Training_{i}.jpg" for i in range(2, 6))))
    assert ballot.majority.tolist() == [HAPPY, -1, -1, -1, -1]
    assert ballot.listed.tolist() == [True] * 4 + [False]
    assert ballot.saw_no_face.tolist() == [0, 0, 0, 8, 0]


def test_agreement_by_hand() -> None:
    """Of two decided pictures the network agrees with one, the label with both; undecided ones do not count."""
    ballot = Ballot(np.array([votes_for(happiness=9), votes_for(anger=8), votes_for(fear=5, sadness=5)]))
    answers = np.eye(7)[[HAPPY, SAD, SAD]]
    assert agreement(answers, np.array([HAPPY, ANGRY, FEAR]), ballot) == evaluate.Agreement(2, 0.5, 1.0)


def test_without_a_majority_there_is_no_agreement() -> None:
    """Votes that decide nothing are refused in words."""
    with pytest.raises(fer2013.DataError, match="no majority"):
        agreement(np.eye(7)[[0]], np.array([0]), Ballot(np.array([votes_for(unknown=9)])))


# -- figures


def test_restricted_to_fewer_emotions() -> None:
    """Only pictures of the subset count, and an answer outside it gives way to the best inside."""
    answers = np.zeros((3, 7))
    answers[0, [FEAR, SAD]] = 0.7, 0.3  # fear is no choice among four: sad
    answers[1, [HAPPY, FEAR]] = 0.9, 0.1
    answers[2, FEAR] = 1.0
    labels = np.array([SAD, SAD, FEAR])
    four, five = (restricted(answers, labels, emotions) for emotions in evaluate.SUBSETS.values())
    assert (four.n, four.accuracy) == (2, 0.5)
    assert (five.n, five.accuracy) == (3, pytest.approx(1 / 3))


def test_calibration_bins_hold_what_they_hold() -> None:
    """Two confidences, two steps: mean confidence, accuracy and number of each."""
    answers = np.array([[0.9, 0.1, 0, 0, 0, 0, 0]] * 3 + [[0.4, 0.3, 0.3, 0, 0, 0, 0]])
    low, high = calibration_bins(answers, np.array([0, 0, 1, 0]))
    assert low == (pytest.approx(0.4), 1.0, 1)
    assert high == (pytest.approx(0.9), pytest.approx(2 / 3), 3)


# -- the command


def test_everything_at_once(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With every flag a person reads each table, and three charts are written."""
    flags = ["--ferplus", str(folder / "ferplus.csv"), "--robustness", "--plots", str(tmp_path), "--run", str(folder)]
    evaluate.main(["--data", str(folder / "faces"), *flags])
    printed = capsys.readouterr().out
    for words in ("macro F1", "actual \\ read as", "only four", "only five", "what most of ten people saw", "+15"):
        assert words in printed
    assert "where that is one of the seven: pictures 6 " in printed
    assert "3 pictures that a FER+ majority calls neutral" in printed
    assert "no face, say 2 of ten people           3" in printed
    assert {path.name for path in tmp_path.iterdir()} == {"confusion.png", "reliability.png", "training.png"}
    assert all(cv2.imread(str(path)) is not None for path in tmp_path.iterdir())


def test_json_is_one_object(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The promised keys and no more; each flag adds its own."""
    data = ["--data", str(folder / "faces"), "--json"]
    evaluate.main(data)
    assert json.loads(capsys.readouterr().out).keys() == KEYS
    evaluate.main([*data, "--ferplus", str(folder / "ferplus.csv"), "--robustness"])
    figures = json.loads(capsys.readouterr().out)
    assert figures.keys() == KEYS | {"ferplus", "robustness"}
    assert figures["ferplus"]["n"] == 6
    assert figures["robustness"]["corruptions"].keys() == CORRUPTIONS.keys()
    assert figures["robustness"]["corruptions"]["as it is"]["accuracy"] == figures["accuracy"]


def test_a_few_emotions_are_measured_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two emotions, other sizes, in colour: no restricted figures, no rows for what is not there."""
    for emotion, size in ((Emotion.SAD, 200), (Emotion.HAPPY, 31)):
        (tmp_path / emotion).mkdir()
        cv2.imwrite(str(tmp_path / emotion / "a.jpg"), cv2.resize(cv2.merge([picture(1)] * 3), (size, size)))
    evaluate.main(["--data", str(tmp_path), "--robustness"])
    printed = capsys.readouterr().out
    assert "pictures 2 " in printed
    assert "only four" not in printed
    assert "0 pictures that the label calls neutral" in printed


@pytest.mark.parametrize("change", ["dark", "low contrast"])
def test_light_changes_hardly_what_is_read(change: str) -> None:
    """What ships brings a dark or flat picture to the contrast of others, and reads on it what it reads on these."""
    with np.load(WEIGHTS / "golden.npz") as golden:
        clear = golden["pixels"][golden["pixels"].std(axis=(1, 2)) > 50]
    network = evaluate.load_network(WEIGHTS)
    light, dull = (classify_in_batches(network, faces) for faces in (clear, corrupted(clear, CORRUPTIONS[change])))
    assert np.abs(light - dull).max() < 0.2


def test_other_crops_of_a_photograph_are_copies() -> None:
    """FER2013 repeats photographs, cut otherwise: who learnt one knows the other. Other faces are none."""
    known = np.stack([cv2.resize(picture(i), (64, 64)) for i in range(8)])
    here = known[:, 8:56, 8:56]
    crops = {
        "shifted": known[0, 11:59, 5:53],
        "mirrored": known[1, 5:53, 8:56][:, ::-1],
        "closer": cv2.resize(known[2, 10:54, 10:54], (48, 48), interpolation=cv2.INTER_AREA),
        "from afar": cv2.resize(known[3, 5:59, 5:59], (48, 48), interpolation=cv2.INTER_AREA),
    }
    others = [picture(i) for i in range(100, 110)]
    of = np.stack([*crops.values(), *others])
    assert fer2013.near_copies(of, here).tolist() == [True] * 4 + [False] * 10
    assert not fer2013.near_copies(of, here, moved=False).any()


def test_figures_apart_from_what_was_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--apart leaves out a validation picture that the training shows shifted; with no other there is no figure."""
    wide = cv2.resize(picture(1), (64, 64))
    for split, crop in (("train", wide[8:56, 8:56]), ("test", wide[8:56, 11:59])):
        (tmp_path / split / "sad").mkdir(parents=True)
        cv2.imwrite(str(tmp_path / split / "sad" / "a.png"), crop)
    line = ["--data", str(tmp_path), "--apart", "--json"]
    with pytest.raises(SystemExit, match="shows all of these pictures: leave --apart out"):
        evaluate.main(line)
    cv2.imwrite(str(tmp_path / "test" / "sad" / "b.png"), picture(2))
    evaluate.main(line)
    assert json.loads(capsys.readouterr().out)["n"] == 1


# -- bad input


def damaged_zip(path: Path) -> Path:
    """A zip whose list of files is whole and whose picture is not."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("test/sad/a.png", cv2.imencode(".png", picture(1))[1].tobytes())
    content = bytearray(path.read_bytes())
    content[200:220] = bytes(20)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--data", "{tmp}/nothing"], "no data at .*nothing: give"),
        (["--data", "{tmp}/damaged.zip"], r"damaged\.zip cannot be read to its end"),
        (["--weights", "{tmp}"], r"emotion\.json is missing"),
        (["--weights", "{tmp}/other.tflite"], r"other\.tflite is not a LiteRT network"),
        (["--ferplus", "{tmp}/nothing.csv"], r"nothing\.csv cannot be read"),
        (["--ferplus", "{tmp}/log.csv"], r"log\.csv is no FER\+ table: it needs the columns"),
        (["--ferplus", "{tmp}/broken.csv"], r"broken\.csv line 3 is broken"),
        (["--ferplus", "{tmp}/strange.csv"], "no votes for any of these pictures"),
        (["--plots", "{tmp}/log.csv"], "choose another --plots"),
        (["--plots", "{tmp}/charts", "--run", "{tmp}/nothing"], "no run to draw at .*nothing"),
    ],
)
def test_bad_input_ends_in_words(folder: Path, tmp_path: Path, flags: list[str], says: str) -> None:
    """What is wrong is named, with what to do; nothing but that sentence is shown."""
    damaged_zip(tmp_path / "damaged.zip")
    (tmp_path / "log.csv").write_text("a,b\n1,2\n")
    one = {"angry/PublicTest_1000.png": votes_for(anger=9), "angry/PublicTest_1001.png": votes_for(anger=9)}
    broken = write_votes(tmp_path / "broken.csv", one)
    broken.write_text(broken.read_text().replace("1001.png,9", "1001.png,many"))
    write_votes(tmp_path / "strange.csv", {"mine.png": votes_for(anger=9)})
    if "other.tflite" in flags[1]:
        (tmp_path / "emotion.json").write_text(json.dumps({"labels": list(EMOTIONS)}))
        (tmp_path / "other.tflite").write_bytes(b"not a network" * 50)
    filled = [flag.format(tmp=tmp_path) for flag in flags]
    with pytest.raises(SystemExit, match=says):
        evaluate.main(filled if "--data" in filled else ["--data", str(folder / "faces"), *filled])


def test_a_run_without_plots_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """--run alone would draw nothing: the command says what is missing."""
    with pytest.raises(SystemExit):
        evaluate.main(["--data", "x", "--run", "y"])
    assert "--plots DIR" in capsys.readouterr().err


def refuse(faces: np.ndarray) -> np.ndarray:
    raise ValueError("Dimension mismatch")


@pytest.mark.parametrize(
    ("classify", "says"),
    [
        (refuse, "takes no faces of 48 x 48 .Dimension mismatch"),
        (lambda faces: np.full((len(faces), 5), 0.2), "does not give 7 probabilities"),
        (lambda faces: np.full((len(faces), 7), 3.0), "does not give 7 probabilities"),
    ],
)
def test_another_network_is_refused(classify: evaluate.Classifier, says: str) -> None:
    """A network for other pictures, for other emotions, or without its softmax gives no figures."""
    with pytest.raises(WeightsError, match=says):
        evaluate.check_answers(classify, Path("other.tflite"))


# -- the data set looked at


def test_copies_are_counted(folder: Path) -> None:
    """One repeated training picture, and one validation picture that is in the training split under another label."""
    faces = folder / "faces"
    found = explore.copies(fer2013.load(faces, "train"), fer2013.load(faces, "test"))
    assert found == explore.Copies(
        in_training=1, at_odds=0, in_validation=0, validation_in_training=1, near_training=1, near_validation=1
    )


def test_contradicting_copies_are_counted() -> None:
    """Two identical pictures under two labels are both at odds."""
    pixels = np.stack([picture(1), picture(1), picture(2)])
    training = fer2013.FaceSet(pixels, np.array([SAD, FEAR, SAD]), ("a", "b", "c"))
    other = fer2013.FaceSet(picture(3)[None], np.array([SAD]), ("d",))
    assert explore.copies(training, other).at_odds == 2


def test_label_doubts_by_hand() -> None:
    """A row a label, a column what people saw, the last for no majority."""
    doubts = explore.label_doubts(np.array([SAD, SAD, SAD]), np.array([SAD, NEUTRAL, -1]))
    assert doubts.shape == (7, 8)
    assert (doubts[SAD, SAD], doubts[SAD, NEUTRAL], doubts[SAD, 7], doubts.sum()) == (1, 1, 1, 3)


def test_explore_prints_tables_and_draws(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Counts, copies and doubts; charts and mean faces in --out; single faces only where --samples says."""
    out, samples = tmp_path / "pictures", tmp_path / "samples"
    data = ["--data", str(folder / "faces"), "--ferplus", str(folder / "ferplus.csv")]
    explore.main([*data, "--out", str(out), "--samples", str(samples)])
    printed = capsys.readouterr().out
    assert "surprise             4" in printed
    assert "     1 validation pictures are in the training split too" in printed
    assert "people agree with 3 of 7 labels, 42.9%" in printed
    assert {path.name for path in out.iterdir()} == {"class-counts.png", "mean-faces.png", "label-doubts.png"}
    assert {path.stem for path in samples.iterdir()} == set(EMOTIONS)


def test_explore_without_flags_writes_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tables alone: no folder, no pictures."""
    monkeypatch.chdir(tmp_path)
    explore.main(["--data", str(folder / "faces")])
    assert "copies" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_tables_need_no_matplotlib(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only the site is installed the tables are printed, and charts say what they need."""
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    data = ["--data", str(folder / "faces")]
    explore.main(data)
    with pytest.raises(SystemExit, match="charts need matplotlib"):
        explore.main([*data, "--out", str(tmp_path / "out")])


def test_explore_names_what_it_cannot_write(folder: Path, tmp_path: Path) -> None:
    """A file where the folder should be is one sentence."""
    (tmp_path / "taken").write_text("")
    with pytest.raises(SystemExit, match="choose another --out"):
        explore.main(["--data", str(folder / "faces"), "--out", str(tmp_path / "taken")])
