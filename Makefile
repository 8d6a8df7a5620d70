# Two commands for a fresh machine: `make demo` and `make test`. Both set up everything they need.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: venv demo weights test lint results clean

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
results: venv
	$(BIN)/slamfeat weights get dinov2-vits14
	$(BIN)/python -m benchmarks.untrained $(DATA) --bf16 --out benchmarks/results/untrained
	$(BIN)/python -m benchmarks.relative_pose --out benchmarks/results/relative_pose
	$(BIN)/python -m benchmarks.odometry $(DATA)/kitti/00_first200:mono $(DATA)/kitti/01_first51:mono \
		$(DATA)/7scenes/redkitchen_000_399:rgbd $(DATA)/7scenes/redkitchen_000_399:mono \
		--out benchmarks/results/odometry
	$(BIN)/python -m benchmarks.readme_table

clean:
	rm -rf $(VENV) runs build dist *.egg-info
