/** Child processes without Node's child_process: see native/host/spawn.c. */
import { raw } from './host.ts'
import { libhost } from './library.ts'

const hostSpawn = libhost.func('host_spawn', 'long', ['void *', 'void *', 'int']) as (
  args: Buffer,
  fds: Int32Array,
  count: number,
) => number

/** Runs `args[0]` with `fds` as descriptors 0, 1, 2, … and an empty environment. The pid or −errno. Strings are UTF-8. */
export function spawnProcess(args: readonly string[], fds: readonly number[]): number {
  return hostSpawn(Buffer.from(`${args.join('\0')}\0\0`), Int32Array.from(fds), fds.length)
}

export interface ExitStatus {
  code: number | null
  signal: number | null
}

const SYS_WAIT4 = 61
const WNOHANG = 1

/** Settles when the child has ended. Meanwhile the process stays alive, as with a ChildProcess. */
export function childEnd(pid: number): Promise<ExitStatus> {
  const status = new Int32Array(1)
  return new Promise((resolve) => {
    // Signal handlers do not keep the event loop running.
    const alive = setInterval(() => {}, 2 ** 30)
    const look = () => {
      if (raw.LP(SYS_WAIT4, pid, status, WNOHANG, 0, 0, 0) === 0) return
      process.removeListener('SIGCHLD', look)
      clearInterval(alive)
      const signal = status[0]! & 0x7f
      resolve(signal === 0 ? { code: (status[0]! >> 8) & 0xff, signal: null } : { code: null, signal })
    }
    process.on('SIGCHLD', look)
    look()
  })
}
