"""The figures of a network: accuracy with its interval, F1, calibration."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from model.emotions import EMOTIONS, Emotion

BINS = 15


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
            "per_emotion": {
                emotion: {name: round(value, 4) for name, value in figures.items()}
                for emotion, figures in self.per_emotion.items()
            },
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


def wilson_interval(hits: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share: Wilson, "Probable Inference", 1927."""
    z = 1.96
    share, spread = hits / n, z * z / n
    centre = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The mean gap between confidence and accuracy over equal-width bins (Guo et al., 2017)."""
    parts = calibration_bins(probabilities, labels)
    return sum(abs(right - confidence) * n for confidence, right, n in parts) / len(labels)


def calibration_bins(probabilities: np.ndarray, labels: np.ndarray) -> list[tuple[float, float, int]]:
    """(mean confidence, accuracy, pictures) of each of BINS equal steps of confidence that has pictures."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    which = np.minimum((confidence * BINS).astype(int), BINS - 1)
    masks = [which == b for b in np.unique(which)]
    return [(float(confidence[mask].mean()), float(right[mask].mean()), int(mask.sum())) for mask in masks]


def fitted_temperature(logits: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None) -> float:
    """The temperature with the least negative log likelihood on logits (n, k) and labels (n,); Guo et al., 2017.

    With `groups` (k,), labels are of groups, and what is to be told apart are these.
    """
    from scipy.special import softmax  # type: ignore[import-untyped]  # it has no type hints

    merge = np.eye(logits.shape[1]) if groups is None else np.eye(groups.max() + 1)[groups]
    rows, temperatures = np.arange(len(labels)), np.geomspace(0.25, 8.0, 250)
    losses = [-np.log((softmax(logits / t, axis=1) @ merge)[rows, labels] + 1e-12).mean() for t in temperatures]
    return float(temperatures[int(np.argmin(losses))])


def restricted(probabilities: np.ndarray, labels: np.ndarray, emotions: tuple[Emotion, ...]) -> Report:
    """Figures of the same network over the pictures of `emotions` alone, asked for one of these."""
    index = [EMOTIONS.index(emotion) for emotion in emotions]
    pictures = np.isin(labels, index)
    chosen = np.zeros((int(pictures.sum()), len(EMOTIONS)))
    chosen[:, index] = probabilities[pictures][:, index]
    return report(chosen / np.maximum(chosen.sum(axis=1, keepdims=True), 1e-12), labels[pictures])


def _of_class(confusion: np.ndarray, i: int) -> dict[str, float]:
    hits, actual, predicted = int(confusion[i, i]), int(confusion[i].sum()), int(confusion[:, i].sum())
    precision, recall = hits / predicted if predicted else 0.0, hits / actual
    return {"n": actual, "precision": precision, "recall": recall, "f1": 2 * hits / (actual + predicted)}
