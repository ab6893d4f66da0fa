# Every target does the whole set-up when needed; a second call reuses .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What the demo needs, and over it what tests and checks need: either may be made first.
BARE := $(VENV)/.installed-demo
STAMP := $(VENV)/.installed
OUT ?= runs/shakespeare
DATA ?= ../shared/data/tinyshakespeare.txt.gz

INSTALL = $(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt

.PHONY: help install demo test test-all test-lowest test-newest shakespeare docs refresh lint format clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(BARE)  ## what the demo and every command need, into .venv

demo: $(BARE)  ## every stage on the embedded corpus, into runs/demo
	@$(BIN)/scratch-gpt demo

# Two processes at once, each with whole files: the fixtures of a file are made once.
PYTEST := -m pytest -q -n 2 --dist loadfile

test: $(STAMP)  ## the test suite, without the slow tests; needs no network
	@HF_HUB_OFFLINE=1 $(BIN)/python $(PYTEST) -m "not slow"

test-all: $(STAMP)  ## the whole test suite
	@HF_HUB_OFFLINE=1 $(BIN)/python $(PYTEST)

# Environments of their own, resolved afresh at each call: what the index holds changes.
test-lowest:  ## the test suite at the lowest versions that pyproject.toml allows
	@$(call fresh,.venv-lowest)
	@.venv-lowest/bin/python .ci/lowest.py > .venv-lowest/constraints.txt
	@$(call install_and_test,.venv-lowest,-c .venv-lowest/constraints.txt)

test-newest:  ## the test suite at the newest versions that pyproject.toml allows
	@$(call fresh,.venv-newest)
	@$(call install_and_test,.venv-newest,)

fresh = echo "installing into $(1) (a minute or a few) ..." && $(PYTHON) -m venv --clear $(1)
install_and_test = $(1)/bin/python -m pip install -q --disable-pip-version-check $(2) -e '.[test]' \
	&& HF_HUB_OFFLINE=1 $(1)/bin/python $(PYTEST) -m "not slow"

PLAYS := {"name": "plays", "path": "$(OUT)/train.txt", "documents": "file"}
HELD_OUT := {"name": "held_out", "path": "$(OUT)/validation.txt", "documents": "file", "held_out": true}

shakespeare: $(BARE)  ## the pretraining race on a megabyte of plays (DATA=FILE), into OUT=DIR
	@test -r "$(DATA)" || { echo "error: no text at $(DATA): give DATA=FILE, the megabyte of plays as .txt or .txt.gz" >&2; exit 2; }
	@mkdir -p "$(OUT)"
	@gzip -dcf "$(DATA)" > "$(OUT)/all.txt"
	@head -c $$(($$(wc -c < "$(OUT)/all.txt") * 9 / 10)) "$(OUT)/all.txt" > "$(OUT)/train.txt"
	@tail -c +$$(($$(wc -c < "$(OUT)/train.txt") + 1)) "$(OUT)/all.txt" > "$(OUT)/validation.txt"
	@rm "$(OUT)/all.txt"
	@$(BIN)/scratch-gpt tokenizer --config train/configs/shakespeare/tokenizer.yaml \
		--sources '[$(PLAYS)]' --output_dir "$(OUT)/tokenizer"
	@$(BIN)/scratch-gpt shards --config train/configs/shakespeare/shards.yaml \
		--sources '[$(PLAYS), $(HELD_OUT)]' --tokenizer "$(OUT)/tokenizer" --output_dir "$(OUT)/shards"
	@for run in seconds minutes; do \
		$(BIN)/scratch-gpt pretrain --config train/configs/shakespeare/$$run.yaml --tokenizer "$(OUT)/tokenizer" \
			--shards "$(OUT)/shards" --output_dir "$(OUT)/$$run" || exit $$?; \
	done

MODULES = $(subst /,.,$(patsubst %/__init__,%,$(basename $(sort $(shell find scratch_gpt -name '*.py')))))
SITE ?= build/site
REFERENCE ?= $(SITE)/api

# Left out: that a package holds modules that are named too, the type of a field of transformers' configuration, and one of
# a tuple that holds others of its kind.
docs: $(STAMP)  ## the site of docs/ and the reference of every module from its docstrings, into build/site
	@mkdir -p "$(SITE)"
	@# not -q, which also keeps strict from counting warnings
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --site-dir "$(SITE)" 2> "$(SITE).log" || { cat "$(SITE).log" >&2; exit 1; }
	@$(BIN)/python -W 'ignore:The module specification' -W 'ignore:Error parsing type annotation Literal' \
		-W 'ignore:Error parsing type annotation list' \
		-m pdoc --docformat google --output-directory "$(REFERENCE)" $(MODULES)
	@echo "wrote $(SITE)/index.html and $(REFERENCE)/index.html"

refresh: $(STAMP)  ## cut excerpts, tree, keys and errors in README.md and docs/ anew from the source
	@$(BIN)/python docs/refresh.py
	@$(BIN)/ruff format -q README.md docs

lint: $(STAMP)  ## ruff, ruff format, mypy, codespell, the words of pages and messages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/python -m pytest -q tests/test_prose.py

format: $(STAMP)  ## let ruff repair what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environments and caches; runs/ stays
	rm -rf $(VENV) .venv-lowest .venv-newest .mypy_cache .pytest_cache .ruff_cache

$(BARE): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed, $(PYTHON) is %d.%d: make PYTHON=python3.12 ..." % sys.version_info[:2])'
	@echo "installing into $(VENV) (once, a minute or a few) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(INSTALL) -e .
	@touch $(BARE)
	@echo "installed."

$(STAMP): $(BARE)
	@echo "installing what tests and checks need into $(VENV) (once) ..."
	@$(INSTALL) -e '.[test,dev]'
	@touch $(STAMP)
	@echo "installed."
