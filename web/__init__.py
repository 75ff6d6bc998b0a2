"""The parts of the website behind `app.py`."""
