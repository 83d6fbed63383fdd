#!/bin/bash
# Runs once, natively, in the root that is being made: what the macro rows work on, under /srv/bench.
set -e
mkdir -p /srv/bench/repository /srv/bench/project /srv/bench/www
cd /srv/bench/repository
export HOME=/root GIT_AUTHOR_DATE='2026-01-01T00:00:00Z' GIT_COMMITTER_DATE='2026-01-01T00:00:00Z'
git init -q -b main .
for folder in {1..40}; do
  mkdir "folder-$folder"
  for file in {1..50}; do
    for ((line = 0; line < 20; line++)); do echo "line $line of file $file in folder $folder $((RANDOM * RANDOM))"; done \
      >"folder-$folder/file-$file.txt"
  done
done
git add . && git -c user.name=bench -c user.email=bench@example.org commit -qm 'two thousand files'
git gc -q # one pack, as of a repository that was fetched

cd ../project
for file in {1..50}; do
  cat >"unit_$file.c" <<C
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static int compare_$file(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }
int unit_$file(char **names, int count) {
  qsort(names, count, sizeof *names, compare_$file);
  for (int i = 0; i < count; i++) printf("%d %s %zu\n", $file, names[i], strlen(names[i]));
  return count * $file;
}
C
done
{
  for file in {1..50}; do echo "int unit_$file(char **names, int count);"; done
  echo 'int main(int argc, char **argv) { int sum = 0;'
  for file in {1..50}; do echo "  sum += unit_$file(argv, argc);"; done
  echo '  return sum == 0; }'
} >main.c
printf 'OBJECTS := $(patsubst %%.c,%%.o,$(wildcard *.c))\nprogram: $(OBJECTS)\n\t$(CC) -o $@ $^\n%%.o: %%.c\n\t$(CC) -O1 -c -o $@ $<\n' >Makefile

cd ..
head -c 612 /dev/zero | tr '\0' x >www/index.html
cat >nginx.conf <<'C'
user root;
worker_processes 1;
pid /run/nginx-bench.pid;
error_log stderr;
events { worker_connections 64; }
http { access_log off; server { listen 127.0.0.1:8080; root /srv/bench/www; } }
C
{
  echo 'CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT); BEGIN;'
  for i in {1..10000}; do echo "INSERT INTO t VALUES ($i, 'text of row $i');"; done
  echo 'COMMIT;'
} >one.sql
{
  echo 'CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT);'
  for i in {1..500}; do echo "INSERT INTO t VALUES ($i, 'text of row $i');"; done
} >each.sql
