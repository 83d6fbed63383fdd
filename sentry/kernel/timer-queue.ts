/**
 * Timer queue: one binary heap of everything that waits for a point in monotonic time (Linux: hrtimers).
 */
export interface TimerEntry {
  /** Absolute monotonic ns. */
  expires: number
  /** Position in the heap; −1 when not queued. Only the queue writes it. */
  heapIndex: number
  /** Runs outside the heap: it may add itself again. */
  expired(): void
}

export class TimerQueue {
  private readonly heap: TimerEntry[] = []

  /** Queues or moves `entry` to `expires`. */
  add(entry: TimerEntry, expires: number): void {
    if (entry.heapIndex >= 0) this.remove(entry)
    entry.expires = expires
    entry.heapIndex = this.heap.length
    this.heap.push(entry)
    this.up(entry.heapIndex)
  }

  /** Harmless when not queued. */
  remove(entry: TimerEntry): void {
    const at = entry.heapIndex
    if (at < 0) return
    const last = this.heap.pop()!
    entry.heapIndex = -1
    if (last === entry) return
    this.heap[at] = last
    last.heapIndex = at
    this.up(at)
    this.down(last.heapIndex)
  }

  /** When the first timer fires; Infinity if there is none. */
  get next(): number {
    return this.heap.length > 0 ? this.heap[0]!.expires : Number.POSITIVE_INFINITY
  }

  /** Fires everything due at `now`. */
  run(now: number): void {
    while (this.heap.length > 0 && this.heap[0]!.expires <= now) {
      const entry = this.heap[0]!
      this.remove(entry)
      entry.expired()
    }
  }

  private swap(a: number, b: number): void {
    const x = this.heap[a]!
    const y = this.heap[b]!
    this.heap[a] = y
    y.heapIndex = a
    this.heap[b] = x
    x.heapIndex = b
  }
  private up(start: number): void {
    let i = start
    while (i > 0) {
      const parent = (i - 1) >> 1
      if (this.heap[parent]!.expires <= this.heap[i]!.expires) return
      this.swap(i, parent)
      i = parent
    }
  }
  private down(start: number): void {
    let i = start
    const n = this.heap.length
    for (;;) {
      let least = i
      const l = 2 * i + 1
      if (l < n && this.heap[l]!.expires < this.heap[least]!.expires) least = l
      if (l + 1 < n && this.heap[l + 1]!.expires < this.heap[least]!.expires) least = l + 1
      if (least === i) return
      this.swap(i, least)
      i = least
    }
  }
}
