/** What this process shares with those that it starts: documents for them to read, pipes for their answers. */
import { closeSync, constants, openSync, read } from 'node:fs'
import { close, memfdCreate, pipe2, write } from '../../native/host.ts'
import { CliError } from '../errors.ts'

const O_CLOEXEC = 0o2000000
const MFD_CLOEXEC = 1

export function check(result: number, what: string): number {
  if (result < 0) throw new CliError(`${what}: errno ${-result}`)
  return result
}

/** For reading and for writing. */
export function pipe(): [number, number] {
  const fds = new Int32Array(2)
  check(pipe2(fds, O_CLOEXEC), 'pipe2')
  return [fds[0]!, fds[1]!]
}

/** A descriptor to read `text` from, from its start. */
export function document(name: string, text: string): number {
  const fd = check(memfdCreate(name, MFD_CLOEXEC), 'memfd_create')
  const bytes = Buffer.from(text)
  check(write(fd, bytes, bytes.length), 'write')
  // The child's position is this one's: open the file again, at 0.
  const again = openSync(`/proc/self/fd/${fd}`, constants.O_RDONLY)
  close(fd)
  return again
}

/** What comes through a pipe until a line ends or its writers have closed it. Closes it then. */
export async function readLine(fd: number): Promise<string> {
  const chunk = Buffer.alloc(4096)
  let bytes = ''
  while (!bytes.includes('\n')) {
    const n = await new Promise<number>((resolve) => read(fd, chunk, 0, chunk.length, -1, (_, count) => resolve(count)))
    if (!n) break
    bytes += chunk.toString('latin1', 0, n)
  }
  closeSync(fd)
  return Buffer.from(bytes, 'latin1').toString('utf8')
}
