RECIPE ?= recipes/tiny
# Only the embedded recipe is tied to the CPU; elsewhere accelerate's own default configuration holds.
LAUNCH ?= $(if $(subst recipes/tiny,,$(RECIPE:/=)),,recipes/accelerate/cpu.yaml)
ARGS ?=
# The newest of these that runs here.
PYTHON ?= $(or $(shell for p in python3.13 python3.12 python3.11; do $$p -c '' 2>&- && echo $$p && break; done),python3.11)
PY := .venv/bin/python
# exec: with a shell between, the run would not see make end.
RUN = exec $(PY) -m apo_soup run $@ "$(RECIPE)" --launch "$(LAUNCH)" --args '$(ARGS)'

.DEFAULT_GOAL := help
.PHONY: help setup demo new data extend mid sft traces pairs apo soup merge sweep settings eval report submit chat ui push check plan why clean bench test lint docs site notebook dist

help: ## show this list
	@echo "apo-soup: base -> mid -> sft -> apo (soup members) -> soup -> merged -> evals -> report"
	@echo
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  RECIPE=$(RECIPE)  LAUNCH=$(LAUNCH)  ARGS='--key value' are taken by every stage;"
	@echo "  PYTHON=$(PYTHON) is taken by setup"

setup: .venv/ready ## make the virtual environment .venv with the pinned packages

# torch goes first: its pinned build then satisfies everything that asks for torch.
.venv/ready: constraints.txt pyproject.toml setup.py
	$(PYTHON) -m venv .venv
	$(PY) -m pip install -q --disable-pip-version-check -c constraints.txt torch
	$(PY) -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# Apart from set-up: neither training nor tests need them.
.venv/docs: .venv/ready
	$(PY) -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[docs,release]'
	@touch $@

demo: .venv/ready ## run everything on recipes/tiny and end with one table and a report
	@$(MAKE) --no-print-directory report RECIPE=recipes/tiny LAUNCH=recipes/accelerate/cpu.yaml ARGS=

new: .venv/ready ## write a recipe: make new NAME=recipes/mine MODEL=M [DATA=F PAIRS=F PROMPTS=F SIZE=laptop|gpu|node|cluster]
	@$(PY) -m apo_soup new "$(NAME)" --model "$(MODEL)" --data "$(DATA)" --pairs "$(PAIRS)" --prompts "$(PROMPTS)" --size "$(or $(SIZE),gpu)" $(ARGS)

data: .venv/ready ## generate the rows of the embedded recipe
	@$(RUN)
extend: .venv/ready ## train on long documents, before mid
	@$(RUN)
mid: .venv/ready ## reasoning mid-training
	@$(RUN)
sft: .venv/ready ## dual-mode supervised fine-tuning
	@$(RUN)
traces: .venv/ready ## make reasoning rows for mid and sft with a strong model
	@$(RUN)
pairs: .venv/ready ## make synthetic preference pairs with a strong and a weak model
	@$(RUN)
apo: .venv/ready ## anchored preference optimisation, every soup member
	@$(RUN)
soup: .venv/ready ## average the members
	@$(RUN)
merge: .venv/ready ## mix the soup with the mid checkpoint
	@$(RUN)
sweep: .venv/ready ## walk the merge weight, and say which one the scores support
	@$(RUN)
settings: .venv/ready ## walk the training keys of sweep.yaml, and say which ones the scores support
	@$(RUN)
eval: .venv/ready ## measure every checkpoint of the run
	@$(RUN)
report: eval ## write report.html and print the stage table
	@$(PY) -m apo_soup report "$(RECIPE)"

submit: .venv/ready ## print the Slurm jobs of what is missing or stale; SUBMIT=1 queues them, STAGE=sft ends there
	@$(PY) -m apo_soup submit $(STAGE) "$(RECIPE)" --args '$(ARGS)' $(if $(SUBMIT),--send)
chat: .venv/ready ## talk to a stage's model: make chat RECIPE=recipes/tiny STAGE=sft, or MODEL=DIR
	@$(PY) -m apo_soup chat $(if $(MODEL),"$(MODEL)","$(RECIPE)" $(if $(STAGE),--stage $(STAGE))) $(ARGS)
ui: .venv/ready ## serve a page with rows, chat, stages and curves: make ui RECIPE=recipes/tiny
	@exec $(PY) -m apo_soup ui "$(RECIPE)" $(ARGS)
push: .venv/ready ## send model and report to the Hub: make push REPO=OWNER/NAME; without it, list what would be sent
	@$(PY) -m apo_soup push "$(RECIPE)" $(if $(REPO),--repo $(REPO)) $(ARGS)
check: .venv/ready ## find every error in a recipe before anything runs
	@$(PY) -m apo_soup check "$(RECIPE)" --launch "$(LAUNCH)"
plan: .venv/ready ## say what each training will be: rows, steps, memory, disk, time
	@$(PY) -m apo_soup plan "$(RECIPE)" --launch "$(LAUNCH)" $(ARGS)
why: .venv/ready ## say which stages are stale, and what changed
	@$(PY) -m apo_soup why "$(RECIPE)" $(ARGS)

clean: .venv/ready ## list what a run holds that nothing needs; ARGS=--yes removes it
	@$(PY) -m apo_soup clean "$(RECIPE)" $(ARGS)

bench: .venv/ready ## time every part beside its peer; takes an hour on 2 cores
	@for part in packing merge pairs prepare sft apo end_to_end; do echo "== bench.$$part"; $(PY) -m bench.$$part || exit 1; done
test: .venv/ready ## run the tests
	$(PY) -m pytest
lint: .venv/ready ## check style, types and the order of imports
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/lint-imports --no-logo
docs: .venv/ready ## write what docs/ and recipes/schema/ take from the code: tables of keys, schemas, the list of files, programs
	@$(PY) -m apo_soup.config.reference tables docs/recipes.md
	@$(PY) -m apo_soup.config.reference schema recipes/schema
	@$(PY) docs/files.py
	@$(PY) docs/programs.py
site: .venv/docs ## build the pages of docs/ into build/site; a warning is an error
	@$(PY) -m sphinx -q --fail-on-warning --keep-going -d build/doctrees docs build/site
	@echo "site: build/site/index.html"
notebook: .venv/docs ## run notebooks/tiny.ipynb on the run that make demo has made; nothing is written
	@.venv/bin/jupyter execute notebooks/tiny.ipynb
dist: .venv/docs ## build dist/*.tar.gz and dist/*.whl, and check both as an index would
	@rm -rf dist
	@$(PY) -m build --no-isolation --outdir dist
	@$(PY) -m twine check --strict dist/*
