"""Turn a trained run into the files that the site serves: `python -m model.export --run runs/emotions --data ...`.

Writes weights/emotion.keras (the network with its probabilities), emotion.tflite (LiteRT,
dynamic-range quantised), golden.npz (pictures and their answers) and emotion.json (labels,
settings, data, figures). They are made beside and checked, and moved into place when all four are good.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import cv2
import keras
import numpy as np
from scipy.special import softmax  # type: ignore[import-untyped]  # it has no type hints

from model import fer2013
from model.augment import augment
from model.demo import LOOP_SECONDS, demo_frame
from model.emotions import EMOTIONS
from model.faces import to_grey
from model.figures import Report, expected_calibration_error, fitted_temperature, report
from model.mirror import tie
from model.network import build_network, load_trained, with_probabilities
from model.recognizer import WEIGHTS, KerasClassifier, LiteRTClassifier, classify_in_batches
from model.train import Settings, blended, digest, weights_of

logger = logging.getLogger(__name__)

T = TypeVar("T")

GOLDEN = 64  # pictures whose answers are kept: of the demo's faces, which are nobody's
LITERT_TOLERANCE = 0.08  # in probability, of any class of any golden picture, for the quantised file
NORM_PICTURES = 6000  # by which means and variances inside the network are measured anew for averaged weights
NORM_BATCH = 500
LITERT_COST = 0.003  # of validation accuracy, at most, for the quantised file
FILES = ("emotion.keras", "emotion.tflite", "golden.npz", "emotion.json")


class ExportError(Exception):
    """The export would not answer as the network does; nothing was replaced."""


def check_place(out: Path) -> None:
    """ExportError, before any work, where the files could not be made, or not be put."""
    if keras.backend.backend() != "tensorflow":
        raise ExportError("LiteRT files are made by TensorFlow: set KERAS_BACKEND=tensorflow, or leave it out")
    if out.exists() and not out.is_dir():
        raise ExportError(f"{out} is a file: choose another --out")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-"):
            pass
    except OSError as error:
        raise ExportError(f"{out} cannot be written ({error}): choose another --out") from error


def check_data(run: Path, data: Path) -> None:
    """ExportError unless a run learnt from `data`: on its own training pictures a network would seem to know all."""
    try:
        learnt_from = json.loads((run / "files.json").read_text(encoding="utf-8"))["data"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(f"{run} does not say what it learnt from ({error}): put its files.json back") from error
    if digest(data) not in (None, learnt_from):
        raise ExportError(f"{run} learnt from other data than {data}: give the same --data")


def settings_of(run: Path, kind: Callable[..., T], none: str, remedy: str) -> T:
    """The settings, of a `kind`, that a run began with; ExportError, with the remedy, when there are `none`."""
    try:
        saved = json.loads((run / "settings.json").read_text(encoding="utf-8"))
        return kind(**{**saved, "widths": tuple(saved["widths"]), "blocks": tuple(saved["blocks"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(f"{none} at {run} ({error}): {remedy}") from error


def trained_network(checkpoint: Path, build: Callable[[], keras.Model], whose: str) -> keras.Model:
    """A float32 network from `build` with the checkpoint's weights; ExportError when they are not `whose`."""
    keras.mixed_precision.set_global_policy("float32")
    try:
        network = build()
        network.set_weights(load_trained(checkpoint).get_weights())
    except (OSError, ValueError) as error:
        raise ExportError(f"{checkpoint} is not a checkpoint of {whose}: {error}") from error
    return network


def averaged(network: keras.Model, run: Path, first: int) -> keras.Model:
    """The network with the mean of the weights that a run kept from epoch `first` on.

    The mean lies deeper in the valley that training at a high rate walks along: Izmailov et al., "Averaging Weights
    Leads to Wider Optima and Better Generalization", 2018. ExportError when nothing was kept.
    """
    kept = [file for file in sorted(run.glob("epoch-*.weights.h5")) if file >= weights_of(run, first)]
    if not kept:
        raise ExportError(f"{run} keeps no weights of epoch {first} or later: train with --keep-from, or choose others")
    total = [np.zeros_like(weights) for weights in network.get_weights()]
    for file in kept:
        try:
            network.load_weights(file)
        except (OSError, ValueError) as error:
            raise ExportError(f"{file} holds no weights of this network ({error}): delete it") from error
        total = [one + other for one, other in zip(total, network.get_weights(), strict=True)]
    network.set_weights([weights / len(kept) for weights in total])
    return network


