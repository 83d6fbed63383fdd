/** Child processes without Node's child_process: see native/host/spawn.c. */
import { closeSync, fstatSync, readSync } from 'node:fs'
import { kill, memfdCreate, pidfdOpen, poll, pwrite, raw } from './host.ts'
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

export interface Finished {
  /** −errno: it could not be run. A signal, or that it took too long, is 128 or more. */
  status: number
  output: string
  error: string
}

const MFD_CLOEXEC = 1
const POLLIN = 1
const SIGKILL = 9

/**
 * Runs a program to its end. Not Node's spawnSync: in a copy of the CLI (native/waiting.ts) libuv's pipes for signals are
 * closed, and it aborts.
 */
export function runProcess(args: readonly string[], ms: number, input = ''): Finished {
  // Files and not pipes: nobody has to read while it writes.
  const fds = ['input', 'output', 'error'].map((name) => memfdCreate(name, MFD_CLOEXEC))
  const bytes = Buffer.from(input)
  pwrite(fds[0]!, bytes, bytes.length, 0)
  const pid = spawnProcess(args, fds)
  let status = pid
  if (pid > 0) {
    const wait = new Int32Array(1)
    const pidfd = pidfdOpen(pid, 0)
    if (poll(Int32Array.of(pidfd, POLLIN), 1, ms) <= 0) kill(pid, SIGKILL)
    closeSync(pidfd)
    raw.LP(SYS_WAIT4, pid, wait, 0, 0, 0, 0)
    const signal = wait[0]! & 0x7f
    status = signal ? 128 + signal : (wait[0]! >> 8) & 0xff
  }
  const [, output, error] = fds.map(contents)
  for (const fd of fds) closeSync(fd)
  return { status, output: output!, error: error! }
}

function contents(fd: number): string {
  const bytes = Buffer.alloc(fstatSync(fd).size)
  return bytes.toString('utf8', 0, readSync(fd, bytes, 0, bytes.length, 0))
}
