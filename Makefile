# Everything a newcomer types. `make setup` is all the set-up there is; the others run it first.
PYTHON ?= python3
STAMP := .venv/installed

.PHONY: setup demo check test bench gpu gpu-check storm cluster lock study-natural32 site verify-changed

setup: $(STAMP)

# The stamp is newer than the lock and the project file exactly when nothing has to be installed again.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is " + sys.version.split()[0] + ". Say which: make PYTHON=python3.12 setup")'
	@echo "Installing the locked packages into .venv (about 6.5 GB, 3-5 minutes, once)"
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# The demo keeps its records apart from the committed ones, so that a checkout stays as it was.
demo: setup
	.venv/bin/bench sweep demo --jobs 2 --records runs/demo/records
	.venv/bin/bench leaderboard --records runs/demo/records

# What a change is held to before the tests: lint, format, types; about half a minute.
check: setup
	.venv/bin/ruff check benchmark registry tests
	.venv/bin/ruff format --check benchmark registry tests
	.venv/bin/mypy

test: setup
	.venv/bin/python -m pytest -n auto --maxprocesses 8

# The leaderboard as pages for a browser: open build/site/index.html.
site: setup
	.venv/bin/bench site

# What this checkout's submissions and records say that BASE does not have, in four rising levels. It runs their code.
BASE ?= origin/main
verify-changed: setup
	.venv/bin/bench verify --changed $(BASE)

# 300 kills at file operations, a crowd on one row, a server that dies, a clock that jumps, a sweep of 100 rows: half an hour.
# It writes what came out into docs/reliability.md; the same command again goes on behind the last part that was done.
storm: setup
	OMP_NUM_THREADS=1 .venv/bin/python -m tests.storm.storm --keep runs/storm --write docs/reliability.md

# Side-by-side measurements, interleaved, medians; slow, and no part of the tests. The first line writes docs/performance.md.
bench: setup
	.venv/bin/python -m tests.perf.speed --write docs/performance.md
	.venv/bin/python -m pytest -o addopts= tests/perf

# FlexAttention assembled for an H100 (sm_90), without one: every rule of the registry, both passes, bf16 and fp32; minutes.
gpu-check: setup
	.venv/bin/python -m pytest -q -s -n 0 -o addopts= tests/gpu/compiled_for_sm90.py

# On a machine with a GPU: is it right, how fast is it, and the study on natural32, for half an hour; again: on from there. It writes
# docs/performance-gpu.md. Without a GPU it says so (exit code 3 of the script).
gpu: setup
	.venv/bin/python -m tests.gpu.measure --write docs/performance-gpu.md

# The suite mini on a Ray cluster of three nodes on this machine, one of them killed, against the local engine; minutes.
cluster: setup
	.venv/bin/python -m pytest -o addopts= -s tests/cluster_mini.py

# global against local_head on natural32, N = 1,000 and 10,000: about half an hour of one H100 (docs/training.md). The images
# must be there: bench data add natural32 --root PATH. The same command again resumes.
study-natural32: setup
	.venv/bin/bench sweep study_natural32 --jobs 1
	.venv/bin/bench leaderboard

# The lock: every package at one version with its hashes, for any platform.
lock:
	uv pip compile pyproject.toml --extra all --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --no-annotate --upgrade -o requirements.lock
