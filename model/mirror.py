"""Tie a network to its mirror image while it learns: a face and its mirror image show one mood.

Half of the channels of every layer are kept to be what the other half is of the mirrored picture, so that the
network answers both alike, and learns from each picture what it would learn from two (Cohen and Welling, "Group
Equivariant Convolutional Networks", 2016, for the group of mirror images). The ties act on weights alone, after each
step of the optimizer: the network, and every file it is saved to, holds Keras' plain layers.
"""

from __future__ import annotations

import keras
from keras import layers


class Mirrored(keras.constraints.Constraint):
    """The mean of weights and their mirror image: columns of a kernel flipped, halves of the channels swapped.

    `flipped` is the axis of the columns, if there is one; `paired` are the axes of the channels, each of even size.
    The mean is the nearest weights (in squared distance) that are their own mirror image.
    """

    def __init__(self, paired: tuple[int, ...], flipped: int | None = None) -> None:
        self.paired, self.flipped = paired, flipped

    def __call__(self, weights: keras.KerasTensor) -> keras.KerasTensor:
        weights = keras.ops.convert_to_tensor(weights)
        image = weights if self.flipped is None else keras.ops.flip(weights, self.flipped)
        for axis in self.paired:
            image = keras.ops.roll(image, weights.shape[axis] // 2, axis)
        return (weights + image) / 2


def tie(network: keras.Model) -> None:
    """Make the weights of `network` their own mirror image, and keep them so while it is trained.

    ValueError when channels of a layer are odd in number.
    """
    for layer in network.layers:
        for weights in layer.weights:
            weights.constraint = _tie_of(layer, weights)
            if any(weights.shape[axis] % 2 for axis in weights.constraint.paired):
                raise ValueError(
                    f"{layer.name} has {tuple(weights.shape)} weights: give layers an even width to tie them"
                )
            weights.assign(weights.constraint(weights))


def _tie_of(layer: keras.layers.Layer, weights: keras.Variable) -> Mirrored:
    if isinstance(layer, layers.DepthwiseConv2D):
        return Mirrored(paired=(2,), flipped=1)
    if isinstance(layer, layers.Conv2D):
        return Mirrored(paired=(3,) if weights.shape[2] == 1 else (2, 3), flipped=1)
    if isinstance(layer, layers.Dense):
        return Mirrored(paired=(0,) if weights is layer.kernel else ())
    return Mirrored(paired=(0,))
