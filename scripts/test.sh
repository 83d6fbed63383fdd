#!/bin/sh
# npm test [-- vitest filters]: the checks, then every test. The last line is `N passed, N failed, N skipped`, where each
# failed check counts as one failed test; the exit code says whether anything failed.
cd "$(dirname "$0")/.." || exit 1
. scripts/setup.sh
set_up || { echo '0 passed, 1 failed, 0 skipped'; exit 1; }
sh scripts/provision.sh

summary=.cache/test-summary.json
rm -f "$summary" && mkdir -p .cache
checks_failed=
check() {
  name=$1
  shift
  echo "== $name"
  "$@" </dev/null || checks_failed="$checks_failed $name"
}
if [ $# = 0 ]; then
  check biome biome check .
  check tsc tsc --noEmit
  check import-rules node --no-warnings scripts/import-rules.mjs
  check knip knip --preprocessor ./scripts/knip-constants.mjs
fi
echo '== vitest'
TSSANDBOX_TEST_SUMMARY=$summary vitest run "$@" </dev/null
vitest_code=$?
exec node scripts/test-summary.mjs "$summary" "$vitest_code" $checks_failed
