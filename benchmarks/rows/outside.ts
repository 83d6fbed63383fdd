/** Rows that are measured from outside of the container: its start, a program more in it, and what it costs when idle. */
import { type ChildProcess, spawn } from 'node:child_process'
import type { Context } from '../inside.ts'
import { mountRoot, unmountRoot } from '../roots.ts'
import type { Row } from '../types.ts'
import type { Way } from '../ways.ts'
import { membersOf, usageOf } from './processes.ts'

const START_SECONDS = 30
const SETTLE_MS = 2000
const IDLE_MS = 5000
const MORE_PROCESSES = 20
const CONTAINER_COUNTS = [1, 2, 5, 10, 20, 50]
/** Starts that run at the same time when many containers are wanted. */
const STARTS_AT_ONCE = 2

const row = (name: string, group: Row['group'], title: string, unit: string, limit = START_SECONDS): Row => ({
  name,
  group,
  title,
  unit,
  better: unit === '1/s' ? 'higher' : 'lower',
  limit,
})

export const START_ROWS = [row('start', 'macro', 'start to exit of true', 'ms')]
export const EXEC_ROWS = [row('exec', 'macro', 'exec of true in a running container', 'ms')]
export const IDLE_ROWS = [
  row('idle-cpu', 'idle', 'idle container: CPU per second', 'ms/s'),
  row('idle-rss', 'idle', 'idle container: sum of resident sets', 'MB'),
  row('idle-pss', 'idle', 'idle container: memory, shared pages divided', 'MB'),
  row('process-pss', 'idle', 'one more idle process in it: memory, shared pages divided', 'MB'),
]
export const CONTAINER_ROWS = CONTAINER_COUNTS.flatMap((n) => [
  row(`containers-${n}-rate`, 'scale', `${n} containers: starts per second`, '1/s', 300),
  row(`containers-${n}-memory`, 'scale', `${n} containers: memory of each`, 'MB', 300),
])

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

/** Runs a command to its end; throws when it fails or takes too long. Gives milliseconds. */
async function timeCommand(argv: string[]): Promise<number> {
  const since = performance.now()
  const child = spawn(argv[0]!, argv.slice(1), { stdio: ['ignore', 'ignore', 'pipe'] })
  let error = ''
  child.stderr.setEncoding('latin1').on('data', (text: string) => {
    error = (error + text).slice(-1000)
  })
  const timer = setTimeout(() => child.kill('SIGKILL'), START_SECONDS * 1000)
  const [code, signal] = await new Promise<[number | null, string | null]>((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (...end) => resolve([end[0], end[1]]))
  })
  const elapsed = performance.now() - since
  clearTimeout(timer)
  if (signal) throw new Error(`no end after ${START_SECONDS} s`)
  if (code !== 0) throw new Error(`exit code ${code}: ${error.trim().split('\n').at(-1)}`)
  return elapsed
}

/** Each calls `value` for its rows or throws, which fails those that have no value yet. */
export async function measureStart(way: Way, [start]: Row[], context: Context): Promise<void> {
  const times = context.quick ? 2 : 4
  await withRoot(context, async (root) => {
    for (let i = 0; i < times; i++) {
      const id = context.nextId()
      try {
        const elapsed = await timeCommand(way.command(root, ['/bench/micro', 'true'], id))
        if (i > 0) context.value(start!, elapsed) // the first one reads files that the others find in memory
      } catch (error) {
        way.stop(id, null)
        throw error
      }
    }
  })
}

export async function measureExec(way: Way, [exec]: Row[], context: Context): Promise<void> {
  if (!way.exec('', [])) return
  await withIdle(way, context, async (id) => {
    for (let i = 0; i < (context.quick ? 2 : 4); i++) {
      const elapsed = await timeCommand(way.exec(id, ['/bench/micro', 'true'])!)
      if (i > 0) context.value(exec!, elapsed)
    }
  })
}

export async function measureIdle(way: Way, rows: Row[], context: Context): Promise<void> {
  const [cpu, rss, pss, more] = IDLE_ROWS.map(({ name }) => rows.find((r) => r.name === name))
  let alone = 0
  await withIdle(way, context, async (_id, child) => {
    await sleep(SETTLE_MS)
    const members = membersOf(child.pid!, way.startedByClient)
    const before = usageOf(members)
    const since = performance.now()
    await sleep(IDLE_MS)
    const after = usageOf(members)
    const seconds = (performance.now() - since) / 1000
    if (cpu) context.value(cpu, (after.cpuMs - before.cpuMs) / seconds)
    if (rss) context.value(rss, after.rssMb)
    if (pss) context.value(pss, after.pssMb)
    alone = after.pssMb
  })
  if (!more) return
  const crowd = async (_id: string, child: ChildProcess) => {
    await sleep(SETTLE_MS)
    const { pssMb } = usageOf(membersOf(child.pid!, way.startedByClient))
    context.value(more, Math.max(0, pssMb - alone) / MORE_PROCESSES)
  }
  await withIdle(way, context, crowd, MORE_PROCESSES)
}

export async function measureContainers(way: Way, rows: Row[], context: Context): Promise<void> {
  for (const count of CONTAINER_COUNTS) {
    const rate = rows.find((r) => r.name === `containers-${count}-rate`)
    const memory = rows.find((r) => r.name === `containers-${count}-memory`)
    if (rate || memory) await measureCount(way, count, rate, memory, context)
  }
}

async function measureCount(way: Way, count: number, rate: Row | undefined, memory: Row | undefined, context: Context) {
  await withRoot(context, async (root) => {
    const started: [string, ChildProcess][] = []
    let left = count
    const startSome = async () => {
      while (left-- > 0) {
        const id = context.nextId()
        const child = way.start(root, ['/bench/micro', 'idle'], id)
        started.push([id, child])
        await ready(child)
      }
    }
    try {
      const since = performance.now()
      await Promise.all(Array.from({ length: STARTS_AT_ONCE }, startSome))
      const seconds = (performance.now() - since) / 1000
      if (rate) context.value(rate, count / seconds)
      await sleep(SETTLE_MS)
      const members = started.flatMap(([, child]) => membersOf(child.pid!, way.startedByClient))
      if (memory) context.value(memory, usageOf(members).pssMb / count)
    } finally {
      for (const [id, child] of started) way.stop(id, child)
    }
  })
}

async function withRoot(context: Context, body: (root: string) => Promise<void>): Promise<void> {
  const id = context.nextId()
  const root = mountRoot(context.work, id, context.lower)
  try {
    await body(root)
  } finally {
    unmountRoot(context.work, id)
  }
}

async function withIdle(
  way: Way,
  context: Context,
  body: (id: string, child: ChildProcess) => Promise<void>,
  moreProcesses = 0,
) {
  await withRoot(context, async (root) => {
    const id = context.nextId()
    const child = way.start(root, ['/bench/micro', 'idle', `${moreProcesses}`], id)
    try {
      await ready(child)
      await body(id, child)
    } finally {
      way.stop(id, child)
    }
  })
}

/** Waits for the first line of a program in a container. */
function ready(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`not started after ${START_SECONDS} s`)), START_SECONDS * 1000)
    let error = ''
    child.stderr!.setEncoding('latin1').on('data', (text: string) => {
      error = (error + text).slice(-1000)
    })
    child.stdout!.once('data', () => {
      clearTimeout(timer)
      resolve()
    })
    child.once('error', reject)
    child.once('close', () => {
      clearTimeout(timer)
      reject(new Error(`the container ended: ${error.trim().split('\n').at(-1)}`))
    })
  })
}
