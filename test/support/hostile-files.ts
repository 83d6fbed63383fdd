/** What the hostile tests of all of the gofer's front ends do: names that change while they are walked, bytes that change. */
import { type ChildProcess, spawn } from 'node:child_process'

/**
 * Another process that exchanges folder `swap` of `dir` and the links `swap-link` and `swap-relative`, which lead outside,
 * as fast as it can. It has ended when it has an exit code.
 */
export function startSwapping(dir: string): ChildProcess {
  const program = `
    const fs = require('fs'), d = ${JSON.stringify(`${dir}/`)}
    const end = Date.now() + 1500
    while (Date.now() < end) for (const l of ['swap-link', 'swap-relative']) {
      fs.renameSync(d + 'swap', d + 'tmp'); fs.renameSync(d + l, d + 'swap')
      fs.renameSync(d + 'swap', d + l); fs.renameSync(d + 'tmp', d + 'swap')
    }`
  return spawn(process.execPath, ['-e', program], { stdio: ['ignore', 'ignore', 'inherit'] })
}

/** Random choices for messages that are nearly right. */
export class Chooser {
  readonly next: (below: number) => number
  constructor(next: (below: number) => number) {
    this.next = next
  }
  pick<T>(of: readonly T[]): T {
    return of[this.next(of.length)]!
  }
  data = (): Buffer => Buffer.alloc(this.next(200), this.next(256))

  /** Changes up to two places behind the first `header` bytes, or what byte 4 says, below `types`. */
  mutate(message: Buffer, header: number, types: number): Buffer {
    let bytes = message
    for (let n = this.pick([0, 0, 0, 1, 1, 2]); n > 0; n--) {
      const at = header + this.next(Math.max(1, bytes.length - header))
      switch (this.next(6)) {
        case 0:
          if (at < bytes.length) bytes[at] = this.next(256)
          break
        case 1:
          if (at < bytes.length) bytes[at]! ^= 1 << this.next(8)
          break
        case 2:
          bytes = Buffer.concat([bytes.subarray(0, at), this.data()])
          break
        case 3:
          bytes = Buffer.from(bytes.subarray(0, at))
          break
        case 4:
          bytes = Buffer.concat([bytes, bytes.subarray(at)])
          break
        default:
          bytes[4] = this.next(types)
      }
    }
    return bytes
  }
}
