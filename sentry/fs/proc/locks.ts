/**
 * /proc/locks (Linux: fs/locks.c, lock_get_status).
 */
import { devMajor, devMinor, type Inode } from '../../vfs/inode.ts'
import { lockedInodes } from '../../vfs/locks.ts'

const hex2 = (n: number): string => n.toString(16).padStart(2, '0')
/** The last byte of a lock that reaches to the end. */
const OFFSET_MAX = 2 ** 63 - 1

export function renderLocks(): string {
  let text = ''
  let n = 0
  const row = (kind: string, write: boolean, pid: number, inode: Inode, start: number, end: number): void => {
    const dev = `${hex2(devMajor(inode.sb.dev))}:${hex2(devMinor(inode.sb.dev))}`
    const last = end >= OFFSET_MAX || end === Number.POSITIVE_INFINITY ? 'EOF' : String(end)
    text += `${++n}: ${kind.padEnd(6)} ADVISORY  ${write ? 'WRITE' : 'READ '} ${pid} ${dev}:${inode.ino} ${start} ${last}\n`
  }
  for (const locks of lockedInodes) {
    for (const l of locks.whole) row('FLOCK', l.write, l.pid, locks.inode, 0, Number.POSITIVE_INFINITY)
    for (const l of locks.records) row(l.pid < 0 ? 'OFDLCK' : 'POSIX', l.write, l.pid, locks.inode, l.start, l.end)
  }
  return text
}
