/**
 * Runs the cases of a suite in one runtime, as many in one container as it survives. Each container has a fresh root:
 * an overlay over the cached one. A case that hangs the container or takes it down is recorded as that, and the next
 * container goes on behind it.
 */
import { type ChildProcess, execFileSync, spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Runtime } from './runtimes.ts'
import type { Case, Result, Status, Suite } from './types.ts'

/** Above its own limit, after which `timeout` inside should have ended a case. */
const GRACE_SECONDS = 45
const MAX_OUTPUT = 8 * 1024 * 1024
/** Containers that end without having begun a case: the runtime does not work at all. */
const MAX_FALSE_STARTS = 3

export interface Context {
  runtime: Runtime
  root: string
  work: string
  /** Containers side by side. */
  jobs: number
  onResult(test: Case, result: Result, output: string): void
}

type Recorder = (test: Case, result: Result, output: string) => void

let containers = 0
const running = new Map<string, { runtime: Runtime; child: ChildProcess; folder: string }>()

/** For a run that is told to end: no container, mount or folder of it stays. */
export function stopAll(): void {
  for (const [id, { runtime, child, folder }] of running) {
    runtime.stop(id, child)
    unmountRoot(folder)
  }
}

/**
 * Side by side, the cases slow each other down, and what shares names outside of the container could disturb each
 * other: what does not pass in such a run is run once more, alone, and that is its result.
 */
export async function runCases(context: Context, suite: Suite, cases: Case[]): Promise<Record<string, Result>> {
  const results: Record<string, Result> = {}
  const record: Recorder = (test, result, output) => {
    const first = results[test.name]
    results[test.name] = first ? { ...result, first: `${first.status} ${first.detail}`.trim() } : result
    context.onResult(test, results[test.name]!, output)
  }
  const lanes: Case[][] = Array.from({ length: Math.min(context.jobs, cases.length) }, () => [])
  cases.forEach((test, i) => {
    lanes[i % lanes.length]!.push(test)
  })
  await Promise.all(lanes.map((lane) => runLane(context, suite, lane, record)))
  const again = cases.filter(({ name }) => results[name]!.status !== 'pass' && results[name]!.status !== 'skip')
  if (lanes.length > 1) await runLane(context, suite, again, record)
  return Object.fromEntries(cases.map(({ name }) => [name, results[name]!]))
}

async function runLane(context: Context, suite: Suite, cases: Case[], record: Recorder): Promise<void> {
  let rest = cases
  let falseStarts = 0
  while (rest.length > 0) {
    const { done, error } = await runContainer(context, suite, rest, record)
    falseStarts = done === 0 ? falseStarts + 1 : 0
    rest = rest.slice(done)
    if (falseStarts < MAX_FALSE_STARTS) continue
    for (const test of rest)
      record(test, { ...verdict('died', `no container: ${error}`), group: test.group, seconds: 0 }, error)
    break
  }
}

const verdict = (status: Status, detail: string) => ({ status, detail })

/** Gives how many of the cases have a result now: those that ended, and the one that the container ended with. */
async function runContainer(
  { runtime, root, work }: Context,
  suite: Suite,
  cases: Case[],
  record: Recorder,
): Promise<{ done: number; error: string }> {
  const id = `compat-${process.pid}-${++containers}`
  const folder = join(work, id)
  const rootfs = mountRoot(folder, suite.layer === null ? [root] : [suite.layer, root])
  const mark = `@${id}@`
  mkdirSync(join(rootfs, 'compat'))
  copyFileSync(join(import.meta.dirname, 'batch.sh'), join(rootfs, 'compat/batch.sh'))
  writeFileSync(join(rootfs, 'compat/list'), cases.map((c) => `${c.name}\t${c.seconds}\t${c.command}\n`).join(''))

  const child = runtime.start(rootfs, ['/bin/sh', '/compat/batch.sh', mark, '/compat/list'], id)
  running.set(id, { runtime, child, folder })
  const current: { test: Case; since: number; output: string; late: boolean }[] = []
  let done = 0
  let finished = false
  let error = ''
  let timer: NodeJS.Timeout | undefined
  const watch = (seconds: number) => {
    clearTimeout(timer)
    timer = setTimeout(() => {
      if (current[0]) current[0].late = true
      runtime.stop(id, child)
    }, seconds * 1000)
  }
  const onLine = (line: string) => {
    const begun = current[0]
    if (!line.startsWith(mark)) {
      if (begun && begun.output.length < MAX_OUTPUT) begun.output += `${line}\n`
      return
    }
    const [, what, , code] = line.split(' ')
    if (what === 'start') {
      const test = cases[done]!
      current[0] = { test, since: Date.now(), output: '', late: false }
      watch(test.seconds + GRACE_SECONDS)
    } else if (what === 'end' && begun) {
      const { test, since, output } = begun
      record(
        test,
        {
          ...suite.judge(test, Number(code), output),
          group: test.group,
          seconds: (Date.now() - since) / 1000,
        },
        output,
      )
      current.length = 0
      done++
      watch(GRACE_SECONDS)
    } else if (what === 'done') {
      finished = true
    }
  }
  watch(GRACE_SECONDS)
  child.stderr!.setEncoding('latin1').on('data', (text: string) => {
    error = (error + text).slice(-2000)
  })
  child.stdout!.setEncoding('latin1')
  createInterface({ input: child.stdout!, crlfDelay: Number.POSITIVE_INFINITY }).on('line', onLine)
  await new Promise((resolve) => child.once('close', resolve))
  clearTimeout(timer)
  runtime.stop(id, child)
  const last = current[0]
  if (!finished && last) {
    const { status, detail } = last.late
      ? verdict('late', 'the container had to be killed')
      : verdict('died', `the container ended: ${error.trim().split('\n').at(-1) ?? ''}`)
    const seconds = (Date.now() - last.since) / 1000
    record(last.test, { status, detail, group: last.test.group, seconds }, `${last.output}\n${error}`)
    done++
  }
  unmountRoot(folder)
  running.delete(id)
  return { done, error }
}

function mountRoot(folder: string, lower: string[]): string {
  const [upper, scratch, rootfs] = ['upper', 'work', 'rootfs'].map((name) => join(folder, name))
  for (const dir of [upper!, scratch!, rootfs!]) mkdirSync(dir, { recursive: true })
  const options = `lowerdir=${lower.join(':')},upperdir=${upper},workdir=${scratch}`
  execFileSync('mount', ['-t', 'overlay', '-o', options, 'overlay', rootfs!])
  return rootfs!
}

function unmountRoot(folder: string): void {
  if (spawnSync('umount', [join(folder, 'rootfs')], { stdio: 'ignore' }).status !== 0)
    spawnSync('umount', ['-l', join(folder, 'rootfs')])
  rmSync(folder, { recursive: true, force: true })
}
