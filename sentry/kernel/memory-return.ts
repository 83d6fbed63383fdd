/**
 * Memory that V8 keeps after busy times goes back to the host when the guests have been quiet for a while.
 *
 * Nothing else would do it: V8 collects when memory is asked for, and an idle sentry asks for none. One collection for
 * each quiet time that follows enough work; an idle container goes on using no CPU.
 */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { mallocTrim } from '../../native/host.ts'
import type { GuestThread, Platform } from '../platform/platform.ts'
import { monotonicNs } from './clock.ts'

/** No trap and no event of the host's for so long, after a wait in which there was none either, is quiet. */
const QUIET_NS = 1_500_000_000
/** Waits since the last collection that make another one worth its 10 to 30 ms. */
const ENOUGH_WORK = 20_000
const FOREVER = Number.POSITIVE_INFINITY

type Collect = (options: { type: 'major'; execution: 'sync'; flavor: 'last-resort' }) => void
let collect: Collect | null = null

function collectGarbage(): void {
  if (collect === null) {
    setFlagsFromString('--expose-gc')
    collect = runInNewContext('gc') as Collect
  }
  collect({ type: 'major', execution: 'sync', flavor: 'last-resort' })
  // What the collected buffers had is free, but still the C library's.
  mallocTrim(0)
}

export class MemoryReturn {
  private work = 0
  /** When a wait first came back with nothing; −1: something has happened since. */
  private quietFrom = -1

  /**
   * As platform.wait(), which may return early with nothing. What is done here once there is enough work has been done
   * from the first wait on: V8 throws optimised code away, the main loop's, when that meets something new.
   */
  wait(platform: Platform, timeoutNs: number): GuestThread | null {
    this.work++
    const enough = this.work >= ENOUGH_WORK
    const long = (timeoutNs < 0 ? FOREVER : timeoutNs) > QUIET_NS
    const watched = enough && long
    const thread = platform.wait(watched ? QUIET_NS : timeoutNs)
    const silent = platform.hostEventCount === 0
    if (thread === null && watched && silent) this.nothingCame()
    else this.quietFrom = -1
    return thread
  }

  private nothingCame(): void {
    const now = monotonicNs()
    if (this.quietFrom < 0) this.quietFrom = now
    if (now - this.quietFrom < QUIET_NS) return
    collectGarbage()
    this.work = 0
    this.quietFrom = -1
  }
}
