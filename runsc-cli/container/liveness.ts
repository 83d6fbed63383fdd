/**
 * Processes by pid and start time, so that a recycled pid is never taken for a container's. A zombie counts as dead: only
 * its parent (Docker's shim) is still interested in it.
 */
import { readFileSync } from 'node:fs'

export interface ProcessRef {
  pid: number
  /** Field 22 of /proc/PID/stat: clock ticks since boot. */
  start: string
}

function statFields(pid: number): string[] | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1')
    // The command may contain anything, ')' and spaces included; the state follows its last ')'.
    return text.slice(text.lastIndexOf(')') + 2).split(' ')
  } catch {
    return null
  }
}

export function processRef(pid: number): ProcessRef {
  return { pid, start: statFields(pid)?.[19] ?? '' }
}

export function isAlive(ref: ProcessRef | null): boolean {
  if (!ref) return false
  const fields = statFields(ref.pid)
  return fields !== null && fields[19] === ref.start && fields[0] !== 'Z' && fields[0] !== 'X'
}

export function sendSignal(ref: ProcessRef | null, signal: NodeJS.Signals | number): boolean {
  if (!ref || !isAlive(ref)) return false
  try {
    process.kill(ref.pid, signal)
    return true
  } catch {
    return false
  }
}

/** Waits for its end, without Node's event loop meanwhile. False after `timeoutMs`. */
export async function ended(ref: ProcessRef | null, timeoutMs: number): Promise<boolean> {
  if (!ref) return true
  const { close, pidfdOpen, poll } = await import('../../native/host.ts')
  const pidfd = pidfdOpen(ref.pid, 0)
  if (pidfd < 0) return until(() => !isAlive(ref), timeoutMs)
  const set = new DataView(new ArrayBuffer(8))
  set.setInt32(0, pidfd, true)
  set.setInt16(4, POLLIN, true)
  if (isAlive(ref)) poll(set, 1, timeoutMs)
  close(pidfd)
  return !isAlive(ref)
}
const POLLIN = 1

/** Not performance.now(), whose module takes 3 ms to load. */
export const monotonicMs = (): number => Number(process.hrtime.bigint()) / 1e6

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

/** Polls until `condition` holds; false after `timeoutMs`. */
export async function until(condition: () => boolean, timeoutMs: number): Promise<boolean> {
  const deadline = monotonicMs() + timeoutMs
  for (let pause = 1; !condition(); pause = Math.min(pause * 2, 50)) {
    if (monotonicMs() > deadline) return false
    await sleep(pause)
  }
  return true
}
