/** Signal names and numbers as `kill` takes them, and forwarding of the CLI's own signals into a container. */
import { constants } from 'node:os'
import { raw } from '../native/host.ts'
import type { ExitStatus } from '../native/spawn.ts'
import { CliError } from './errors.ts'

const NUMBERS = constants.signals as Record<string, number>
const SYS_RT_SIGPROCMASK = 14
const SIG_UNBLOCK = 1
const SIGRTMIN = 34
const SIGRTMAX = 64

/** `9`, `KILL`, `SIGKILL`, `sigkill`, `RTMIN+3`. */
export function parseSignal(text: string): number {
  if (/^\d+$/.test(text)) {
    const n = Number(text)
    if (n <= 64) return n
  }
  const name = text.toUpperCase().replace(/^SIG/, '')
  const known = NUMBERS[`SIG${name}`]
  if (known !== undefined) return known
  const rt = /^RT(MIN|MAX)([+-]\d+)?$/.exec(name)
  if (rt) {
    const n = (rt[1] === 'MIN' ? SIGRTMIN : SIGRTMAX) + Number(rt[2] ?? 0)
    if (n >= SIGRTMIN && n <= SIGRTMAX) return n
  }
  throw new CliError(`unknown signal "${text}"`)
}

/** Not to be caught, ours to act on, or meant for this process alone. */
const NOT_FORWARDED = new Set(['SIGKILL', 'SIGSTOP', 'SIGCHLD', 'SIGWINCH', 'SIGPIPE', 'SIGTTIN', 'SIGTTOU', 'SIGTSTP'])
/** Faults and traps of this process, and what V8 uses. */
const OURS = new Set(['SIGSEGV', 'SIGBUS', 'SIGFPE', 'SIGILL', 'SIGTRAP', 'SIGABRT', 'SIGIOT', 'SIGPROF', 'SIGUNUSED'])

/** --disable-sigusr1, which Node is started with, blocks it. */
function unblockUsr1(): void {
  const set = Buffer.alloc(8)
  set.writeUInt32LE(1 << (constants.signals.SIGUSR1 - 1), 0)
  raw.LP(SYS_RT_SIGPROCMASK, SIG_UNBLOCK, set, 0, 8, 0, 0)
}

export function forwardSignals(send: (signal: number) => void): void {
  for (const [name, number] of Object.entries(NUMBERS)) {
    if (NOT_FORWARDED.has(name) || OURS.has(name)) continue
    try {
      process.on(name as NodeJS.Signals, () => send(number))
    } catch {}
  }
  unblockUsr1()
}

export function signalName(number: number): string {
  return Object.keys(NUMBERS).find((name) => NUMBERS[name] === number) ?? String(number)
}

/** What a shell says of a child that ended so. */
export function exitStatus({ code, signal }: ExitStatus): number {
  return code ?? 128 + (signal ?? 0)
}
