/**
 * The CLI's end of the control channel. Node's event loop serves signals and terminals while a reply is awaited: a thread
 * of its pool reads, by fs.read. Not node:net, which takes 15 ms to load. Replies come in the order of requests; use one
 * client per `wait`.
 */
import { closeSync, constants, openSync, read } from 'node:fs'
import { basename, dirname } from 'node:path'
import { fcntl } from '../../native/host.ts'
import {
  AF_UNIX,
  connectUnix,
  MSG_DONTWAIT,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  sendWithFds,
  shutdown,
  socket,
} from '../../native/unix-socket.ts'
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

interface Pending {
  resolve(value: ReplyValue): void
  reject(error: Error): void
}

const F_SETFL = 4
const EAGAIN = 11
const CHUNK = 65_536
/** Until a sentry that does not read is tried again. */
const RETRY_MS = 5

/** Threads that wait for a sentry would keep the process from ending. */
const open = new Set<ControlClient>()
function closeAll(): void {
  for (const client of open) client.close()
}

export class ControlClient {
  private readonly fd: number
  private readonly reader = new FrameReader()
  private readonly pending: Pending[] = []
  private readonly chunk = Buffer.allocUnsafeSlow(CHUNK)
  private unsent: Buffer[] = []
  private reading = false
  private closed = false

  private constructor(fd: number) {
    this.fd = fd
    if (open.size === 0) process.once('exit', closeAll)
    open.add(this)
  }

  /** Rejects with {@link ControlGone} when nobody listens at `path`. */
  static async connect(path: string): Promise<ControlClient> {
    const gone = new ControlGone('the sandbox is not running')
    // A container's directory plus its id can exceed the 108 bytes of a sockaddr_un: go through a descriptor.
    let dir: number
    try {
      dir = openSync(dirname(path), constants.O_DIRECTORY | constants.O_RDONLY)
    } catch {
      throw gone
    }
    const fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)
    const connected = connectUnix(fd, `/proc/self/fd/${dir}/${basename(path)}`)
    closeSync(dir)
    if (connected < 0) {
      closeSync(fd)
      throw gone
    }
    fcntl(fd, F_SETFL, 0)
    return new ControlClient(fd)
  }

  /** The near end of a socketpair whose far end the sentry has. Takes the descriptor over. */
  static fromFd(fd: number): ControlClient {
    return new ControlClient(fd)
  }

  request(request: Request): Promise<ReplyValue> {
    return this.enqueue(encodeFrame(request), [])
  }

  async exec(process: ProcessSpec, killOnDisconnect: boolean, fds: readonly number[]): Promise<number> {
    const value = await this.requestWith(fds, { op: 'exec', process, killOnDisconnect })
    return (value as { pid: number }).pid
  }

  async attach(fd: number): Promise<void> {
    await this.requestWith([fd], { op: 'attach' })
  }

  /** The descriptors go with the frame; the caller keeps (and closes) its own. */
  private requestWith(fds: readonly number[], request: Request): Promise<ReplyValue> {
    return this.enqueue(encodeFrame(request), fds)
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
    if (this.closed) return
    this.closed = true
    open.delete(this)
    shutdown(this.fd)
    if (!this.reading) closeSync(this.fd)
    this.gone()
  }

  private enqueue(frame: Buffer, fds: readonly number[]): Promise<ReplyValue> {
    return new Promise((resolve, reject) => {
      if (this.closed) {
        reject(new ControlGone('the sandbox has ended'))
        return
      }
      this.pending.push({ resolve, reject })
      const sent =
        this.unsent.length > 0 && fds.length === 0 ? 0 : sendWithFds(this.fd, frame, frame.length, fds, MSG_DONTWAIT)
      if (sent < 0 && (sent !== -EAGAIN || fds.length > 0)) {
        this.close()
        return
      }
      // Descriptors go with the first byte of a new connection, which always has room for it.
      const rest = frame.subarray(Math.max(sent, 0))
      if (rest.length > 0) {
        this.unsent.push(rest)
        setTimeout(() => this.sendRest(), RETRY_MS)
      }
      this.readMore()
    })
  }

  private sendRest(): void {
    while (!this.closed && this.unsent.length > 0) {
      const [first] = this.unsent as [Buffer]
      const sent = sendWithFds(this.fd, first, first.length, [], MSG_DONTWAIT)
      if (sent === first.length) this.unsent.shift()
      else if (sent < 0 && sent !== -EAGAIN) this.close()
      else {
        this.unsent[0] = first.subarray(Math.max(sent, 0))
        setTimeout(() => this.sendRest(), RETRY_MS)
        return
      }
    }
  }

  private readMore(): void {
    if (this.reading || this.closed || this.pending.length === 0) return
    this.reading = true
    read(this.fd, this.chunk, 0, CHUNK, null, (error, n) => {
      this.reading = false
      if (this.closed) closeSync(this.fd)
      else if (error || n === 0) this.close()
      else {
        this.receive(this.chunk.subarray(0, n))
        this.readMore()
      }
    })
  }

  private receive(chunk: Buffer): void {
    try {
      this.reader.push(chunk)
      for (let reply = this.reader.next(); reply !== undefined; reply = this.reader.next()) {
        const waiting = this.pending.shift()
        if (!waiting) continue
        const r = reply as Reply
        if (r.ok) waiting.resolve(r.value)
        else waiting.reject(new ControlRefused(r.error, r.errno))
      }
    } catch {
      this.close()
    }
  }

  private gone(): void {
    for (const waiting of this.pending.splice(0)) waiting.reject(new ControlGone('the sandbox has ended'))
  }
}
