"""An exported network in LiteRT, and what is said when it cannot be used."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

WEIGHTS = Path(__file__).parent / "weights"


class WeightsError(Exception):
    """A trained network cannot be used; the message says why and what to do."""


class LiteRTNetwork:
    """One network on one thread. Safe to call from several threads; calls with inputs of one shape take turns.

    For each shape of input there is an interpreter, because to change the shape costs more than to run; the
    SHAPES used last are kept.
    """

    SHAPES = 8

    def __init__(self, path: Path, remedy: str) -> None:
        if not path.exists():
            raise WeightsError(f"{path} is missing: restore it, or run {remedy}")
        self._content = path.read_bytes()
        self._interpreters: OrderedDict[tuple[int, ...], _Shaped] = OrderedDict()
        self._lock = Lock()
        try:
            _interpreter(self._content).get_input_details()[0]
        except (ValueError, RuntimeError, IndexError) as error:
            raise WeightsError(f"{path} is not a LiteRT network ({error}): export it again") from error

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """The first output for a float32 input; ValueError or RuntimeError when the network takes no such shape."""
        with self._lock:
            shaped = self._interpreters.pop(batch.shape, None) or _Shaped(self._content, batch.shape)
            self._interpreters[batch.shape] = shaped
            if len(self._interpreters) > self.SHAPES:
                self._interpreters.popitem(last=False)
        return shaped(batch)


class _Shaped:
    """An interpreter for inputs of one shape."""

    def __init__(self, content: bytes, shape: tuple[int, ...]) -> None:
        self._interpreter, self._lock = _interpreter(content), Lock()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]
        self._interpreter.resize_tensor_input(self._input, shape)
        self._interpreter.allocate_tensors()

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        with self._lock:
            self._interpreter.set_tensor(self._input, batch)
            self._interpreter.invoke()
            return np.array(self._interpreter.get_tensor(self._output))


def _interpreter(content: bytes) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(model_content=content, num_threads=1)


def read_card(path: Path) -> dict[str, Any]:
    """The JSON that an export writes beside a network; WeightsError when it is missing or broken."""
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsError(f"{path} is missing: restore it, or train and export (see the README)") from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} is not readable ({error}): restore it, or export again") from error
    if not isinstance(card, dict):
        raise WeightsError(f"{path} is not readable (no JSON object): restore it, or export again")
    return card
