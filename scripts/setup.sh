#!/bin/sh
# Makes .venv from the pinned requirements and installs this project into it, editable.
#
#   scripts/setup.sh              what `make check` and `make test` need
#   scripts/setup.sh load docs    also requirements/load.txt and requirements/docs.txt
#
# A second call with nothing changed returns at once: .venv/.stamp-<hash> says what is installed.
set -eu
cd -P "$(dirname "$0")/.."

say() { echo "setup: $*"; }
die() {
    echo "setup: $*" >&2
    exit 1
}

digest() {
    if command -v sha256sum >/dev/null 2>&1; then sha256sum; else shasum -a 256; fi | cut -c 1-16
}

# Prints a uv that runs. A pyenv shim may be on PATH and still fail, so each candidate is tried.
find_uv() {
    for uv in uv "${HOME:-}/.local/bin/uv" "${HOME:-}/.cargo/bin/uv" "$PWD/.venv-uv/bin/uv"; do
        if "$uv" --version >/dev/null 2>&1; then
            command -v "$uv"
            return 0
        fi
    done
    return 1
}

# Installs uv inside the project only. A system Python may be "externally managed" (PEP 668) or come
# without ensurepip; a venv answers the first, `pip --target` the second.
install_uv() {
    for python in python3 /usr/bin/python3 /usr/local/bin/python3 python; do
        "$python" -c '' >/dev/null 2>&1 || continue
        rm -rf .venv-uv
        if "$python" -m venv .venv-uv >/dev/null 2>&1; then
            .venv-uv/bin/python -m pip install --quiet uv && return 0
        fi
        rm -rf .venv-uv
        "$python" -m pip install --quiet --target .venv-uv uv && return 0
    done
    return 1
}

is_python() {
    [ -x "$1" ] && "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' >/dev/null 2>&1
}

# Prints a Python 3.12: one that uv finds, then the usual places, then a request for uv to download one.
find_python() {
    # --system: not the virtual environment that is being replaced.
    if python=$("$UV" python find --system --no-project '>=3.12,<3.13' 2>/dev/null) && is_python "$python"; then
        echo "$python"
        return
    fi
    for python in "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/3.12*/bin/python3 \
        /usr/bin/python3.12 /usr/local/bin/python3.12 /opt/python3.12/bin/python3 /opt/python/3.12*/bin/python3 \
        /opt/homebrew/bin/python3.12; do
        if is_python "$python"; then
            echo "$python"
            return
        fi
    done
    echo 3.12
}

locks="requirements/dev.txt"
for extra in "$@"; do
    [ -f "requirements/$extra.txt" ] || die "no requirements/$extra.txt; known: $(ls requirements | tr '\n' ' ')"
    locks="$locks requirements/$extra.txt"
done

# An editable install points at this directory and a venv holds its own path, so both belong to the stamp.
# shellcheck disable=SC2086  # a list of files
stamp=.venv/.stamp-$({
    echo "$PWD $*"
    cat pyproject.toml scripts/setup.sh $locks
} | digest)
if [ -f "$stamp" ] && [ -x .venv/bin/python ]; then
    exit 0
fi

if ! UV=$(find_uv); then
    say "no uv found; installing it into .venv-uv"
    install_uv || die "could not install uv. Install it by hand (python3 -m pip install uv) and try again."
    UV=$(find_uv) || die "uv was installed into .venv-uv but does not run"
fi

# A good venv is kept. One that lost its Python, or was moved with its tree (its programs then start the
# old tree's), is made anew.
if ! is_python .venv/bin/python || ! grep -qF "$PWD/.venv" .venv/bin/activate; then
    python=$(find_python)
    say "making .venv with $python"
    rm -rf .venv
    "$UV" venv --quiet --python "$python" .venv ||
        die "no Python 3.12 could be used. Install one (python3.12, or pyenv install 3.12) and try again."
fi

say "installing $locks"
rm -f .venv/.stamp-*
VIRTUAL_ENV=$PWD/.venv
export VIRTUAL_ENV
if [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ]; then
    arguments=
    for lock in $locks; do arguments="$arguments -r $lock"; done
    # shellcheck disable=SC2086  # a list of arguments
    "$UV" pip install --quiet $arguments
    # hatchling is among the pinned packages, so the build needs nothing more.
    "$UV" pip install --quiet --no-deps --no-build-isolation --editable .
else
    # The pins were made for Linux on x86_64. Elsewhere they only constrain: what a platform does not need
    # (CUDA) stays out.
    arguments="--group dev"
    for extra in "$@"; do [ "$extra" = service ] || arguments="$arguments --group $extra"; done
    # shellcheck disable=SC2086  # a list of arguments
    "$UV" pip install --quiet $arguments --constraint requirements/dev.txt --editable .
fi
touch "$stamp"
say "done; the programs are in .venv/bin"
