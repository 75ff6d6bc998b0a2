"""What ten people saw on each picture of FER2013: the FER+ votes.

Source: Barsoum et al., "Training Deep Networks for Facial Expression Recognition with Crowd-Sourced
Label Distribution", 2016.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from model.emotions import EMOTIONS, Emotion
from model.fer2013 import DataError, rows_of

VOTES = {
    "anger": Emotion.ANGRY,
    "disgust": Emotion.DISGUST,
    "fear": Emotion.FEAR,
    "happiness": Emotion.HAPPY,
    "sadness": Emotion.SAD,
    "surprise": Emotion.SURPRISE,
    "neutral": Emotion.NEUTRAL,
}
OTHERS = ("contempt", "unknown", "NF")
COLUMNS = (*VOTES, *OTHERS)
CODES = np.array([EMOTIONS.index(emotion) for emotion in VOTES.values()] + [-1] * len(OTHERS))


@dataclass(frozen=True)
class Ballot:
    """Votes (n, 10) for pictures, in the order of COLUMNS; all zero for a picture that FER+ does not list."""

    counts: np.ndarray

    @property
    def listed(self) -> np.ndarray:
        """A mask (n,): the pictures that FER+ lists."""
        return self.counts.sum(axis=1) > 0

    @property
    def majority(self) -> np.ndarray:
        """What most people saw (n,), as indices into EMOTIONS.

        -1 where nothing leads alone, where contempt, "unknown" or "no face" leads, or without votes.
        """
        most = self.counts.max(axis=1, keepdims=True)
        alone = (self.counts == most).sum(axis=1) == 1
        return np.where(alone, CODES[self.counts.argmax(axis=1)], -1)

    @property
    def shares(self) -> np.ndarray:
        """Shares of the votes for the seven (n, 7), in the order of EMOTIONS; they sum to one, or are all zero."""
        votes = np.zeros((len(self.counts), len(EMOTIONS)), np.float32)
        votes[:, CODES[CODES >= 0]] = self.counts[:, CODES >= 0]
        total = votes.sum(axis=1, keepdims=True)
        return np.divide(votes, total, out=np.zeros_like(votes), where=total > 0)

    def expected_labels(self, labels: np.ndarray) -> np.ndarray:
        """How often pictures with such votes have each label (n, 7), by a logistic regression of `labels` (n,).

        People and the labels disagree in ways of their own (a calm face is called sad more often than it is seen
        sad): this says in the labels' own words what ten people saw, without the chance of a single label. All
        zero for pictures that FER+ does not list. Raises DataError when all have one label.
        """
        from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]  # no type hints

        if len(np.unique(labels[self.listed])) < 2:
            raise DataError("all pictures that FER+ lists have one label: give a training set of two emotions or more")
        expected = np.zeros((len(labels), len(EMOTIONS)), np.float32)
        seen = np.hstack([self.counts / 10, np.log(self.counts + 0.5), self.counts > 0, self.counts > 5])[self.listed]
        regression = LogisticRegression(max_iter=2000).fit(seen, labels[self.listed])
        expected[np.ix_(self.listed, regression.classes_)] = regression.predict_proba(seen)
        return expected

    @property
    def saw_no_face(self) -> np.ndarray:
        """How many of the ten people saw no face (n,)."""
        return self.counts[:, COLUMNS.index("NF")]


@dataclass(frozen=True)
class Agreement:
    """Shares of n pictures on which the network, and the data set's label, say what most people saw."""

    n: int
    network: float
    label: float


def agreement(probabilities: np.ndarray, labels: np.ndarray, ballot: Ballot) -> Agreement:
    """Agreement where the majority is one of the seven emotions; DataError where that is nowhere."""
    decided = ballot.majority >= 0
    if not decided.any():
        raise DataError("the FER+ votes have no majority on any of these pictures: leave --ferplus out")
    seen = ballot.majority[decided]
    network = float((probabilities[decided].argmax(axis=1) == seen).mean())
    return Agreement(int(decided.sum()), network, float((labels[decided] == seen).mean()))


def load_ballot(path: Path, names: tuple[str, ...]) -> Ballot:
    """The votes for the pictures called `names`. Raises DataError when the table lists none of them."""
    by_name = _table(path)
    none = np.zeros(len(COLUMNS), int)
    ballot = Ballot(np.array([by_name.get(_key(name), none) for name in names]))
    if not ballot.listed.any():
        raise DataError(
            f"{path} has no votes for any of these pictures: their names must be FER2013's, as in {names[0]}"
            " (the table as FER+ publishes it goes with fer2013.csv)"
        )
    return ballot


def _key(name: str) -> tuple[str, ...]:
    """What identifies a picture: ("angry", "Training_3908"). Two names stand under two labels each.

    ValueError without a name.
    """
    path = PurePosixPath(name).with_suffix("")
    return path.parent.name.casefold(), path.name


def _table(path: Path) -> dict[tuple[str, ...], np.ndarray]:
    """Votes by the picture's label and name.

    The table as FER+ publishes it (fer2013new.csv) names no label; its lines are those of fer2013.csv.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = rows_of(file)
            columns = set(rows.fieldnames or ())
            if not columns >= set(COLUMNS) or not columns & {"file", "Usage"}:
                raise DataError(f"{path} is no FER+ table: it needs the columns file (or Usage), {', '.join(COLUMNS)}")
            return dict(_entry(row, path, number) for number, row in enumerate(rows, start=2))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read ({error}): give the FER+ votes as ferplus.csv") from error


def _entry(row: dict[str, str], path: Path, number: int) -> tuple[tuple[str, ...], np.ndarray]:
    published = "file" not in row
    try:
        name = f"{row['Usage'].strip()}_{number}" if published else row["file"]
        entry = _key(name), np.array([int(row[column]) for column in COLUMNS])
    except (ValueError, TypeError, AttributeError) as error:
        remedy = "mend the line" if published else "mend or delete the line"
        raise DataError(f"{path} line {number} is broken ({error}): restore the file, or {remedy}") from error
    counted = re.fullmatch(r"fer(\d+)\.png", row.get("Image name") or "") if published else None
    if counted and int(counted[1]) != number - 2:
        raise DataError(f"{path} line {number} is of {counted[0]}: lines are missing or were added, restore the file")
    return entry
