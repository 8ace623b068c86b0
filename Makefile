# Two commands do everything on a fresh machine: `make run` and `make test`.

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help run test screens trust soak bench cuda lint format readme lock wheel rehearsal atlas clean

help: ## Show this list.
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

run: $(STAMP) ## Serve the page on port 7860; ARGS="--port 8000 --device cpu" and the like are passed on.
	$(BIN)/python app.py $(ARGS)

test: $(STAMP) ## Run every test, two files at a time with one thread each; ARGS="-k cli" and the like are passed on.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

screens: $(STAMP) ## Take the screenshots anew that the page is compared with; look at tests/screens/ before a commit.
	APPROVE_SCREENS=1 $(BIN)/python -m pytest -m whole tests/ui/test_browser.py -k main_states

trust: $(STAMP) ## Run the tests of bad input, faults, isolation and load, and print what they counted.
	$(BIN)/python -m pytest -m "trust or whole" $(ARGS)

soak: $(STAMP) ## Visit a server of one's own for ten minutes in every way; ARGS="--minutes 1" and the like are passed on.
	$(BIN)/python -m scripts.soak $(ARGS)

bench: $(STAMP) ## Measure speed and memory, and write benchmarks/RESULTS.md; ARGS="users" measures only that.
	$(BIN)/python -m benchmarks $(ARGS)

cuda: $(STAMP) ## Measure all about a CUDA card in seven minutes, and write benchmarks/CUDA.md; ARGS="precision" measures only that.
	$(BIN)/python -m benchmarks.cuda $(ARGS)

lint: $(STAMP) ## Check style, format, types, and the walls between the rooms.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## Bring the code into the format that lint expects.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

readme: $(STAMP) ## Write the tables of docs/ and the reference of the Python API anew from the source.
	$(BIN)/python -m scripts.readme

lock: ## Write requirements.txt anew from pyproject.toml; it keeps the versions that fit, ARGS="--upgrade" takes the newest.
	$(PYTHON) -m venv .lock
	.lock/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	.lock/bin/uv pip compile --quiet --universal --python-version 3.10 --extra dev --annotation-style line \
		--custom-compile-command "make lock" --output-file requirements.txt pyproject.toml $(ARGS)

wheel: $(STAMP) ## Build the sdist and the wheel in dist/.
	$(BIN)/python -m build --no-isolation

rehearsal: $(STAMP) ## Rehearse a push to a Space in empty folders: clone, install, start, one click.
	$(BIN)/python -m scripts.rehearsal

atlas: $(STAMP) ## Find the natural patches of every channel anew, and make the optimised pictures that are missing; can be stopped at any time.
	$(BIN)/python -m scripts.patches
	$(BIN)/python -m scripts.atlas

clean: ## Remove the virtual environment.
	rm -rf $(VENV)

# Done once; again only when requirements.txt changes. The stamp comes last: what failed half way is done over.
$(STAMP): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "featviz needs Python 3.10 or newer; $(PYTHON) is " + sys.version.split()[0] + ". Choose another with PYTHON=python3.12")'
	@$(PYTHON) -c 'import venv, ensurepip' || { echo "$(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --requirement requirements.txt
	@touch $@
