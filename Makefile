# SPDX-License-Identifier: MIT
# Each target does its own set-up: system packages where it may install them
# (root on Debian), the rest in .venv/ and build/.

.PHONY: help demo test test-all bench check rows conformance frameworks \
    format clean

help:
	@echo "make demo      a FastAPI application on becket, next to stock asyncio"
	@echo "make test      all tests, on every supported Python found here"
	@echo "make test-all  the same, under sanitizers and on the newest Pythons"
	@echo "make bench     becket's loop against CPython's, others and plain C"
	@echo "make check     formatting, rules, types, exported symbols"
	@echo "make rows      list the tests of each behaviour: tests/ROWS.md"
	@echo "make conformance  CPython's own tests: docs/conformance.md"
	@echo "make frameworks  other projects' tests: docs/frameworks.md"
	@echo "make format    format C and Python in place"
	@echo "make clean     remove all that was built"

demo:
	@tools/python demo/run.py

test:
	@python=$$(tools/setup) && "$$python" tools/run_tests.py

test-all:
	@python=$$(tools/setup --all) && "$$python" tools/run_tests.py --all

bench:
	@python=$$(tools/setup --first) && \
	PYTHONPATH=tools "$$python" bench/run.py $(ARGS)

check:
	@tools/check

rows:
	@python=$$(tools/setup --first) && PYTHONPATH=tools "$$python" -m checks.rows

conformance:
	@tools/conformance

frameworks:
	@python=$$(tools/setup --first) && \
	PYTHONPATH=tools "$$python" tests/frameworks/run.py --report docs/frameworks.md

format:
	@python=$$(tools/setup --first) && bin=$$(dirname "$$python") && \
	git ls-files -z --cached --others --exclude-standard -- '*.c' '*.h' '*.cpp' | \
	    xargs -0 -r "$$bin/clang-format" -i && \
	"$$bin/ruff" check --quiet --fix . && "$$bin/ruff" format --quiet .

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache
