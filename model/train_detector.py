"""Train the face detector: `python -m model.train_detector --data faces.zip`.

`--data` is a folder or a zip with labels.csv (see model.detector_set). A run lives in a folder of its own, as
the emotion network's does (see model.train); `--resume` continues it as if it had never stopped. The shipped
detector is replaced only by `python -m model.export_detector`.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import keras
import numpy as np

from model.detector import DEEPEST
from model.detector_network import BLOCKS, MERGED, WIDTHS, build_detector
from model.detector_scenes import TILT, Album, Patch, make_scene
from model.detector_set import LabelError, load, load_patches
from model.detector_targets import detector_loss, targets
from model.fused_norm import fuse_norms
from model.train import Run, WarmCosine, add_settings, begin, chosen_settings, fit, setting

logger = logging.getLogger(__name__)

VALIDATION_SCENES = 192


@dataclass(frozen=True)
class Settings:
    """Everything that decides what comes out of a run, saved beside its weights."""

    epochs: int = setting(50, "rounds of scenes")
    scenes: int = setting(8000, "made for an epoch")
    batch: int = setting(32, "scenes a step")
    side: int = setting(160, "of a scene, pixels")
    tilt: float = setting(TILT, "the standard deviation of a face's roll, degrees")
    peak_rate: float = setting(2e-3, "where the learning rate begins to fall to nothing, as half a cosine")
    warm_up: float = setting(1.0, "epochs in which it rises from nothing")
    weight_decay: float = setting(0.02, "the share of a weight that a step takes off is this times the learning rate")
    widths: tuple[int, ...] = setting(WIDTHS, "channels")
    blocks: tuple[int, ...] = setting(BLOCKS, "residual blocks at each width but the first")
    merged: int = setting(MERGED, "channels where the sizes meet")
    start: str = setting("", "a .keras file of this network whose weights the run begins with")
    hard: str = setting("", "a table of what was taken for faces, from model.mine_detector")
    missed: str = setting("", "a table of faces that were missed, from model.mine_detector")
    precision: str = setting("float32", "of the arithmetic")
    seed: int = setting(2013, "of all that is drawn")


class Batches(keras.utils.PyDataset):
    """Batches of new scenes; they follow from seed, epoch and place, so a resumed run repeats them."""

    def __init__(self, album: Album, settings: Settings, epoch: int = 0) -> None:
        super().__init__(workers=1)
        self.album, self.settings, self.epoch = album, settings, epoch

    def __len__(self) -> int:
        return max(1, self.settings.scenes // self.settings.batch)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([self.settings.seed, self.epoch, index])
        return scenes(self.album, self.settings.batch, self.settings.side, rng)

    def on_epoch_end(self) -> None:
        self.epoch += 1


def scenes(album: Album, count: int, side: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (count, side, side, 3) float32 of new scenes, and the targets for them."""
    made = [make_scene(album, side, rng) for _ in range(count)]
    return np.stack([pixels for pixels, _ in made]).astype(np.float32), np.stack([targets(f, side) for _, f in made])


def compiled(settings: Settings) -> keras.Model:
    """A new network with its optimizer and schedule."""
    keras.mixed_precision.set_global_policy(settings.precision)
    network = build_detector(settings.widths, settings.blocks, settings.merged)
    fuse_norms(network)
    steps_an_epoch = max(1, settings.scenes // settings.batch)
    steps, warm_up = settings.epochs * steps_an_epoch, max(1, int(settings.warm_up * steps_an_epoch))
    optimizer = keras.optimizers.AdamW(
        WarmCosine(settings.peak_rate, warm_up, steps), weight_decay=settings.weight_decay, global_clipnorm=10.0
    )
    optimizer.exclude_from_weight_decay(var_names=["beta", "gamma", "bias"])
    network.compile(optimizer, detector_loss, jit_compile=False)
    return network


def train(data: Path, out: Path, settings: Settings, resume: bool) -> keras.Model:
    """Run or resume the training in `out` and return the trained network."""
    if settings.side % DEEPEST:
        raise SystemExit(f"--side is {settings.side}: choose a multiple of {DEEPEST}")
    run = Run(out, settings.seed)
    pictures = load(data, "train")
    hard, missed = (
        [Patch(*one) for one in load_patches(Path(table), pictures)] if table else []
        for table in (settings.hard, settings.missed)
    )
    album, known = Album(pictures, hard, settings.tilt, missed), Album(load(data, "val"))
    start = begin(run, settings, resume, {"data": data})
    keras.utils.set_random_seed(settings.seed)
    cv2.setNumThreads(1)
    logger.info("%d pictures, %d hard places and %d missed faces", len(pictures), len(hard), len(missed))
    count = min(VALIDATION_SCENES, settings.scenes)
    held_back = scenes(known, count, settings.side, np.random.default_rng(settings.seed))
    network, batches = compiled(settings), Batches(album, settings, epoch=start)
    return fit(network, batches, run, settings, start, held_back, settings.batch)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m model.train_detector", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="a folder or a zip with labels.csv and pictures")
    parser.add_argument("--out", type=Path, default=Path("runs/detector"), help="the folder of the run (%(default)s)")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out")
    add_settings(parser, Settings)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    chosen = parse(arguments)
    settings = chosen_settings(chosen, Settings)
    try:
        train(chosen.data, chosen.out, settings, chosen.resume)
    except LabelError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
