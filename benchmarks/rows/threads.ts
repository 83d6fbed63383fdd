/** Many guest threads that make calls at the same time. */
import type { Row } from '../types.ts'

const COUNTS = [1, 2, 4, 8, 16, 32, 64]

export const THREAD_ROWS: Row[] = COUNTS.map((n) => ({
  name: `threads-${n}`,
  group: 'scale',
  title: `${n} threads that read 64 bytes over and over`,
  unit: 'calls/s',
  better: 'higher',
  limit: 30,
}))

export const threadsCommand = (rows: Row[]): string[] => [
  '/bin/sh',
  '-c',
  'for n; do /bench/micro threads $n || echo "fail threads-$n exit code $?"; done',
  'sh',
  ...rows.map((row) => row.name.slice('threads-'.length)),
]
