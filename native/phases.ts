/**
 * When each step of a start happened, for --debug-log. Every process of a container appends lines `<ms> <process> <step>`
 * to one file (CLOCK_MONOTONIC, which they share); the CLI makes a table of them.
 *
 * Steps before the file is known are kept; without --debug-log nothing is ever written.
 */
import { writeSync } from 'node:fs'

/** When native/load.ts began. */
const LOADER_START = Symbol.for('tssandbox.loaderStart')

let file = -1
let early: [step: string, ms: number][] | null = []
let who = ''

const now = (): number => Number(process.hrtime.bigint()) / 1e6

export function phase(step: string): void {
  if (file >= 0) writeSync(file, line(now(), step))
  else early?.push([step, now()])
}

const line = (ms: number, step: string): string => `${ms.toFixed(3)} ${who} ${step}\n`

/** `fd`: the file, opened for appending; −1: there is none. */
export function recordPhases(fd: number, name: string): void {
  file = fd
  who = name
  if (fd >= 0) {
    // Not performance.nodeTiming, whose module takes 3 ms to load.
    const start = line(now() - process.uptime() * 1000, 'node starts')
    const loader = (globalThis as Record<symbol, unknown>)[LOADER_START]
    const ready = typeof loader === 'bigint' ? line(Number(loader) / 1e6, 'Node is ready') : ''
    writeSync(fd, start + ready + (early ?? []).map(([step, ms]) => line(ms, step)).join(''))
  }
  early = null
}
