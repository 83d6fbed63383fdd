#!/bin/sh
# npm run soak: sets a fresh clone up, then runs stress-ng in one container for an hour and looks for what it leaves.
cd "$(dirname "$0")/.." || exit 1
. scripts/setup.sh
set_up || exit 1
exec node benchmarks/soak.ts "$@"
