"""Train the emotion network on FER2013: `python -m model.train --data fer2013.zip --ferplus ferplus.csv`.

A run lives in a folder of its own (`--out`): settings.json, files.json (digests of what it learns from), log.csv and
checkpoint.keras, which holds weights, optimizer and schedule; `--resume` continues it as if it had never stopped. The
shipped network is replaced only by `python -m model.export`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import math
import os
import re
import sys
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import keras
import numpy as np
from tqdm import tqdm

from model import fer2013
from model.augment import augment, no_faces
from model.emotions import EMOTIONS
from model.evaluate import load_network
from model.ferplus import Ballot, load_ballot
from model.fused_norm import fuse_norms
from model.mirror import tie
from model.network import BLOCKS, DROPOUT, WIDTHS, build_network, load_trained
from model.recognizer import Classifier, WeightsError, classify_in_batches

logger = logging.getLogger(__name__)
T = TypeVar("T")

MAY_BE_NONE = ("keep_from", "seed")  # of the whole numbers, which all others count something
SHARES = ("momentum", "label_share", "smoothing", "teacher_share", "dropout", "no_faces")
MOST = {**dict.fromkeys(SHARES, 1), "seed": 2**32 - 1}  # of a seed: what NumPy takes
CHOICES = {"votes": ("shares", "labels"), "precision": ("float32", "mixed_bfloat16", "mixed_float16")}


def setting(default: T, words: str) -> T:
    """A setting of a run, and what `--help` says of it."""
    return field(default=default, metadata={"help": words})


@dataclass(frozen=True)
class Settings:
    """Everything that decides what comes out of a run, saved beside its weights."""

    epochs: int = setting(40, "how often every picture is shown")
    batch: int = setting(128, "pictures a step")
    peak_rate: float = setting(0.1, "where the learning rate begins to fall, as half a cosine")
    last_rate: float = setting(0.0, "where it ends")
    warm_up: float = setting(1.0, "epochs in which it rises from nothing")
    momentum: float = setting(0.9, "of Nesterov's kind")
    weight_decay: float = setting(5e-3, "the share of a weight that a step takes off is this times the learning rate")
    label_share: float = setting(0.5, "of a target; the FER+ votes, where there are any, have the rest")
    votes: str = setting("labels", "what is asked of the votes: their shares, or the labels that such pictures have")
    smoothing: float = setting(0.0, "share of a target that all emotions have alike")
    teacher: str = setting("", "folders of exports, commas between, whose mean answers are part of each target")
    teacher_share: float = setting(0.5, "how much of it, where there is a teacher")
    widths: tuple[int, ...] = setting(WIDTHS, "channels")
    blocks: tuple[int, ...] = setting(BLOCKS, "residual blocks at each width but the first")
    dropout: float = setting(DROPOUT, "share of the last layer's inputs that are left out")
    augmentation: float = setting(1.0, "how far and how often pictures are changed")
    no_faces: float = setting(
        0.04, "share of pictures that show none, and ask for what teachers read and for all alike"
    )
    mixup: float = setting(0.2, "pictures are blended in pairs, by shares from a beta distribution of this; 0: not")
    rarity: float = setting(0.5, "rare emotions' pictures are shown (mean count / their count) ** this times; 0: once")
    start: str = setting("", "a .keras file to begin with the weights of: this network's, or one's with fewer blocks")
    keep_from: int = setting(0, "the epoch from which on weights are kept, for the mean that export takes; 0: none")
    precision: str = setting("float32", "of the arithmetic")
    seed: int = setting(2013, "of all that is drawn")


@keras.saving.register_keras_serializable(package="visage")
class WarmCosine(keras.optimizers.schedules.LearningRateSchedule):
    """A linear rise over `warm_up` steps, then half a cosine down to `last` at `steps`."""

    def __init__(self, peak: float, warm_up: int, steps: int, last: float = 0.0) -> None:
        self.peak, self.warm_up, self.steps, self.last = peak, warm_up, steps, last

    def __call__(self, step: keras.KerasTensor) -> keras.KerasTensor:
        step = keras.ops.cast(step, "float32")
        rise = (step + 1.0) / self.warm_up
        fall = 0.5 + 0.5 * keras.ops.cos(math.pi * (step - self.warm_up) / (self.steps - self.warm_up))
        return keras.ops.where(step < self.warm_up, self.peak * rise, self.last + (self.peak - self.last) * fall)

    def get_config(self) -> dict[str, float]:
        return {"peak": self.peak, "warm_up": self.warm_up, "steps": self.steps, "last": self.last}


class Batches(keras.utils.PyDataset):
    """Augmented batches; order and augmentation follow from seed, epoch and batch, so a resumed run repeats them."""

    def __init__(self, pixels: np.ndarray, targets: np.ndarray, settings: Settings, epoch: int = 0) -> None:
        super().__init__(workers=1)
        self.pixels, self.targets, self.settings, self.epoch = pixels, targets, settings, epoch
        self._teachers = teachers_of(settings)
        self._order = self._shuffled()

    def __len__(self) -> int:
        return len(self.pixels) // self.settings.batch

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        batch = self.settings.batch
        rows = self._order[index * batch : (index + 1) * batch]
        rng = np.random.default_rng([self.settings.seed, self.epoch, index])
        pictures, targets = self.pixels[rows], self.targets[rows]
        none = rng.random(batch) < self.settings.no_faces
        if none.any():
            pictures[none], targets[none] = no_faces(pictures[none], rng), 1 / targets.shape[1]
        pictures = augment(pictures, rng, self.settings.augmentation)[..., None].astype(np.float32)
        if self.settings.mixup:
            pictures, targets = blended(pictures, targets, self.settings.mixup, rng)
        return pictures, taught(targets, pictures, self._teachers, self.settings.teacher_share)

    def on_epoch_end(self) -> None:
        self.epoch += 1
        self._order = self._shuffled()

    def _shuffled(self) -> np.ndarray:
        return np.random.default_rng([self.settings.seed, self.epoch]).permutation(len(self.pixels))


class Progress(keras.callbacks.Callback):
    """One bar over the whole run, with the time left, and a plain line an epoch."""

    def __init__(self, epochs: int, steps: int, start: int) -> None:
        super().__init__()
        self.bar = tqdm(total=epochs * steps, initial=start * steps, unit="batch", mininterval=2, file=sys.stderr)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.bar.update()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        figures = "  ".join(f"{name} {value:.4f}" for name, value in (logs or {}).items())
        self.bar.write(f"epoch {epoch + 1:3d}  {figures}")

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        self.bar.close()


class Run(keras.callbacks.Callback):
    """The folder of a run: after each epoch, a row in log.csv, then a checkpoint moved into place whole.

    The checkpoint holds the count of its epochs, so that no kill can part them.
    """

    def __init__(self, folder: Path, seed: int, keep_from: int = 0) -> None:
        super().__init__()
        self.folder, self.seed, self.keep_from = folder, seed, keep_from

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.keras"

    def epochs_done(self) -> int:
        """How many epochs the checkpoint has seen; SystemExit when it is none."""
        try:
            with zipfile.ZipFile(self.checkpoint) as archive:
                return int(json.loads(archive.read("state.json"))["epochs_done"])
        except (zipfile.BadZipFile, KeyError) as error:
            raise SystemExit(f"{self.checkpoint} is no checkpoint of a run ({error}): choose another --out") from error

    def continue_in(self, network: keras.Model) -> None:
        """Give `network`, compiled but untrained, the checkpoint's weights and optimizer state.

        SystemExit when it is of another network.
        """
        try:
            saved = keras.models.load_model(self.checkpoint)
            if [type(one) for one in saved.operations] != [type(one) for one in network.operations]:
                raise ValueError("it was built otherwise")  # operations without weights differ unseen
            network.set_weights(saved.get_weights())
            network.optimizer.build(network.trainable_variables)
            for ours, theirs in zip(network.optimizer.variables, saved.optimizer.variables, strict=True):
                ours.assign(theirs)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise SystemExit(
                f"{self.checkpoint} cannot be continued by this network ({error}): choose another --out"
            ) from error

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        # A checkpoint does not hold the random state of dropout, so it follows from seed and epoch.
        for layer in self.model.layers:
            if isinstance(layer, keras.layers.Dropout) and layer.rate:
                layer.seed_generator.state.assign([self.seed, epoch])

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._log({"epoch": epoch + 1, **(logs or {})})
        unfinished = self.folder / "unfinished.keras"
        self.model.save(unfinished)
        with zipfile.ZipFile(unfinished, "a") as archive:
            archive.writestr("state.json", json.dumps({"epochs_done": epoch + 1}))
        if 0 < self.keep_from <= epoch + 1:
            self.model.save_weights(weights_of(self.folder, epoch + 1))
        os.replace(unfinished, self.checkpoint)

    def _log(self, row: dict[str, float]) -> None:
        """Add a row; one of the same epoch is of a training that was killed before its checkpoint, and goes."""
        path, unfinished = self.folder / "log.csv", self.folder / "unfinished.csv"
        before = path.read_text(encoding="utf-8").splitlines()[1:] if path.exists() else []
        kept = [line for line in before if int(line.split(",")[0]) < row["epoch"]]
        unfinished.write_text("\n".join([",".join(row), *kept, ",".join(map(str, row.values())), ""]), encoding="utf-8")
        os.replace(unfinished, path)


def weights_of(run: Path, epoch: int) -> Path:
    """Where the folder of a run keeps the weights of an epoch."""
    return run / f"epoch-{epoch:03d}.weights.h5"


def soft_targets(labels: np.ndarray, ballot: Ballot | None, settings: Settings) -> np.ndarray:
    """Targets (n, 7): label and vote shares mixed, smoothed; what people saw no face in tends to uniform."""
    uniform = np.full(len(EMOTIONS), 1 / len(EMOTIONS), np.float32)
    targets = np.eye(len(EMOTIONS), dtype=np.float32)[labels]
    if ballot:
        shares = ballot.expected_labels(labels) if settings.votes == "labels" else ballot.shares
        mixed = settings.label_share * targets + (1 - settings.label_share) * shares
        targets = np.where(shares.any(axis=1, keepdims=True), mixed, targets)
        targets += ballot.saw_no_face[:, None] / 10 * (uniform - targets)
    return (1 - settings.smoothing) * targets + settings.smoothing * uniform


def teachers_of(settings: Settings) -> list[Classifier]:
    """The networks that say part of each target; SystemExit when one reads no faces."""
    try:
        return [load_network(Path(file)) for file in settings.teacher.split(",") if file]
    except WeightsError as error:
        raise SystemExit(f"--teacher takes folders of exports: {error}") from error


def taught(targets: np.ndarray, pictures: np.ndarray, teachers: list[Classifier], share: float) -> np.ndarray:
    """Targets (n, 7) moved by `share` towards what trained networks read on the pictures (n, 48, 48, 1) on average.

    Less of a label is chance then: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015. Teachers see
    each picture as the network does, changed and blended, so that there is no answer to learn by heart: Beyer et al.,
    "Knowledge distillation: A good teacher is patient and consistent", 2022.
    """
    if not teachers:
        return targets
    # Of a few pictures at a time, what lies between two layers stays in the processor's cache.
    answers = [classify_in_batches(teacher, pictures, batch=4) for teacher in teachers]
    return (1 - share) * targets + share * np.mean(answers, axis=0)


def blended(
    pictures: np.ndarray, targets: np.ndarray, evenness: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Each picture (n, ...) blended with another, and their targets with it: Zhang et al., "mixup", 2018.

    A network asked for shares of what it sees learns wrong labels by heart less easily. `evenness`
    is the paper's alpha: small, and most pictures stay nearly as they are.
    """
    share = rng.beta(evenness, evenness, len(pictures)).astype(np.float32)
    other = rng.permutation(len(pictures))

    def blend(rows: np.ndarray) -> np.ndarray:
        ours = share.reshape(-1, *[1] * (rows.ndim - 1))
        return ours * rows + (1 - ours) * rows[other]

    return blend(pictures), blend(targets)


