"""`python -m tests.golden`: the shipped networks, in Keras and in LiteRT, against their recorded answers."""

import logging

from model.export import check_golden
from model.recognizer import WEIGHTS

logging.basicConfig(level=logging.INFO, format="%(message)s")
check_golden(WEIGHTS)
