"""Charts as PNG files: the figures of a network, the course of a run, and the data set.

The only module that imports matplotlib, and only when a chart is drawn. Raises DataError where it is missing.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from model.emotions import EMOTIONS
from model.fer2013 import DataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, BLUE, ORANGE, PALE = "#222222", "#3b6ea8", "#d9772b", "#c9d6e6"
DPI = 90
ACROSS = 7  # faces in a row


def confusion_chart(
    confusion: np.ndarray,
    path: Path,
    rows: str = "actual",
    columns: str = "read as",
    names: tuple[Sequence[str], Sequence[str]] = (EMOTIONS, EMOTIONS),
) -> None:
    """Counts (7, 7) with each row's share as its shade; with `names` (of the rows, of the columns) of any size."""
    figure, axes = _chart(6.2, 5.4)
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")  # square, long names were cut off
    for (row, column), share in np.ndenumerate(shares):
        text = f"{share:.0%}\n{confusion[row, column]}"
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color="white" if share > 0.55 else INK)
    axes.set_xticks(range(len(names[1])), names[1], rotation=45, ha="right")
    axes.set_yticks(range(len(names[0])), names[0])
    axes.set(xlabel=columns, ylabel=rows)
    _save(figure, path)


def reliability_chart(
    bins: Sequence[tuple[float, float, int]], ece: float, path: Path, things: str = "pictures"
) -> None:
    """Accuracy against confidence; `bins` are (mean confidence, accuracy, number of things)."""
    figure, axes = _chart(5.0, 4.4)
    confidence, accuracy, counts = (np.array(column) for column in zip(*bins, strict=True))
    axes.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=":", label="confidence that is true")
    axes.bar(confidence, counts / counts.sum(), width=0.05, color=PALE, label=f"share of the {things}")
    axes.plot(confidence, accuracy, color=BLUE, marker="o", label=f"this network (error {ece:.3f})")
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    axes.legend(loc="upper left", frameon=False)
    _save(figure, path)


def training_chart(log: Path, path: Path) -> None:
    """Accuracy and loss by epoch, from a run's log.csv. Raises ValueError when it is no such log."""
    with log.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"epoch", "accuracy", "val_accuracy", "loss", "val_loss"} <= rows[0].keys():
        raise ValueError("it has no epochs")
    epochs = [float(row["epoch"]) for row in rows]
    figure = _figure(8.4, 3.4)
    for axes, name in zip(figure.subplots(1, 2), ("accuracy", "loss"), strict=True):
        training, validation = ([float(row[prefix + name]) for row in rows] for prefix in ("", "val_"))
        axes.plot(epochs, training, color=ORANGE, label="training (augmented)")
        axes.plot(epochs, validation, color=BLUE, label="validation")
        axes.set(xlabel="epoch", ylabel=name)
        axes.legend(frameon=False)
        _plain(axes)
    _save(figure, path)


def counts_chart(counts: Mapping[str, Sequence[int]], path: Path) -> None:
    """Pictures of each emotion; a row of seven counts a split."""
    figure, axes = _chart(6.4, 3.4)
    width = 0.8 / len(counts)
    for i, ((split, numbers), colour) in enumerate(zip(counts.items(), (BLUE, ORANGE), strict=False)):
        places = np.arange(len(EMOTIONS)) + (i - (len(counts) - 1) / 2) * width
        axes.bar_label(axes.bar(places, numbers, width, color=colour, label=split), fontsize=7)
    axes.set_xticks(range(len(EMOTIONS)), EMOTIONS)
    axes.set(ylabel="pictures")
    axes.legend(frameon=False)
    _plain(axes)
    _save(figure, path)


def faces_chart(faces: Mapping[str, np.ndarray], path: Path) -> None:
    """Grey pictures with their names, in rows."""
    down = -(-len(faces) // ACROSS)
    figure = _figure(1.05 * ACROSS, 1.25 * down)
    every = figure.subplots(down, ACROSS, squeeze=False).ravel()
    for axes in every:
        axes.axis("off")
    for axes, (name, face) in zip(every, faces.items(), strict=False):
        axes.imshow(face, cmap="gray", vmin=0, vmax=255)
        axes.set_title(name, fontsize=8)
    _save(figure, path)


def labels_chart(panels: Mapping[str, Mapping[str, int]], path: Path) -> None:
    """How many songs have each label; a panel of bars for each kind."""
    figure = _figure(8.4, 4.2)
    for axes, (kind, counts) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        bars = axes.barh(list(counts)[::-1], list(counts.values())[::-1], color=BLUE)
        axes.bar_label(bars, fontsize=7, padding=2)
        axes.set(xlabel="songs", title=kind)
        _plain(axes)
    _save(figure, path)


def features_chart(values: np.ndarray, features: Sequence[str], labels: np.ndarray, path: Path) -> None:
    """How each feature (n, k) is spread over the songs of each label (n,): quartiles, and the middle nine tenths."""
    names = list(np.unique(labels))
    figure = _figure(9.0, 8.0)
    for i, (axes, feature) in enumerate(zip(figure.subplots(-(-len(features) // 3), 3).ravel(), features, strict=True)):
        groups = [values[labels == name, i] for name in names]
        box = {"facecolor": PALE, "edgecolor": BLUE}
        axes.boxplot(
            groups,
            orientation="horizontal",
            whis=(5, 95),
            showfliers=False,
            patch_artist=True,
            boxprops=box,
            medianprops={"color": ORANGE},
            tick_labels=names,
        )
        axes.invert_yaxis()
        axes.set_title(feature, fontsize=9)
        axes.tick_params(labelsize=7)
        _plain(axes)
    _save(figure, path)


def map_chart(panels: Mapping[str, tuple[np.ndarray, np.ndarray]], path: Path) -> None:
    """Songs by valence and energy: for each source places (n, 2) and labels (n,), each label with its mean."""
    figure = _figure(9.0, 4.4)
    every = sorted({str(name) for _, labels in panels.values() for name in labels})
    colours = {name: f"C{i}" for i, name in enumerate(every)}
    for axes, (source, (places, labels)) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for name in np.unique(labels):
            mine = places[labels == name]
            axes.scatter(*mine.T, s=7, alpha=0.45, linewidths=0, color=colours[name])
            axes.scatter(*mine.mean(axis=0), s=110, marker="X", color=colours[name], edgecolors=INK, label=name)
        axes.set(xlabel="valence", ylabel="energy", title=source, xlim=(0, 1), ylim=(0, 1))
        axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.12), ncols=4)
        _plain(axes)
    _save(figure, path)


def _figure(width: float, height: float) -> Figure:
    """A figure of width x height inches."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DataError(
            f"charts need matplotlib ({error}): .venv/bin/python -m pip install -r requirements.txt"
        ) from error
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def _chart(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of width x height inches with one plain chart."""
    figure = _figure(width, height)
    axes = figure.subplots()
    _plain(axes)
    return figure, axes


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})  # or every matplotlib would give another file
