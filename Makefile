# ZoomLDM. `make help` lists the targets.
PYTHON ?= python3
VENV   ?= .venv
PY     := $(VENV)/bin/python
STAMP  := $(VENV)/.setup-done
export PYTHONUNBUFFERED = 1

.DEFAULT_GOAL := help
.PHONY: help setup demo rehearse app slide view test test-slow fuzz lint format fid bench bench-prep bench-pack bench-loader \
	bench-grids bench-train bench-sample bench-sharpen bench-canvas bench-slide doctor reference clean distclean

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(STAMP)  ## virtual environment in .venv with pinned dependencies (about 2 minutes, 6 GB)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: Python 3.11 or newer is needed, $(PYTHON) is older; name another: make setup PYTHON=python3.12"; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' || \
		{ echo "error: $(PYTHON) has no venv module; on Debian: apt-get install python3-venv"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip install --quiet --constraint constraints.txt --editable '.[dev,launchers]'
	@touch $@

demo: setup  ## slides to report on this machine, CPU only (SLIDES=folder MPP=0.5 for real slides)
	$(PY) src/demo.py $(if $(SLIDES),slides='$(SLIDES)') $(if $(MPP),mpp=$(MPP))

reference: setup  ## train the model that ships, on drawn slides: hours on two cores, goes on where it stopped
	$(PY) src/reference.py

rehearse: setup  ## every paper-size command at full architecture, a few steps of each, before a GPU is paid for (SLIDES=folder)
	$(PY) src/rehearse.py $(if $(SLIDES),slides='$(SLIDES)') $(ARGS)

app: setup  ## a page to play with the newest ZoomLDM run or the model that ships, on 127.0.0.1 (RUN=name MODEL=reference SLIDES="a.svs b.svs" PORT=7860); adds Gradio
	@$(PY) -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("gradio") is None)' || sed -n '/^# What `make app` adds/,$$p' constraints.txt | \
		$(PY) -m pip install --quiet --no-deps --requirement /dev/stdin
	$(PY) src/app.py $(if $(RUN),run=$(RUN)) $(if $(MODEL),model=$(MODEL)) $(if $(PORT),port=$(PORT)) \
		$(if $(SLIDES),slides="[$$(echo $(SLIDES) | tr -s ' ' ,)]")

slide: setup  ## a synthetic slide by the model that ships, then the page of `make view` with a painted one beside it (RUN=name SEED=0)
	$(PY) data_prep/demo/slides.py folder=cache/bench-slides num_patients=1
	$(PY) src/slide.py $(if $(RUN),run=$(RUN),model=reference) out=data/synthetic/slide-$(or $(SEED),0).ome.tiff seed=$(or $(SEED),0) \
		fabric=$$($(PY) -c 'import torch; print("auto" if torch.cuda.is_available() else "ddp")') $(ARGS)
	$(MAKE) view SLIDES="data/synthetic/slide-$(or $(SEED),0).ome.tiff cache/bench-slides/demo-P01.tif"

view: setup  ## one slide or two to zoom into, on 127.0.0.1 (SLIDES="a.ome.tiff b.svs" PORT=7861); adds Bokeh
	@$(PY) -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("bokeh") is None)' || \
		$(PY) -m pip install --quiet --constraint constraints.txt bokeh
	$(PY) src/view.py slides="[$$(echo $(SLIDES) | tr -s ' ' ,)]" $(if $(PORT),port=$(PORT))

test: setup  ## the tests, a process a core (minutes)
	OMP_NUM_THREADS=1 $(PY) -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile

test-slow: setup  ## the tests that take longer: fuzzing, memory, kill and resume at length
	$(PY) -m pytest -m slow

fuzz: setup  ## damaged slides, tables, shards and state files, 2,000 of them: 15 minutes (N=2000 SEED=0, one again: CASE=name)
	ZOOMLDM_FUZZ_N=$(N) ZOOMLDM_FUZZ_SEED=$(SEED) ZOOMLDM_FUZZ_CASE=$(CASE) OMP_NUM_THREADS=1 $(PY) -m pytest -s -m slow \
		tests/data_prep/test_fuzz.py::test_all_cases

lint: setup  ## ruff (lint and format) and the direction of imports
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports

format: setup  ## let ruff mend what it can
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

fid: setup  ## distances per magnification of the newest ZoomLDM run (RUN=name FEATURES=inception|texture|stats)
	$(PY) src/evaluate.py $(if $(RUN),run=$(RUN)) $(if $(FEATURES),features=$(FEATURES))

bench: bench-prep bench-pack bench-loader bench-grids bench-train bench-sample  ## all benchmarks, each against the plain way (also bench-prep, -pack, -loader, -grids, -train, -sample)

bench-prep: setup
	$(PY) data_prep/demo/slides.py folder=cache/bench-slides num_patients=1
	$(PY) benchmarks/prep.py $(or $(SLIDE),cache/bench-slides/demo-P01.tif) --workers \
		$(if $(ENCODER),--encoder $(ENCODER) --repeats 1)
	$(if $(SLIDE)$(ENCODER),,$(PY) benchmarks/prep.py cache/bench-slides/demo-P01.tif --mpp 0.25)

bench-pack: setup
	$(PY) benchmarks/pack.py $(if $(SLIDES),--slides $(SLIDES)) $(if $(PATCHES),--patches $(PATCHES)) $(ARGS)

bench-loader: setup
	$(PY) benchmarks/loader.py

bench-grids: setup
	$(PY) benchmarks/grids.py

bench-train: setup
	$(PY) benchmarks/train.py

bench-sample: setup
	$(PY) benchmarks/sample.py $(if $(PAPER),--paper)

bench-sharpen: setup  ## PSNR, SSIM and distances of sharpened pictures, a table and a picture (ARGS=--places: places drawn anew)
	$(PY) benchmarks/sharpen.py $(ARGS)

bench-canvas: setup  ## how good drawn slides are, level by level, and which part is at fault: tables and a picture (DATA=folder of a data set)
	$(if $(DATA),,$(PY) data_prep/prepare.py data=reference)
	$(PY) benchmarks/canvas.py $(if $(DATA),--data $(DATA)) $(ARGS)

bench-slide: setup  ## what a drawn slide costs: core seconds a megapixel by stage, and the paper's size by counting (ARGS=--count: that alone)
	$(PY) benchmarks/slide_cost.py $(ARGS)

doctor: setup  ## Python, torch, GPU driver, disk, weights found or missing
	$(PY) src/doctor.py

clean:  ## remove caches, the data and runs called demo, and all of runs/sweeps and runs/plans
	rm -rf .pytest_cache .ruff_cache .hypothesis data/demo data/demo-* data/demo_slides runs/*-demo* runs/sweeps runs/plans cache/bench-*
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean  ## also the virtual environment
	rm -rf $(VENV)
