/**
 * One end of a stream of frames (wire.ts): to the agent, or between the monitors of a pod. What cannot be written waits in
 * a bounded queue. Whatever the other end does wrong ends the connection, never this process.
 */
import { fcntl, read, write } from '../native/host.ts'
import { recvWithFds } from '../native/unix-socket.ts'
import { EAGAIN, EINTR } from '../sentry/abi/errno.ts'
import { EPOLLHUP, EPOLLIN, EPOLLOUT, type Loop } from './loop.ts'
import { type Encodable, encode, FrameReader, type Value, WireError } from './wire.ts'

const F_SETFL = 4
const O_RDWR_NONBLOCK = 0o4002
const CHUNK = 65536
/** Frames that the other end has not taken: more than all windows together can be in flight. */
const MAX_QUEUED = 64 << 20

export interface FrameListener {
  /** May throw a {@link WireError}, which ends the connection. */
  frame(frame: Value[]): void
  /** `why`: what the other end has done. */
  closed(why: string): void
}

export class FramePort {
  readonly fd: number
  private readonly loop: Loop
  private readonly listener: FrameListener
  /** Descriptors that came along, where they may. */
  private readonly fds: number[] | null
  private readonly reader = new FrameReader()
  private readonly chunk = Buffer.alloc(CHUNK)
  private readonly queue: Buffer[] = []
  private queued = 0
  private dead = false

  constructor(fd: number, loop: Loop, listener: FrameListener, fds: number[] | null = null) {
    this.fd = fd
    this.loop = loop
    this.listener = listener
    this.fds = fds
    fcntl(fd, F_SETFL, O_RDWR_NONBLOCK)
    loop.watch(fd, EPOLLIN, this)
  }

  get isClosed(): boolean {
    return this.dead
  }

  send(message: readonly Encodable[]): void {
    if (this.dead) return
    const frame = encode(message)
    this.queue.push(frame)
    this.queued += frame.length
    if (this.queued > MAX_QUEUED) this.fail('takes no messages')
    else this.flush()
  }

  private flush(): void {
    while (this.queue.length) {
      const frame = this.queue[0]!
      const n = write(this.fd, frame, frame.length)
      if (n === -EINTR) continue
      if (n === -EAGAIN) break
      if (n < 0) {
        this.fail('')
        return
      }
      this.queued -= n
      if (n === frame.length) this.queue.shift()
      else this.queue[0] = frame.subarray(n)
    }
    this.loop.modify(this.fd, this.queue.length ? EPOLLIN | EPOLLOUT : EPOLLIN)
  }

  onHostEvents(events: number): void {
    if (events & EPOLLOUT) this.flush()
    if (!(events & (EPOLLIN | EPOLLHUP)) || this.dead) return
    const { fd, chunk, fds } = this
    const n = fds ? recvWithFds(fd, chunk, CHUNK, fds, 0) : read(fd, chunk, CHUNK)
    if (n === -EAGAIN || n === -EINTR) return
    if (n <= 0) {
      this.fail('')
      return
    }
    try {
      this.reader.push(chunk.subarray(0, n))
      for (let frame = this.reader.next(); frame && !this.dead; frame = this.reader.next()) this.listener.frame(frame)
    } catch (error) {
      if (!(error instanceof WireError)) throw error
      this.fail(`sent ${error.message}`)
    }
  }

  /** `why` empty: it is gone. */
  fail(why: string): void {
    if (this.dead) return
    this.dead = true
    this.loop.unwatch(this.fd)
    this.listener.closed(why)
  }
}
