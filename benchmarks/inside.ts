/**
 * Runs rows in one container that reports them line by line: `start NAME`, then `NAME VALUE` or `fail NAME REASON`. A row
 * that hangs or takes the container down is a failure, and another container goes on behind it.
 */
import { createInterface } from 'node:readline'
import { mountRoot, unmountRoot } from './roots.ts'
import type { Row } from './types.ts'
import type { Way } from './ways.ts'

/** For starting and ending a container, and between rows. */
const GRACE_SECONDS = 30

export interface Context {
  work: string
  /** The root under every overlay. */
  lower: string
  quick: boolean
  /** Keeps the overlays' and containers' names apart. */
  nextId(): string
  value(row: Row, value: number): void
  failure(row: Row, reason: string): void
}

export type Commander = (rows: Row[]) => string[]

export async function runInside(way: Way, rows: Row[], command: Commander, context: Context): Promise<void> {
  let rest = rows
  while (rest.length > 0) rest = await runContainer(way, rest, command, context)
}

/** Gives the rows that are still to run; at least one is done. */
async function runContainer(way: Way, rows: Row[], command: Commander, context: Context): Promise<Row[]> {
  const id = context.nextId()
  const root = mountRoot(context.work, id, context.lower)
  const child = way.start(root, command(rows), id)
  const done = new Set<Row>()
  let current: Row | undefined
  let late = false
  let error = ''
  let timer: NodeJS.Timeout | undefined
  const watch = (seconds: number) => {
    clearTimeout(timer)
    timer = setTimeout(() => {
      late = true
      way.stop(id, child)
    }, seconds * 1000)
  }
  const end = (row: Row) => {
    done.add(row)
    current = undefined
    watch(GRACE_SECONDS)
  }
  watch(GRACE_SECONDS)
  child.stderr!.setEncoding('latin1').on('data', (text: string) => {
    error = (error + text).slice(-1000)
  })
  child.once('error', (problem) => {
    error += problem.message
  })
  createInterface({ input: child.stdout! }).on('line', (line) => {
    const [word, name, ...rest] = line.split(' ')
    const row = rows.find((r) => r.name === (word === 'start' || word === 'fail' ? name : word))
    if (!row || done.has(row)) return
    if (word === 'start') {
      current = row
      watch(row.limit)
    } else if (word === 'fail') {
      context.failure(row, rest.join(' '))
      end(row)
    } else {
      const value = Number(name)
      if (name && Number.isFinite(value)) context.value(row, value)
      else context.failure(row, `not a number: ${line}`)
      end(row)
    }
  })
  await new Promise((resolve) => child.once('close', resolve))
  clearTimeout(timer)
  way.stop(id, child)
  unmountRoot(context.work, id)

  const left = rows.filter((row) => !done.has(row))
  if (left.length === 0) return []
  const culprit = current ?? left[0]!
  const last = error.trim().split('\n').at(-1) ?? ''
  context.failure(culprit, late ? `no result after ${culprit.limit} s` : `the container ended: ${last}`)
  return left.filter((row) => row !== culprit)
}
