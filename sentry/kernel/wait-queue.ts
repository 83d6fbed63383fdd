/**
 * Wait queue: who wants to know that an object changed state (Linux: wait_queue_head_t).
 *
 * Waiters are intrusive doubly-linked nodes, so that adding and removing never allocates. A waiter is on at most one
 * queue at a time. wake() may be called from anywhere; `notify` must not block and must not throw, and may remove any
 * waiter, also itself.
 */

/** Something that can be notified by a queue. */
export interface Wakeable {
  /** `events` is an EPOLL* mask of what became ready. */
  notify(waiter: Waiter, events: number): void
}

export class Waiter {
  readonly target: Wakeable
  queue: WaitQueue | null = null
  /** EPOLL* events of interest; EPOLLERR and EPOLLHUP are always reported. */
  mask = 0
  /** The last wake() that came by. */
  wake = 0
  prev: Waiter | null = null
  next: Waiter | null = null

  constructor(target: Wakeable) {
    this.target = target
  }

  /** Leaves its queue, if on one. */
  remove(): void {
    const queue = this.queue
    if (queue === null) return
    if (this.prev !== null) this.prev.next = this.next
    else queue.head = this.next
    if (this.next !== null) this.next.prev = this.prev
    else queue.tail = this.prev
    this.queue = null
    this.prev = null
    this.next = null
  }
}

const EPOLLERR_HUP = 0x18
/** Beside the EPOLL* bits of a wake: who sleeps need not go on before whoever runs has had its turn. */
export const WAKE_LATER = 0x01000000
let lastWake = 0

export class WaitQueue {
  head: Waiter | null = null
  tail: Waiter | null = null

  /** Adds a waiter that is on no queue. */
  add(waiter: Waiter, mask: number): void {
    waiter.mask = mask | EPOLLERR_HUP
    waiter.queue = this
    waiter.prev = this.tail
    waiter.next = null
    if (this.tail !== null) this.tail.next = waiter
    else this.head = waiter
    this.tail = waiter
  }

  /** Adds a waiter in front: watchers hear of an event newest first, and before those that sleep (Linux: add_wait_queue). */
  addFirst(waiter: Waiter, mask: number): void {
    waiter.mask = mask | EPOLLERR_HUP
    waiter.queue = this
    waiter.prev = null
    waiter.next = this.head
    if (this.head !== null) this.head.prev = waiter
    else this.tail = waiter
    this.head = waiter
  }

  get empty(): boolean {
    return this.head === null
  }

  /** Takes the first waiter off the queue and notifies it: for waiters of which any one will do (epoll_wait). */
  wakeOne(events: number): void {
    const waiter = this.head
    if (waiter === null) return
    waiter.remove()
    waiter.target.notify(waiter, events)
  }

  /**
   * Notifies every waiter interested in `events` that was queued when the wake began. A notification may take any waiter
   * off the queue (a signal it sends can end whole processes): if that was the next one, the walk starts over and skips
   * those it has been to.
   */
  wake(events: number): void {
    let waiter = this.head
    if (waiter === null) return
    const last = this.tail
    const id = (lastWake = (lastWake + 1) | 0)
    while (waiter !== null) {
      const next: Waiter | null = waiter.next
      const isLast = waiter === last
      if (waiter.wake !== id) {
        waiter.wake = id
        if ((waiter.mask & events) !== 0) waiter.target.notify(waiter, events)
      }
      if (isLast) return
      waiter = next === null || next.queue === this ? next : this.head
    }
  }
}
