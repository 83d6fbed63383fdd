/**
 * When each step of a start happened, for --debug-log. Every process of a container appends lines `<ms> <process> <step>`
 * to one file (CLOCK_MONOTONIC, which they share); the CLI makes a table of them.
 *
 * Steps before the file is known are kept; without --debug-log nothing is ever written.
 */
import { writeSync } from 'node:fs'

type Step = [step: string, ms: number]

/** Shared by the loader and the bundle that it loads. */
const EARLY = Symbol.for('tssandbox.phases')
const shared = globalThis as { [EARLY]?: Step[] | null }

const now = (): number => Number(process.hrtime.bigint()) / 1e6

// Not performance.nodeTiming, whose module takes 3 ms to load.
if (shared[EARLY] === undefined) shared[EARLY] = [['Node starts', now() - process.uptime() * 1000]]

let file = -1
let who = ''

export function phase(step: string): void {
  if (file >= 0) writeSync(file, line(now(), step))
  else shared[EARLY]?.push([step, now()])
}

/** In a copy of the process: what happened before is not its own. */
export function forgetPhases(): void {
  shared[EARLY] = []
}

const line = (ms: number, step: string): string => `${ms.toFixed(3)} ${who} ${step}\n`

/** `fd`: the file, opened for appending; −1: there is none. */
export function recordPhases(fd: number, name: string): void {
  file = fd
  who = name
  if (fd >= 0) writeSync(fd, (shared[EARLY] ?? []).map(([step, ms]) => line(ms, step)).join(''))
  shared[EARLY] = null
}
