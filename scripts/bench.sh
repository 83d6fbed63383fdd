#!/bin/sh
# npm run bench: sets a fresh clone up, installs the runtimes to compare with, then measures all of them side by side.
# The programs that the rows run are in a root file system of their own (benchmarks/roots.ts).
cd "$(dirname "$0")/.." || exit 1
. scripts/setup.sh
set_up || exit 1
missing=$(missing_packages '
runc        runc
crun        crun
runsc       runsc
debootstrap debootstrap
setpriv     util-linux
ip          iproute2
')
if [ -n "$missing" ] && on_debian_as_root; then
  say "installing for the comparison:" $missing
  for package in $missing; do apt_install "$package" || say "could not install $package: it will not be measured"; done
elif [ -n "$missing" ]; then
  say "not installed, so not measured:" $missing
fi
# Says what is wrong, and they are missing in the table then.
ensure_microvm || say 'no virtual machines: they will not be measured'
exec node benchmarks/run.ts "$@"
