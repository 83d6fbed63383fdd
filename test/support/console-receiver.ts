/** The other end of `--console-socket`: takes the pty's master and talks to it, as Docker's shim does. */
import { rmSync } from 'node:fs'
import { ReadStream } from 'node:tty'
import { close, write } from '../../native/host.ts'
import { setWindowSize } from '../../native/pty.ts'
import { AF_UNIX, accept4, bindUnix, listen, recvWithFds, SOCK_STREAM, socket } from '../../native/unix-socket.ts'
import { until } from './tssandbox.ts'

const SOCK_NONBLOCK_CLOEXEC = 0o2004000
const EAGAIN = 11

export class ConsoleReceiver {
  readonly path: string
  private readonly listener: number
  master = -1
  text = ''
  closed = false

  constructor(path: string) {
    this.path = path
    rmSync(path, { force: true })
    this.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK_CLOEXEC, 0)
    if (bindUnix(this.listener, path) < 0 || listen(this.listener, 1) < 0) throw new Error(`cannot listen at ${path}`)
  }

  /** Waits for the master, then reads it until the other side is closed. */
  async receive(): Promise<void> {
    let connection = -EAGAIN
    await until(() => (connection = accept4(this.listener, 0)) >= 0)
    const fds: number[] = []
    recvWithFds(connection, Buffer.alloc(4096), 4096, fds, 0)
    close(connection)
    close(this.listener)
    this.master = fds[0]!
    const stream = new ReadStream(this.master)
    stream.on('data', (d: Buffer) => (this.text += d.toString('latin1')))
    // A pty without a slave reads as EIO.
    stream.on('error', () => (this.closed = true))
    stream.on('close', () => (this.closed = true))
  }

  type(text: string): void {
    const bytes = Buffer.from(text)
    write(this.master, bytes, bytes.length)
  }

  resize(rows: number, cols: number): void {
    setWindowSize(this.master, rows, cols)
  }

  async sees(pattern: RegExp, timeoutMs = 10_000): Promise<void> {
    await until(() => pattern.test(this.text), timeoutMs).catch(() => {
      throw new Error(`the terminal does not show ${pattern}: ${JSON.stringify(this.text)}`)
    })
  }
}
