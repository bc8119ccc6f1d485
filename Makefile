# Two commands matter: `make demo` and `make test`. Both set everything up first.
PY := .venv/bin/python
PYTHON ?= python3
# Importing through the installed name only: never let the root folder shadow `agents`, `runtime`, ...
export PYTHONSAFEPATH := 1

.PHONY: help setup browser models demo test figures-check check lint types types-tests imports bench parity peers chaos docs dist smoke clean

help:
	@echo "make demo   set up, then run a real optimisation on the embedded models (resumes, never damages)"
	@echo "make test   set up, then run all checks and tests"
	@echo "make figures-check  check the committed figures (CI runs it after make test)"
	@echo "make bench  run every bench_*.py in its quick form: figures as JSON lines (QUICK= for the full ones)"
	@echo "make parity compare scores with the official hpsv2 package (makes its environment, 1.5 GB)"
	@echo "make peers  race bigpe against GEPA, OPRO, EvoPrompt and CAPO (makes their environment; resumes)"
	@echo "make chaos  kill runs more than 200 times and compare their ends (20 minutes)"
	@echo "make docs   build the documentation as a site in build/site"
	@echo "make dist   build the sdist, and the wheel from it"
	@echo "make smoke  install wheel and sdist in a fresh environment and run them"

setup: .venv/.ready build/tree/bigpe

# torch goes first: newer releases than the constraint pull gigabytes of CUDA on Linux.
.venv/.ready: pyproject.toml constraints.txt
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

build/tree/bigpe: .venv/.ready pyproject.toml
	$(PY) scripts/link_tree.py
	touch $@

# The tests of the web pages use a real browser.
BROWSER := apt-get install -qq -y --no-install-recommends chromium
browser:
	@command -v chromium >/dev/null \
	|| { test "$$(id -u)" = 0 && { $(BROWSER) || { apt-get update -qq && $(BROWSER); }; }; } \
	|| { echo "the tests of the web pages need Chromium: apt-get install chromium"; exit 1; }

models: setup
	$(PY) -m bigpe models pull smollm2

demo: models
	$(PY) -m bigpe demo demo

# A worker more than two cores have: a quarter of the tests' time is waiting for other processes.
WORKERS := 3
# Compiled modules are kept, whatever the shell says: the tests start hundreds of processes.
test: models browser check
	env -u PYTHONDONTWRITEBYTECODE $(PY) -m pytest -q -n $(WORKERS) --dist worksteal --ignore tests/figures

# Committed figures and tables against their scripts and their bars.
figures-check: setup
	$(PY) -m pytest -q -n 2 --dist worksteal tests/figures

# Beside each other: pyright alone keeps one core busy.
check: setup
	@$(MAKE) --no-print-directory -j 3 --output-sync=target lint types imports

# Rules of prose and of layout: CONTRIBUTING.md.
PRODUCT := agents runtime services prompts
PROSE := docs/*.md README.md CONTRIBUTING.md
lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/codespell $(PRODUCT) $(PROSE)
	$(PY) -P scripts/lint_identifiers.py $(PRODUCT) tests scripts $(PROSE)
	$(PY) -P scripts/layout_check.py

types: setup
	.venv/bin/pyright --pythonpath $(PY)

# Tests and scripts in basic mode. Not part of `make test`, which it would make a minute longer.
types-tests: setup
	.venv/bin/pyright --project tests/pyrightconfig.json --pythonpath $(PY)

imports: setup
	PYTHONPATH=build/tree .venv/bin/lint-imports

# On stdout nothing but the figures, a JSON object a line. `make bench QUICK=` runs the full forms
# (hours); what the peers' race has shown is told, `make peers` runs it.
QUICK ?= --quick
BENCHES := llm embedded scorer pipeline store viewer
EMOJI := /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf
bench:
	@$(MAKE) -s models browser >&2
	@test -f $(EMOJI) || apt-get install -qq -y --no-install-recommends fonts-noto-color-emoji >&2 \
	|| { echo "bench_embedded paints with fonts-noto-color-emoji" >&2; exit 1; }
	@for name in $(BENCHES); do \
		echo "bench_$$name ..." >&2; $(PY) scripts benchmarks.bench_$$name $(QUICK) || exit 1; \
	done
	@$(PY) scripts peers.bench_peers --figures

parity: setup
	$(PY) scripts parity.scorer_parity

# What is missing of bench-dev; `python scripts peers.bench_peers --bench final` is the published figure.
peers: models
	$(PY) scripts peers.bench_peers

chaos: models
	$(PY) scripts chaos --kills 200 --embedded 24

# Broken links and pages that the navigation lacks are errors.
docs: setup
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --quiet --strict
	@echo "build/site/index.html"

dist: setup
	rm -rf build/lib build/bdist* dist
	$(PY) -m build --outdir dist .

# Not part of `make test`: it downloads all packages into a fresh environment.
smoke: dist
	.ci/smoke.sh

clean:
	rm -rf .venv build/tree build/lib build/bdist* dist *.egg-info
