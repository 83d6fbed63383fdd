/**
 * epoll(7) (Linux: fs/eventpoll.c). An item watches one (description, descriptor) pair: it waits on the description's
 * queue, which moves it to the ready list; so waiting costs what is ready, not what is watched.
 *
 * Invariants: an item is in `items` and in its description's `epollItems` chain, or it is dead and in neither; `linked`
 * is true exactly while it is on the ready list. A level-triggered item that was reported goes to the end of the list,
 * so that others get their turn.
 */
import { EEXIST, EFAULT, EINVAL, ELOOP, ENOENT, ENOSPC, EPERM } from '../abi/errno.ts'
import { O_RDWR } from '../abi/fcntl.ts'
import { EPOLL_EVENT_SIZE, EPOLLET, EPOLLEXCLUSIVE, EPOLLONESHOT, EPOLLWAKEUP } from '../abi/poll.ts'
import type { Task } from '../kernel/task.ts'
import { Waiter, WaitQueue, type Wakeable } from '../kernel/wait-queue.ts'
import { EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDNORM, FileDescription } from '../vfs/file-description.ts'
import type { Inode } from '../vfs/inode.ts'
import { ANON_INODE } from './anon.ts'

const PRIVATE_BITS = EPOLLWAKEUP | EPOLLONESHOT | EPOLLET | EPOLLEXCLUSIVE
const EXCLUSIVE_OK = EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE
/** Epolls inside epolls inside …: 4 levels above the innermost. */
const MAX_NESTS = 4
/** All watches of the sandbox (fs.epoll.max_user_watches): they live in the sentry's memory. */
const MAX_WATCHES = 1 << 20
let watches = 0

class EpItem implements Wakeable {
  readonly ep: Epoll
  readonly file: FileDescription
  readonly fd: number
  readonly waiter: Waiter
  events: number
  dataLo: number
  dataHi: number
  linked = false
  prev: EpItem | null = null
  next: EpItem | null = null
  /** Same descriptor number, another description (the number was closed and reused while a dup lived on). */
  sameFd: EpItem | null = null
  sameFile: EpItem | null = null

  constructor(ep: Epoll, file: FileDescription, fd: number, events: number, dataLo: number, dataHi: number) {
    this.ep = ep
    this.file = file
    this.fd = fd
    this.events = events
    this.dataLo = dataLo
    this.dataHi = dataHi
    this.waiter = new Waiter(this)
  }

  /** Events of interest that are true now. */
  poll(): number {
    return this.file.poll() & this.events
  }

  notify(_waiter: Waiter, events: number): void {
    if ((this.events & ~PRIVATE_BITS) === 0 || (events & this.events) === 0) return
    this.ep.makeReady(this)
  }

  /** The description is gone: so are all items that watch it, in whatever epoll. */
  fileReleased(): void {
    let item: EpItem | null = this
    while (item !== null) {
      const next: EpItem | null = item.sameFile
      item.ep.forget(item)
      item = next
    }
  }
}

/** Scratch for one harvest. */
let out = new Uint8Array(64 * EPOLL_EVENT_SIZE)
let outView = new DataView(out.buffer)
const harvested: EpItem[] = []

export class Epoll extends FileDescription {
  /** By descriptor number; more than one description per number are chained. */
  private readonly items = new Map<number, EpItem>()
  private count = 0
  private head: EpItem | null = null
  private tail: EpItem | null = null
  /** Tasks in epoll_wait: any one of them will do. */
  readonly waiters = new WaitQueue()
  /** For poll() and outer epolls. */
  private readonly queue = new WaitQueue()

  constructor() {
    super(O_RDWR, null)
  }

  override get inode(): Inode {
    return ANON_INODE
  }
  override describe(): string {
    return 'anon_inode:[eventpoll]'
  }
  override get waitQueue(): WaitQueue {
    return this.queue
  }

