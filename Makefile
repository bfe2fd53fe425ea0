# Every target sets up what it needs in .venv first; only Python >= 3.11 and pip must be there.
PYTHON ?= python3
BIN := .venv/bin
TESTS ?= tests
.PHONY: demo dash test check coverage bench sanitize docs wheel

# A first answer: can 64 people use this model on these GPUs, how fast, at what cost?
demo: ; @$(PYTHON) tools/setup.py && $(BIN)/perfmodel plan llama-3.1-70b --on h100-sxm-80gb --users 64 --prompt 8192 --output 512 --ttft 2s --tpot 50ms --explain

# The explorer, in a browser.
dash: ; @$(PYTHON) tools/setup.py dash && $(BIN)/perfmodel dash

test: ; @$(PYTHON) tools/setup.py dev && $(BIN)/python -m pytest -n auto --dist worksteal -m "not slow" $(TESTS)

# Everything, the slow tests and the long fuzzing runs too.
check: ; @$(PYTHON) tools/setup.py dev && $(BIN)/python -m pytest -n auto --dist worksteal --hypothesis-profile=check $(TESTS)

# Branch coverage of formulas and readers; fails under 92 %.
coverage: ; @$(PYTHON) tools/setup.py dev && mkdir -p .cache && $(BIN)/python -m pytest -q -n auto -m "not slow" --cov=perfmodel --cov-branch --cov-report=json:.cache/coverage.json $(TESTS) && $(BIN)/python tools/branches.py .cache/coverage.json

bench: ; @$(PYTHON) tools/setup.py dev && mkdir -p .benchmarks && $(BIN)/python -m pytest tests/bench --benchmark-only --benchmark-json=.benchmarks/bench.json

# Kernels under compute-sanitizer (memcheck, racecheck); says so where this machine refuses it.
sanitize: ; @$(PYTHON) tools/setup.py dev && $(BIN)/python -m refkernels.check --sanitize

# Paste what the program prints today into the documents, and build the site (site/index.html).
docs: ; @$(PYTHON) tools/setup.py dev && $(BIN)/python tools/docs.py && NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

wheel: ; @$(PYTHON) tools/setup.py dev && $(BIN)/python -m hatchling build
