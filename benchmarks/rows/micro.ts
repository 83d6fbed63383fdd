/** Single kernel operations, measured by micro/ in one container per round. */
import type { Commander } from '../inside.ts'
import type { Row } from '../types.ts'

const SAMPLES = { whole: 9, quick: 3 }

const row = (name: string, title: string, unit = 'ns'): Row => ({
  name,
  group: 'micro',
  title,
  unit,
  better: unit === 'MB/s' ? 'higher' : 'lower',
  limit: 40,
})

export const MICRO_ROWS: Row[] = [
  row('getppid', 'getppid through libc'),
  row('getppid-sigsys', 'getppid, call site that cannot be patched'),
  row('pread-64', 'pread of 64 bytes'),
  row('pread-4k', 'pread of 4 KiB'),
  row('write-1', 'write of 1 byte to a pipe'),
  row('stat', 'stat of a cached path'),
  row('open-close', 'open and close'),
  row('readdir-1000', 'readdir of 1,000 entries'),
  row('pipe', 'pipe round trip, two processes'),
  row('socketpair', 'socketpair round trip, two processes'),
  row('futex', 'futex hand-over and back, two threads'),
  row('signal', 'signal to itself and back'),
  row('mmap-touch', 'mmap, touch 16 pages, munmap'),
  row('page-fault', 'page fault'),
  row('thread', 'thread create and join'),
  row('fork', 'fork, exit, wait'),
  row('exec-static', 'fork, exec of a static program, wait'),
  row('exec-dynamic', 'fork, exec of a dynamic program, wait'),
  row('memory', 'memory copy', 'MB/s'),
  row('cpu', '1,000 steps of arithmetic'),
]

export const microCommand =
  (quick: boolean): Commander =>
  (rows) => ['/bench/micro', '-s', String(quick ? SAMPLES.quick : SAMPLES.whole), ...rows.map((r) => r.name)]