  // ---- the interest list -------------------------------------------------------------------------------------------
  private find(file: FileDescription, fd: number): EpItem | null {
    let item = this.items.get(fd) ?? null
    while (item !== null && item.file !== file) item = item.sameFd
    return item
  }

  add(file: FileDescription, fd: number, events: number, dataLo: number, dataHi: number): number {
    const queue = file.waitQueue
    if (queue === null) return -EPERM
    if (events & EPOLLEXCLUSIVE && (file instanceof Epoll || events & ~EXCLUSIVE_OK)) return -EINVAL
    if (file instanceof Epoll && this.wouldLoop(file)) return -ELOOP
    if (this.find(file, fd) !== null) return -EEXIST
    if (watches >= MAX_WATCHES) return -ENOSPC
    const item = new EpItem(this, file, fd, (events & ~EPOLLWAKEUP) | EPOLLERR | EPOLLHUP, dataLo, dataHi)
    item.sameFd = this.items.get(fd) ?? null
    this.items.set(fd, item)
    item.sameFile = file.epollItems as EpItem | null
    file.epollItems = item
    this.count++
    watches++
    queue.addFirst(item.waiter, item.events & ~PRIVATE_BITS)
    if (item.poll() !== 0) this.makeReady(item)
    return 0
  }

  modify(file: FileDescription, fd: number, events: number, dataLo: number, dataHi: number): number {
    if (file.waitQueue === null) return -EPERM
    if (events & EPOLLEXCLUSIVE) return -EINVAL
    const item = this.find(file, fd)
    if (item === null) return -ENOENT
    if (item.events & EPOLLEXCLUSIVE) return -EINVAL
    item.events = (events & ~EPOLLWAKEUP) | EPOLLERR | EPOLLHUP
    item.waiter.mask = item.events & ~PRIVATE_BITS
    item.dataLo = dataLo
    item.dataHi = dataHi
    if (item.poll() !== 0) this.makeReady(item)
    return 0
  }

  delete(file: FileDescription, fd: number): number {
    if (file.waitQueue === null) return -EPERM
    const item = this.find(file, fd)
    if (item === null) return -ENOENT
    this.remove(item)
    return 0
  }

  /** Takes an item out of everything but its description's chain. */
  forget(item: EpItem): void {
    item.waiter.remove()
    if (item.linked) this.unlink(item)
    const first = this.items.get(item.fd)!
    if (first === item) {
      if (item.sameFd === null) this.items.delete(item.fd)
      else this.items.set(item.fd, item.sameFd)
    } else {
      let before = first
      while (before.sameFd !== item) before = before.sameFd!
      before.sameFd = item.sameFd
    }
    this.count--
    watches--
  }

  private remove(item: EpItem): void {
    this.forget(item)
    const first = item.file.epollItems as EpItem
    if (first === item) {
      item.file.epollItems = item.sameFile
      return
    }
    let before = first
    while (before.sameFile !== item) before = before.sameFile!
    before.sameFile = item.sameFile
  }

  /** Would watching `inner` make a circle, or a chain that is too long? */
  private wouldLoop(inner: Epoll): boolean {
    const below = inner.depthBelow(this, 0)
    return below > MAX_NESTS || below + 1 + this.heightAbove(0) > MAX_NESTS
  }
  private depthBelow(forbidden: Epoll, level: number): number {
    if (this === forbidden || level > MAX_NESTS) return MAX_NESTS + 1
    let depth = 0
    for (const first of this.items.values()) {
      for (let item: EpItem | null = first; item !== null; item = item.sameFd) {
        if (item.file instanceof Epoll) depth = Math.max(depth, item.file.depthBelow(forbidden, level + 1) + 1)
        if (depth > MAX_NESTS) return depth
      }
    }
    return depth
  }
  private heightAbove(level: number): number {
    if (level > MAX_NESTS) return level
    let height = 0
    for (let item = this.epollItems as EpItem | null; item !== null; item = item.sameFile) {
      height = Math.max(height, item.ep.heightAbove(level + 1) + 1)
    }
    return height
  }

