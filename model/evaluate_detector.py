"""Measure the shipped face detector: `python -m model.evaluate_detector --data my-pictures`.

`--data` is a folder with pictures and labels.csv (`file,x,y,w,h,ignore`; see model.detector_set), or a zip of
one; where the table names splits, its `val` split is measured. A face's size is the longer side of its box in
pixels of the picture as given: faces under 48 px are ignored. A box that overlaps a face by half or more
finds it; one that overlaps an ignored face counts neither way. Further tables, by flags: pictures turned, dark,
blurred, half hidden (`--versions`), films (`--motion`), and what the emotion network makes of the faces of
FER2013 that were found (`--emotions`).
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from model import fer2013
from model.detector import NetworkDetector
from model.detector_crops import Crops, crops
from model.detector_figures import (
    FRAME,
    LIGHTS,
    TILTS,
    VERSIONS,
    Figures,
    Find,
    Judged,
    by_size,
    clipped,
    figures,
    finder,
    in_rooms,
    judge,
    judged,
    to_be_found,
)
from model.detector_motion import motion
from model.detector_set import LabelError, Picture, load
from model.litert import WEIGHTS, WeightsError
from model.recognizer import LiteRTClassifier

logger = logging.getLogger(__name__)

ROOMS = "in rooms, 640 x 480"
SHEET = "choose another --sheet, a .png in a folder that is there"
Change = Callable[[Picture], Picture]


def milliseconds_a_frame(detector: NetworkDetector, pictures: Sequence[Picture], times: int = 100) -> float:
    """Median time to find the faces of a FRAME of 640 x 480, resizing and all, on one thread of this machine."""
    cv2.setNumThreads(1)
    frames = [cv2.resize(picture.pixels, FRAME) for picture in pictures[:25]]
    spent = []
    for i in range(times + 5):
        start = time.perf_counter()
        detector.detect(frames[i % len(frames)])
        spent.append(time.perf_counter() - start)
    return float(np.median(spent[5:]) * 1000)


def versions(find: Find, pictures: Sequence[Picture], changes: Mapping[str, Change]) -> dict[str, Figures]:
    """The figures under each change, and in made rooms."""
    found = {name: figures(judged(find, map(change, pictures))) for name, change in changes.items()}
    found[ROOMS] = figures(judged(find, in_rooms(pictures)))
    return found


def _lines(result: Figures, milliseconds: float, sizes: Mapping[str, tuple[int, float]]) -> Iterator[str]:
    yield (
        f"pictures {result.n_pictures}   faces {result.n_faces}   recall {result.recall:.3f}   from 96 px "
        f"{result.recall_96:.3f}   precision {result.precision:.3f}   false a hundred pictures "
        f"{result.false_per_100:.1f}   {milliseconds:.2f} ms a frame of 640 x 480"
    )
    yield f"\n{'faces of':24}{'n':>6}{'found':>8}"
    for name, (count, share) in sizes.items():
        yield f"{name:24}{count:6d}{share:8.3f}"


def _version_lines(results: Mapping[str, Figures]) -> Iterator[str]:
    yield f"\n{'pictures':24}{'faces':>6}{'recall':>8}{'96 px':>8}{'precision':>11}{'false/100':>11}"
    for name, one in results.items():
        yield (
            f"{name:24}{one.n_faces:6d}{one.recall:8.3f}{one.recall_96:8.3f}"
            f"{one.precision:11.3f}{one.false_per_100:11.1f}"
        )


def _marked(find: Find, picture: Picture) -> np.ndarray | None:
    """The picture with its false (blue), found (green) and missed faces (red); None when there is no mistake."""
    boxes, scores = find(picture.pixels)
    verdict = judge(lambda _: (boxes, scores), picture)
    missed, false = np.isnan(verdict.scores), np.isin(scores, verdict.false)
    if not missed.any() and not false.any():
        return None
    faces = clipped(picture)
    asked = faces.boxes[to_be_found(faces)]
    tile = picture.pixels.copy()
    for colour, drawn in (((255, 120, 0), boxes[false]), ((0, 200, 0), asked[~missed]), ((0, 0, 255), asked[missed])):
        for x, y, width, height in drawn.astype(int):
            cv2.rectangle(tile, (x, y), (x + width, y + height), colour, max(1, max(tile.shape) // 160))
    return tile


def sheet(
    find: Find, pictures: Iterable[Picture], file: Path, side: int = 200, across: int = 8, down: int = 12
) -> None:
    """The first pictures with mistakes, for one's own eyes: missed faces are red, false ones blue, found ones green."""
    tiles, wrong = [], 0
    for picture in pictures:
        tile = _marked(find, picture)
        wrong += tile is not None
        if tile is None or wrong > across * down:
            continue
        scale = side / max(tile.shape[:2])
        tile = cv2.resize(tile, None, fx=scale, fy=scale)[:side, :side]
        tiles.append(cv2.copyMakeBorder(tile, 0, side - tile.shape[0], 0, side - tile.shape[1], cv2.BORDER_CONSTANT))
    if wrong > len(tiles):
        logger.warning("%s has the first %d of %d pictures with mistakes", file, len(tiles), wrong)
    empty = np.zeros((side, side, 3), np.uint8)
    tiles += [empty] * (-len(tiles) % across or (0 if tiles else across))
    rows = [np.hstack(tiles[i : i + across]) for i in range(0, len(tiles), across)]
    if not cv2.imwrite(str(file), np.vstack(rows)):
        raise LabelError(f"cannot write {file}: {SHEET}")


