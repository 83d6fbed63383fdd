#!/bin/sh
# npm run compat: sets a fresh clone up, then runs the same programs natively and in the installed runtimes.
cd "$(dirname "$0")/.." || exit 1
. scripts/setup.sh
set_up || exit 1
exec node benchmarks/compat/run.ts "$@"
