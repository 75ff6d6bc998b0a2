"""Measure the shipped network: `python -m model.evaluate --data fer2013.zip`.

Runs on the LiteRT file as it ships, one view a picture. `--data` is FER2013 in any layout, or any
folder of pictures in `<emotion>/` sub-folders, of any size.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model import fer2013
from model.emotions import EMOTIONS
from model.recognizer import WEIGHTS, Classifier, LiteRTClassifier, WeightsError, check_labels, classify_in_batches


@dataclass(frozen=True)
class Report:
    """Figures over n pictures; `confusion` is (7, 7), a row an actual emotion, a column a predicted one."""

    n: int
    accuracy: float
    interval: tuple[float, float]
    macro_f1: float
    per_emotion: dict[str, dict[str, float]]
    ece: float
    confusion: np.ndarray

    def as_dict(self) -> dict[str, Any]:
        """For JSON, to four decimals."""
        return {
            "n": self.n,
            "accuracy": round(self.accuracy, 4),
            "interval": [round(edge, 4) for edge in self.interval],
            "macro_f1": round(self.macro_f1, 4),
            "per_emotion": self.per_emotion,
            "ece": round(self.ece, 4),
        }


def report(probabilities: np.ndarray, labels: np.ndarray) -> Report:
    """Figures for probabilities (n, 7) against labels (n,)."""
    confusion = np.zeros((len(EMOTIONS), len(EMOTIONS)), int)
    np.add.at(confusion, (labels, probabilities.argmax(axis=1)), 1)
    hits, n = int(confusion.trace()), len(labels)
    per_emotion = {str(emotion): _of_class(confusion, i) for i, emotion in enumerate(EMOTIONS) if confusion[i].sum()}
    macro_f1 = sum(figures["f1"] for figures in per_emotion.values()) / len(per_emotion)
    ece = expected_calibration_error(probabilities, labels)
    return Report(n, hits / n, wilson_interval(hits, n), macro_f1, per_emotion, ece, confusion)


def wilson_interval(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share: Wilson, "Probable Inference", 1927."""
    share, spread = hits / n, z * z / n
    centre = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    return centre - half, centre + half


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """The mean gap between confidence and accuracy over equal-width bins (Guo et al., 2017)."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(right[which == b].mean() - confidence[which == b].mean()) * (which == b).mean() for b in set(which)]
    return float(sum(gaps))


def _of_class(confusion: np.ndarray, i: int) -> dict[str, float]:
    hits, actual, predicted = int(confusion[i, i]), int(confusion[i].sum()), int(confusion[:, i].sum())
    precision, recall = hits / predicted if predicted else 0.0, hits / actual
    f1 = 2 * hits / (actual + predicted)
    return {"n": actual, "precision": round(precision, 4), "recall": round(recall, 4), "f1": round(f1, 4)}


def milliseconds_a_face(classify: Classifier, pixels: np.ndarray, times: int = 200) -> float:
    """Median time to classify one face, in milliseconds, on this machine."""
    faces = pixels[:, None, :, :, None].astype(np.float32)
    spent = []
    for i in range(times + 10):
        start = time.perf_counter()
        classify(faces[i % len(faces)])
        spent.append(time.perf_counter() - start)
    return float(np.median(spent[10:]) * 1000)


def _printed(result: Report, milliseconds: float) -> str:
    low, high = result.interval
    lines = [
        f"pictures {result.n}   accuracy {result.accuracy:.2%} (95 %: {low:.2%} to {high:.2%})   "
        f"macro F1 {result.macro_f1:.3f}   calibration error {result.ece:.3f}   {milliseconds:.2f} ms a face",
        "",
        f"{'':10}{'n':>6}{'precision':>11}{'recall':>8}{'F1':>7}",
    ]
    for emotion, row in result.per_emotion.items():
        lines.append(f"{emotion:10}{row['n']:6.0f}{row['precision']:11.3f}{row['recall']:8.3f}{row['f1']:7.3f}")
    lines += ["", "actual \\ read as".ljust(17) + "".join(f"{emotion:>9}" for emotion in EMOTIONS)]
    for emotion, row in zip(EMOTIONS, result.confusion, strict=True):
        lines.append(f"{emotion:17}" + "".join(f"{count:9d}" for count in row))
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    parser = argparse.ArgumentParser(prog="python -m model.evaluate", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="FER2013, or a folder of <emotion>/ pictures")
    parser.add_argument("--split", choices=sorted(fer2013.USAGES), default="test", help="(%(default)s)")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="the folder of the network (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    chosen = parser.parse_args(arguments)
    try:
        check_labels(chosen.weights)
        classify = LiteRTClassifier(chosen.weights)
        faces = fer2013.load(chosen.data, chosen.split)
    except (WeightsError, fer2013.DataError) as error:
        raise SystemExit(str(error)) from error
    result = report(classify_in_batches(classify, faces.pixels), faces.labels)
    milliseconds = milliseconds_a_face(classify, faces.pixels)
    if chosen.json:
        print(json.dumps({**result.as_dict(), "ms_per_face": round(milliseconds, 3)}))
    else:
        print(_printed(result, milliseconds))


if __name__ == "__main__":
    main()
