# Here is only what happens before the virtual environment exists; the rest is chatbackend/dev/.
PYTHON ?= python3
PACKAGES := .venv/.installed
RUN := .venv/bin/python -m
# Development mode but for its guards of C's memory, of which a tenth of the suite's time goes: no C is ours.
# And with bytecode kept, whatever the terminal says: a suite starts our programs a hundred times.
STRICT := PYTHONDEVMODE=1 PYTHONMALLOC=default PYTHONDONTWRITEBYTECODE= $(RUN)

.DEFAULT_GOAL := help
.PHONY: help run setup test image check audit bench faults mutate fuzz clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do \
		printf '  make %-7s %s\n' "$$name" "$$text"; done

run: $(PACKAGES)  ## the page, the API and a database on this machine, until Ctrl-C
	@$(RUN) chatbackend.dev run

setup: $(PACKAGES)  ## only install what `make run` and `make test` need
	@$(RUN) chatbackend.dev setup

test: setup  ## the whole suite; make test ARGS="-k audit" for a part of it
	$(STRICT) pytest -n 4 --dist loadfile --no-loadscope-reorder $(ARGS)

image: setup  ## the steps of the Dockerfile, one by one, without a container engine
	$(STRICT) pytest -m image tests/test_image.py

check: $(PACKAGES)  ## style, types, production settings, missing migrations
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) mypy runtime authn support chatbackend benchmarks faults
	$(RUN) chatbackend.dev check

audit: setup  ## known vulnerabilities of what is installed
	@$(RUN) chatbackend.dev audit

bench: $(PACKAGES)  ## how fast, beside what a team could pick instead; make bench ARGS="--help"
	@$(RUN) benchmarks $(ARGS)

faults: $(PACKAGES)  ## what a failing database does to it, under load; make faults ARGS="soak" for its memory
	@$(RUN) faults $(ARGS)

mutate: setup  ## which faults no test would notice; make mutate ARGS="authn/jwt/keys.py"
	@$(RUN) pip install --quiet --disable-pip-version-check -r tests/mutation/requirements.txt
	@$(RUN) tests.mutation $(ARGS)

fuzz: setup  ## hostile requests without end; make fuzz CASES=1000000 SEED=7
	@CASES=$(CASES) SEED=$(SEED) $(RUN) pytest -q -x --show-capture=no tests/fuzz/long_run.py

clean:  ## remove what was installed and the local database
	rm -rf "$$(readlink -f .local/postgres/server)" "$$(readlink -f .local/benchmarks/postgres/server)" .local .venv frontend/node_modules tests/better_auth/node_modules

$(PACKAGES): requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
		"Python 3.11 or newer is needed, such as: make PYTHON=python3.12")'
	@echo "Installing Python packages (about a minute) …"
	@test -x .venv/bin/pip || $(PYTHON) -m venv --clear .venv
	@$(RUN) pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@
