/**
 * When each step of a start happened, for --debug-log. Every process of a container appends lines `<ms> <process> <step>`
 * to one file (CLOCK_MONOTONIC, which they share); the CLI makes a table of them.
 *
 * Steps before the file is known are kept; without --debug-log nothing is ever written.
 */
import { writeSync } from 'node:fs'

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
    const { nodeTiming } = performance
    const origin = now() - performance.now()
    const text =
      line(origin, 'node is loaded') +
      line(origin + nodeTiming.v8Start, 'V8 starts') +
      line(origin + nodeTiming.environment, 'Node has its environment') +
      line(origin + nodeTiming.bootstrapComplete, 'Node is ready')
    writeSync(fd, text + (early ?? []).map(([step, ms]) => line(ms, step)).join(''))
  }
  early = null
}
