#!/bin/sh
# npm start -- [GLOBAL FLAGS] PROGRAM [ARGS]: sets a fresh clone up, then runs PROGRAM in a sandbox over the host's root.
cd "$(dirname "$0")/.." || exit 1
. scripts/setup.sh
set_up || exit 1

# Global flags stand before `do` on tssandbox's command line; rotate them there one by one.
count=$# microvm=
while [ "$count" -gt 0 ]; do
  case $1 in --platform=microvm) microvm=1 ;; esac
  [ "$1 $2" = '--platform microvm' ] && microvm=1
  case $1 in
  --platform | --network | --root | --log | --log-format | --debug-log | --microvm-accel | --microvm-template | --microvm-dir) take=2 ;;
  --platform=* | --network=* | --root=* | --log=* | --log-format=* | --debug-log=* | --microvm-*=* | --debug | --strace | --version | --help | -h) take=1 ;;
  *) break ;;
  esac
  while [ "$take" -gt 0 ] && [ "$count" -gt 0 ]; do
    set -- "$@" "$1"
    shift
    take=$((take - 1)) count=$((count - 1))
  done
done
[ -z "$microvm" ] || ensure_microvm || exit 1
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
