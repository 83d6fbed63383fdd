/** QEMU's control protocol (docs/interop/qmp-spec.txt), as much as saving a template needs. Synchronous. */
import { sendWithFds } from '../native/unix-socket.ts'
import { readWithin, writeAll } from './sockets.ts'

const PATIENCE_MS = 60_000
const PAUSE_MS = 5

/** Commands as they are sent. */
export const orders = (...commands: [name: string, args: object][]): string =>
  commands.map(([execute, args]) => `${JSON.stringify({ execute, arguments: args })}\n`).join('')

export class QmpClient {
  readonly fd: number
  private text = ''
  private readonly chunk = Buffer.alloc(65536)

  constructor(fd: number) {
    this.fd = fd
  }

  private line(): Record<string, unknown> {
    for (;;) {
      const end = this.text.indexOf('\n')
      if (end >= 0) {
        const line = this.text.slice(0, end)
        this.text = this.text.slice(end + 1)
        if (line.trim()) return JSON.parse(line)
        continue
      }
      const n = readWithin(this.fd, this.chunk, PATIENCE_MS)
      if (n <= 0) throw new Error('QEMU has ended')
      this.text += this.chunk.toString('utf8', 0, n)
    }
  }

  /** {@link orders} whose answers nobody waits for. */
  send(text: string): void {
    if (!writeAll(this.fd, Buffer.from(text), PATIENCE_MS)) throw new Error('QEMU has ended')
  }

  /** Waits for the answers of so many of them; theirs do not matter. */
  pass(count: number): void {
    for (let i = 0; i < count; i++) this.answer('')
  }

  /** Takes events off it, between commands. */
  hear(): void {
    const n = readWithin(this.fd, this.chunk, 0)
    if (n > 0) this.text += this.chunk.toString('utf8', 0, n)
    this.text = this.text.slice(this.text.lastIndexOf('\n') + 1)
  }

  /** Whether the command was carried out. False, too, when QEMU has ended: its pid tells that. */
  attempt(command: string, args: object): boolean {
    try {
      this.run(command, args)
      return true
    } catch {
      return false
    }
  }

  /** Hands a descriptor over under a name. */
  giveFd(name: string, fd: number): void {
    const order = Buffer.from(orders(['getfd', { fdname: name }]))
    if (sendWithFds(this.fd, order, order.length, [fd], 0) < 0) throw new Error('QEMU has ended')
    this.answer('getfd')
  }

  private write(execute: string, args: object): void {
    this.send(orders([execute, args]))
  }

  /** The command's answer; events and the greeting are passed over. */
  run(command: string, args: object = {}): unknown {
    this.write(command, args)
    return this.answer(command)
  }

  private answer(command: string): unknown {
    for (;;) {
      const answer = this.line()
      if (answer.error) throw new Error(`QEMU: ${command}: ${(answer.error as { desc: string }).desc}`)
      if ('return' in answer) return answer.return
    }
  }

  waitFor(condition: () => boolean): void {
    const deadline = performance.now() + PATIENCE_MS
    while (!condition()) {
      if (performance.now() > deadline) throw new Error('QEMU takes too long')
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PAUSE_MS)
    }
  }
}
