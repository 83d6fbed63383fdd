#!/bin/sh
# npm start -- [GLOBAL FLAGS] PROGRAM [ARGS]: sets a fresh clone up, then runs PROGRAM in a sandbox over the host's root.
cd "$(dirname "$0")/.." || exit 1
. scripts/setup.sh
set_up || exit 1

# Global flags stand before `do` on tssandbox's command line; rotate them there one by one.
count=$#
while [ "$count" -gt 0 ]; do
  case $1 in
  --platform | --network | --root | --log | --log-format | --debug-log) take=2 ;;
  --platform=* | --network=* | --root=* | --log=* | --log-format=* | --debug-log=* | --debug | --strace | --version | --help | -h) take=1 ;;
  *) break ;;
  esac
  while [ "$take" -gt 0 ] && [ "$count" -gt 0 ]; do
    set -- "$@" "$1"
    shift
    take=$((take - 1)) count=$((count - 1))
  done
done
# Now "$@" is REST… FLAGS…: bring the rest behind `do`.
set -- "$@" do
while [ "$count" -gt 0 ]; do
  set -- "$@" "$1"
  shift
  count=$((count - 1))
done
home=$PWD
cd "${INIT_CWD:-.}" 2>/dev/null || :
exec "$home/bin/tssandbox" "$@"
