"""The network that reads faces: raw 48 x 48 grey pixels in, seven logits or probabilities out.

Free of any one backend's calls: it builds on TensorFlow, JAX or PyTorch (`KERAS_BACKEND`).
"""

from __future__ import annotations

from pathlib import Path

import keras
from keras import layers

from model.emotions import EMOTIONS

FACE_SIZE = 48
WIDTHS = (32, 64, 128, 256)
BLOCKS = (1, 2, 1)  # at each width after the first
DROPOUT = 0.3
SPREAD = 50.0  # grey levels, a standard deviation: what a picture with less is stretched to
MOST_GAIN = 4.0


def build_network(
    widths: tuple[int, ...] = WIDTHS, blocks: tuple[int, ...] = BLOCKS, dropout: float = DROPOUT
) -> keras.Model:
    """A small residual network over (batch, 48, 48, 1) grey pixels, 0 to 255, giving (batch, 7) logits.

    Pixels are rescaled inside, so that what the network expects of them travels with it. Each
    width after the first halves the picture; `blocks` residual blocks follow at that width (He et
    al., "Deep Residual Learning for Image Recognition", 2016, in the plain two-convolution form).
    What is left of the picture is averaged with learned weights, for a mouth is not where a brow is
    (global depthwise convolution: Chen et al., "MobileFaceNets", 2018). Blocks begin as the
    identity and the average as the plain one, so a deeper network can begin where another ended.
    """
    pixels = keras.Input((FACE_SIZE, FACE_SIZE, 1), name="pixels")
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(_stretched(pixels))
    x = _convolve(x, widths[0], "first")
    for stage, (width, count) in enumerate(zip(widths[1:], blocks, strict=True), start=1):
        x = _convolve(x, width, f"stage_{stage}", strides=2)
        for block in range(1, count + 1):
            x = _residual(x, width, f"stage_{stage}_block_{block}")
    x = _pooled(x)
    x = layers.Dropout(dropout)(x)
    logits = layers.Dense(len(EMOTIONS), dtype="float32", name="logits")(x)
    return keras.Model(pixels, logits, name="emotions")


def load_trained(path: Path) -> keras.Model:
    """The network in a .keras file, not compiled; OSError or ValueError when there is none in it."""
    try:
        return keras.models.load_model(path, compile=False)
    except (KeyError, TypeError) as error:  # of a zip that is no network, and of layers that are not Keras' own
        raise ValueError(str(error)) from error


def with_probabilities(network: keras.Model, temperature: float = 1.0) -> keras.Model:
    """The same network, its logits divided by `temperature` and turned into probabilities.

    Temperature scaling makes a confidence true: Guo et al., "On Calibration of Modern Neural
    Networks", 2017. Weights are shared, in float32.
    """
    scaled = layers.Rescaling(1 / temperature, name="temperature")(network.output)
    return keras.Model(network.input, layers.Softmax(name="probabilities")(scaled), name="emotions")


def _stretched(pixels: keras.KerasTensor) -> keras.KerasTensor:
    """Dark and flat pictures with the contrast, around the middle grey, that others have; clear ones as they are.

    Between the two there is no step, for somebody who moves in front of a lamp would see the mood jump at it.
    """
    ops, sides = keras.ops, (1, 2, 3)
    mean = ops.mean(pixels, axis=sides, keepdims=True)
    spread = ops.sqrt(ops.mean(ops.square(pixels - mean), axis=sides, keepdims=True))
    gain = ops.maximum(SPREAD / ops.maximum(spread, SPREAD / MOST_GAIN), 1.0)
    centre = mean + (127.5 - mean) * ops.minimum(gain - 1.0, 1.0)
    return ops.clip((pixels - mean) * gain + centre, 0.0, 255.0)


def _convolve(
    x: keras.KerasTensor, width: int, name: str, strides: int = 1, last_of_block: bool = False
) -> keras.KerasTensor:
    size = 3 if strides == 1 else 4  # 3 would take an even picture's columns from the left alone
    x = layers.Conv2D(width, size, strides=strides, padding="same", use_bias=False, name=name)(x)
    x = layers.BatchNormalization(gamma_initializer="zeros" if last_of_block else "ones", name=f"{name}_norm")(x)
    return x if last_of_block else layers.ReLU()(x)


def _residual(x: keras.KerasTensor, width: int, name: str) -> keras.KerasTensor:
    y = _convolve(_convolve(x, width, f"{name}_a"), width, f"{name}_b", last_of_block=True)
    return layers.ReLU()(layers.Add()([x, y]))


def _pooled(x: keras.KerasTensor) -> keras.KerasTensor:
    side = x.shape[1]
    mean = keras.initializers.Constant(1 / side**2)
    x = layers.DepthwiseConv2D(side, use_bias=False, depthwise_initializer=mean, name="pooled")(x)
    return layers.Flatten()(x)
