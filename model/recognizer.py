"""From a frame to its faces and what is on them: the one way every source is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from model.emotions import EMOTIONS, Prediction
from model.faces import Face, FaceDetector, FaceTracker, Frame, HaarDetector, crop_faces

WEIGHTS = Path(__file__).parent / "weights"
Classifier = Callable[[np.ndarray], np.ndarray]
"""Faces (n, 48, 48, 1) float32 grey, 0 to 255, to probabilities (n, 7) in the order of EMOTIONS."""


class WeightsError(Exception):
    """The trained network cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Recognizer:
    """A detector and a classifier."""

    detector: FaceDetector
    classify: Classifier

    def recognize(self, frame: Frame) -> list[Face]:
        """The faces in `frame`, largest first; all of them classified in one call."""
        boxes = self.detector.detect(frame)
        if not boxes:
            return []
        rows = self.classify(crop_faces(frame, boxes))
        return [Face(box, Prediction.of(row)) for box, row in zip(boxes, rows, strict=True)]

    def for_video(self) -> Recognizer:
        """A recognizer for the frames of one video, which remembers where the faces were."""
        return Recognizer(FaceTracker(HaarDetector()), self.classify)


def load_recognizer(engine: str = "litert", weights: Path = WEIGHTS) -> Recognizer:
    """The recognizer as shipped; `engine` is "litert", or "keras" for the network before its export.

    Raises WeightsError when the files are missing or were made for another order of emotions.
    """
    loaders: dict[str, Callable[[Path], Classifier]] = {"litert": LiteRTClassifier, "keras": KerasClassifier}
    if engine not in loaders:
        raise WeightsError(f"no engine {engine!r}: choose one of {', '.join(loaders)}")
    check_labels(weights)
    return Recognizer(HaarDetector(), loaders[engine](weights))


def check_labels(weights: Path = WEIGHTS) -> dict[str, Any]:
    """What emotion.json says beside the weights; WeightsError unless its labels are EMOTIONS, in order."""
    path = weights / "emotion.json"
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        labels = card["labels"]
    except FileNotFoundError as error:
        raise WeightsError(f"{path} is missing: restore it, or train and export (see the README)") from error
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path} is not readable ({error}): restore it, or export again") from error
    if labels != list(EMOTIONS):
        raise WeightsError(f"{path} lists the emotions as {labels}, this program as {list(EMOTIONS)}: export again")
    return dict(card)


class LiteRTClassifier:
    """The exported network in LiteRT, on one thread. Safe to call from several threads, one runs at a time."""

    def __init__(self, weights: Path = WEIGHTS, file: str = "emotion.tflite") -> None:
        from ai_edge_litert.interpreter import Interpreter

        path = weights / file
        if not path.exists():
            raise WeightsError(f"{path} is missing: restore it, or run python -m model.export")
        try:
            self._interpreter = Interpreter(str(path), num_threads=1)
        except (ValueError, RuntimeError) as error:
            raise WeightsError(f"{path} is not a LiteRT network ({error}): export it again") from error
        self._lock = Lock()
        self._faces = 0
        self._allocate(1)

    def __call__(self, faces: np.ndarray) -> np.ndarray:
        """Probabilities (n, 7) of faces (n, 48, 48, 1)."""
        with self._lock:
            if len(faces) != self._faces:
                self._allocate(len(faces))
            self._interpreter.set_tensor(self._input, faces)
            self._interpreter.invoke()
            return np.array(self._interpreter.get_tensor(self._output))

    def _allocate(self, faces: int) -> None:
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]
        shape = [faces, *self._interpreter.get_input_details()[0]["shape"][1:]]
        self._interpreter.resize_tensor_input(self._input, shape)
        self._interpreter.allocate_tensors()
        self._faces = faces


class KerasClassifier:
    """The network before its export, in Keras: slower to start, the same answers."""

    def __init__(self, weights: Path = WEIGHTS, file: str = "emotion.keras") -> None:
        try:
            import keras
        except ImportError as error:
            raise WeightsError("the keras engine needs Keras: pip install -r requirements.txt") from error
        path = weights / file
        try:
            network = keras.models.load_model(path, compile=False)
        except (OSError, ValueError) as error:
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
