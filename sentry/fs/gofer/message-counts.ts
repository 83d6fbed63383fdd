/** How many messages of each kind went to the gofer and how long the sentry waited for the answers: for --debug-log. */
import * as protocol from '../../../gofer/protocol.ts'
import { monotonicNs } from '../../kernel/clock.ts'

const NAMES: readonly (keyof typeof protocol)[] = [
  ...(['HELLO', 'WALK', 'STAT', 'OPEN', 'CREATE', 'READDIR', 'MKDIR', 'MKNOD', 'SYMLINK', 'LINK', 'UNLINK'] as const),
  ...(['RMDIR', 'RENAME', 'SETATTR', 'READLINK', 'STATFS', 'GETXATTR', 'SETXATTR', 'LISTXATTR'] as const),
  ...(['REMOVEXATTR', 'FSYNC', 'TMPFILE'] as const),
]
const MAX_TYPE = 64

export class MessageCounts {
  private readonly counts = new Uint32Array(MAX_TYPE)
  private readonly waited = new Float64Array(MAX_TYPE)
  private type = 0
  private since = 0

  sent(type: number): void {
    this.type = type
    this.since = monotonicNs()
  }
  answered(): void {
    this.counts[this.type]!++
    this.waited[this.type]! += monotonicNs() - this.since
  }

  /** One line a kind: name, number, microseconds each. */
  report(): string {
    const rows = NAMES.map((name) => ({ name: name.toLowerCase(), type: protocol[name] as number }))
      .filter(({ type }) => this.counts[type]! > 0)
      .sort((a, b) => this.waited[b.type]! - this.waited[a.type]!)
    const lines = rows.map(({ name, type }) => {
      const each = this.waited[type]! / this.counts[type]! / 1000
      return `  ${name.padEnd(12)}${String(this.counts[type]).padStart(8)} × ${each.toFixed(1)} µs`
    })
    return ['messages to the gofer', ...lines].join('\n')
  }
}
