"""How gunicorn serves the site: one worker, because one process owns the camera; threads for its viewers."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from app import check_settings

_settings = check_settings(os.environ)
_host = f"[{_settings['HOST']}]" if ":" in _settings["HOST"] else _settings["HOST"]

wsgi_app = "app:serve()"
bind = f"{_host}:{_settings['PORT']}"
workers = 1
worker_class = "gthread"
threads = _settings["VIEWERS"] + 8  # a stream holds a thread; the page's other requests need some too
preload_app = False  # a camera's threads do not survive a fork
graceful_timeout = 2
timeout = 30
loglevel = "warning"


def when_ready(server):
    print(f"Visage FM is at http://{bind} (Ctrl-C stops it)", flush=True)


def worker_exit(server, worker):
    if app := getattr(worker, "wsgi", None):  # None when it could not start
        app.extensions["visage"].close()
