# make run: the site. make test: the tests. make lint: the linters. Each installs what it needs.
PYTHON ?= python3
BIN := .venv/bin
# A virtual environment ends with the Python that it was made of: its packages are in a folder of that version.
ifneq ($(wildcard .venv),)
SITE := import os, sys; os.stat(sys.prefix + "/lib/python%d.%d/site-packages" % sys.version_info[:2])
ifneq ($(shell .venv/bin/python -c '$(SITE)' 2>/dev/null && echo fits),fits)
$(info .venv is of another Python, and is made anew)
$(shell rm -rf .venv)
endif
endif
CHROMIUM := $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)

# Install a Debian package, when root on Debian.
debian = { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && \
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(1) >/dev/null; }

# Some make virtual environments without it.
pip_there = $(BIN)/python -c 'import pip' 2>/dev/null || $(BIN)/python -m ensurepip >/dev/null

.PHONY: run serve test fuzz lint bench bench-visitors clean

run: .venv/serve
	$(BIN)/python app.py

# As many processes as there are cores, unless VISAGE_WORKERS, here or in .env, says otherwise.
ifeq ($(VISAGE_WORKERS)$(shell grep -sE '^ *(export )? *VISAGE_WORKERS *=' .env),)
serve: export VISAGE_WORKERS := 0
endif
serve: .venv/serve
	$(BIN)/python -m gunicorn -c gunicorn.conf.py

test: .venv/test browser nginx
	$(BIN)/python -m pytest

# The same fuzzing as in the tests, for longer.
fuzz: .venv/test
	HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest tests/test_fuzz.py $(ARGS)

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy

bench: .venv/test
	$(BIN)/python -m tests.bench $(ARGS)

# How many visitors this machine carries; ARGS="--soak 10000" for what stays in memory.
bench-visitors: .venv/test
	$(BIN)/python -m tests.bench_visitors $(ARGS)

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' || \
	  { echo "Visage FM needs Python 3.11 to 3.14: make PYTHON=python3.12 run"; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; $(call debian,python3-venv) && $(PYTHON) -m venv .venv; } || \
	  { rm -rf .venv; echo "No virtual environment could be made: apt install python3-venv, then again"; exit 1; }

# Compiled when first used: what is never used need not take its room.
.venv/serve: requirements-serve.txt | .venv/bin/python
	@$(pip_there)
	@echo "Installing what the site needs (370 MB): some minutes, once"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -r requirements-serve.txt
	@touch $@

.venv/test: requirements-test.txt requirements.txt requirements-serve.txt | .venv/bin/python
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info >= (3, 14))' || \
	  { echo "The tests and the training need Python 3.11 to 3.13: make clean, then make PYTHON=python3.13 test"; exit 1; }
	@$(pip_there)
	@echo "Installing what the tests and the training need (2.6 GB): some minutes, once"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-test.txt
	@touch $@ .venv/serve

# The browser tests drive Debian's Chromium; without it they are skipped by name.
.PHONY: browser
browser:
ifeq ($(CHROMIUM),)
	@$(call debian,chromium) || \
	  echo "No Chromium: the browser tests will be skipped. Install it with: sudo apt install chromium"
endif

# The tests of deploy/ run a real nginx; without it they are skipped by name.
.PHONY: nginx
nginx:
ifeq ($(shell command -v nginx || ls /usr/sbin/nginx 2>/dev/null),)
	@$(call debian,nginx-light) || \
	  echo "No nginx: the tests of deploy/ will be skipped. Install it with: sudo apt install nginx-light"
endif

clean:
	rm -rf .venv
