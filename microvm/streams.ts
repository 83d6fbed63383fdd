/**
 * Between a process in the VM and its descriptors on the host: each direction has a window of bytes that may be on their
 * way, so a slow reader holds up its writer and nobody else. Host descriptors are shared with strangers, so they stay
 * blocking: what is written at once is what a pipe that polls as writable takes (PIPE_BUF).
 */
import { fstatSync } from 'node:fs'
import { close, read, write } from '../native/host.ts'
import { EAGAIN, EINTR } from '../sentry/abi/errno.ts'
import type { AgentClient } from './agent.ts'
import { EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, type Loop } from './loop.ts'
import { MSG, STDIO, type StdioKind, WINDOW } from './messages.ts'

const PIPE_BUF = 4096
const CHUNK = 16384
const chunk = Buffer.alloc(CHUNK)
const NULL_DEVICE = 0x103

/** How the guest's end of host descriptor `fd` looks; −1: the console. */
export function stdioKind(fd: number): StdioKind {
  if (fd < 0) return STDIO.TTY
  try {
    const stat = fstatSync(fd)
    return stat.isCharacterDevice() && stat.rdev === NULL_DEVICE ? STDIO.NULL : STDIO.PIPE
  } catch {
    return STDIO.NULL
  }
}

export interface StreamOwner {
  /** Everything that has come so far is written. */
  onFlushed(): void
  /** The host terminal has hung up. */
  onHangup(): void
}

/** One host descriptor: the source of input, the sink of output streams, or (a terminal) both. */
class HostFd {
  readonly fd: number
  private readonly streams: ProcessStreams
  private readonly loop: Loop
  reads = false
  wanted = 0
  watched = -1
  readonly output: { stream: number; bytes: Buffer }[] = []

  constructor(fd: number, streams: ProcessStreams, loop: Loop) {
    this.fd = fd
    this.streams = streams
    this.loop = loop
  }

  update(): void {
    const events = (this.reads ? EPOLLIN : 0) | (this.output.length ? EPOLLOUT : 0)
    if (events === this.watched) return
    // Without interest a descriptor is not watched at all: EPOLLHUP cannot be masked, and would spin.
    if (events === 0) this.loop.unwatch(this.fd)
    else if (this.watched <= 0) this.loop.watch(this.fd, events, this)
    else this.loop.modify(this.fd, events)
    this.watched = events
  }

  onHostEvents(events: number): void {
    if (this.output.length && events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) this.drain()
    if (this.reads && events & (EPOLLIN | EPOLLHUP | EPOLLERR)) this.streams.pull(this)
    this.update()
  }

  private drain(): void {
    const first = this.output[0]!
    const part = first.bytes.subarray(0, PIPE_BUF)
    const n = write(this.fd, part, part.length)
    if (n === -EAGAIN || n === -EINTR) return
    if (n < 0) {
      // Nobody reads any more, and the guest's writers are to hear of it.
      this.streams.lost(first.stream)
      for (const lost of this.output.splice(0)) this.streams.written(lost.stream, lost.bytes.length)
    } else {
      this.streams.written(first.stream, n)
      if (n === first.bytes.length) this.output.shift()
      else first.bytes = first.bytes.subarray(n)
    }
    if (!this.output.length) this.streams.flushed()
  }

  dispose(): void {
    if (this.watched > 0) this.loop.unwatch(this.fd)
    this.watched = -1
    close(this.fd)
  }
}

export class ProcessStreams {
  readonly handle: number
  private readonly agent: AgentClient
  private readonly owner: StreamOwner
  private readonly input: HostFd | null
  /** By stream: 1 standard output, 2 standard error, 3 the terminal. */
  private readonly sinks: (HostFd | null)[]
  private readonly all: HostFd[] = []
  private inFlight = 0

  /** Takes the descriptors over. `console`: of those whose kind is TTY. */
  constructor(
    handle: number,
    fds: readonly number[],
    kinds: readonly StdioKind[],
    console: number,
    agent: AgentClient,
    loop: Loop,
    owner: StreamOwner,
  ) {
    this.handle = handle
    this.agent = agent
    this.owner = owner
    const make = (fd: number): HostFd => {
      const host = new HostFd(fd, this, loop)
      this.all.push(host)
      return host
    }
    const terminal = console >= 0 ? make(console) : null
    const pick = (i: number): HostFd | null => {
      if (kinds[i] === STDIO.TTY) return terminal
      if (kinds[i] === STDIO.PIPE) return make(fds[i]!)
      if (fds[i] !== undefined && fds[i]! > 2) close(fds[i]!)
      return null
    }
    this.input = pick(0)
    this.sinks = [null, kinds[1] === STDIO.PIPE ? pick(1) : null, kinds[2] === STDIO.PIPE ? pick(2) : null, terminal]
  }

  /** The process runs: its input may come. */
  begin(): void {
    if (!this.input) return
    this.input.reads = true
    this.input.update()
  }

  pull(host: HostFd): void {
    const room = WINDOW - this.inFlight
    const n = read(host.fd, chunk, Math.min(CHUNK, room))
    if (n === -EAGAIN || n === -EINTR) return
    if (n > 0) {
      this.inFlight += n
      this.agent.send([MSG.INPUT, this.handle, Buffer.from(chunk.subarray(0, n))])
      host.reads = this.inFlight < WINDOW
      return
    }
    host.reads = false
    this.ended = true
    this.agent.send([MSG.INPUT, this.handle, Buffer.alloc(0)])
    if (host === this.sinks[3]) this.owner.onHangup()
  }
  private ended = false

  consumed(count: number): void {
    this.inFlight = Math.max(0, this.inFlight - count)
    if (!this.input || this.ended) return
    this.input.reads = this.inFlight < WINDOW
    this.input.update()
  }

  output(stream: number, bytes: Buffer): void {
    const sink = this.sinks[stream]
    if (bytes.length === 0) return
    if (!sink) {
      this.written(stream, bytes.length)
      return
    }
    sink.output.push({ stream, bytes })
    sink.update()
  }

  lost(stream: number): void {
    this.agent.send([MSG.CLOSE, this.handle, stream])
  }

  written(stream: number, count: number): void {
    this.agent.send([MSG.CREDIT, this.handle, stream, count])
  }

  get pending(): boolean {
    return this.all.some((host) => host.output.length > 0)
  }

  flushed(): void {
    if (!this.pending) this.owner.onFlushed()
  }

  dispose(): void {
    for (const host of this.all.splice(0)) host.dispose()
  }
}
