/**
 * Processes that are there before anyone knows what for: while the CLI loads its code and reads config.json, copies of it
 * (native/host/fork.c) load the programs of a sandbox and wait for their order. Node starts once instead of three times.
 *
 * A copy that gets no order ends with the CLI: its channel ends. It never runs Node's event loop, and ends by
 * exit_group(2) alone: Node's own end would wait for threads that a copy does not have.
 */
import { aheadEnds, moveAhead } from './ahead.ts'
import { keepOpen, openGate } from './cgroup-gate.ts'
import { close, getpid, kill, raw, socketpair, write } from './host.ts'
import { exitGroup } from './host-confine.ts'
import { libhost } from './library.ts'
import { forgetPhases, phase } from './phases.ts'
import { AF_UNIX, recvWithFds, SOCK_CLOEXEC, SOCK_SEQPACKET, sendWithFds } from './unix-socket.ts'

const hostFork = libhost.func('host_fork', 'long', []) as () => number
const hostBecome = libhost.func('host_become', 'void', ['void *', 'void *', 'int']) as (
  args: Buffer,
  fds: Int32Array,
  count: number,
) => void

interface Waiting {
  pid: number
  channel: number
}

/** What a copy is to be: the options of native/launch, the name that `ps` shows, the program's arguments. */
export interface Order {
  launch: string[]
  title: string
  args: string[]
}

/** The first descriptor of a copy after its standard ones: those between are Node's (native/host/fork.c). */
const FIRST_FD = 32
const SYS_WAIT4 = 61
const SIGKILL = 9
const ORDER_MAX = 65_536
/** As unix-socket.ts sends them at a time. */
const CHUNK = 16
const FAILED = 1

/** Shared by the loader, which forks, and the CLI's bundle, which orders. */
const SHARED = Symbol.for('tssandbox.waiting')
const shared = globalThis as { [SHARED]?: Map<string, Waiting> }

const waiting = (): Map<string, Waiting> => {
  shared[SHARED] ??= new Map()
  return shared[SHARED]
}

/** The number that the descriptor after 0, 1 and 2 will have in the process of `program`. */
export const firstFd = (program: string): number => (waiting().has(program) ? FIRST_FD : 3)

export interface Manner {
  /** It has time for native/cgroup-gate.ts. */
  gate: boolean
  /** It loads its code when it is ordered only, and leaves the CPUs to others until then. */
  late: boolean
}

/** Makes a copy that loads `program` and runs what `load` gives. Without one, all works and takes longer. */
export function forkWaiting(program: string, load: () => () => unknown, manner: Manner): void {
  const fds = new Int32Array(2)
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0) return
  const [here, there] = [fds[0]!, fds[1]!]
  const pid = hostFork()
  if (pid === 0) {
    for (const { channel } of waiting().values()) close(channel)
    close(here)
    runCopy(there, load, manner)
  }
  close(there)
  if (pid < 0) close(here)
  else waiting().set(program, { pid, channel: here })
}

function runCopy(channel: number, load: () => () => unknown, { gate, late }: Manner): never {
  try {
    Object.defineProperty(process, 'pid', { value: getpid() })
    forgetPhases()
    phase('forked')
    const gateFd = gate ? openGate() : -1
    let main = late ? null : load()
    keepOpen(gateFd, channel)
    const fds: number[] = []
    const order = receive(channel, fds)
    if (order !== null) {
      phase('ordered')
      process.title = order.title
      process.argv.splice(2, Number.POSITIVE_INFINITY, ...order.args)
      const ends = aheadEnds()
      moveAhead(FIRST_FD + fds.length - 3)
      fds.push(...ends, channel)
      const last = FIRST_FD + fds.length - 4
      const words = [...order.launch, '--keep-fd', `${FIRST_FD}-${last}`]
      hostBecome(Buffer.from(`${words.join('\0')}\0\0`), Int32Array.from(fds), fds.length)
      close(last)
      phase('namespaces made')
      main ??= load()
      main()
    }
  } catch (error) {
    const line = Buffer.from(`tssandbox: ${(error as Error).stack}\n`)
    write(2, line, line.length)
    exitGroup(FAILED)
  }
  exitGroup(0)
  throw new Error('exit_group came back')
}

/** null: the CLI has ended or needs no copy. */
function receive(channel: number, fds: number[]): Order | null {
  const text = Buffer.allocUnsafeSlow(ORDER_MAX)
  for (;;) {
    const n = recvWithFds(channel, text, text.length, fds, 0)
    if (n <= 0) return null
    if (n > 1) return JSON.parse(text.toString('utf8', 0, n)) as Order
  }
}

/**
 * Has the waiting copy of `program` become what `order` says, with `fds` as its 0, 1, 2 and {@link firstFd}, …. null: there is none. Its
 * `channel`, the caller's to close, ends when it has all its namespaces, or is no more.
 */
export function orderWaiting(program: string, order: Order, fds: readonly number[]): Waiting | null {
  const copy = waiting().get(program)
  if (copy === undefined) return null
  waiting().delete(program)
  const text = Buffer.from(JSON.stringify(order))
  let at = 0
  for (; fds.length - at > CHUNK; at += CHUNK) sendWithFds(copy.channel, MORE, 1, fds.slice(at, at + CHUNK), 0)
  // One that is dead is found to be so by whoever waits for its answer.
  sendWithFds(copy.channel, text, text.length, fds.slice(at), 0)
  return copy
}
const MORE = Buffer.from('+')

/** Ends the copies that nobody needed: they would hold our standard output a little longer than we. */
export function dismissWaiting(): void {
  for (const { pid } of waiting().values()) kill(pid, SIGKILL)
  for (const { pid } of waiting().values()) raw.L(SYS_WAIT4, pid, 0, 0, 0, 0, 0)
  waiting().clear()
}
