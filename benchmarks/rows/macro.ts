/** Programs that people run, measured by macro.sh in one container per round. */
import type { Row } from '../types.ts'

const row = (name: string, title: string, unit = 'ms', limit = 120): Row => ({
  name,
  group: 'macro',
  title,
  unit,
  better: unit === 'ms' ? 'lower' : 'higher',
  limit,
})

export const MACRO_ROWS: Row[] = [
  row('python', 'python3 -c pass'),
  row('node', 'node -e 0'),
  row('git-clone', 'git clone of 2,000 files'),
  row('compile', 'make -j2 of 50 C files'),
  row('tar', 'tar and gzip of /usr/include'),
  row('find', 'find over /usr'),
  row('sqlite-one', 'sqlite3: 10,000 inserts in one transaction'),
  row('sqlite-each', 'sqlite3: 500 inserts, each its own transaction'),
  row('redis-set', 'redis SET', 'requests/s'),
  row('redis-get', 'redis GET', 'requests/s'),
  row('redis-set-pipelined', 'redis SET, 16 in a pipeline', 'requests/s'),
  row('redis-get-pipelined', 'redis GET, 16 in a pipeline', 'requests/s'),
  row('nginx', 'nginx: 612-byte page, 16 connections', 'requests/s'),
  row('sysbench-cpu', 'sysbench cpu', 'events/s'),
  row('sysbench-memory', 'sysbench memory', 'MB/s'),
  row('sysbench-fileio', 'sysbench fileio, random reads and writes', 'operations/s'),
]

export const macroCommand = (rows: Row[]): string[] => ['/bin/bash', '/bench/macro.sh', ...rows.map((r) => r.name)]
