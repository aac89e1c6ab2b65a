#!/usr/bin/env bash
# Chromium for the tests of the chat page: installed where this may be done (root on Debian). Elsewhere
# these tests are skipped, and say so.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -n "${TUSSAH_CHROMIUM:-}" ] || command -v chromium >/dev/null; then exit; fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    printf 'No Chromium: the tests of the page will be skipped. To run them: sudo apt-get install chromium\n' >&2
    exit
fi
printf 'installing Chromium, for the tests of the page\n' >&2
{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium fonts-dejavu-core; } \
    >>.venv/setup.log 2>&1 || printf 'Chromium could not be installed (see .venv/setup.log): the tests of the page will be skipped.\n' >&2
