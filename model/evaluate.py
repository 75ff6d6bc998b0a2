"""Measure the shipped network: `python -m model.evaluate --data fer2013.zip`.

Runs on the LiteRT file as it ships, one view a picture. `--data` is FER2013 in any layout, or any
folder of faces in `<emotion>/` sub-folders, of any size. Further figures, by flags: agreement
with what people saw (`--ferplus`), poor pictures (`--robustness`), charts (`--plots`).
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from model import fer2013
from model.emotions import EMOTIONS, Emotion
from model.ferplus import Agreement, agreement, load_ballot
from model.figures import Report, calibration_bins, report, restricted
from model.plots import confusion_chart, reliability_chart, training_chart
from model.recognizer import (
    WEIGHTS,
    Classifier,
    KerasClassifier,
    LiteRTClassifier,
    WeightsError,
    check_labels,
    classify_in_batches,
)
from model.robustness import SURE, Robustness, robustness

FOUR = (Emotion.ANGRY, Emotion.HAPPY, Emotion.SAD, Emotion.NEUTRAL)
SUBSETS = {"four": FOUR, "five": (*FOUR, Emotion.FEAR)}


def milliseconds_a_face(classify: Classifier, pixels: np.ndarray, times: int = 200) -> float:
    """Median time to classify one face, in milliseconds, on this machine."""
    faces = pixels[:, None, :, :, None].astype(np.float32)
    spent = []
    for i in range(times + 10):
        start = time.perf_counter()
        classify(faces[i % len(faces)])
        spent.append(time.perf_counter() - start)
    return float(np.median(spent[10:]) * 1000)


def _report_lines(result: Report, milliseconds: float) -> Iterator[str]:
    low, high = result.interval
    yield (
        f"pictures {result.n}   accuracy {result.accuracy:.2%} (95 %: {low:.2%} to {high:.2%})   "
        f"macro F1 {result.macro_f1:.3f}   calibration error {result.ece:.3f}   {milliseconds:.2f} ms a face"
    )
    yield ""
    yield f"{'':10}{'n':>6}{'precision':>11}{'recall':>8}{'F1':>7}"
    for emotion, row in result.per_emotion.items():
        yield f"{emotion:10}{row['n']:6.0f}{row['precision']:11.3f}{row['recall']:8.3f}{row['f1']:7.3f}"
    yield ""
    yield "actual \\ read as".ljust(17) + "".join(f"{emotion:>9}" for emotion in EMOTIONS)
    for emotion, counts in zip(EMOTIONS, result.confusion, strict=True):
        yield f"{emotion:17}" + "".join(f"{count:9d}" for count in counts)


def _subset_lines(probabilities: np.ndarray, labels: np.ndarray) -> Iterator[str]:
    yield ""
    for name, emotions in SUBSETS.items():
        result = restricted(probabilities, labels, emotions)
        low, high = result.interval
        yield (
            f"only {name} ({', '.join(emotions)}): pictures {result.n}   "
            f"accuracy {result.accuracy:.2%} (95 %: {low:.2%} to {high:.2%})   macro F1 {result.macro_f1:.3f}"
        )


def _agreement_line(agreed: Agreement) -> str:
    return (
        f"what most of ten people saw (FER+), where that is one of the seven: pictures {agreed.n}   "
        f"network {agreed.network:.2%}   FER2013's label {agreed.label:.2%}"
    )


def _robustness_lines(result: Robustness, neutral: str) -> Iterator[str]:
    yield f"\n{'pictures':22}{'accuracy':>10}{'macro F1':>10}"
    for name, figures in result.corruptions.items():
        yield f"{name:22}{figures.accuracy:10.2%}{figures.macro_f1:10.3f}"
    yield f"\n{result.n_neutral} pictures that {neutral} calls neutral are read as"
    yield "   ".join(f"{emotion} {share:.1%}" for emotion, share in result.neutral_read_as.items())
    yield f"\n{'how sure of':34}{'n':>6}{'mean confidence':>17}{f'at {SURE} or more':>17}"
    for name, doubt in result.doubts.items():
        yield f"{name:34}{doubt.n:6d}{doubt.confidence:17.3f}{doubt.sure:17.1%}"


def _draw(folder: Path, run: Path | None, result: Report, probabilities: np.ndarray, labels: np.ndarray) -> None:
    """The charts as files; DataError when one cannot be drawn or written."""
    try:
        confusion_chart(result.confusion, folder / "confusion.png")
        reliability_chart(calibration_bins(probabilities, labels), result.ece, folder / "reliability.png")
    except OSError as error:
        raise fer2013.DataError(f"cannot write charts to {folder} ({error}): choose another --plots") from error
    if run:
        try:
            training_chart(run / "log.csv", folder / "training.png")
        except (OSError, ValueError) as error:
            raise fer2013.DataError(f"no run to draw at {run} ({error}): give the --out of model.train") from error


def apart(faces: fer2013.FaceSet, data: Path) -> fer2013.FaceSet:
    """The pictures of which the training split of `data` shows no other crop, beside the near-copies left out of it.

    The network that ships was trained without the pictures that copy a validation picture as it stands, and with those
    that copy it shifted or scaled. DataError when there are no others.
    """
    train = fer2013.load(data, "train")
    shown = train.pixels[~fer2013.near_copies(train.pixels, faces.pixels, moved=False)]
    rest = ~fer2013.near_copies(faces.pixels, shown) if len(shown) else np.zeros(len(faces), bool)
    if not rest.any():
        raise fer2013.DataError(f"the training split of {data} shows all of these pictures: leave --apart out")
    return faces.only(np.flatnonzero(rest))


def load_network(path: Path) -> Classifier:
    """The network of a folder, or a .tflite or .keras file beside emotion.json; WeightsError unless it reads faces."""
    folder, file = (path.parent, path.name) if path.is_file() else (path, "emotion.tflite")
    check_labels(folder)
    classify = KerasClassifier(folder, file) if file.endswith(".keras") else LiteRTClassifier(folder, file)
    check_answers(classify, folder / file)
    return classify


def check_answers(classify: Classifier, path: Path) -> None:
    """Raise WeightsError unless the network in `path` takes faces and gives seven probabilities for each."""
    try:
        answers = classify(np.zeros((2, fer2013.SIZE, fer2013.SIZE, 1), np.float32))
    except (ValueError, RuntimeError) as error:
        raise WeightsError(f"{path} takes no faces of 48 x 48 ({error}): export it again") from error
    if answers.shape != (2, len(EMOTIONS)) or not np.allclose(answers.sum(axis=1), 1, atol=0.01):
        raise WeightsError(f"{path} does not give {len(EMOTIONS)} probabilities a face: export it again")


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m model.evaluate", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="FER2013, or faces in <emotion>/ folders")
    parser.add_argument(
        "--split",
        choices=sorted(fer2013.USAGES),
        default="test",
        help="test is PublicTest here, as validation is (%(default)s)",
    )
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="the network: a folder, or a file (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--ferplus", type=Path, help="FER+ votes (ferplus.csv): agreement with what people saw")
    parser.add_argument("--apart", action="store_true", help="only pictures of which what ships saw no other crop")
    parser.add_argument("--robustness", action="store_true", help="poor pictures, neutral faces, no faces (a minute)")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="write charts to this folder")
    parser.add_argument("--run", type=Path, metavar="DIR", help="with --plots: the run whose training is drawn")
    chosen = parser.parse_args(arguments)
    if chosen.run and not chosen.plots:
        parser.error("--run is drawn: say where to with --plots DIR")
    return chosen


def evaluate(chosen: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """The figures asked for: as they go into JSON, and as lines to read."""
    classify, faces = load_network(chosen.weights), fer2013.load(chosen.data, chosen.split)
    faces = apart(faces, chosen.data) if chosen.apart else faces
    ballot = load_ballot(chosen.ferplus, faces.names) if chosen.ferplus else None
    probabilities = classify_in_batches(classify, faces.pixels)
    result, milliseconds = report(probabilities, faces.labels), milliseconds_a_face(classify, faces.pixels)
    figures = {**result.as_dict(), "ms_per_face": round(milliseconds, 3)}
    lines = list(_report_lines(result, milliseconds))
    if len(result.per_emotion) == len(EMOTIONS):
        lines += _subset_lines(probabilities, faces.labels)
    if ballot:
        agreed = agreement(probabilities, faces.labels, ballot)
        figures["ferplus"] = {"n": agreed.n, "network": round(agreed.network, 4), "label": round(agreed.label, 4)}
        lines.append(_agreement_line(agreed))
    if chosen.robustness:
        borne = robustness(classify, faces, ballot)
        figures["robustness"] = borne.as_dict()
        lines += _robustness_lines(borne, "a FER+ majority" if ballot else "the label")
    if chosen.plots:
        _draw(chosen.plots, chosen.run, result, probabilities, faces.labels)
    return figures, lines


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    chosen = _parse(arguments)
    try:
        figures, lines = evaluate(chosen)
    except (WeightsError, fer2013.DataError) as error:
        raise SystemExit(str(error)) from error
    print(json.dumps(figures) if chosen.json else "\n".join(lines))


if __name__ == "__main__":
    main()
