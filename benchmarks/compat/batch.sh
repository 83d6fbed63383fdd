#!/bin/sh
# Runs a list of commands one after the other, whatever kernel this is, and marks where each begins and ends. A line of
# the list: name, seconds, command, separated by tabs. The mark is a word that no test prints.
mark=$1 list=$2
tab=$(printf '\t')
while IFS=$tab read -r name seconds command <&3; do
  cd /tmp || exit 1
  printf '\n%s start %s\n' "$mark" "$name"
  timeout -k 5 "$seconds" sh -c "$command" </dev/null 2>&1 3<&-
  printf '\n%s end %s %s\n' "$mark" "$name" "$?"
done 3<"$list"
printf '\n%s done\n' "$mark"
