# The commands for daily work. Each target does all that it needs, in a fresh clone on a Debian with the Swift toolchain.

.DEFAULT_GOAL := help
.PHONY: help demo test build docs setup venv format lint wheel bench clean

# Sources that `swift format` keeps in shape.
SOURCES := Package.swift Sources Tests Examples
# A target may import only the dependencies that it has in Package.swift.
CHECKS := --explicit-target-dependency-import-check error

help:  ## Say what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo:  ## Start a cluster and find the dependencies of every Debian package with it
	@scripts/setup --package-index
	swift build -c release --product debian-closure
	@echo
	@.build/release/debian-closure $(ARGUMENTS)

test: setup venv build  ## Build everything and run all tests
	@scripts/test
	@scripts/check-python

build: setup  ## Build everything and the tests, without optimisation
	swift build --build-tests $(CHECKS)

docs: build  ## Make the documentation of what users import, in .build/docs
	@scripts/docs

setup:  ## Install the packages of the system that are missing
	@scripts/setup

venv: setup  ## Make .venv, the Python whose ipyparallel the tests talk to
	@scripts/venv

format:  ## Lay out all sources as `swift format` wants them
	swift format -i -p -r $(SOURCES)

lint:  ## Tell what `make format` would change, and which references of comments and pages lead nowhere
	swift format lint --strict -p -r $(SOURCES)
	@scripts/check-references

wheel:  ## Build the Python package, in dist
	@scripts/wheel

bench: setup  ## Compare with ipyparallel and others on this machine
	@scripts/bench $(ARGUMENTS)

clean:  ## Remove what was built, and the Python environments
	rm -rf .build .venv .venv-bench dist
