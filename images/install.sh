#!/bin/sh
# The packages of requirements.lock into /venv, by hash; the interpreter's own pip is not left behind.
set -eu
python3 -m venv /venv
/venv/bin/python -m pip install --quiet --no-deps --require-hashes --requirement requirements.lock
/venv/bin/python -m pip uninstall --quiet --yes pip
