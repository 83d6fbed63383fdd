/**
 * A process that is started before anyone has asked for it, as its like was started last: QEMU, which takes 45 ms until it
 * runs anything. native/ahead/ahead.c starts it before Node, as a child of what becomes the CLI; how, is on disk. When the program
 * that wants it has been loaded and ordered, and would start the very same, it takes this one instead; otherwise this one is
 * ended, and nothing but time is lost.
 */
import { closeSync, readFileSync, readlinkSync, renameSync, writeFileSync } from 'node:fs'
import { close, getpid, kill, pidfdOpen, poll } from './host.ts'

/** How to start it. Its words hold {@link ID} where the number of its user stands. */
export interface Recipe {
  args: string[]
  /** Becomes descriptor 7, open for reading. 3, 4 and 6 are ends of pairs whose others the program gets, 5 the gofer's. */
  opens: string
  /** Sent to 6. */
  says: string
  /** Of users: theirs is so much more than the CLI's pid. */
  firstId: number
}

export interface Ahead {
  pid: number
  /** Ours, to what it has as 3, 4 and 6. */
  ends: number[]
}

export const ID = '{ID}'
const POLLIN = 1
const SIGKILL = 9
/** As ahead.c leaves them: what it has done; our ends; the gofer's connection. */
const NOTE_FD = 40
const END_FDS = [41, 42, 43]
const CONNECTION: [number, number] = [44, 45]

interface State {
  file: string
  connection: [number, number] | null
  started: (Ahead & { recipe: string }) | null
}

/** Shared by the loader and the programs' bundles. */
const SHARED = Symbol.for('tssandbox.ahead')
const shared = globalThis as { [SHARED]?: State }

/** In the CLI, before it is copied. `file`: where recipes are kept. */
export function findAhead(file: string): void {
  const state: State = { file, connection: null, started: null }
  shared[SHARED] = state
  try {
    if (!readlinkSync(`/proc/self/fd/${NOTE_FD}`).startsWith('/memfd:tssandbox-ahead')) return
  } catch {
    return
  }
  const note = readFileSync(`/proc/self/fd/${NOTE_FD}`, 'utf8')
  const at = note.indexOf('\0')
  closeSync(NOTE_FD)
  state.connection = CONNECTION
  state.started = { pid: Number(note.slice(0, at)), ends: END_FDS, recipe: note.slice(at + 1) }
}

/** In the CLI, once it has been copied: what is the copy's. */
export function leaveAhead(): void {
  const state = shared[SHARED]
  if (!state?.started) return
  for (const fd of state.started.ends) close(fd)
  state.started = null
}

/** In the CLI: the process's end and the gofer's, from now on the caller's. null: there are none. */
export function takeConnection(): [number, number] | null {
  const connection = shared[SHARED]?.connection ?? null
  if (shared[SHARED]) shared[SHARED].connection = null
  return connection
}

/** In the copy: descriptors that it has to keep, whose numbers will then be these. */
export const aheadEnds = (): number[] => shared[SHARED]?.started?.ends ?? []
export function moveAhead(first: number): void {
  const started = shared[SHARED]?.started
  if (started) started.ends = started.ends.map((_, i) => first + i)
}

/**
 * In the program: what was started as `recipe` says, or null. Recipes are remembered for the next time, where there may be one.
 * `same`: whether what the recipe names has been there all the time.
 */
export function takeAhead(recipe: Recipe, same: boolean): Ahead | null {
  const state = shared[SHARED]
  if (!state) return null
  const { started } = state
  const text = [recipe.opens, recipe.says, String(recipe.firstId), ...recipe.args, ''].join('\0')
  if (started?.recipe !== text) remember(state.file, text)
  if (started && same && started.recipe === text && runs(started.pid)) {
    state.started = null
    return started
  }
  dropAhead()
  return null
}

function runs(pid: number): boolean {
  const pidfd = pidfdOpen(pid, 0)
  if (pidfd < 0) return false
  const ended = poll(Int32Array.of(pidfd, POLLIN), 1, 0) > 0
  close(pidfd)
  return !ended
}

/** The program starts nothing of the kind, or another. */
export function dropAhead(): void {
  const started = shared[SHARED]?.started
  if (!started) return
  kill(started.pid, SIGKILL)
  for (const fd of started.ends) close(fd)
  shared[SHARED]!.started = null
}

function remember(file: string, text: string): void {
  try {
    writeFileSync(`${file}.${getpid()}`, text)
    renameSync(`${file}.${getpid()}`, file)
  } catch {}
}
