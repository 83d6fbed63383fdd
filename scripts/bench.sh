#!/bin/sh
# npm run bench: sets a fresh clone up, then measures tssandbox beside native, runc and runsc where they are installed.
cd "$(dirname "$0")/.." || exit 1
. scripts/setup.sh
set_up || exit 1
exec node benchmarks/run.ts "$@"
