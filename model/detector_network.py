"""The network that finds faces: a BGR picture in, for every eighth pixel a score, a box and five landmarks out.

Free of any one backend's calls: it builds on TensorFlow, JAX or PyTorch (`KERAS_BACKEND`).
"""

from __future__ import annotations

import keras
from keras import layers

from model.detector import OUTPUTS

WIDTHS = (16, 24, 48, 96, 144)
BLOCKS = (0, 1, 1, 1)
MERGED = 64
PRIOR = 0.01  # score of every place before training: almost nothing is a face (Lin et al., "Focal Loss", 2017)


def build_detector(
    widths: tuple[int, ...] = WIDTHS, blocks: tuple[int, ...] = BLOCKS, merged: int = MERGED
) -> keras.Model:
    """Over (batch, height, width, 3) pixels, 0 to 255, BGR: (batch, height / 8, width / 8, 15).

    Both sides must be multiples of DEEPEST. Of each place, the outputs are the logit of being the middle of a
    face; the natural logarithms of the distances (left, top, right, bottom; in STRIDEs) to the sides of its box;
    and the landmarks, as shares of the box's width and height away from the place.

    Plain 3 x 3 convolutions, halved to DEEPEST with `blocks` residual blocks at each width after the first, then
    merged upwards into the finest map (Lin et al., "Feature Pyramid Networks", 2017).
    """
    pixels = keras.Input((None, None, 3), name="pixels")
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(pixels)
    x = _convolve(x, widths[0], "first", strides=2)
    maps = []
    for stage, (width, count) in enumerate(zip(widths[1:], blocks, strict=True), start=1):
        x = _convolve(x, width, f"stage_{stage}", strides=2)
        for block in range(1, count + 1):
            x = _residual(x, width, f"stage_{stage}_block_{block}")
        maps.append(x)
    *finer, x = maps[1:]
    x = _convolve(x, merged, "deepest", size=1)
    for level in reversed(range(len(finer))):
        across = _convolve(finer[level], merged, f"across_{level + 1}", size=1)
        x = layers.Add()([layers.UpSampling2D(2)(x), across])
    x = _convolve(x, merged, "merged")
    start = keras.initializers.Constant(_logit(PRIOR))
    score = layers.Conv2D(1, 1, bias_initializer=start, dtype="float32", name="score")(x)
    places = layers.Conv2D(OUTPUTS - 1, 1, dtype="float32", name="places")(x)
    return keras.Model(pixels, layers.Concatenate(dtype="float32")([score, places]), name="faces")


def _logit(share: float) -> float:
    return float(keras.ops.convert_to_numpy(keras.ops.log(share / (1 - share))))


def _convolve(
    x: keras.KerasTensor, width: int, name: str, strides: int = 1, size: int = 3, activate: bool = True
) -> keras.KerasTensor:
    x = layers.Conv2D(width, size, strides=strides, padding="same", use_bias=False, name=name)(x)
    x = layers.BatchNormalization(name=f"{name}_norm")(x)
    return layers.ReLU()(x) if activate else x


def _residual(x: keras.KerasTensor, width: int, name: str) -> keras.KerasTensor:
    y = _convolve(_convolve(x, width, f"{name}_a"), width, f"{name}_b", activate=False)
    return layers.ReLU()(layers.Add()([x, y]))
