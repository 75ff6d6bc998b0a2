"""Look at the data before training: `python -m model.explore --data fer2013.zip --ferplus ferplus.csv`.

Prints tables: how many pictures of each emotion, copies within and across the splits, labels that
people doubt. Draws charts and mean faces to `--out`; single faces only to a folder named by
`--samples`, which is nobody's to publish.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model import fer2013, plots
from model.emotions import EMOTIONS
from model.ferplus import load_ballot

SAMPLES = 28  # pictures of an emotion in a sample grid


@dataclass(frozen=True)
class Copies:
    """How many pictures copy another one: pixel for pixel, or nearly (see `fer2013.near_copies`).

    `at_odds` are those training pictures that an identical one contradicts by its label.
    """

    in_training: int
    at_odds: int
    in_validation: int
    validation_in_training: int
    near_training: int
    near_validation: int


def class_counts(faces: fer2013.FaceSet) -> list[int]:
    """Pictures of each emotion."""
    return np.bincount(faces.labels, minlength=len(EMOTIONS)).tolist()


def mean_faces(faces: fer2013.FaceSet) -> dict[str, np.ndarray]:
    """The mean (48, 48) picture of each emotion that has pictures."""
    return {str(EMOTIONS[label]): faces.pixels[faces.labels == label].mean(axis=0) for label in np.unique(faces.labels)}


def copies(training: fer2013.FaceSet, validation: fer2013.FaceSet) -> Copies:
    """Copies within the splits and across them. Within one, all but one of a group of identical pictures count."""
    ours, theirs = _groups(training), _groups(validation)
    at_odds = sum(len(group) for group in ours.values() if len(set(training.labels[group])) > 1)
    return Copies(
        in_training=len(training) - len(ours),
        at_odds=at_odds,
        in_validation=len(validation) - len(theirs),
        validation_in_training=sum(len(group) for pixels, group in theirs.items() if pixels in ours),
        near_training=int(fer2013.near_copies(training.pixels, validation.pixels).sum()),
        near_validation=int(fer2013.near_copies(validation.pixels, training.pixels).sum()),
    )


def label_doubts(labels: np.ndarray, majority: np.ndarray) -> np.ndarray:
    """Counts (7, 8): a row a label, a column what most people saw; the last column: none of the seven, or a tie."""
    counts = np.zeros((len(EMOTIONS), len(EMOTIONS) + 1), int)
    np.add.at(counts, (labels, majority), 1)  # -1, no majority, is the last column
    return counts


def _groups(faces: fer2013.FaceSet) -> dict[bytes, list[int]]:
    """The indices of the pictures that share their pixels, by these."""
    groups: dict[bytes, list[int]] = defaultdict(list)
    for i, picture in enumerate(faces.pixels):
        groups[picture.tobytes()].append(i)
    return groups


def _count_lines(training: fer2013.FaceSet, validation: fer2013.FaceSet) -> Iterator[str]:
    yield f"{'pictures':12}{'training':>10}{'share':>8}{'validation':>12}{'share':>8}"
    for emotion, ours, theirs in zip(EMOTIONS, class_counts(training), class_counts(validation), strict=True):
        yield f"{emotion:12}{ours:10d}{ours / len(training):8.1%}{theirs:12d}{theirs / len(validation):8.1%}"
    yield f"{'all':12}{len(training):10d}{'':8}{len(validation):12d}"


def _copy_lines(found: Copies) -> Iterator[str]:
    yield "\ncopies"
    yield f"{found.in_training:6d} training pictures repeat another one, pixel for pixel"
    yield f"{found.at_odds:6d} training pictures have an identical one with another label"
    yield f"{found.in_validation:6d} validation pictures repeat another one"
    yield f"{found.validation_in_training:6d} validation pictures are in the training split too"
    yield f"{found.near_validation:6d} validation pictures have a copy or near-copy in the training split"
    yield f"{found.near_training:6d} training pictures copy a validation picture, or nearly: left out of the training"


def _doubt_lines(doubts: np.ndarray) -> Iterator[str]:
    yield "\nlabels against what most of ten people saw (FER+), training split"
    yield "label \\ people".ljust(15) + "".join(f"{name:>9}" for name in (*EMOTIONS, "no one", "agreed"))
    for i, row in enumerate(doubts):
        decided = max(int(row[:-1].sum()), 1)
        yield f"{EMOTIONS[i]:15}" + "".join(f"{count:9d}" for count in row) + f"{row[i] / decided:9.1%}"
    decided, agreed = doubts[:, :-1].sum(), doubts[:, :-1].trace()
    yield f"people agree with {agreed} of {decided} labels, {agreed / max(decided, 1):.1%}"
    yield "no one: a tie, or something that is none of the seven"


def _draw(out: Path, training: fer2013.FaceSet, validation: fer2013.FaceSet, doubts: np.ndarray | None) -> None:
    counts = {"training": class_counts(training), "validation": class_counts(validation)}
    plots.counts_chart(counts, out / "class-counts.png")
    plots.faces_chart(mean_faces(training), out / "mean-faces.png")
    if doubts is not None:
        plots.confusion_chart(doubts[:, :-1], out / "label-doubts.png", rows="label", columns="what most people saw")


def _draw_samples(folder: Path, faces: fer2013.FaceSet) -> None:
    """A grid of single faces an emotion."""
    rng = np.random.default_rng(2013)
    for label in np.unique(faces.labels):
        mine = np.flatnonzero(faces.labels == label)
        chosen = sorted(rng.choice(mine, min(SAMPLES, len(mine)), replace=False))
        names = {Path(faces.names[i]).stem.removeprefix("Training_"): faces.pixels[i] for i in chosen}
        plots.faces_chart(names, folder / f"{EMOTIONS[label]}.png")


def explore(chosen: argparse.Namespace) -> list[str]:
    """Draw the charts asked for; the tables as lines to read."""
    training, validation = fer2013.load(chosen.data, "train"), fer2013.load(chosen.data, "validation")
    lines = [*_count_lines(training, validation), *_copy_lines(copies(training, validation))]
    doubts = None
    if chosen.ferplus:
        ballot = load_ballot(chosen.ferplus, training.names)
        doubts = label_doubts(training.labels[ballot.listed], ballot.majority[ballot.listed])
        lines += _doubt_lines(doubts)
    try:
        if chosen.out:
            _draw(chosen.out, training, validation, doubts)
        if chosen.samples:
            _draw_samples(chosen.samples, training)
    except OSError as error:
        raise fer2013.DataError(f"cannot write a picture ({error}): choose another --out or --samples") from error
    return lines


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    parser = argparse.ArgumentParser(prog="python -m model.explore", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="FER2013: a folder, a zip of it, or fer2013.csv")
    parser.add_argument("--ferplus", type=Path, help="FER+ votes (ferplus.csv): labels that people doubt")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write charts and mean faces to this folder")
    parser.add_argument("--samples", type=Path, metavar="DIR", help="write grids of single faces to this folder")
    chosen = parser.parse_args(arguments)
    try:
        lines = explore(chosen)
    except fer2013.DataError as error:
        raise SystemExit(str(error)) from error
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
