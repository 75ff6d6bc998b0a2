"""Turn a trained detector into what the site serves: `python -m model.export_detector --data faces.zip`.

Writes weights/detector.tflite (LiteRT, dynamic-range quantised), detector.keras (the network, to go on from) and
detector.json (settings, data, threshold, figures), all or none: they are made beside, checked, and moved into place.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np

from model.detector import DEEPEST, OUTPUTS, NetworkDetector
from model.detector_figures import VERSIONS, Judged, figures, finder, in_rooms, judged
from model.detector_network import build_detector
from model.detector_set import LabelError, Picture, load
from model.export import ExportError, check_place, put_in_place, settings_of, to_litert, trained_network
from model.litert import WEIGHTS, WeightsError
from model.train import digest
from model.train_detector import Settings

logger = logging.getLogger(__name__)

FALSE_PER_100 = 1.0  # faces that are none, a hundred pictures of the validation split
FILM_THRESHOLD, FILM_THRESHOLD_FAR = 0.49, 0.66  # at least, for new faces in a film: see model.detector_motion
THRESHOLDS = np.arange(0.2, 0.9, 0.01)
TOLERANCE = 0.1  # of a score, for the quantised file, at any place of any picture it is compared on
COMPARED = 24  # pictures
FILES = ("detector.tflite", "detector.keras", "detector.json")


def trained_detector(run: Path) -> tuple[keras.Model, Settings]:
    """The checkpoint of a run as a float32 network, and the run's settings."""
    settings = settings_of(run, Settings, "no detector's run", "train one with model.train_detector")

    def build() -> keras.Model:
        return build_detector(settings.widths, settings.blocks, settings.merged)

    return trained_network(run / "checkpoint.keras", build, "a detector"), settings


def chosen_threshold(judged: list[Judged]) -> float:
    """The lowest of THRESHOLDS with at most FALSE_PER_100 false faces."""
    for threshold in THRESHOLDS:
        if figures([one.at(threshold) for one in judged]).false_per_100 <= FALSE_PER_100:
            return round(float(threshold), 2)
    raise ExportError(f"more than {FALSE_PER_100} false faces a hundred pictures at any threshold: train it longer")


def check_same(network: keras.Model, folder: Path, pictures: Sequence[Picture]) -> float:
    """How far the scores of the exported file are from the network's; ExportError when more than TOLERANCE."""
    detector, off = NetworkDetector(folder), 0.0
    for picture in pictures[:: max(1, len(pictures) // COMPARED)]:
        side = 8 * DEEPEST
        pixels = cv2.resize(picture.pixels, (side, side)).astype(np.float32)[None]
        before = keras.ops.convert_to_numpy(network(pixels, training=False))
        off = max(off, float(np.abs(_score(before) - _score(detector.answers(pixels))).max()))
    if not off <= TOLERANCE:
        raise ExportError(f"the exported detector's scores are off by {off:.3f}, more than {TOLERANCE}")
    return off


def _score(answers: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-answers[..., :1]))


def export(run: Path, data: Path, out: Path) -> dict[str, Any]:
    """Make, check and move the files from the run's checkpoint; what detector.json says."""
    check_place(out)
    network, settings = trained_detector(run)
    pictures = load(data, "val")
    with put_in_place(out, FILES) as folder:
        (folder / "detector.tflite").write_bytes(to_litert(network))
        network.save(folder / "detector.keras", include_optimizer=False)
        card: dict[str, Any] = {
            "input": "BGR pixels, 0 to 255, float32; sides of multiples of 32; rescaled inside the network",
            "output": f"{OUTPUTS} numbers for every eighth pixel: see model.detector_network",
            "threshold": 0.5,
            "film_threshold": FILM_THRESHOLD,
            "film_threshold_far": FILM_THRESHOLD_FAR,
            "settings": json.loads((run / "settings.json").read_text(encoding="utf-8")),
            "seed": settings.seed,
            "data": {"file": data.name, "sha256": digest(data)},
        }
        write_card(card, folder)
        logger.info("scores off by at most %.4f after quantisation", check_same(network, folder, pictures))
        card |= _measured(folder, pictures)
        write_card(card, folder)
        NetworkDetector(folder)
    return card


def write_card(card: dict[str, Any], folder: Path) -> None:
    """Write what belongs beside the network in `folder`."""
    (folder / "detector.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def _measured(folder: Path, pictures: list[Picture]) -> dict[str, Any]:
    """The thresholds, films never laxer than photos, and the figures on the validation split and its versions."""
    detector = NetworkDetector(folder)
    find = finder(detector, float(THRESHOLDS[0]))
    versions = {name: judged(find, map(change, pictures)) for name, change in VERSIONS.items()}
    versions["in rooms, 640 x 480"] = judged(find, in_rooms(pictures))
    threshold = chosen_threshold(versions["as given"])
    results = {name: figures([one.at(threshold) for one in several]) for name, several in versions.items()}
    return {
        "threshold": threshold,
        "film_threshold": max(threshold, FILM_THRESHOLD),
        "film_threshold_far": max(threshold, FILM_THRESHOLD_FAR),
        "validation": results["as given"].as_dict(),
        "versions": {name: result.as_dict() for name, result in results.items()},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(
        prog="python -m model.export_detector", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--run", type=Path, default=Path("runs/detector"), help="the folder of the run (%(default)s)")
    parser.add_argument("--data", type=Path, required=True, help="a folder or a zip with labels.csv and pictures")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="where the files go (%(default)s)")
    chosen = parser.parse_args(arguments)
    try:
        card = export(chosen.run, chosen.data, chosen.out)
    except (ExportError, LabelError, WeightsError) as error:
        raise SystemExit(str(error)) from error
    validation = card["validation"]
    logger.info(
        "threshold %.2f: recall %s, %s false faces a hundred pictures, in %s",
        card["threshold"],
        validation["recall"],
        validation["false_per_100"],
        chosen.out,
    )


if __name__ == "__main__":
    main()
