/** All rows, and the tasks that measure them: those of one task share a container, or a way to measure from outside. */
import { type Context, runInside } from './inside.ts'
import { FILE_ROWS, measureFiles } from './rows/files.ts'
import { MACRO_ROWS, macroCommand } from './rows/macro.ts'
import { MICRO_ROWS, microCommand } from './rows/micro.ts'
import {
  CONTAINER_ROWS,
  EXEC_ROWS,
  IDLE_ROWS,
  measureContainers,
  measureExec,
  measureIdle,
  measureStart,
  START_ROWS,
} from './rows/outside.ts'
import { THREAD_ROWS, threadsCommand } from './rows/threads.ts'
import type { Row } from './types.ts'
import type { Way } from './ways.ts'

export interface Task {
  rows: Row[]
  /** Later rounds leave it out: it takes long and hardly differs. */
  maxRounds: number
  /** Needs more than a plain Debian. */
  programs: boolean
  /** Part of --quick. */
  quick: boolean
  measure(way: Way, rows: Row[], context: Context): Promise<void>
}

const SOME = 3

export const TASKS: Task[] = [
  {
    rows: MICRO_ROWS,
    maxRounds: Number.POSITIVE_INFINITY,
    programs: false,
    quick: true,
    measure: (way, rows, context) => runInside(way, rows, microCommand(context.quick), context),
  },
  { rows: START_ROWS, maxRounds: Number.POSITIVE_INFINITY, programs: false, quick: true, measure: measureStart },
  { rows: EXEC_ROWS, maxRounds: Number.POSITIVE_INFINITY, programs: false, quick: true, measure: measureExec },
  { rows: FILE_ROWS, maxRounds: SOME, programs: false, quick: false, measure: measureFiles },
  {
    rows: MACRO_ROWS,
    maxRounds: SOME,
    programs: true,
    quick: false,
    measure: (way, rows, context) => runInside(way, rows, macroCommand, context),
  },
  {
    rows: THREAD_ROWS,
    maxRounds: SOME,
    programs: false,
    quick: false,
    measure: (way, rows, context) => runInside(way, rows, threadsCommand, context),
  },
  { rows: IDLE_ROWS, maxRounds: SOME, programs: false, quick: true, measure: measureIdle },
  { rows: CONTAINER_ROWS, maxRounds: 1, programs: false, quick: false, measure: measureContainers },
]

/** The tasks with the chosen rows only; names may end in `*`. */
export function chooseTasks(groups: string[], names: string[], quick: boolean): Task[] {
  const named = (row: Row) =>
    names.some((name) => (name.endsWith('*') ? row.name.startsWith(name.slice(0, -1)) : row.name === name))
  const everything = names.length === 0 && groups.length === 0
  return TASKS.flatMap((task) => {
    const rows = task.rows.filter((row) => {
      if (everything) return !quick || task.quick
      return (groups.length === 0 || groups.includes(row.group)) && (names.length === 0 || named(row))
    })
    return rows.length > 0 ? [{ ...task, rows }] : []
  })
}

export function unknownNames(names: string[]): string[] {
  return names.filter((name) => chooseTasks([], [name], false).length === 0)
}
