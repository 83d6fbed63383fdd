#!/bin/sh
# files.sh ROW…: reads what lies in its own folder, in a container or natively; prints as macro.sh does. Of each pair the first
# finds the container's caches empty, so the rows are to run in their order, in a container of their own.
cd "$(dirname "$0")" || exit 1

milliseconds() { /bench/micro time "$@" | sed -n 's/^time //p'; }
rate() { milliseconds dd if=big of=/dev/null bs=1M 2>/dev/null | awk '$1 { printf "%.1f\n", 64 * 1.048576 * 1000 / $1 }'; }
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