def check_sheet(file: Path) -> None:
    """LabelError, before any work, where no picture could be written."""
    if not file.parent.is_dir() or file.is_dir() or not cv2.haveImageWriter(file.name):
        raise LabelError(f"cannot write {file}: {SHEET}")


def load_network(path: Path) -> NetworkDetector:
    """The detector in a folder, or in a .tflite file with a .json beside it."""
    return NetworkDetector(path.parent, path.name) if path.suffix == ".tflite" else NetworkDetector(path)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m model.evaluate_detector", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--data", type=Path, required=True, help="a folder or a zip with labels.csv and pictures")
    parser.add_argument("--split", default="val", help="where the table names splits (%(default)s)")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="a folder or a .tflite file (%(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--versions", action="store_true", help="also turned, dark, blurred and half hidden pictures")
    parser.add_argument("--motion", action="store_true", help="also films: a face at rest, the demo, empty rooms")
    parser.add_argument("--emotions", type=Path, help="FER2013: also how well the faces that are found are read")
    parser.add_argument("--sheet", type=Path, help="write the first pictures with mistakes to this .png, to look at")
    return parser.parse_args(arguments)


def measure(chosen: argparse.Namespace) -> dict[str, Any]:
    """What was asked for: `figures`, `sizes`, `ms`, and what the flags ask for."""
    if chosen.sheet:
        check_sheet(chosen.sheet)
    detector, pictures = load_network(chosen.weights), load(chosen.data, chosen.split)
    find = finder(detector, detector.threshold)
    answers: list[Judged] = judged(find, pictures)
    asked: dict[str, Any] = {
        "figures": figures(answers),
        "sizes": by_size(answers),
        "ms": milliseconds_a_frame(detector, pictures),
    }
    if chosen.versions:
        asked["versions"] = versions(find, pictures, VERSIONS | TILTS | LIGHTS)
    if chosen.motion:
        asked["motion"] = motion(detector, pictures)
    if chosen.emotions:
        faces = fer2013.load(chosen.emotions, "test")
        asked["emotions"] = list(crops(detector, LiteRTClassifier(), faces, pictures))
    if chosen.sheet:
        sheet(find, pictures, chosen.sheet)
    return asked


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    chosen = parse(arguments)
    try:
        asked = measure(chosen)
    except (LabelError, WeightsError, fer2013.DataError) as error:
        raise SystemExit(str(error)) from error
    if chosen.json:
        answer = {**asked["figures"].as_dict(), "ms_per_frame": round(asked["ms"], 3)}
        if chosen.versions:
            answer["versions"] = {name: one.as_dict() for name, one in asked["versions"].items()}
        if chosen.motion:
            answer["motion"] = asked["motion"].as_dict()
        if chosen.emotions:
            answer["emotions"] = [asdict(one) for one in asked["emotions"]]
        print(json.dumps(answer))
        return
    print("\n".join(_lines(asked["figures"], asked["ms"], asked["sizes"])))
    if chosen.versions:
        print("\n".join(_version_lines(asked["versions"])))
    if chosen.motion:
        print("\n" + "\n".join(asked["motion"].lines()))
    if chosen.emotions:
        print("\n" + "\n".join([Crops.header(), *(one.line() for one in asked["emotions"])]))


if __name__ == "__main__":
    main()
