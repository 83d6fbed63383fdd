#!/bin/sh
# Installs what the integration tests run inside sandboxes: each package is named beside the program that shows it is there.
# Only as root on Debian; elsewhere it says what is missing and the tests that need it report themselves as skipped.
# An install that fails is not an error here either, for the same reason.
cd "$(dirname "$0")/.." || exit 1
. scripts/setup.sh

NEEDED='
busybox     busybox-static
bash        bash
python3     python3
sqlite3     sqlite3
perl        perl
git         git
make        make
gcc         gcc
ps          procps
strace      strace
script      bsdutils
xz          xz-utils
debootstrap debootstrap
dockerd     docker.io
ip          iproute2
qemu-system-x86_64 qemu-system-x86
'
missing=$(missing_packages "$NEEDED")
# A busybox that is dynamically linked cannot be a container's whole root.
command -v busybox >/dev/null 2>&1 && [ -n "$(ldd "$(command -v busybox)" 2>/dev/null | grep '=>')" ] &&
  missing="$missing busybox-static"
[ -z "$missing" ] && exit 0
if ! on_debian_as_root; then
  say "tests that need these Debian packages will be skipped:" $missing
  exit 0
fi
say "installing for the tests:" $missing
# shellcheck disable=SC2086 # one word per package
apt_install $missing && exit 0
for package in $missing; do
  apt_install "$package" || say "could not install $package: tests that need it will be skipped"
done
exit 0
