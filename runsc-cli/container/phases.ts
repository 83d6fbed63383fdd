/** The file of native/phases.ts under --debug-log, and the table that a foreground command prints of it at its end. */
import { constants, mkdirSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { recordPhases } from '../../native/phases.ts'

const { O_APPEND, O_CREAT, O_TRUNC, O_WRONLY } = constants
const pathOf = (debugLog: string, id: string): string => join(debugLog, `${id}.phases.log`)

/** Returns the descriptor for the other processes, the caller's to close; −1 without --debug-log. */
export function openPhases(debugLog: string, id: string): number {
  if (debugLog === '') {
    recordPhases(-1, 'cli')
    return -1
  }
  mkdirSync(debugLog, { recursive: true })
  const path = pathOf(debugLog, id)
  recordPhases(openSync(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0o600), 'cli')
  return openSync(path, 'a')
}

/** Milliseconds since the CLI's start, and since the step before of the same process. */
export function printPhases(debugLog: string, id: string): void {
  if (debugLog === '') return
  const rows = readFileSync(pathOf(debugLog, id), 'utf8')
    .trim()
    .split('\n')
    .map((line) => /^(\S+) (\S+) (.*)$/.exec(line))
    .filter((match) => match !== null)
    .map(([, ms, who, step]) => ({ ms: Number(ms), who: who!, step: step! }))
    .sort((a, b) => a.ms - b.ms)
  const before = new Map<string, number>()
  let text = '      ms   since  process  step\n'
  for (const { ms, who, step } of rows) {
    const since = (ms - (before.get(who) ?? ms)).toFixed(1)
    before.set(who, ms)
    text += `${(ms - rows[0]!.ms).toFixed(1).padStart(8)} ${since.padStart(7)}  ${who.padEnd(7)}  ${step}\n`
  }
  process.stderr.write(text)
}
