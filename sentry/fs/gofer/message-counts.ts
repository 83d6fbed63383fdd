/** How many messages of each kind went to the gofer and how long the sentry waited for the answers: for --debug-log. */
import * as TYPES from '../../../gofer/messages.ts'
import { monotonicNs } from '../../kernel/clock.ts'

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
    const rows = Object.entries(TYPES)
      .filter(([, type]) => this.counts[type]! > 0)
      .sort(([, a], [, b]) => this.waited[b]! - this.waited[a]!)
    const lines = rows.map(([name, type]) => {
      const each = this.waited[type]! / this.counts[type]! / 1000
      return `  ${name.toLowerCase().padEnd(12)}${String(this.counts[type]).padStart(8)} × ${each.toFixed(1)} µs`
    })
    return ['messages to the gofer', ...lines].join('\n')
  }
}
