# make demo   installs into .venv and runs the main job on built-in data
# make test   installs the test extras and runs every test
# make check  format, lint, types, layering
# make bench  the measured numbers of the README (needs FEWLABELS_DATA; about two hours)
# make bench-labels  accuracy with few labels (needs FEWLABELS_DATA; about eleven hours; ARGS=mnist for a table)
# make bench-speed  speed against other libraries (needs FEWLABELS_DATA; about half an hour)

PYTHON ?= python3
VENV := .venv
PEERS := .venv-peers
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt

.PHONY: demo test check bench bench-labels bench-speed format clean

$(VENV)/installed: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (a few minutes the first time) …"
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/installed-test: $(VENV)/installed
	@echo "Installing what the tests need …"
	@$(INSTALL) --editable '.[test]'
	@touch $@

$(VENV)/installed-check: $(VENV)/installed
	@$(INSTALL) --editable '.[check]'
	@touch $@

demo: $(VENV)/installed
	@$(BIN)/fewlabels demo

test: $(VENV)/installed-test
	@command -v chromium >/dev/null || [ -n "$$CHROMIUM" ] || \
	    { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	      apt-get update -q >/dev/null && apt-get install -q -y chromium >/dev/null; } || \
	    echo "No Chromium: the tests of the report in a browser will be skipped."
	@$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/installed-check
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: $(VENV)/installed-check
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(VENV)/installed
	@$(BIN)/python benchmarks/main_job.py

bench-labels: $(VENV)/installed
	@$(BIN)/python -m benchmarks.semisupervised $(ARGS)

# The peers' versions of everything, away from the product's own environment.
$(PEERS)/installed: benchmarks/speed/peers.txt
	@test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	@echo "Installing the peers into $(PEERS) (several gigabytes) …"
	@$(PEERS)/bin/python -m pip install --quiet --requirement benchmarks/speed/peers.txt
	@touch $@

bench-speed: $(VENV)/installed $(PEERS)/installed
	@$(BIN)/python benchmarks/speed/run.py --peers $(PEERS)/bin/python $(ARGS)
	@$(BIN)/python -m benchmarks.speed.tables

clean:
	@rm -rf $(VENV) $(PEERS) build dist
