/**
 * The CLI's end of the control channel. Uses Node's event loop, so that signals and terminals are served while a reply is
 * awaited. Replies come in the order of requests; use one client per `wait`.
 */
import { closeSync, constants, openSync } from 'node:fs'
import type { Socket } from 'node:net'
import { basename, dirname } from 'node:path'
import { encodeFrame, FrameReader } from './codec.ts'
import type { ProcessInfo, ProcessSpec, Reply, ReplyValue, Request, StateInfo, Stats } from './protocol.ts'

/** The sentry said no. `errno` is −errno, or 0. */
export class ControlRefused extends Error {
  readonly errno: number
  constructor(message: string, errno: number) {
    super(message)
    this.errno = errno
  }
}

/** The sandbox is not there (any more). */
export class ControlGone extends Error {}

/** Loaded when a connection is made: it takes 3 ms. */
const net = (): typeof import('node:net') => process.getBuiltinModule('node:net')

interface Pending {
  resolve(value: ReplyValue): void
  reject(error: Error): void
}

export class ControlClient {
  private readonly socket: Socket
  private readonly reader = new FrameReader()
  private readonly pending: Pending[] = []

  private constructor(socket: Socket) {
    this.socket = socket
    socket.on('data', (chunk: Buffer) => this.receive(chunk))
    socket.on('error', () => this.gone())
    socket.on('close', () => this.gone())
  }

  /** Rejects with {@link ControlGone} when nobody listens at `path`. */
  static connect(path: string): Promise<ControlClient> {
    // A container's directory plus its id can exceed the 108 bytes of a sockaddr_un: go through a descriptor.
    let dir: number
    try {
      dir = openSync(dirname(path), constants.O_DIRECTORY | constants.O_RDONLY)
    } catch {
      return Promise.reject(new ControlGone('the sandbox is not running'))
    }
    return new Promise((resolve, reject) => {
      const socket = net().createConnection(`/proc/self/fd/${dir}/${basename(path)}`)
      const failed = () => {
        closeSync(dir)
        reject(new ControlGone('the sandbox is not running'))
      }
      socket.once('error', failed)
      socket.once('connect', () => {
        closeSync(dir)
        socket.removeListener('error', failed)
        resolve(new ControlClient(socket))
      })
    })
  }

  /** The near end of a socketpair whose far end the sentry has. Takes the descriptor over. */
  static fromFd(fd: number): ControlClient {
    return new ControlClient(new (net().Socket)({ fd, readable: true, writable: true }))
  }

  request(request: Request): Promise<ReplyValue> {
    return this.enqueue(() => void this.socket.write(encodeFrame(request)))
  }

  async exec(process: ProcessSpec, killOnDisconnect: boolean, fds: readonly number[]): Promise<number> {
    const value = await this.requestWith(fds, { op: 'exec', process, killOnDisconnect })
    return (value as { pid: number }).pid
  }

  async attach(fd: number): Promise<void> {
    await this.requestWith([fd], { op: 'attach' })
  }

  /** The descriptors go with the frame; the caller keeps (and closes) its own. */
  private async requestWith(fds: readonly number[], request: Request): Promise<ReplyValue> {
    const { MSG_DONTWAIT, sendWithFds } = await import('../../native/unix-socket.ts')
    const frame = encodeFrame(request)
    const handle = (this.socket as unknown as { _handle: { fd: number } })._handle
    return this.enqueue(() => {
      const n = sendWithFds(handle.fd, frame, frame.length, fds, MSG_DONTWAIT)
      if (n < 0) throw new ControlGone(`cannot reach the sandbox: ${n}`)
      if (n < frame.length) this.socket.write(frame.subarray(n))
    })
  }

  async wait(pid: number): Promise<number> {
    return ((await this.request({ op: 'wait', pid })) as { status: number }).status
  }
  async ps(): Promise<ProcessInfo[]> {
    return ((await this.request({ op: 'ps' })) as { processes: ProcessInfo[] }).processes
  }
  async state(): Promise<StateInfo> {
    return (await this.request({ op: 'state' })) as StateInfo
  }
  async stats(): Promise<Stats> {
    return (await this.request({ op: 'stats' })) as Stats
  }

  close(): void {
    this.socket.destroy()
  }

  /** An open connection does not keep the process alive. */
  unref(): this {
    this.socket.unref()
    return this
  }

  private enqueue(send: () => void): Promise<ReplyValue> {
    return new Promise((resolve, reject) => {
      if (this.socket.destroyed) {
        reject(new ControlGone('the sandbox has ended'))
        return
      }
      send()
      this.pending.push({ resolve, reject })
    })
  }

  private receive(chunk: Buffer): void {
    this.reader.push(chunk)
    for (let reply = this.reader.next(); reply !== undefined; reply = this.reader.next()) {
      const waiting = this.pending.shift()
      if (!waiting) continue
      const r = reply as Reply
      if (r.ok) waiting.resolve(r.value)
      else waiting.reject(new ControlRefused(r.error, r.errno))
    }
  }

  private gone(): void {
    for (const waiting of this.pending.splice(0)) waiting.reject(new ControlGone('the sandbox has ended'))
  }
}