def repeated(labels: np.ndarray, rarity: float) -> np.ndarray:
    """Indices of pictures with such labels (n,), of rare emotions several times: see Settings.rarity."""
    counts = np.bincount(labels, minlength=len(EMOTIONS))
    times = (counts[counts > 0].mean() / np.maximum(counts, 1)) ** rarity
    times = np.maximum(1, np.rint(times)).astype(int)
    return np.repeat(np.arange(len(labels)), times[labels])


def agreed(targets: np.ndarray, photographs: np.ndarray) -> np.ndarray:
    """Targets (n, 7), of copies of one photograph their mean: they show one face, whatever each is labelled."""
    copies = np.bincount(photographs)
    mean = np.zeros((len(copies), targets.shape[1]), np.float32)
    np.add.at(mean, photographs, targets / copies[photographs, None])
    return mean[photographs]


def training_set(
    data: Path, ferplus: Path | None, settings: Settings, devices: int = 1
) -> tuple[np.ndarray, np.ndarray, fer2013.FaceSet]:
    """Training pictures and targets, without (near-)copies of validation pictures, and the validation set."""
    train, validation = fer2013.load(data, "train"), fer2013.load(data, "validation")
    copies = fer2013.near_copies(train.pixels, validation.pixels)
    logger.info("left out %d of %d training pictures that copy a validation picture", copies.sum(), len(train))
    if copies.all():
        raise fer2013.DataError(
            f"{data} trains and validates on the same pictures: give a folder with train/ and test/"
        )
    train = train.only(~copies)
    ballot = load_ballot(ferplus, train.names) if ferplus else None
    # Devices share each batch alike, so the last one must be a multiple of them.
    validation = validation.only(np.arange(len(validation) // devices * devices))
    targets = agreed(soft_targets(train.labels, ballot, settings), fer2013.photographs(train.pixels))
    rows = repeated(train.labels, settings.rarity)
    return train.pixels[rows], targets[rows], validation


def compiled(settings: Settings, steps_an_epoch: int) -> keras.Model:
    """A new network with its optimizer and schedule."""
    keras.mixed_precision.set_global_policy(settings.precision)
    network = build_network(settings.widths, settings.blocks, settings.dropout)
    fuse_norms(network)
    tie(network)
    steps, warm_up = settings.epochs * steps_an_epoch, max(1, int(settings.warm_up * steps_an_epoch))
    optimizer = keras.optimizers.SGD(
        WarmCosine(settings.peak_rate, warm_up, steps, settings.last_rate),
        momentum=settings.momentum,
        nesterov=True,
        weight_decay=settings.weight_decay,
    )
    optimizer.exclude_from_weight_decay(var_names=["beta", "gamma", "bias"])
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    network.compile(optimizer, loss, metrics=[keras.metrics.CategoricalAccuracy("accuracy")], jit_compile=False)
    return network


def begin_with(network: keras.Model, weights: Path) -> None:
    """Give the layers of `network` the weights of their namesakes in a trained one; others begin anew.

    SystemExit when the file is of a network of which `network` is no extension, or of none.
    """
    try:
        for layer in load_trained(weights).layers:
            if layer.weights:
                network.get_layer(layer.name).set_weights(layer.get_weights())
    except (OSError, ValueError) as error:
        raise SystemExit(f"{weights} cannot be started from ({error}): give a .keras file of this network") from error


def train(
    data: Path, ferplus: Path | None, out: Path, settings: Settings, resume: bool, devices: int = 1
) -> keras.Model:
    """Run or resume the training in `out` and return the trained network."""
    if settings.keep_from > settings.epochs:
        raise SystemExit(f"--keep-from is {settings.keep_from}: choose 1 to {settings.epochs}, the last epoch, or 0")
    if settings.batch % devices:
        raise SystemExit(f"--batch is {settings.batch}, which {devices} devices cannot share alike: choose a multiple")
    run = Run(out, settings.seed, settings.keep_from)
    teachers = {f"teacher {one}": Path(one) / "emotion.tflite" for one in filter(None, settings.teacher.split(","))}
    start = begin(run, settings, resume, {"data": data, "ferplus": ferplus, **teachers})
    keras.utils.set_random_seed(settings.seed)
    pixels, targets, validation = training_set(data, ferplus, settings, devices)
    if len(pixels) < settings.batch:
        raise SystemExit(f"{len(pixels)} training pictures fill no batch of {settings.batch}: choose a smaller --batch")
    batches = Batches(pixels, targets, settings, epoch=start)
    logger.info("%d pictures", len(pixels))
    held_back = validation.pixels[..., None].astype(np.float32), np.eye(len(EMOTIONS))[validation.labels]
    network = compiled(settings, len(batches))
    return fit(network, batches, run, settings, start, held_back, 256 // devices * devices)


def fit(
    network: keras.Model, batches: Any, run: Run, settings: Any, start: int, held_back: Any, batch: int
) -> keras.Model:
    """The network, trained from epoch `start` to the end; `held_back` is judged after each, `batch` at a time."""
    if start:
        run.continue_in(network)
    elif settings.start:
        begin_with(network, Path(settings.start))
    logger.info("%d parameters, %s", network.count_params(), keras.backend.backend())
    network.fit(
        batches,
        epochs=settings.epochs,
        initial_epoch=start,
        validation_data=held_back,
        validation_batch_size=batch,
        shuffle=False,  # Batches shuffle, by their seed; Keras would shuffle by a state that no checkpoint holds
        callbacks=[run, Progress(settings.epochs, len(batches), start)],
        verbose=0,
    )
    return network


def chosen_settings(chosen: argparse.Namespace, kind: Any) -> Any:
    """The settings of a `kind` that were given as flags; SystemExit when one is out of its range."""
    names = {field.name for field in fields(kind)}
    settings = kind(**{name: value for name, value in vars(chosen).items() if name in names})
    check(settings)
    return settings


def check(settings: Any) -> None:
    """SystemExit unless counts are at least one, no number is negative or above its MOST, and widths are even."""
    for name, value in vars(settings).items():
        least = int(isinstance(value, int) and name not in MAY_BE_NONE)
        most = MOST.get(name, sys.float_info.max)
        if isinstance(value, int | float) and not least <= value <= most:
            wanted = f"{least} to {most}" if name in MOST else f"{least} or more"
            raise SystemExit(f"{flag_of(name)} is {value}: choose {wanted}")
    if any(width < 2 or width % 2 for width in settings.widths):  # see model.mirror
        raise SystemExit(f"--widths is {','.join(map(str, settings.widths))}: choose even numbers, 2 or more")


def begin(run: Run, settings: Any, resume: bool, files: dict[str, Path | None]) -> int:
    """Make the run's folder, or check that it is the same run; the number of epochs already done.

    `files` are what it learns from, by the names of their flags.
    """
    saved, learnt_from = run.folder / "settings.json", run.folder / "files.json"
    ours = json.loads(json.dumps(asdict(settings)))
    digests = {name: digest(path) if path else "none" for name, path in files.items()}
    if resume:
        if not run.checkpoint.exists():
            raise SystemExit(f"nothing to resume in {run.folder}: start without --resume")
        begun, before = _saved(saved), _saved(learnt_from)
        others = [f"{flag_of(name)} {begun.get(name)}" for name in ours if begun.get(name) != ours[name]]
        others += [f"another --{name}" for name in digests if digests[name] and digests[name] != before.get(name)]
        if others:
            raise SystemExit(
                f"{run.folder} was begun with {', '.join(others)}: resume with that, or choose another --out"
            )
        return run.epochs_done()
    if run.checkpoint.exists():
        raise SystemExit(f"{run.folder} holds a run already: add --resume, or choose another --out")
    try:
        run.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SystemExit(f"{run.folder} cannot be made ({error}): choose another --out") from error
    saved.write_text(json.dumps(ours, indent=2))
    learnt_from.write_text(json.dumps(digests, indent=2))
    return 0


def _saved(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise SystemExit(
            f"{file} is missing or broken ({error}): put it back beside the checkpoint, or choose another --out"
        ) from error


def digest(path: Path) -> str | None:
    """The SHA-256 of a file, in hexadecimal digits; of a folder's pictures, by name and size; None for neither."""
    if path.is_dir():
        files = "".join(f"{one.relative_to(path)} {one.stat().st_size}\n" for one in fer2013.pictures_in(path))
        return hashlib.sha256(files.encode("utf-8", "surrogateescape")).hexdigest()
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def distribute() -> int:
    """Share each batch among all devices that Keras sees; how many those are. SystemExit where Keras cannot."""
    if keras.backend.backend() != "jax":  # on TensorFlow the training runs on one device, unsaid
        raise SystemExit("--distribute needs JAX: .venv/bin/python -m pip install jax, and set KERAS_BACKEND=jax")
    devices = keras.distribution.list_devices()
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
    return max(1, len(devices))


def add_settings(parser: argparse.ArgumentParser, settings: type) -> None:
    """A flag for each setting: of a number, of a name, or of several whole numbers with commas between."""
    for one in fields(settings):
        kind: Callable[[str], Any] = type(one.default)
        default, words = one.default, one.metadata["help"] + ("" if one.default == "" else " (%(default)s)")
        if isinstance(default, tuple):
            kind, default = as_many_as(default), ",".join(map(str, default))
        parser.add_argument(flag_of(one.name), type=kind, choices=CHOICES.get(one.name), default=default, help=words)


def flag_of(name: str) -> str:
    """The flag of a setting."""
    return "--" + name.replace("_", "-")


def as_many_as(numbers: tuple[int, ...]) -> Callable[[str], tuple[int, ...]]:
    """What reads a text of as many whole numbers, commas between, as these: the networks have fixed depths."""

    def read(text: str) -> tuple[int, ...]:
        if not re.fullmatch(rf"[0-9]+(,[0-9]+){{{len(numbers) - 1}}}", text):
            example = ",".join(map(str, numbers))
            raise argparse.ArgumentTypeError(
                f"{text!r} is not {len(numbers)} whole numbers with commas between, such as {example}"
            )
        return tuple(map(int, text.split(",")))

    return read


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m model.train", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="FER2013: a folder, a zip of it, or fer2013.csv")
    parser.add_argument("--ferplus", type=Path, help="FER+ votes (ferplus.csv)")
    parser.add_argument("--out", type=Path, default=Path("runs/emotions"), help="the folder of the run (%(default)s)")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out")
    parser.add_argument("--distribute", action="store_true", help="data-parallel on all devices (with JAX)")
    add_settings(parser, Settings)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    chosen = parse(arguments)
    settings = chosen_settings(chosen, Settings)
    devices = distribute() if chosen.distribute else 1
    try:
        train(chosen.data, chosen.ferplus, chosen.out, settings, chosen.resume, devices)
    except fer2013.DataError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
