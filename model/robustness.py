"""How a network bears poor pictures, what it makes of neutral faces, and whether it doubts what is no face."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from model.corruptions import CORRUPTIONS, corrupted, faceless
from model.emotions import EMOTIONS, Emotion, Smoothing
from model.fer2013 import FaceSet
from model.ferplus import Ballot
from model.figures import Report, report
from model.recognizer import Classifier, classify_in_batches

SURE = Smoothing().enter  # the confidence at which the site begins to name a mood
DOUBTERS = 2  # of ten people: as many must have seen no face for a picture to count as none


@dataclass(frozen=True)
class Doubt:
    """How sure the network is of n pictures: its mean confidence, and the share at SURE or more."""

    n: int
    confidence: float
    sure: float


@dataclass(frozen=True)
class Robustness:
    """Figures under each corruption; what `n_neutral` neutral faces are read as; confidence on faces and on none."""

    corruptions: dict[str, Report]
    n_neutral: int
    neutral_read_as: dict[str, float]
    doubts: dict[str, Doubt]

    def as_dict(self) -> dict[str, Any]:
        """For JSON, to four decimals."""
        figures = {name: (result.accuracy, result.macro_f1) for name, result in self.corruptions.items()}
        return {
            "corruptions": {
                name: {"accuracy": round(a, 4), "macro_f1": round(f, 4)} for name, (a, f) in figures.items()
            },
            "neutral": {
                "n": self.n_neutral,
                "read_as": {emotion: round(share, 4) for emotion, share in self.neutral_read_as.items()},
            },
            "confidence": {
                name: {"n": doubt.n, "mean": round(doubt.confidence, 4), "sure": round(doubt.sure, 4)}
                for name, doubt in self.doubts.items()
            },
        }


def robustness(classify: Classifier, faces: FaceSet, ballot: Ballot | None) -> Robustness:
    """How the network bears poor pictures; neutral faces are FER+'s where there are votes, else the data set's."""
    answers = {
        name: classify_in_batches(classify, corrupted(faces.pixels, change)) for name, change in CORRUPTIONS.items()
    }
    clean = next(iter(answers.values()))
    neutral = (ballot.majority if ballot else faces.labels) == EMOTIONS.index(Emotion.NEUTRAL)
    read_as = np.bincount(clean[neutral].argmax(axis=1), minlength=len(EMOTIONS)) / max(int(neutral.sum()), 1)
    return Robustness(
        {name: report(rows, faces.labels) for name, rows in answers.items()},
        int(neutral.sum()),
        {str(emotion): float(share) for emotion, share in zip(EMOTIONS, read_as, strict=True)},
        dict(_doubts(classify, faces, ballot, clean)),
    )


def _doubts(
    classify: Classifier, faces: FaceSet, ballot: Ballot | None, clean: np.ndarray
) -> Iterator[tuple[str, Doubt]]:
    no_face = ballot.saw_no_face >= DOUBTERS if ballot else np.zeros(len(faces), bool)
    if not no_face.all():
        yield "faces", _doubt(clean[~no_face])
    if no_face.any():
        yield f"no face, say {DOUBTERS} of ten people", _doubt(clean[no_face])
    for name, pictures in faceless(faces.pixels).items():
        yield name, _doubt(classify_in_batches(classify, pictures))


def _doubt(probabilities: np.ndarray) -> Doubt:
    confidence = probabilities.max(axis=1)
    return Doubt(len(confidence), float(confidence.mean()), float((confidence >= SURE).mean()))