  // ---- the ready list ----------------------------------------------------------------------------------------------
  makeReady(item: EpItem): void {
    if (!item.linked) this.link(item)
    this.waiters.wakeOne(EPOLLIN)
    if (!this.queue.empty) this.queue.wake(EPOLLIN | EPOLLRDNORM)
  }

  private link(item: EpItem): void {
    item.linked = true
    item.prev = this.tail
    item.next = null
    if (this.tail !== null) this.tail.next = item
    else this.head = item
    this.tail = item
  }
  private linkFirst(item: EpItem): void {
    item.linked = true
    item.prev = null
    item.next = this.head
    if (this.head !== null) this.head.prev = item
    else this.tail = item
    this.head = item
  }
  private unlink(item: EpItem): void {
    item.linked = false
    if (item.prev !== null) item.prev.next = item.next
    else this.head = item.next
    if (item.next !== null) item.next.prev = item.prev
    else this.tail = item.prev
    item.prev = null
    item.next = null
  }

  override poll(): number {
    while (this.head !== null) {
      if (this.head.poll() !== 0) return EPOLLIN | EPOLLRDNORM
      this.unlink(this.head)
    }
    return 0
  }

  /** epoll_wait: stores up to `max` events at guest address `addr`. The number stored, 0 = none, or −EFAULT. */
  harvest(t: Task, addr: number, max: number): number {
    if (this.head === null) return 0
    const room = Math.min(max, this.count)
    if (out.length < room * EPOLL_EVENT_SIZE) {
      out = new Uint8Array(room * EPOLL_EVENT_SIZE)
      outView = new DataView(out.buffer)
    }
    let n = 0
    const last = this.tail
    while (n < room && this.head !== null) {
      const item = this.head
      this.unlink(item)
      const events = item.poll()
      if (events !== 0) {
        const at = n * EPOLL_EVENT_SIZE
        outView.setInt32(at, events, true)
        outView.setUint32(at + 4, item.dataLo, true)
        outView.setUint32(at + 8, item.dataHi, true)
        harvested[n++] = item
        if ((item.events & (EPOLLET | EPOLLONESHOT)) === 0) this.link(item)
      }
      if (item === last) break
    }
    if (n === 0) return 0
    const stored = Math.floor(t.copyOut(addr, out, 0, n * EPOLL_EVENT_SIZE) / EPOLL_EVENT_SIZE)
    for (let i = n - 1; i >= 0; i--) {
      const item = harvested[i]!
      if (i >= stored) {
        // Not delivered: back to the front, in order.
        if (item.linked) this.unlink(item)
        this.linkFirst(item)
      } else if (item.events & EPOLLONESHOT) {
        item.events &= PRIVATE_BITS
        item.waiter.mask = 0
      }
    }
    if (this.head !== null) this.waiters.wakeOne(EPOLLIN)
    return stored > 0 ? stored : -EFAULT
  }

  /** Lines of /proc/PID/fdinfo/N. */
  override fdinfo(): string {
    let text = ''
    for (const first of this.items.values()) {
      for (let item: EpItem | null = first; item !== null; item = item.sameFd) {
        const data = `${item.dataHi.toString(16)}${item.dataLo.toString(16).padStart(8, '0')}`.replace(/^0+(?=.)/, '')
        const inode = item.file.inode
        text += `tfd: ${String(item.fd).padStart(8)} events: ${(item.events >>> 0).toString(16).padStart(8)} data: ${data.padStart(16)}  pos:${Math.max(0, item.file.pos)} ino:${inode.ino.toString(16)} sdev:${inode.sb.dev.toString(16)}\n`
      }
    }
    return text
  }

  protected override release(): void {
    for (const first of [...this.items.values()]) {
      for (let item: EpItem | null = first; item !== null; ) {
        const next: EpItem | null = item.sameFd
        this.remove(item)
        item = next
      }
    }
  }
}
