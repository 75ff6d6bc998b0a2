"""What the face detector is asked for at each place of its output, and the loss of what it answers."""

from __future__ import annotations

import math

import keras
import numpy as np
from keras import ops

from model.detector import STRIDE
from model.detector_set import Faces

# The layers of the targets: score, its weight, weight of box and landmarks, distances, landmarks, their weight.
LAYERS = 18
SPREAD = 0.54 / 6  # standard deviation of a face's peak, as a share of its box (TTFNet)
NARROWEST = 0.4  # places: the least standard deviation
WHOLE = 6.0  # places: a larger face is ignored in the middle half of what is seen of it
PEAK = 0.05  # of the peak's height: from here on, a place answers for the box and the landmarks too
BOX_WEIGHT, DISTANCE_WEIGHT, LANDMARK_WEIGHT = 2.0, 0.3, 2.0


def targets(faces: Faces, side: int) -> np.ndarray:
    """The targets (side / 8, side / 8, LAYERS) float32 for the faces of a scene of side x side pixels.

    A peak of 1 at the place of a face's middle, falling off around it, where box and landmarks are asked for
    as well (Liu et al., "Training-Time-Friendly Network for Real-Time Object Detection", 2020). Where a face is
    ignored, no score is asked for; of a large one, only around its middle: its parts are no faces. The smaller
    of two overlapping faces has the places of both.
    """
    places = side // STRIDE
    made = np.zeros((places, places, LAYERS), np.float32)
    made[..., 1] = 1.0
    for i in np.flatnonzero(faces.ignored):
        low = (faces.boxes[i, :2] / STRIDE).clip(0, places)
        size = ((faces.boxes[i, :2] + faces.boxes[i, 2:]) / STRIDE).clip(0, places) - low
        if max(size) > WHOLE:
            low, size = low + size / 4, size / 2
        made[_span(low[1], size[1], places), _span(low[0], size[0], places), 1] = 0.0
    boxes = faces.boxes
    for i in sorted(np.flatnonzero(~faces.ignored), key=lambda i: -boxes[i, 2] * boxes[i, 3]):
        _draw(made, boxes[i] / STRIDE, faces.landmarks[i] / STRIDE)
    return made


def _span(start: float, length: float, places: int) -> slice:
    return slice(max(0, math.floor(start)), min(places, max(0, math.ceil(start + length))))


def _draw(made: np.ndarray, box: np.ndarray, landmarks: np.ndarray) -> None:
    """One face, in places; its middle may lie a little outside the scene."""
    places = made.shape[0]
    middle = (box[:2] + box[2:] / 2).astype(int).clip(0, places - 1)
    spread = np.maximum(SPREAD * box[2:], NARROWEST)
    reach = np.ceil(3 * spread).astype(int)
    low, high = np.maximum(middle - reach, 0), np.minimum(middle + reach + 1, places)
    x, y = np.arange(low[0], high[0])[None, :], np.arange(low[1], high[1])[:, None]
    peak = np.exp(-((x - middle[0]) ** 2) / (2 * spread[0] ** 2) - (y - middle[1]) ** 2 / (2 * spread[1] ** 2))
    part = made[low[1] : high[1], low[0] : high[0]]
    part[..., 0] = np.maximum(part[..., 0], peak)
    made[middle[1], middle[0], 1] = 1.0
    asked = peak > PEAK
    across, down = np.broadcast_arrays(x + 0.5, y + 0.5)
    distances = np.stack([across - box[0], down - box[1], box[0] + box[2] - across, box[1] + box[3] - down], axis=-1)
    shares = (landmarks[None, None] - np.stack([across, down], axis=-1)[:, :, None]) / box[2:]
    known = np.isfinite(landmarks).all()
    part[asked, 2] = (peak / peak[asked].sum())[asked]
    part[asked, 3:7] = distances[asked].clip(0.1)
    part[asked, 7:17] = np.nan_to_num(shares.reshape(*asked.shape, 10))[asked]
    part[asked, 17] = part[asked, 2] * known


@keras.saving.register_keras_serializable(package="visage")  # type: ignore[untyped-decorator]
def detector_loss(asked: keras.KerasTensor, answered: keras.KerasTensor) -> keras.KerasTensor:
    """Of a batch, a face: focal loss of the scores, and the loss of boxes and landmarks."""
    answered = ops.cast(answered, "float32")
    heat, weight = asked[..., 0], asked[..., 1]
    faces = ops.maximum(ops.sum(ops.cast(heat >= 1.0, "float32")), 1.0)
    scores = ops.sum(weight * _focal(heat, answered[..., 0])) / faces
    log_distances = ops.clip(answered[..., 1:5], -3.0, 4.5)
    boxes = BOX_WEIGHT * (1.0 - _generalized_overlap(asked[..., 3:7], ops.exp(log_distances)))
    wanted = ops.log(ops.maximum(asked[..., 3:7], 0.1))
    boxes += DISTANCE_WEIGHT * ops.sum(ops.abs(log_distances - wanted), axis=-1)
    landmarks = LANDMARK_WEIGHT * ops.sum(ops.abs(answered[..., 5:15] - asked[..., 7:17]), axis=-1)
    return scores + ops.sum(asked[..., 2] * boxes + asked[..., 17] * landmarks) / faces


def _focal(heat: keras.KerasTensor, logits: keras.KerasTensor) -> keras.KerasTensor:
    """The focal loss around peaks: Zhou et al., "Objects as Points", 2019, equation 1."""
    share = ops.sigmoid(logits)
    hit = (1.0 - share) ** 2 * ops.softplus(-logits)
    miss = (1.0 - heat) ** 4 * share**2 * ops.softplus(logits)
    return ops.where(heat >= 1.0, hit, miss)


def _generalized_overlap(one: keras.KerasTensor, two: keras.KerasTensor) -> keras.KerasTensor:
    """GIoU (Rezatofighi et al., 2019) of two boxes given by four distances from the same place."""
    one = ops.maximum(one, 0.05)
    least, most = ops.minimum(one, two), ops.maximum(one, two)
    shared, around = _area(least), _area(most)
    union = _area(one) + _area(two) - shared
    return shared / union - (around - union) / around


def _area(distances: keras.KerasTensor) -> keras.KerasTensor:
    return (distances[..., 0] + distances[..., 2]) * (distances[..., 1] + distances[..., 3])