def with_new_norms(network: keras.Model, pictures: np.ndarray) -> keras.Model:
    """The network, means and variances of its batch normalisation measured anew on `pictures` (n, 48, 48, 1).

    Weights average; these do not (Izmailov et al., 2018).
    """
    norms = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for number, start in enumerate(range(0, len(pictures), NORM_BATCH)):
        for norm in norms:
            norm.momentum = number / (number + 1)
        network(pictures[start : start + NORM_BATCH], training=True)
    return network


def mixed(network: keras.Model, other: Path, share: float) -> keras.Model:
    """The network with its weights moved by `share` towards those of `other`, a .keras file that it began with.

    What lies between the two can read new faces better than either: Wortsman et al., "Robust fine-tuning of
    zero-shot models", 2022. ExportError when `other` is of another network.
    """
    try:
        weights = load_trained(other).get_weights()
        pairs = zip(network.get_weights(), weights, strict=True)
        network.set_weights([(1 - share) * ours + share * theirs for ours, theirs in pairs])
    except (OSError, ValueError) as error:
        raise ExportError(f"{other} cannot be mixed in: it is not of this network ({error})") from error
    return network


def to_litert(network: keras.Model) -> bytes:
    """The network as a LiteRT file with weights in int8 and activations in float32."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        network.export(folder, format="tf_saved_model", verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        return bytes(converter.convert())


def golden_pictures(seed: int) -> np.ndarray:
    """GOLDEN pictures (n, 48, 48) uint8 of the demo's faces, moved, lit and blurred as in training."""
    side = min(demo_frame(0).shape[:2])
    crops = []
    for at in np.linspace(0, LOOP_SECONDS, GOLDEN, endpoint=False):
        frame = to_grey(demo_frame(float(at)))
        left = (frame.shape[1] - side) // 2
        crops.append(cv2.resize(frame[:, left : left + side], (48, 48), interpolation=cv2.INTER_AREA))
    return augment(np.stack(crops), np.random.default_rng(seed))


def check_golden(folder: Path) -> None:
    """Raise ExportError unless both files in `folder` answer the golden pictures as recorded."""
    with np.load(folder / "golden.npz") as golden:
        pixels, expected = golden["pixels"], golden["probabilities"]
    for classifier, tolerance in ((KerasClassifier, 1e-3), (LiteRTClassifier, LITERT_TOLERANCE)):
        answers = classify_in_batches(classifier(folder), pixels)
        off = float(np.abs(answers - expected).max())
        if not off <= tolerance:
            raise ExportError(f"{classifier.__name__} is off by {off:.4f} in probability, more than {tolerance}")
        logger.info("%s: off by at most %.5f on %d golden pictures", classifier.__name__, off, len(pixels))


def norm_pictures(data: Path, settings: Settings) -> np.ndarray:
    """NORM_PICTURES training pictures (n, 48, 48, 1) float32, changed and blended as in training."""
    pixels, rng = fer2013.load(data, "train").pixels, np.random.default_rng(settings.seed)
    chosen = rng.permutation(pixels)[:NORM_PICTURES]
    pictures = augment(chosen, rng, settings.augmentation)[..., None].astype(np.float32)
    nothing = np.empty((len(pictures), 0))
    return blended(pictures, nothing, settings.mixup, rng)[0] if settings.mixup else pictures


