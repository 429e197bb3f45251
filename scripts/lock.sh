#!/bin/sh
# Rewrites requirements/*.txt from pyproject.toml (make lock). Pins already there are kept where they
# still fit; `scripts/lock.sh --upgrade` takes the newest versions. The files name no package index.
set -eu
cd "$(dirname "$0")/.."

compile() {  # compile OUTPUT ARGUMENTS...
    output=requirements/$1.txt
    shift
    .venv/bin/uv pip compile pyproject.toml --quiet --output-file "$output" \
        --python-version 3.12 --python-platform linux --no-header --no-annotate \
        --no-emit-index-url --no-emit-find-links "$@"
    echo "wrote $output"
}

# The later files are constrained by the earlier ones, so all four can share one environment.
compile service --extra traces "$@"  # what a cluster's collector needs is in the image
compile dev --group dev --constraint requirements/service.txt "$@"
compile load --group load --constraint requirements/dev.txt "$@"
compile docs --group docs --constraint requirements/dev.txt "$@"
