# Two commands do all the set-up: make quickstart, make test. No compiler is needed; after the install nothing asks the network.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export RAY_USAGE_STATS_ENABLED := 0
export HF_HUB_OFFLINE := 1

# Two at a time, whole files or classes, so that what a file sets up is set up once.
SIDE_BY_SIDE := -n 2 --dist loadscope

.PHONY: finetune-tour systems study-schedules study-pretraining study-finetune-en study-finetune-zh study-trends-masks study-trends-rows study-trends-albert study-trends-words study-trends-ernie help quickstart quickstart-zh test test-slow check format clean study-lamb bench test-gpu units-report
help:
	@echo "make quickstart  install into $(VENV) and train a small RoBERTa on this machine, in under 4 minutes after the install"
	@echo "make quickstart-zh  install some Chinese news too, and train a small Chinese model with whole-word masks"
	@echo "make test        install the dev extra too, then the checks and the tests (under 12 minutes)"
	@echo "make test-slow   the tests that take longer: kills, restarts, the whole quickstart"
	@echo "make test-gpu    families, the engine and whole runs on one GPU"
	@echo "make study-lamb  LAMB at batch 4,096 beside AdamW at 256 (40 minutes; goes on where it stopped)"
	@echo "make systems     every system at laptop scale on real text, and a table (90 minutes; goes on where it stopped)"
	@echo "make finetune-tour  one task of each kind, from the quickstart (needs PTM_LABELLED, see docs/finetuning.md)"
	@echo "make study-schedules  the three schedules of ERNIE 2.0, three seeds each (an hour; goes on where it stopped)"
	@echo "make study-pretraining  the eleven systems small, for the next two (an hour; needs PTM_TEXTS, see docs/studies/finetuning.md)"
	@echo "make study-finetune-en, study-finetune-zh  fine-tuned beside random weights and TF-IDF (needs PTM_LABELLED and PTM_TEXTS)"
	@echo "make study-trends-masks, -rows, -albert, -words, -ernie  what papers say of masks, rows, objectives and sizes (needs both)"
	@echo "make bench       BERT-mini beside transformers.Trainer, masks beside its collator (8 minutes)"
	@echo "make units-report  how often words and entities agree with People's Daily and CLUENER (needs both, see docs/units.md)"
	@echo "make check       formatting, lint, types, layers"
	@echo "make clean       remove $(VENV), runs and prepared data"

quickstart: $(VENV)/.runtime
	$(BIN)/ptm run configs/quickstart.yaml

quickstart-zh: $(VENV)/.zh
	$(BIN)/ptm run configs/quickstart_zh.yaml

test: check
	$(BIN)/pytest -m "not slow" $(SIDE_BY_SIDE)

test-gpu: $(VENV)/.dev
	@$(BIN)/python -c "import sys, torch; torch.cuda.is_available() or sys.exit('torch finds no GPU here')"
	$(BIN)/pytest -m "" tests/gpu tests/contract/test_engine.py -k "gpu or 0-1 or 1-1 or 2-1 or 3-1 or overflow"

test-slow: $(VENV)/.dev
	$(BIN)/pytest -m slow $(SIDE_BY_SIDE)

check: $(VENV)/.dev
	$(BIN)/ruff format --check ptm_dist tests
	$(BIN)/ruff check ptm_dist tests
	$(BIN)/lint-imports --no-cache
	$(BIN)/pyright

format: $(VENV)/.dev
	$(BIN)/ruff format ptm_dist tests
	$(BIN)/ruff check --fix ptm_dist tests

systems: $(VENV)/.dev
	$(BIN)/python -m tests.systems.whole

finetune-tour: $(VENV)/.dev
	$(BIN)/python -m tests.finetune.tour

study-schedules: $(VENV)/.dev
	$(BIN)/python -m tests.systems.schedules

study-pretraining: $(VENV)/.dev
	$(BIN)/python -m tests.studies.pretraining

study-finetune-en study-finetune-zh: $(VENV)/.dev
	$(BIN)/python -m tests.studies.finetune $(@:study-finetune-%=%)

study-trends-masks study-trends-rows study-trends-albert study-trends-words study-trends-ernie: $(VENV)/.dev
	$(BIN)/python -m tests.studies.trends $(@:study-trends-%=%)

bench: $(VENV)/.dev
	$(BIN)/python -m tests.bench.bert stock
	$(BIN)/python -m tests.bench.bert tuned
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.masking

units-report: $(VENV)/.dev
	$(BIN)/python -m tests.bench.chinese_units

study-lamb: $(VENV)/.dev
	$(BIN)/ptm train configs/studies/lamb_4096.yaml --run runs/lamb_4096
	$(BIN)/ptm train configs/studies/adamw_4096.yaml --run runs/adamw_4096
	$(BIN)/ptm train configs/studies/adamw_256.yaml --run runs/adamw_256
	$(BIN)/python tests/bench/curves.py docs/studies/lamb.svg runs/lamb_4096 runs/adamw_4096 runs/adamw_256

$(VENV)/.runtime: pyproject.toml constraints.txt launch/install.sh
	bash launch/install.sh $(VENV) .
	touch $@

$(VENV)/.zh: pyproject.toml constraints.txt launch/install.sh
	bash launch/install.sh $(VENV) ".[zh]"
	touch $@ $(VENV)/.runtime

$(VENV)/.dev: pyproject.toml constraints.txt launch/install.sh
	bash launch/install.sh $(VENV) ".[dev]"
	touch $@ $(VENV)/.runtime $(VENV)/.zh

clean:
	rm -rf $(VENV) runs data
