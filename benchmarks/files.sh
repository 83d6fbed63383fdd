#!/bin/sh
# files.sh ROW…: reads what lies in its own folder, in a container or natively; prints as macro.sh does. Of each pair the first
# finds the container's caches empty, so the rows are to run in their order, in a container of their own.
cd "$(dirname "$0")" || exit 1

milliseconds() { /bench/micro time "$@" | sed -n 's/^time //p'; }
# As dd reports it: its own start is not reading. coreutils, and busybox where it does.
rate() {
  LC_ALL=C dd if=big of=/dev/null bs=1M 2>&1 |
    awk '/ copied, / { s = $0; sub(/.* copied, /, "", s); if (s + 0 > 0) printf "%.1f\n", $1 / 1000000 / (s + 0) }'
}
# micro passes standard output on, and the list is no row.
list() { milliseconds sh -c 'exec ls -lR tree >/dev/null'; }

for row; do
  echo "start $row"
  case $row in
  read-first | read-again) value=$(rate) ;;
  list-first | list-again) value=$(list) ;;
  esac
  if [ -n "$value" ]; then echo "$row $value"; else echo "fail $row no value"; fi
done
