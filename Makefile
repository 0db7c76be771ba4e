# What one can ask of this repository. `make demo` and `make test` need nothing but Python 3.11 or newer.
#
# Everything is installed into .venv, once, from requirements.lock (hashes are checked), and again when the
# lock or pyproject.toml changes. The registry is the one the machine's pip is set to.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo run test check slow bench soak peers system lock clean again
.DELETE_ON_ERROR:

demo: .venv/installed
	@$(BIN)/python -m demo

run: .venv/installed
	@$(BIN)/hub run

test: check
	@$(BIN)/python -m pytest -n 3 --dist loadfile -m 'not slow' -ra --durations=10

check: .venv/installed
	@$(BIN)/python -m ruff check
	@$(BIN)/python -m ruff format --check
	@$(BIN)/python -m mypy
	@$(BIN)/lint-imports
	@$(BIN)/hub rules check

slow: .venv/installed
	@$(BIN)/python -m pytest -m slow -ra --durations=10
	@$(BIN)/python -m benchmarks.national

bench: .venv/installed
	@$(BIN)/python -m benchmarks.matching --short
	@$(BIN)/python -m benchmarks.embedded --short
	@$(BIN)/python -m benchmarks.routing --short
	@$(BIN)/python -m benchmarks.registering --short
	@$(BIN)/python -m benchmarks.reconciling --short
	@$(BIN)/python -m benchmarks.connectors --short

# Half an hour at a steady rate: whether memory and open files stay where they are.
soak: .venv/installed
	@$(BIN)/python -m benchmarks.soak

# What others have built and the benchmarks put beside ours. Minutes, and gigabytes of Go's caches.
peers: .venv/installed
	@sh .ci/peers

# What the tests need of the system, beside Python: run as root, on Debian.
system:
	@sh .ci/system

lock:
	@PYTHON='$(PYTHON)' sh .ci/lock

# What the hub keeps (var) is not touched.
clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The mark names the folder it was made in: an environment that was moved or copied still points to the
# old one, and would run the code there.
ifneq ($(shell cat .venv/installed 2>/dev/null),$(CURDIR))
.venv/installed: again
endif

.venv/installed: requirements.lock pyproject.toml
	@PYTHON='$(PYTHON)' sh .ci/install
