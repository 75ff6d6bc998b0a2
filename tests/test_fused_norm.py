"""Batch normalisation in one operation: the same figures as in several."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from model.fused_norm import fuse_norms


@pytest.fixture
def pictures() -> np.ndarray:
    return np.random.default_rng(3).normal(5, 2, (16, 6, 6, 4)).astype(np.float32)


def network() -> keras.Model:
    """A normalisation whose scale and offset are not those it begins with."""
    inputs = keras.Input((6, 6, 4))
    norm = keras.layers.BatchNormalization(gamma_initializer="random_normal", beta_initializer="random_normal")
    model = keras.Model(inputs, norm(inputs))
    model.layers[-1].set_weights([w + 0.5 for w in model.layers[-1].get_weights()])
    return model


def pair() -> tuple[keras.Model, keras.Model]:
    plain, fused = network(), network()
    fused.set_weights(plain.get_weights())
    fuse_norms(fused)
    return plain, fused


def test_a_step_of_training_answers_and_remembers_the_same(pictures: np.ndarray) -> None:
    """Outputs, moving averages and, through a fit, every weight are those of Keras' own layer."""
    plain, fused = pair()
    answers = [keras.ops.convert_to_numpy(one(pictures, training=True)) for one in (plain, fused)]
    assert np.abs(answers[0] - pictures).max() > 1
    np.testing.assert_allclose(answers[1], answers[0], atol=1e-4)
    for one in (plain, fused):
        one.compile("sgd", "mse", jit_compile=False)
        one.fit(pictures, pictures, epochs=3, batch_size=8, shuffle=False, verbose=0)
    for theirs, ours in zip(plain.get_weights(), fused.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_what_is_not_trained_uses_the_averages(pictures: np.ndarray) -> None:
    """Outside training, and frozen, a fused layer answers by its moving averages and leaves them alone."""
    plain, fused = pair()
    expected = keras.ops.convert_to_numpy(plain(pictures, training=False))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(fused(pictures, training=False)), expected, atol=1e-5)
    before = fused.get_weights()
    fused.layers[-1].trainable = False
    np.testing.assert_allclose(keras.ops.convert_to_numpy(fused(pictures, training=True)), expected, atol=1e-5)
    for was, is_now in zip(before, fused.get_weights(), strict=True):
        np.testing.assert_array_equal(is_now, was)
