/**
 * The host's end of the port to the agent. Requests wait for their answer, for a bounded time and serving nothing else
 * but this port: meanwhile output and exits go to their listeners. The guest is hostile: a frame that is wrong, an answer
 * nobody asked for, or silence ends the VM, never this process.
 */
import { fcntl, read, write } from '../native/host.ts'
import { EAGAIN, EINTR } from '../sentry/abi/errno.ts'
import { EPOLLHUP, EPOLLIN, EPOLLOUT, type Loop } from './loop.ts'
import { AGENT_VERSION, MSG } from './messages.ts'
import { type Encodable, encode, Fields, FrameReader, type Value, WireError } from './wire.ts'

const F_SETFL = 4
const O_RDWR_NONBLOCK = 0o4002
const CHUNK = 65536
/** Frames that the guest has not taken: more than all windows together can be in flight. */
const MAX_QUEUED = 64 << 20

export interface AgentListener {
  output(handle: number, stream: number, bytes: Buffer): void
  consumed(handle: number, count: number): void
  exited(handle: number, status: number): void
  /** Nothing can be asked any more. */
  gone(reason: string): void
}

export interface AgentReply {
  /** 0 or a positive errno. */
  errno: number
  text: string
  values: Value[]
}

export class AgentClient {
  private readonly fd: number
  private readonly loop: Loop
  private readonly listener: AgentListener
  private readonly reader = new FrameReader()
  private readonly chunk = Buffer.alloc(CHUNK)
  private readonly answers = new Map<number, AgentReply | null>()
  private readonly queue: Buffer[] = []
  private queued = 0
  private sequence = 0
  private greeted = false
  private dead = false

  constructor(fd: number, loop: Loop, listener: AgentListener) {
    this.fd = fd
    this.loop = loop
    this.listener = listener
    fcntl(fd, F_SETFL, O_RDWR_NONBLOCK)
    loop.watch(fd, EPOLLIN, this)
  }

  /** Waits for the agent of a VM that boots. */
  waitForHello(ms: number): boolean {
    return this.loop.until(this.fd, () => this.greeted || this.dead, ms) && !this.dead
  }

  /** −1: it cannot be asked; the answer is collected with {@link answer}. */
  ask(kind: number, ...fields: Encodable[]): number {
    if (this.dead) return -1
    const seq = ++this.sequence
    this.answers.set(seq, null)
    this.send([kind, seq, ...fields])
    return seq
  }

  answer(seq: number, ms: number): AgentReply {
    const there = seq >= 0 && this.loop.until(this.fd, () => this.answers.get(seq) !== null || this.dead, ms)
    const reply = this.answers.get(seq)
    this.answers.delete(seq)
    if (reply) return reply
    if (!there && !this.dead) this.fail('it does not answer')
    return { errno: 5, text: 'the virtual machine does not answer', values: [] }
  }

  request(ms: number, kind: number, ...fields: Encodable[]): AgentReply {
    return this.answer(this.ask(kind, ...fields), ms)
  }

  /** A message without an answer. */
  send(message: readonly Encodable[]): void {
    if (this.dead) return
    const frame = encode(message)
    this.queue.push(frame)
    this.queued += frame.length
    if (this.queued > MAX_QUEUED) this.fail('it takes no messages')
    else this.flush()
  }

  private flush(): void {
    while (this.queue.length) {
      const frame = this.queue[0]!
      const n = write(this.fd, frame, frame.length)
      if (n === -EINTR) continue
      if (n === -EAGAIN) break
      if (n < 0) {
        this.fail('its port is closed')
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
    const n = read(this.fd, this.chunk, CHUNK)
    if (n === -EAGAIN || n === -EINTR) return
    if (n <= 0) {
      this.fail('its port is closed')
      return
    }
    try {
      this.reader.push(this.chunk.subarray(0, n))
      for (let frame = this.reader.next(); frame && !this.dead; frame = this.reader.next()) this.take(frame)
    } catch (error) {
      if (!(error instanceof WireError)) throw error
      this.fail(`its agent sent ${error.message}`)
    }
  }

  private take(frame: Value[]): void {
    const f = new Fields(frame)
    const kind = f.u32()
    if (kind === MSG.HELLO) {
      const version = f.u32()
      if (version !== AGENT_VERSION) throw new WireError(`version ${version}`)
      this.greeted = true
    } else if (kind === MSG.REPLY) {
      const seq = f.u32()
      // Nobody waits for it: the agent speaks out of turn.
      if (this.answers.get(seq) !== null) throw new WireError('an answer to no question')
      this.answers.set(seq, { errno: f.u32(), text: f.text(), values: f.list() })
    } else if (kind === MSG.OUTPUT) {
      this.listener.output(f.u32(), f.u32(), Buffer.from(f.bytes()))
    } else if (kind === MSG.CONSUMED) {
      this.listener.consumed(f.u32(), f.u32())
    } else if (kind === MSG.EXIT) {
      const handle = f.u32()
      const status = f.u32()
      if (status > 255) throw new WireError(`status ${status}`)
      this.listener.exited(handle, status)
    } else throw new WireError(`a message of kind ${kind}`)
  }

  fail(reason: string): void {
    if (this.dead) return
    this.dead = true
    this.loop.unwatch(this.fd)
    this.listener.gone(reason)
  }
}
