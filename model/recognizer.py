"""From a frame to its faces and what is on them: the one way every source is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model.detector import NetworkDetector
from model.emotions import EMOTIONS, Prediction
from model.faces import Box, Face, FaceDetector, FaceTracker, Frame, crop_faces
from model.litert import WEIGHTS, LiteRTNetwork, WeightsError, read_card

__all__ = [
    "WEIGHTS",
    "Classifier",
    "KerasClassifier",
    "LiteRTClassifier",
    "Recognizer",
    "WeightsError",
    "check_labels",
    "classify_in_batches",
    "load_recognizer",
]

Classifier = Callable[[np.ndarray], np.ndarray]
"""Faces (n, 48, 48, 1) float32 grey, 0 to 255, to probabilities (n, 7) in the order of EMOTIONS."""


@dataclass(frozen=True)
class Recognizer:
    """A detector and a classifier."""

    detector: FaceDetector
    classify: Classifier

    def recognize(self, frame: Frame, near: Sequence[Box] = ()) -> list[Face]:
        """The faces in `frame`, largest first; all of them classified in one call.

        `near`, the boxes of the frame before, makes it cheaper: see FaceDetector.
        """
        boxes = self.detector.detect(frame, near)
        if not boxes:
            return []
        rows = self.classify(crop_faces(frame, boxes))
        return [Face(box, Prediction.of(row)) for box, row in zip(boxes, rows, strict=True)]

    def for_video(self) -> Recognizer:
        """A recognizer for the frames of one video, which remembers where the faces were."""
        return Recognizer(FaceTracker(self.for_films().detector), self.classify)

    def for_films(self) -> Recognizer:
        """One that remembers nothing, for frames whose caller does: stricter about faces that are not `near`."""
        detector = self.detector
        return Recognizer(detector.for_films(), self.classify) if isinstance(detector, NetworkDetector) else self


def load_recognizer(engine: str = "litert", weights: Path = WEIGHTS) -> Recognizer:
    """The recognizer as shipped; `engine` is "litert", or "keras" for the emotion network before its export.

    The emotion network is that of the folder `weights`, the detector always the one that ships.

    Raises WeightsError when the files are missing or were made for another order of emotions.
    """
    loaders: dict[str, Callable[[Path], Classifier]] = {"litert": LiteRTClassifier, "keras": KerasClassifier}
    if engine not in loaders:
        raise WeightsError(f"no engine {engine!r}: choose one of {', '.join(loaders)}")
    check_labels(weights)
    return Recognizer(NetworkDetector(), loaders[engine](weights))


def check_labels(weights: Path = WEIGHTS) -> dict[str, Any]:
    """What emotion.json says beside the weights; WeightsError unless its labels are EMOTIONS, in order."""
    path = weights / "emotion.json"
    card = read_card(path)
    if "labels" not in card:
        raise WeightsError(f"{path} is not readable (no labels in it): restore it, or export again")
    if card["labels"] != list(EMOTIONS):
        labels = card["labels"]
        raise WeightsError(f"{path} lists the emotions as {labels}, this program as {list(EMOTIONS)}: export again")
    return card


class LiteRTClassifier:
    """The exported network in LiteRT, on one thread. Safe to call from several threads."""

    def __init__(self, weights: Path = WEIGHTS, file: str = "emotion.tflite") -> None:
        self._network = LiteRTNetwork(weights / file, ".venv/bin/python -m model.export")

    def __call__(self, faces: np.ndarray) -> np.ndarray:
        """Probabilities (n, 7) of faces (n, 48, 48, 1)."""
        return self._network(faces)


class KerasClassifier:
    """The network before its export, in Keras: slower to start, the same answers."""

    def __init__(self, weights: Path = WEIGHTS, file: str = "emotion.keras") -> None:
        try:
            import keras
        except ImportError as error:
            raise WeightsError(
                "the keras engine needs Keras: .venv/bin/python -m pip install -r requirements.txt"
            ) from error
        path = weights / file
        try:
            network = keras.models.load_model(path, compile=False)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise WeightsError(f"{path} is not a Keras network ({error}): restore it, or export again") from error
        self._network, self._keras = network, keras

    def __call__(self, faces: np.ndarray) -> np.ndarray:
        """Probabilities (n, 7) of faces (n, 48, 48, 1)."""
        return np.asarray(self._keras.ops.convert_to_numpy(self._network(faces, training=False)))


def classify_in_batches(classify: Classifier, faces: Sequence[np.ndarray] | np.ndarray, batch: int = 64) -> np.ndarray:
    """Probabilities of many faces (n, 48, 48), a batch at a time."""
    stacked = np.asarray(faces, np.float32).reshape(len(faces), 48, 48, 1)
    rows = [classify(stacked[start : start + batch]) for start in range(0, len(stacked), batch)]
    return np.concatenate(rows) if rows else np.empty((0, len(EMOTIONS)), np.float32)
