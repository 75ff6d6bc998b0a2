"""Weights tied to their mirror image: a picture and its mirror image are answered alike, and stay so in training."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from model.mirror import Mirrored, tie
from model.network import build_network

WIDTHS, BLOCKS = (4, 6, 8), (1, 1)


@pytest.fixture
def pictures() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 255, (8, 48, 48, 1)).astype(np.float32)


def network() -> keras.Model:
    """A network none of whose weights are those that it would begin with."""
    rng, network = np.random.default_rng(7), build_network(WIDTHS, BLOCKS)
    network.set_weights([rng.uniform(0.1, 0.5, weights.shape) for weights in network.get_weights()])
    return network


def apart(network: keras.Model, pictures: np.ndarray) -> float:
    """How far answers to pictures and their mirror images are from each other, in what answers differ by."""
    ours, theirs = (np.asarray(network.predict(view, verbose=0)) for view in (pictures, pictures[:, :, ::-1]))
    return float(np.abs(ours - theirs).max() / ours.std(axis=0).min())


def test_a_tied_network_answers_a_picture_and_its_mirror_image_alike(pictures: np.ndarray) -> None:
    """Whatever its weights were; without ties the answers differ."""
    tied = network()
    assert apart(tied, pictures) > 0.1
    tie(tied)
    assert apart(tied, pictures) < 1e-3


def test_training_keeps_the_ties(pictures: np.ndarray) -> None:
    """All trained weights move and remain their own mirror image; without ties they do not."""
    moods = np.eye(7)[np.arange(len(pictures)) % 7]

    def trained(tied: bool) -> list[tuple[np.ndarray, np.ndarray]]:
        one = network()
        tie(one)
        ties = {weights.path: weights.constraint for weights in one.trainable_variables}
        for weights in one.trainable_variables:
            weights.constraint = weights.constraint if tied else None
        before = {weights.path: weights.numpy() for weights in one.trainable_variables}
        one.compile(keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=0.1), "mse", jit_compile=False)
        one.fit(pictures, moods, epochs=2, batch_size=4, verbose=0)
        after = [(weights.path, weights.numpy()) for weights in one.trainable_variables]
        assert all(np.abs(weights - before[path]).max() > 0 for path, weights in after)
        return [(weights, keras.ops.convert_to_numpy(ties[path](weights))) for path, weights in after]

    assert all(np.allclose(weights, image, atol=1e-5) for weights, image in trained(tied=True))
    assert not all(np.allclose(weights, image, atol=1e-5) for weights, image in trained(tied=False))


def test_the_nearest_mirrored_weights_are_their_own_mirror_image() -> None:
    """A kernel by hand, of one column a channel: the mean of each weight and its partner's flipped one."""
    kernel = np.arange(6, dtype=np.float32).reshape(1, 3, 1, 2)
    once = keras.ops.convert_to_numpy(Mirrored(paired=(3,), flipped=1)(kernel))
    np.testing.assert_array_equal(once[0, :, 0].T, [[2.5, 2.5, 2.5], [2.5, 2.5, 2.5]])
    rng = np.random.default_rng(1)
    other = rng.normal(size=(3, 3, 4, 6)).astype(np.float32)
    mirrored = Mirrored(paired=(2, 3), flipped=1)
    nearest = keras.ops.convert_to_numpy(mirrored(other))
    np.testing.assert_allclose(nearest[:, ::-1, [2, 3, 0, 1]][..., [3, 4, 5, 0, 1, 2]], nearest, atol=1e-6)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(mirrored(nearest)), nearest, atol=1e-6)


def test_channels_that_cannot_be_paired_are_refused() -> None:
    """An odd number of channels has no halves."""
    with pytest.raises(ValueError, match=r"first.*even"):
        tie(build_network((5, 6), (1,)))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras', while it saves
def test_files_of_a_tied_network_hold_plain_layers(pictures: np.ndarray, tmp_path: Path) -> None:
    """The file needs nothing of ours to be read, and answers both views alike."""
    tied = network()
    tie(tied)
    tied.save(tmp_path / "tied.keras")
    assert "Mirrored" not in tied.to_json()
    assert apart(keras.models.load_model(tmp_path / "tied.keras", compile=False), pictures) < 1e-3
