/**
 * Gives back what only Node's own start has looked at: three quarters of an idle process's resident memory are pages of
 * the node binary (V8's snapshot, bootstrap code). They stay in the host's page cache; what is needed again comes back
 * with a minor fault.
 */
import { readFileSync } from 'node:fs'
import { raw } from './host.ts'

const SYS_MADVISE = 28
const MADV_DONTNEED = 4

/** Drops the binary's read-only pages. A mapping with a page of its own (relocated data) is left alone. */
export function dropBinaryPages(): void {
  for (const entry of readFileSync('/proc/self/smaps', 'latin1').split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)) {
    const match = /^([0-9a-f]+)-([0-9a-f]+) r-[x-]p \S+ \S+ \S+ +(.*)\n/.exec(entry)
    if (match === null || match[3] !== process.execPath || !/^Anonymous: +0 kB$/m.test(entry)) continue
    const start = Number.parseInt(match[1]!, 16)
    raw.L(SYS_MADVISE, start, Number.parseInt(match[2]!, 16) - start, MADV_DONTNEED, 0, 0, 0)
  }
}
