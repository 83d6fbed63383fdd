/**
 * Contexts of asynchronous I/O (Linux: fs/aio.c, struct kioctx; io_setup(2)).
 *
 * A request is carried out when it is submitted, as Linux does for buffered files; the context keeps its result until
 * somebody asks. A context is named by the address of a page in its owner's memory, where Linux has the ring: here that
 * page stays zero, so that libaio does not find a ring and calls the kernel.
 */
import type { MemoryManager } from '../mm/memory-manager.ts'
import { WaitQueue } from './wait-queue.ts'

/** struct io_event; 64-bit values as (low, high). */
export interface AioEvent {
  readonly dataLo: number
  readonly dataHi: number
  /** Address of the struct iocb. */
  readonly iocb: number
  readonly result: number
}

export class AioContext {
  readonly id: number
  /** Results that may wait here (nr_events of io_setup). */
  readonly limit: number
  readonly events: AioEvent[] = []
  /** Woken with EPOLLIN for each result, with EPOLLHUP at the end. */
  readonly queue = new WaitQueue()
  dead = false

  constructor(id: number, limit: number) {
    this.id = id
    this.limit = limit
  }
}

/** Per address space: a fork does not inherit them, and they end with the memory. */
const contexts = new WeakMap<MemoryManager, Map<number, AioContext>>()

export function aioContext(mm: MemoryManager, id: number): AioContext | undefined {
  return contexts.get(mm)?.get(id)
}
export function addAioContext(mm: MemoryManager, context: AioContext): void {
  let byId = contexts.get(mm)
  if (byId === undefined) {
    byId = new Map()
    contexts.set(mm, byId)
  }
  byId.set(context.id, context)
}
export function removeAioContext(mm: MemoryManager, context: AioContext): void {
  contexts.get(mm)?.delete(context.id)
  context.dead = true
  context.queue.wake(0x10)
}
