# Sourced by start.sh, test.sh and bench.sh: makes a fresh clone runnable and costs nothing the second time.
# What it leaves behind: node_modules as the lock file says, cc, dist/ newer than every source, Node 26 first on PATH.
# All messages go to stderr, so that the output of `npm start -- PROGRAM` is the program's alone.

say() { echo "tssandbox: $*" >&2; }

on_debian_as_root() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; }

# Installs Debian packages; the lists are fetched only when an install fails without them.
apt_install() {
  export DEBIAN_FRONTEND=noninteractive
  apt-get install -y --no-install-recommends "$@" </dev/null >/dev/null 2>&1 && return 0
  apt-get update </dev/null >/dev/null 2>&1
  apt-get install -y --no-install-recommends "$@" </dev/null >&2
}

# Of lines `PROGRAM PACKAGE`: the packages whose program is not there.
missing_packages() {
  echo "$1" | while read -r program package; do
    [ -n "$program" ] && ! PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null 2>&1 && echo "$package"
  done
}

ensure_node_modules() {
  if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
    say 'installing node_modules'
    # Not `npm ci`: it insists on lock entries for the optional packages of every other platform, which a registry that
    # lacks them cannot give. Versions and checksums are the lock file's all the same, and nothing is written to it.
    npm install --no-save --no-audit --no-fund --loglevel=error </dev/null >&2 || return 1
    touch node_modules/.package-lock.json
  fi
  PATH=$PWD/node_modules/.bin:$PATH
  export PATH
  # They slow every start of Node down, and npm, which needed them, is done.
  unset NODE_OPTIONS NODE_EXTRA_CA_CERTS
}

ensure_cc() {
  printf '#include <stdio.h>\n' | cc -E - >/dev/null 2>&1 && return 0
  if on_debian_as_root; then
    say 'installing a C compiler'
    apt_install gcc libc6-dev && return 0
  fi
  say 'a C compiler is needed: install gcc and the C library headers (Debian: apt-get install gcc libc6-dev)'
  return 1
}

is_built() {
  [ -e dist/.built ] &&
    [ -z "$(find runsc-cli sentry syscalls gofer native microvm scripts/build.mjs package-lock.json -newer dist/.built \
      -type f ! -name '*.md' 2>/dev/null | head -n 1)" ]
}

# One at a time: two commands that begin together must not write each other's files.
ensure_built() {
  is_built && return 0
  mkdir -p dist || return 1
  (
    flock 9 2>/dev/null
    is_built && exit 0
    say 'building'
    touch dist/.building # taken before the build: a source edited meanwhile is newer
    node scripts/build.mjs </dev/null >&2 9>&- && mv dist/.building dist/.built
  ) 9>dist/.lock
}

# For --platform=microvm: QEMU, what unpacks the kernel, and then kernel and initramfs (nothing to do the second time).
ensure_microvm() {
  missing=
  for pair in qemu-system-x86_64:qemu-system-x86 xz:xz-utils tc:iproute2; do
    PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair#*:}"
  done
  if [ -n "$missing" ]; then
    on_debian_as_root || { say "--platform=microvm needs these Debian packages:$missing"; return 1; }
    say "installing$missing"
    # shellcheck disable=SC2086 # one word per package
    apt_install $missing || return 1
  fi
  bin/tssandbox microvm setup >&2
}

set_up() { ensure_node_modules && ensure_cc && ensure_built; }
