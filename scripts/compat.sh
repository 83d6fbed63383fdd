#!/bin/sh
# npm run compat: sets a fresh clone up, then runs the same programs natively and in the installed runtimes.
cd "$(dirname "$0")/.." || exit 1
. scripts/setup.sh
set_up || exit 1
# In a mount namespace of its own, so that the mounts of a run that is killed end with it.
[ "$(id -u)" = 0 ] && exec unshare --mount --propagation private node benchmarks/compat/run.ts "$@"
exec node benchmarks/compat/run.ts "$@"
