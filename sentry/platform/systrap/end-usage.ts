/**
 * What host processes had used when they ended (rusage of wait4(2)), told to whoever asked at their end. The driver notes it
 * as it collects them (native/host/systrap-usage.c), a moment after the kill.
 */
import { END_REPORT_WORDS, END_REPORTS, stAwaitEnd, stEnds } from '../../../native/systrap.ts'
import type { UsageSink } from '../platform.ts'

export class EndUsage {
  private readonly pending = new Map<number, UsageSink>()
  /** The ring of the driver, and how many of its reports were read. */
  private readonly ring = stEnds()
  private seen = 0

  /** `sink` is told when `hostPid`, which is alive and about to be killed, was collected. */
  expect(hostPid: number, sink: UsageSink): void {
    this.read()
    this.pending.set(hostPid, sink)
  }

  /** Tells everybody. */
  settle(): void {
    this.read()
    while (this.pending.size > 0) {
      const [hostPid] = this.pending.keys()
      stAwaitEnd(hostPid!)
      this.read()
      this.pending.delete(hostPid!)
    }
  }

  private read(): void {
    const { ring, pending } = this
    for (; this.seen !== ring[0]; this.seen = (this.seen + 1) >>> 0) {
      const at = 1 + (this.seen % END_REPORTS) * END_REPORT_WORDS
      const sink = pending.get(ring[at]!)
      if (sink === undefined) continue
      pending.delete(ring[at]!)
      sink.used(ring[at + 1]!, ring[at + 2]!, ring[at + 3]!)
    }
  }
}
