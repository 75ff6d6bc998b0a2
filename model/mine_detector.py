"""Collect what a trained detector gets wrong: `python -m model.mine_detector --data faces.zip`.

Writes two tables (`file,x,y,w,h,ignore,score`) beside the run, of pictures of the training split. hard.csv has
the places with a score of LEAST or more that no labelled face overlaps, missed.csv the faces that score less than
FOUND when their picture is turned. `python -m model.train_detector --hard ... --missed ...` shows them more often
(Sung and Poggio, "Example-Based Learning for View-Based Human Face Detection", 1998, called it bootstrapping).
Labels miss faces too: in pictures with faces, places with a score of SURE or more are left out as likely faces
without a label. Look at the best ones of the rest.
"""

from __future__ import annotations

import argparse
import csv
import logging
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from model.detector import NetworkDetector, inside, overlaps
from model.detector_figures import MATCH, to_be_found, turned
from model.detector_set import LabelError, Picture, load
from model.export import ExportError, to_litert
from model.export_detector import trained_detector, write_card
from model.litert import WeightsError

logger = logging.getLogger(__name__)

LEAST = 0.25  # score
SURE = 0.6  # score from which, in a picture with faces, it is more likely a face that has no label
APART = 0.1  # overlap with a labelled face, at most
SCALES = (1.0, 0.6, 0.35)
FOUND = 0.55  # score of a face that is learnt well enough
HOPELESS = 0.03  # score under which a missed face is hardly one: hidden altogether, or labelled by mistake
TURNS = (25.0, -25.0)  # degrees


def mined(detector: NetworkDetector, pictures: Sequence[Picture]) -> Iterator[tuple[str, np.ndarray, float]]:
    """File, box and score of every mistake; likely faces without a label are left out."""
    for picture in tqdm(pictures, unit="picture", mininterval=5, file=sys.stderr):
        labelled = picture.faces.boxes
        for scale in SCALES:
            small = cv2.resize(picture.pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            found = detector.find(small, LEAST).moved(1 / scale)
            for box, score in zip(found.boxes, found.scores, strict=True):
                unlabelled = not len(labelled) or (_touches(box, labelled) <= APART).all()
                if unlabelled and (score < SURE or not len(labelled)):
                    yield picture.name, box, float(score)


def missed(detector: NetworkDetector, pictures: Sequence[Picture]) -> Iterator[tuple[str, np.ndarray, float]]:
    """File, box and score of every labelled face that is found badly when its picture is turned, for each way."""
    for picture in tqdm(pictures, unit="picture", mininterval=5, file=sys.stderr):
        for degrees in TURNS if len(picture.faces) else ():
            tilted = turned(picture, degrees)
            found = detector.scan(tilted.pixels, HOPELESS)
            alike = overlaps(tilted.faces.boxes, found.boxes) >= MATCH
            scores = np.where(alike, found.scores, 0).max(axis=1, initial=0)
            for i in np.flatnonzero(to_be_found(tilted.faces) & (scores >= HOPELESS) & (scores < FOUND)):
                yield picture.name, picture.faces.boxes[i], float(scores[i])


def _touches(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The larger of overlap and share of `box` that lies in each of `others`."""
    return np.maximum(overlaps(box[None], others)[0], inside(box, others))


def mine(run: Path, data: Path) -> None:
    """Write the run's hard.csv and missed.csv."""
    network, _ = trained_detector(run)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "detector.tflite").write_bytes(to_litert(network))
        write_card(dict.fromkeys(("threshold", "film_threshold", "film_threshold_far"), LEAST), Path(folder))
        detector, pictures = NetworkDetector(Path(folder)), load(data, "train")
        _write(run / "hard.csv", sorted(mined(detector, pictures), key=lambda row: -row[2]))
        _write(run / "missed.csv", sorted(missed(detector, pictures), key=lambda row: row[2]))


def _write(table: Path, rows: Sequence[tuple[str, np.ndarray, float]]) -> None:
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "x", "y", "w", "h", "ignore", "score"])
        for name, box, score in rows:
            writer.writerow([name, *(f"{edge:.1f}" for edge in box), 0, f"{score:.3f}"])
    logger.info("%d mistakes in %s", len(rows), table)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(prog="python -m model.mine_detector", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/detector"), help="the folder of the run (%(default)s)")
    parser.add_argument("--data", type=Path, required=True, help="a folder or a zip with labels.csv and pictures")
    chosen = parser.parse_args(arguments)
    try:
        mine(chosen.run, chosen.data)
    except (ExportError, LabelError, WeightsError) as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
