# Two commands for a fresh machine: `make demo` and `make test`. Both set up everything they need.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: venv demo weights test lint results presets studies ablation clean

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
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --max-worker-restart 0 -q

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

DATA ?= ../shared/data
BENCH := $(BIN)/slamfeat bench
# The committed tables; --out keeps the predictions, so that an interrupted run goes on. Leave the machine alone.
TEST_SPLIT := $(BENCH) all $(DATA) --recipe configs/bench/test_split.yaml --out runs/bench/test_split
results: venv weights
	$(TEST_SPLIT) --task matching
	$(TEST_SPLIT) --task vo
	$(TEST_SPLIT) --task speed
	$(TEST_SPLIT) --task robustness
	$(BENCH) matching $(DATA)/kitti/01_first51 --recipe configs/bench/sanity.yaml --out runs/bench/sanity
	$(BIN)/python -m benchmarks.publish runs/bench/test_split --sanity runs/bench/sanity

# What the README says of presets and speed; goes on where it was interrupted, except for times.
presets: venv weights
	$(BIN)/slamfeat weights get dinov2-vits14
	$(BIN)/python -m benchmarks.engines $(DATA) --out benchmarks/results/engines
	$(BIN)/python -m benchmarks.versus_commit $(DATA) --out benchmarks/results/versus_commit \
		--frontend slamfeat slamfeat:fast slamfeat:untrained
	$(BIN)/python -m benchmarks.pareto $(DATA) --out runs/pareto --pairs 0 \
		--preset accurate --preset balanced --preset fast --preset untrained --peer orb --peer sift --peer xfeat
	cp runs/pareto/pareto.json runs/pareto/pareto.md runs/pareto/pareto.png benchmarks/results/
	$(BIN)/python -m benchmarks.memory $(DATA)/kitti/01_first51 --out benchmarks/results/memory
	$(BIN)/python -m benchmarks.pipelined $(DATA)/kitti/01_first51 --out benchmarks/results/pipelined
	$(BIN)/python -m benchmarks.carried $(DATA)/tum/rgbd_dataset_freiburg1_rpy_first60 --out benchmarks/results/carried

# What was measured on train data and on synthetic scenes; needs the full-precision backbone, takes hours.
studies: venv ablation
	$(BIN)/slamfeat weights get dinov2-vits14
	$(BIN)/python -m benchmarks.untrained $(DATA) --bf16 --out benchmarks/results/untrained
	$(BIN)/python -m benchmarks.relative_pose --out benchmarks/results/relative_pose

# What each part of the frontend brings; goes on where it was interrupted. HEADS...: names, or files.
HEADS ?= light
HEADS_FULL ?= full
HEADS_SCRATCH ?= runs/scratch/heads.safetensors
ablation: venv
	$(BIN)/slamfeat weights get dinov2-vits14
	$(BIN)/python -m benchmarks.ablation $(DATA) --out benchmarks/results/ablation --work runs/ablation \
		--heads $(HEADS) --heads-full $(HEADS_FULL) --heads-scratch $(HEADS_SCRATCH)

clean:
	rm -rf $(VENV) runs build dist *.egg-info
