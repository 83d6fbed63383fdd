#!/bin/sh
# A Docker daemon of our own for the tests, apart from any other on the machine: `docker-setup.sh start|stop|env`.
# Everything it writes lies under /var/lib/tssandbox-test/docker; its runtimes are runc and this checkout's tssandbox.
# `start` prints the DOCKER_HOST to use, or a line that says why there is none (exit 1).
cd "$(dirname "$0")/.." || exit 1
home=$PWD
base=${TSSANDBOX_DOCKER_BASE:-/var/lib/tssandbox-test/docker}
host=unix://$base/docker.sock
PATH=$PATH:/usr/sbin:/sbin
export PATH

no() { echo "no Docker: $*" >&2; exit 1; }
alive() { [ -s "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null; }
# A foreign docker client may come first on PATH; Debian's is /usr/bin/docker, and either speaks to the socket.
client() { if [ -x /usr/bin/docker ]; then echo /usr/bin/docker; else command -v docker; fi; }

install_docker() {
  command -v dockerd >/dev/null && [ -n "$(client)" ] && return
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || no 'docker.io is not installed'
  export DEBIAN_FRONTEND=noninteractive
  apt-get install -y --no-install-recommends docker.io >/dev/null 2>&1 ||
    { apt-get update >/dev/null 2>&1; apt-get install -y --no-install-recommends docker.io >/dev/null 2>&1; } ||
    no 'docker.io cannot be installed'
}

start() {
  [ "$(id -u)" = 0 ] || no 'not root'
  install_docker
  if alive "$base/dockerd.pid" && DOCKER_HOST=$host "$(client)" info >/dev/null 2>&1; then echo "$host"; return; fi
  mkdir -p "$base/data" "$base/exec" "$base/containerd/root" "$base/containerd/state"
  rm -f "$base/dockerd.pid" "$base/docker.sock"
  cat >"$base/daemon.json" <<JSON
{
  "hosts": ["$host"],
  "containerd": "$base/containerd/containerd.sock",
  "data-root": "$base/data",
  "exec-root": "$base/exec",
  "pidfile": "$base/dockerd.pid",
  "storage-driver": "${TSSANDBOX_STORAGE_DRIVER:-overlay2}",
  "bridge": "${TSSANDBOX_BRIDGE:-}",
  "runtimes": {
    "tssandbox": { "path": "$home/bin/tssandbox" },
    "tssandbox-ptrace": { "path": "$home/bin/tssandbox", "runtimeArgs": ["--platform=ptrace"] },
    "tssandbox-systrap": { "path": "$home/bin/tssandbox", "runtimeArgs": ["--platform=systrap"] },
    "tssandbox-vm": { "path": "$home/bin/tssandbox", "runtimeArgs": ["--platform=microvm"] }
  }
}
JSON
  cat >"$base/containerd/config.toml" <<TOML
version = 2
root = "$base/containerd/root"
state = "$base/containerd/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "$base/containerd/containerd.sock"
TOML
  if ! alive "$base/containerd.pid"; then
    setsid containerd --config "$base/containerd/config.toml" >"$base/containerd.log" 2>&1 </dev/null &
    echo $! >"$base/containerd.pid"
  fi
  # The legacy iptables is all that some kernels have; dockerd fails without a nat table.
  path=$PATH
  if ! iptables -t nat -L -n >/dev/null 2>&1 && iptables-legacy -t nat -L -n >/dev/null 2>&1; then
    mkdir -p "$base/bin"
    ln -sf "$(command -v iptables-legacy)" "$base/bin/iptables"
    ln -sf "$(command -v ip6tables-legacy)" "$base/bin/ip6tables"
    path=$base/bin:$PATH
  fi
  PATH=$path DOCKER_RAMDISK=1 setsid dockerd --config-file "$base/daemon.json" >"$base/dockerd.log" 2>&1 </dev/null &
  i=0
  while ! DOCKER_HOST=$host "$(client)" info >/dev/null 2>&1; do
    i=$((i + 1))
    if [ $i -gt 150 ]; then
      stop
      no "dockerd does not answer: $(tail -n 1 "$base/dockerd.log")"
    fi
    sleep 0.2
  done
  echo "$host"
}

stop() {
  for name in dockerd containerd; do
    alive "$base/$name.pid" || continue
    pid=$(cat "$base/$name.pid")
    kill "$pid"
    i=0
    while kill -0 "$pid" 2>/dev/null && [ $i -lt 100 ]; do i=$((i + 1)); sleep 0.1; done
    kill -9 "$pid" 2>/dev/null
    rm -f "$base/$name.pid"
  done
}

case ${1:-start} in
  start) start ;;
  stop) stop ;;
  env) echo "DOCKER_HOST=$host DOCKER=$(client)" ;;
  *) echo "usage: $0 start|stop|env" >&2; exit 2 ;;
esac
