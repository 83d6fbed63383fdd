/**
 * The host's end of the port to the agent. Requests wait for their answer, for a bounded time and serving nothing else
 * but this port: meanwhile output and exits go to their listeners. The guest is hostile: a frame that is wrong, an answer
 * nobody asked for, or silence ends the VM, never this process.
 */
import { FramePort } from './frame-port.ts'
import type { Loop } from './loop.ts'
import { AGENT_VERSION, MSG } from './messages.ts'
import { type Encodable, Fields, type Value, WireError } from './wire.ts'

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
  private readonly port: FramePort
  private readonly loop: Loop
  private readonly listener: AgentListener
  private readonly gone: string
  /** null: not there yet, and somebody will ask for it. */
  private readonly answers = new Map<number, AgentReply | null | ((reply: AgentReply) => void)>()
  private sequence = 0
  private greeted = false

  /** `gone`: what to say when the other end is no more. */
  constructor(fd: number, loop: Loop, listener: AgentListener, gone = 'its port is closed') {
    this.loop = loop
    this.listener = listener
    this.gone = gone
    this.port = new FramePort(fd, loop, this)
  }

  /** Waits for the agent of a VM that boots. */
  waitForHello(ms: number): boolean {
    const { port } = this
    return this.loop.until(port.fd, () => this.greeted || port.isClosed, ms) && !port.isClosed
  }

  /** −1: it cannot be asked; the answer is collected with {@link answer}. */
  ask(kind: number, ...fields: Encodable[]): number {
    return this.put(kind, fields, null)
  }

  /** As `ask`, but the answer goes to `answered` when it comes; nobody waits for it. */
  askLater(answered: (reply: AgentReply) => void, kind: number, ...fields: Encodable[]): void {
    this.put(kind, fields, answered)
  }

  private put(kind: number, fields: readonly Encodable[], answer: null | ((reply: AgentReply) => void)): number {
    if (this.port.isClosed) return -1
    const seq = ++this.sequence
    this.answers.set(seq, answer)
    this.send([kind, seq, ...fields])
    return seq
  }

  answer(seq: number, ms: number): AgentReply {
    const { port } = this
    const there = seq >= 0 && this.loop.until(port.fd, () => this.answers.get(seq) !== null || port.isClosed, ms)
    const reply = this.answers.get(seq)
    this.answers.delete(seq)
    if (reply && typeof reply !== 'function') return reply
    if (!there && !port.isClosed) this.fail('it does not answer')
    return { errno: 5, text: 'the virtual machine does not answer', values: [] }
  }

  request(ms: number, kind: number, ...fields: Encodable[]): AgentReply {
    return this.answer(this.ask(kind, ...fields), ms)
  }

  /** A message without an answer. */
  send(message: readonly Encodable[]): void {
    this.port.send(message)
  }

  frame(frame: Value[]): void {
    const f = new Fields(frame)
    const kind = f.u32()
    if (kind === MSG.HELLO) {
      const version = f.u32()
      if (version !== AGENT_VERSION) throw new WireError(`version ${version}`)
      this.greeted = true
    } else if (kind === MSG.REPLY) {
      const seq = f.u32()
      const waiting = this.answers.get(seq)
      // Nobody waits for it: the agent speaks out of turn.
      if (waiting !== null && typeof waiting !== 'function') throw new WireError('an answer to no question')
      const reply = { errno: f.u32(), text: f.text(), values: f.list() }
      if (waiting) {
        this.answers.delete(seq)
        waiting(reply)
      } else this.answers.set(seq, reply)
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

  closed(why: string): void {
    this.listener.gone(this.reason || (why ? `its agent ${why}` : this.gone))
  }

  fail(reason: string): void {
    this.reason = reason
    this.port.fail('')
  }
  private reason = ''
}
