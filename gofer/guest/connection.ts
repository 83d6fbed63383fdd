/**
 * The serving loop for virtual machines: one poll(2) over all connections, then for each that has something, one read,
 * the messages in it one after the other, and one write of all their responses. What is said is the {@link Conversation}'s.
 *
 * What must stay true: a guest that does not take its responses stops only its own connection, and makes us keep no
 * more than two messages' worth of memory each way. An impossible size ends the connection: what follows has no meaning.
 */
import { closeFd, fcntlAddress, HostMemory, pollAddress, readAddress, writeAddress } from '../../native/host-files.ts'
import { EAGAIN, EINTR } from '../request.ts'

const F_GETFL = 3
const F_SETFL = 4
const O_NONBLOCK = 0o4000
const POLLIN = 1
const POLLOUT = 4
/** struct pollfd */
const POLLFD_SIZE = 8
/** Between looks at what somebody waits for. */
const TICK_MS = 20
/** Of the first message, which agrees on a larger size. */
const FIRST_SIZE = 4096

/** A front end's part of a connection: messages that begin with their length (u32), answered one after the other. */
export interface Conversation {
  /** Sizes of a message: largest, which holds for its response, too, and smallest. */
  readonly limit: number
  readonly least: number
  readonly r: { memory: HostMemory }
  readonly w: { memory: HostMemory; pos: number }
  /** Serves the message of `size` bytes at `at` of the input; puts the response behind `w.pos`. */
  serve(at: number, size: number): void
  /** Whether somebody waits for an answer that no message brings about; {@link tick} then looks whether there is one. */
  readonly isWaiting?: boolean
  tick?(): void
  /** The end: closes all that was opened. */
  reset(): void
}

export type Begin = (input: HostMemory, output: HostMemory) => Conversation

class Connection {
  readonly fd: number
  private readonly session: Conversation
  private in = new HostMemory(2 * FIRST_SIZE)
  private inStart = 0
  private inEnd = 0
  private out = new HostMemory(2 * FIRST_SIZE)
  private outStart = 0
  isClosed = false

  constructor(fd: number, begin: Begin) {
    this.fd = fd
    this.session = begin(this.in, this.out)
  }

  /** Responses wait for the guest to read. */
  get isBlocked(): boolean {
    return this.outStart < this.session.w.pos
  }

  /** Does what can be done without waiting; false at the connection's end. */
  turn(): boolean {
    if (this.isBlocked) {
      if (!this.flush()) return false
      // Messages may have been waiting for that.
      if (!this.isBlocked && !this.serveAll()) return false
      return true
    }
    const n = readAddress(this.fd, this.in.at(this.inEnd), this.in.bytes.length - this.inEnd)
    if (n <= 0) return n === -EAGAIN || n === -EINTR
    this.inEnd += n
    return this.serveAll()
  }

  /** Serves the complete messages of the receive buffer while there is room for their responses. */
  private serveAll(): boolean {
    const { session } = this
    for (;;) {
      const left = this.inEnd - this.inStart
      if (left < 4) break
      const size = this.in.view.getUint32(this.inStart, true)
      if (size < session.least || size > session.limit) return false
      if (left < size) break
      if (session.w.pos + session.limit > this.out.bytes.length) {
        if (!this.flush()) return false
        if (this.isBlocked) return true
      }
      session.serve(this.inStart, size)
      this.inStart += size
      if (this.in.bytes.length < 2 * session.limit) this.grow()
    }
    this.compact()
    return this.flush()
  }

  /** Moves the beginning of a message to the front when the rest of it might not fit behind. */
  private compact(): void {
    if (this.inStart === this.inEnd) this.inStart = this.inEnd = 0
    else if (this.inStart + this.session.limit > this.in.bytes.length) {
      this.in.bytes.copyWithin(0, this.inStart, this.inEnd)
      this.inEnd -= this.inStart
      this.inStart = 0
    }
  }

  /** Buffers for the messages that were agreed upon. */
  private grow(): void {
    const { session } = this
    const size = 2 * session.limit
    const input = new HostMemory(size)
    this.in.bytes.copy(input.bytes, 0, this.inStart, this.inEnd)
    this.inEnd -= this.inStart
    this.inStart = 0
    this.in = session.r.memory = input
    const output = new HostMemory(size)
    this.out.bytes.copy(output.bytes, 0, this.outStart, session.w.pos)
    session.w.pos -= this.outStart
    this.outStart = 0
    this.out = session.w.memory = output
  }

  /** Sends as much as the socket takes; false when the guest's end is closed. */
  private flush(): boolean {
    const { w } = this.session
    while (this.outStart < w.pos) {
      const n = writeAddress(this.fd, this.out.at(this.outStart), w.pos - this.outStart)
      if (n === -EAGAIN) return true
      if (n === -EINTR) continue
      if (n < 0) return false
      this.outStart += n
    }
    this.outStart = w.pos = 0
    return true
  }

  get isWaiting(): boolean {
    return this.session.isWaiting === true
  }

  /** False at the connection's end. */
  tick(): boolean {
    if (this.isBlocked) return true
    this.session.tick!()
    return this.flush()
  }

  close(): void {
    this.isClosed = true
    this.session.reset()
    closeFd(this.fd)
  }
}

/** Serves until all connections have ended: 0, or the −errno that ended it. */
export function serveConnections(conversations: ReadonlyMap<number, Begin>): number {
  const fds = [...conversations.keys()]
  let open = [...conversations].map(([fd, begin]) => new Connection(fd, begin))
  for (const fd of fds) fcntlAddress(fd, F_SETFL, fcntlAddress(fd, F_GETFL, 0) | O_NONBLOCK)
  const set = new HostMemory(fds.length * POLLFD_SIZE)
  let looked = 0
  while (open.length > 0) {
    for (let i = 0; i < open.length; i++) {
      const c = open[i]!
      set.view.setInt32(i * POLLFD_SIZE, c.fd, true)
      set.view.setUint32(i * POLLFD_SIZE + 4, c.isBlocked ? POLLOUT : POLLIN, true)
    }
    const n = pollAddress(set.address, open.length, open.some((c) => c.isWaiting) ? TICK_MS : -1)
    if (n < 0 && n !== -EINTR) return n
    let ended = false
    const looks = open.some((c) => c.isWaiting) && performance.now() - looked > TICK_MS / 2
    if (looks) looked = performance.now()
    for (const c of open) {
      if (!looks || !c.isWaiting || c.tick()) continue
      c.close()
      ended = true
    }
    for (let i = 0; i < open.length; i++) {
      if (n <= 0 || set.view.getUint16(i * POLLFD_SIZE + 6, true) === 0) continue
      const c = open[i]!
      if (c.isClosed || c.turn()) continue
      c.close()
      ended = true
    }
    if (ended) open = open.filter((c) => !c.isClosed)
  }
  return 0
}
