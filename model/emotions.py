"""The seven emotions, one prediction of them, and the reading that people see.

Standard library only: everything else in the project builds on this module.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any


class Emotion(StrEnum):
    """The seven classes of FER2013, in the order of its numeric codes.

    The value is the label, the name of the song list and the CSS class.
    Alphabetical folder order differs (it ends neutral, sad, surprise): translate by name.
    """

    ANGRY = "angry"
    DISGUST = "disgust"
    FEAR = "fear"
    HAPPY = "happy"
    SAD = "sad"
    SURPRISE = "surprise"
    NEUTRAL = "neutral"


EMOTIONS = tuple(Emotion)
LAPSE = 15.0  # seconds between two faces in which anything may have happened; a page sends pictures sooner than that


@dataclass(frozen=True, slots=True)
class Prediction:
    """Seven probabilities, in the order of `EMOTIONS`, that sum to one."""

    probabilities: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.probabilities) != len(EMOTIONS):
            raise ValueError(f"a prediction has {len(EMOTIONS)} probabilities, not {len(self.probabilities)}")
        if not all(math.isfinite(p) for p in self.probabilities):
            raise ValueError(f"a probability is not a finite number: {self.probabilities}")

    @classmethod
    def of(cls, probabilities: Sequence[float]) -> Prediction:
        """A prediction from any sequence of seven numbers (a row of the network's answer)."""
        return cls(tuple(float(p) for p in probabilities))

    @property
    def emotion(self) -> Emotion:
        """The most probable emotion."""
        return EMOTIONS[self.probabilities.index(self.confidence)]

    @property
    def confidence(self) -> float:
        """The probability of the most probable emotion, 0 to 1."""
        return max(self.probabilities)

    def __getitem__(self, emotion: Emotion) -> float:
        return self.probabilities[EMOTIONS.index(emotion)]

    def by_emotion(self) -> Mapping[Emotion, float]:
        """Probability by emotion, in the order of `EMOTIONS`."""
        return dict(zip(EMOTIONS, self.probabilities, strict=True))

    def towards(self, other: Prediction, share: float) -> Prediction:
        """This prediction moved by `share` (0 to 1) of the way to another."""
        pairs = zip(self.probabilities, other.probabilities, strict=True)
        return Prediction(tuple(a + share * (b - a) for a, b in pairs))


def blend(predictions: Sequence[Prediction]) -> Prediction:
    """The mood of a room: the mean of one prediction or more, everybody counting alike.

    Not by the size of the faces, which says how near somebody is to the camera, not how much they matter. Where the
    network is unsure of a small face its prediction is flat, and weighs little by itself.
    """
    columns = zip(*(prediction.probabilities for prediction in predictions), strict=True)
    return Prediction(tuple(sum(column) / len(predictions) for column in columns))


def described(emotion: str, confidence: float, prediction: Prediction) -> dict[str, Any]:
    """A mood, how sure it is and all shares, as JSON; rounded to four places."""
    shares = {name: round(share, 4) for name, share in prediction.by_emotion().items()}
    return {"emotion": emotion, "confidence": round(confidence, 4), "probabilities": shares}


@dataclass(frozen=True, slots=True)
class Smoothing:
    """How slowly a reading follows the face. Times in seconds, levels in probability.

    Expressions last 0.5 to 4 s; a mood shown to a person should change as often as the
    expression does and not as often as the network's mind.
    """

    time_constant: float = 1.0
    enter: float = 0.45
    leave: float = 0.30
    margin: float = 0.15
    hold: float = 1.5
    dwell: float = 8.0
    forget: float = 3.0


@dataclass(frozen=True, slots=True)
class Reading:
    """The smoothed prediction in force, for one face over time; a value, never changed.

    `emotion` is the mood shown, `songs` the mood of the song table (it dwells longer),
    `at` the clock of the last prediction. `rival` waits since `rival_since` to take over.
    """

    prediction: Prediction
    at: float
    emotion: Emotion | None = None
    songs: Emotion | None = None
    songs_since: float = 0.0
    rival: Emotion | None = None
    rival_since: float = 0.0

    @property
    def confidence(self) -> float:
        """The smoothed probability of the mood shown, 0 to 1."""
        return self.prediction[self.emotion] if self.emotion else self.prediction.confidence


def read(last: Reading | None, seen: Prediction | None, at: float, rules: Smoothing) -> Reading | None:
    """The reading after `seen` at the clock time `at` (seconds), or None with no face to read.

    Without a face the last reading stays in force for `rules.forget` seconds. With one it follows the face, however
    far apart the pictures are, up to LAPSE.
    """
    if seen is None:
        return last if last and at - last.at < rules.forget else None
    if last is None or at - last.at >= max(LAPSE, rules.forget):
        return _settle(Reading(seen, at, rival=seen.emotion, rival_since=at), rules)
    share = 1.0 - math.exp(-(at - last.at) / rules.time_constant)
    return _settle(replace(last, prediction=last.prediction.towards(seen, share), at=at), rules)


def _settle(reading: Reading, rules: Smoothing) -> Reading:
    """Let a rival that has waited long enough take over, then let the songs follow."""
    rival = _rival(reading, rules)
    since = reading.rival_since if rival == reading.rival else reading.at
    reading = replace(reading, rival=rival, rival_since=since)
    if rival and (reading.at - since >= rules.hold or _first_and_clear(reading, rules)):
        reading = replace(reading, emotion=rival, rival=None)
    dwelt = reading.songs is None or reading.at - reading.songs_since >= rules.dwell
    if dwelt and reading.emotion != reading.songs:
        reading = replace(reading, songs=reading.emotion, songs_since=reading.at)
    return reading


def _rival(reading: Reading, rules: Smoothing) -> Emotion | None:
    """Whoever has the right to wait for its turn: clearly ahead, or ahead of a mood that faded and itself not faded."""
    ahead, shown = reading.prediction, reading.emotion
    if shown is None:
        return ahead.emotion
    lead = ahead.confidence - ahead[shown]
    clear = ahead.confidence >= rules.enter and lead >= rules.margin
    faded = ahead[shown] < rules.leave <= ahead.confidence
    return ahead.emotion if clear or faded else None


def _first_and_clear(reading: Reading, rules: Smoothing) -> bool:
    return reading.emotion is None and reading.prediction.confidence >= rules.enter
