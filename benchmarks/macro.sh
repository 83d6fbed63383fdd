#!/bin/bash
# macro.sh ROW…: programs that people run, in a container or natively. Prints `start ROW`, then `ROW VALUE` or
# `fail ROW REASON`. What they work on is made by fixtures.sh. Each row has a function of its name.
data=/srv/bench
work=/bench/work
error=/bench/error

# Milliseconds that a command takes, by a program that is small enough not to count.
timed() { /bench/micro time "$@" >/bench/time 2>"$error" && sed -n 's/^time //p' /bench/time; }
# The same as the median of three runs, for what is short.
timed_thrice() { for _ in 1 2 3; do timed "$@" || return; done | sort -n | sed -n 2p; }
# The number that a sed expression finds in the output of a command.
figure() {
  local expression=$1
  shift
  "$@" >/bench/output 2>"$error" </dev/null && sed -nE "$expression" /bench/output
}
# Waits until something listens on a port of this machine.
await_port() {
  for _ in {1..200}; do
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return 0
    sleep 0.05
  done
  echo "nothing listens on port $1" >>"$error"
  return 1
}

python() { timed_thrice python3 -c pass; }
node() { timed_thrice /usr/bin/node -e 0; }
git-clone() { timed git clone -q "$data/repository" clone; }
compile() { cp "$data"/project/* . && timed make -s -j2; }
tar() { timed sh -c 'tar -C /usr -c include | gzip >include.tar.gz'; }
find() { timed sh -c "find /usr -printf '%s %p\n' >/dev/null"; }
sqlite-one() { timed sh -c "sqlite3 one.db <$data/one.sql"; }
sqlite-each() { timed sh -c "sqlite3 each.db <$data/each.sql"; }

redis() {
  redis-server --port 6379 --bind 127.0.0.1 --save '' --dir "$work" >/bench/redis.log 2>&1 &
  await_port 6379 && figure 's/^"[A-Z]*","([0-9.]+)".*/\1/p' redis-benchmark -h 127.0.0.1 --csv "$@"
  local status=$?
  kill %1 && wait %1
  return $status
}
# As many requests as the tool makes unasked, 100,000.
redis-set() { redis -t set; }
redis-get() { redis -t get; }
redis-set-pipelined() { redis -t set -n 200000 -P 16; }
redis-get-pipelined() { redis -t get -n 200000 -P 16; }

nginx() {
  /usr/sbin/nginx -c "$data/nginx.conf" -g 'daemon off;' 2>"$error" &
  await_port 8080 && figure 's/^Requests\/sec: *([0-9.]+)/\1/p' wrk -t1 -c16 -d3s http://127.0.0.1:8080/index.html
  local status=$?
  kill %1 && wait %1
  return $status
}

sysbench-cpu() { figure 's/^ *events per second: *([0-9.]+)/\1/p' sysbench cpu --time=2 run; }
sysbench-memory() {
  figure 's/^.*\(([0-9.]+) MiB\/sec\)/\1/p' sysbench memory --memory-block-size=4K --memory-total-size=1T --time=2 run
}
sysbench-fileio() {
  local options=(fileio --file-total-size=64M --file-num=16 --file-test-mode=rndrw --time=3)
  sysbench "${options[@]}" prepare >/dev/null 2>"$error" &&
    figure 's/^ *(reads|writes)\/s: *([0-9.]+)/\2/p' sysbench "${options[@]}" run | awk '{ sum += $1 } END { if (sum) print sum }'
}

export HOME=/root GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
for row; do
  rm -rf "$work" && mkdir -p "$work" && cd "$work" || exit 1
  echo "start $row"
  : >"$error"
  value=$("$row")
  if [ -n "$value" ]; then echo "$row $value"; else echo "fail $row $(tail -n 1 "$error")"; fi
done
