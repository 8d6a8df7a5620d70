# Two commands for a fresh machine: `make demo` and `make test`. Both set up everything they need.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: venv demo weights test lint results studies clean

venv: $(STAMP)

# open3d's wheel loads libusb; everything else works without it, so a machine that forbids the install goes on.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("slamfeat needs Python 3.11 or newer; set PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@sh tools/system_packages.sh
	@touch $(STAMP)

demo: venv
	$(BIN)/slamfeat demo --out runs/demo

# The benchmark's peers; without a network their tests are skipped, so a failure is told and goes on.
weights: venv
	-$(BIN)/slamfeat weights get peers

test: venv lint weights
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -q

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

DATA ?= ../shared/data
BENCH := $(BIN)/slamfeat bench
# The committed tables; --out keeps the predictions, so that an interrupted run goes on.
results: venv weights
	$(BENCH) all $(DATA) --recipe configs/bench/test_split.yaml --out runs/bench/test_split
	$(BENCH) matching $(DATA)/kitti/01_first51 --recipe configs/bench/sanity.yaml --out runs/bench/sanity
	$(BIN)/python -m benchmarks.publish runs/bench/test_split --sanity runs/bench/sanity

# What was measured on train data and on synthetic scenes; needs the full-precision backbone, takes hours.
studies: venv
	$(BIN)/slamfeat weights get dinov2-vits14
	$(BIN)/python -m benchmarks.untrained $(DATA) --bf16 --out benchmarks/results/untrained
	$(BIN)/python -m benchmarks.relative_pose --out benchmarks/results/relative_pose

clean:
	rm -rf $(VENV) runs build dist *.egg-info