def export(
    run: Path, data: Path, out: Path, mean_from: int = 0, mix: Path | None = None, share: float = 0.0
) -> dict[str, Any]:
    """Make, check and move the four files from a run; what emotion.json says.

    The network is that of the checkpoint, or of the mean of what was kept from epoch `mean_from` on; `share` of
    `mix` is mixed in.
    """
    check_place(out)
    settings = settings_of(run, Settings, "no run", "train first with .venv/bin/python -m model.train")
    network = trained_network(
        run / "checkpoint.keras",
        lambda: build_network(settings.widths, settings.blocks, settings.dropout),
        "this network",
    )
    check_data(run, data)
    if mean_from:
        network = averaged(network, run, mean_from)
    if mix:
        network = mixed(network, mix, share)
    if mean_from or mix:
        network = with_new_norms(network, norm_pictures(data, settings))
    tie(network)  # means and variances inside are measured, and of two halves that should be alike never quite are
    validation = fer2013.load(data, "validation")
    logits = network.predict(validation.pixels[..., None].astype(np.float32), batch_size=256, verbose=0)
    temperature = fitted_temperature(logits, validation.labels)
    errors = [expected_calibration_error(softmax(logits / t, axis=1), validation.labels) for t in (1, temperature)]
    logger.info("temperature %.3f, calibration error %.4f -> %.4f", temperature, *errors)
    with put_in_place(out, FILES) as folder:
        _write_networks(network, temperature, golden_pictures(settings.seed), folder)
        check_golden(folder)
        card = _card(run, settings, temperature, data, _measured(folder, validation))
        card |= {"mean_from": mean_from, "mixed_in": share}
        _check_cost(card)
        (folder / "emotion.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return card


@contextmanager
def put_in_place(out: Path, files: Iterable[str]) -> Iterator[Path]:
    """A folder to make `files` in; at the end they move to `out`, after an error none does."""
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as beside:
        yield Path(beside)
        out.mkdir(exist_ok=True)
        for file in files:
            os.replace(Path(beside) / file, out / file)


def _check_cost(card: dict[str, Any]) -> None:
    cost = card["float32_accuracy"] - card["validation"]["accuracy"]
    if cost > LITERT_COST:
        raise ExportError(f"quantisation costs {100 * cost:.2f} points of accuracy, more than {100 * LITERT_COST:.1f}")


def _write_networks(network: keras.Model, temperature: float, pixels: np.ndarray, folder: Path) -> None:
    final = with_probabilities(network, temperature)
    final.save(folder / "emotion.keras", include_optimizer=False)
    (folder / "emotion.tflite").write_bytes(to_litert(final))
    answers = final.predict(pixels[..., None].astype(np.float32), verbose=0)
    np.savez_compressed(folder / "golden.npz", pixels=pixels, probabilities=answers)


def _measured(folder: Path, validation: fer2013.FaceSet) -> dict[str, Report]:
    """Figures of the shipped file, and of the float32 network beside it."""
    return {
        name: report(classify_in_batches(classifier(folder), validation.pixels), validation.labels)
        for name, classifier in (("litert", LiteRTClassifier), ("keras", KerasClassifier))
    }


def _card(run: Path, settings: Settings, temperature: float, data: Path, reports: dict[str, Report]) -> dict[str, Any]:
    shipped = reports["litert"]
    return {
        "labels": list(EMOTIONS),
        "input": "48 x 48 grey pixels, 0 to 255, float32; stretched where they are dull, and rescaled, inside",
        "settings": json.loads((run / "settings.json").read_text(encoding="utf-8")),
        "seed": settings.seed,
        "temperature": round(temperature, 4),
        "data": {"file": data.name, "sha256": digest(data)},
        "validation": shipped.as_dict(),
        "float32_accuracy": round(reports["keras"].accuracy, 4),
    }


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(prog="python -m model.export", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/emotions"), help="the folder of the run (%(default)s)")
    parser.add_argument("--data", type=Path, required=True, help="FER2013: a folder, a zip of it, or fer2013.csv")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="where the files go (%(default)s)")
    parser.add_argument("--mean-from", type=int, default=0, help="export the mean of what was kept from this epoch on")
    parser.add_argument("--mix", type=Path, help="a .keras file that the run began with, to mix its weights in")
    parser.add_argument("--share", type=float, default=0.0, help="how much of --mix, above 0 to 1")
    chosen = parser.parse_args(arguments)
    if not 0 <= chosen.share <= 1:
        parser.error(f"--share is {chosen.share}: choose 0 to 1")
    if bool(chosen.mix) != bool(chosen.share):
        parser.error("--mix and --share go together: give both or neither")
    if chosen.mean_from < 0:
        parser.error(f"--mean-from is {chosen.mean_from}: choose an epoch, or 0 for no mean")
    try:
        card = export(chosen.run, chosen.data, chosen.out, chosen.mean_from, chosen.mix, chosen.share)
    except (ExportError, fer2013.DataError) as error:
        raise SystemExit(str(error)) from error
    logger.info("validation accuracy %.2f %%, in %s", 100 * card["validation"]["accuracy"], chosen.out)


if __name__ == "__main__":
    main()
