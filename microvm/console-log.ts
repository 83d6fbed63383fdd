/** What the guest kernel writes to its console: the last lines of it, for the message about a VM that ended by itself. */
import { read } from '../native/host.ts'
import { EPOLLIN, type Loop } from './loop.ts'
import { readWithin } from './sockets.ts'

const KEPT = 4096
const SHOWN = 400

export class ConsoleLog {
  private readonly fd: number
  private readonly loop: Loop
  private text = ''
  private readonly chunk = Buffer.alloc(KEPT)

  constructor(fd: number, loop: Loop) {
    this.fd = fd
    this.loop = loop
    loop.watch(fd, EPOLLIN, this)
  }

  onHostEvents(): void {
    this.take(read(this.fd, this.chunk, KEPT))
  }

  private take(n: number): boolean {
    if (n > 0) this.text = (this.text + this.chunk.toString('latin1', 0, n)).slice(-KEPT)
    else this.loop.unwatch(this.fd)
    return n > 0
  }

  /** All that is there; for when nobody writes any more. */
  collect(): void {
    while (this.take(readWithin(this.fd, this.chunk, 0)));
  }

  /** `: panic …`, or nothing. Printable characters only: it is the guest's text on the user's terminal. */
  tail(): string {
    this.collect()
    const lines = this.text.split(/[\r\n]+/).map((line) => line.replace(/[^ -~]/g, '?').trim())
    const telling =
      lines.filter((line) => /panic|Out of memory|agent:|BUG|Oops/.test(line)).pop() ?? lines.filter(Boolean).pop()
    return telling ? `: ${telling.slice(0, SHOWN)}` : ''
  }
}
