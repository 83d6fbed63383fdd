/**
 * npm run soak: an hour of stress-ng in one container, and what it leaves behind.
 *   --minutes N      how long (default 60)
 *   --platform NAME  of tssandbox (default: its default)
 *   --memory MIB     limit of the container (default 1024)
 * Rounds of a minute: every stressor at once, with --verify. A round that fails or does not end in time is a failure. In
 * the end the sentry's threads, descriptors and memory, and the processes of the container, have to be where they were
 * after a first round that is not counted: it loads what is loaded once. What a round that failed has said is in
 * results/soak-round-N.log.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { compatRoot } from './compat/root.ts'

const STRESSORS = [
  'cpu',
  'fork',
  'pipe',
  'sock',
  'sockpair',
  'futex',
  'signal',
  'sigq',
  'switch',
  'vm',
  'mmap',
  'pthread',
]
const ROUND_SECONDS = 60
/** A round ends this much later at the latest. */
const GRACE_SECONDS = 120
/** Time to reap, collect and give back, before figures are taken. */
const SETTLE_SECONDS = 20
/** Arenas of ended processes that the sentry keeps for the next forks (SPARES in native/host/systrap-arenas.c). */
const KEPT_ARENAS = 8
/** The heap of the sentry is not the same twice; within an hour −1 and 6 MiB were seen, a leak was 22. */
const MEMORY_SLACK_MIB = 16

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '60' },
    platform: { type: 'string', default: 'auto' },
    memory: { type: 'string', default: '1024' },
  },
})
const TSSANDBOX = join(import.meta.dirname, '../bin/tssandbox')
const work = mkdtempSync('/var/tmp/tssandbox-soak-')
const base = ['--platform', values.platform, '--root', join(work, 'state')]
const id = `soak-${process.pid}`

interface Figures {
  'sentry threads': number
  'sentry descriptors': number
  'sentry MiB': number
  'gofer MiB': number
  /** Stub processes: one for each process inside, and what the platform keeps in store. */
  'processes of the container': number
  'container MiB (cgroup)': number
}

const mib = (bytes: number): number => Math.round((bytes / 1024 ** 2) * 10) / 10

function writeBundle(root: string): void {
  execFileSync(TSSANDBOX, ['spec', '--bundle', work])
  const file = join(work, 'config.json')
  const config = JSON.parse(readFileSync(file, 'utf8'))
  config.root = { path: root, readonly: true }
  config.process.terminal = false
  config.process.args = ['sleep', 'infinity']
  config.mounts.push({ destination: '/tmp', type: 'tmpfs', source: 'tmpfs', options: ['mode=1777', 'size=256m'] })
  config.linux.resources = { ...config.linux.resources, memory: { limit: Number(values.memory) * 1024 ** 2 } }
  writeFileSync(file, JSON.stringify(config))
}

/** The memory cgroup that the container was given: its sentry is in it, and all of its stubs. */
function memoryCgroup(pid: number): string {
  const lines = readFileSync(`/proc/${pid}/cgroup`, 'utf8').split('\n')
  const v1 = lines.find((line) => line.includes(':memory:'))?.split(':')[2]
  if (v1 !== undefined) return `/sys/fs/cgroup/memory${v1}`
  return `/sys/fs/cgroup${lines.find((line) => line.startsWith('0::'))?.slice(3) ?? ''}`
}

function residentMib(pid: number): number {
  return mib(1024 * Number(/^VmRSS:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0))
}

function descriptors(pid: number): string[] {
  return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/${pid}/fd/${fd}`).replace(/:\[\d+\]/, '')]
    } catch {
      return []
    }
  })
}

function figures(pid: number): Figures {
  const cgroup = memoryCgroup(pid)
  // The stubs may be in a group below the sentry's.
  const processes = readdirSync(cgroup, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('cgroup.procs'))
    .flatMap((name) => readFileSync(join(cgroup, name), 'utf8').trim().split('\n'))
    .filter((line) => line !== '')
    .map(Number)
  const gofer = processes.find((p) => readFileSync(`/proc/${p}/cmdline`, 'utf8').startsWith('tssandbox-gofer'))
  const usage = ['memory.usage_in_bytes', 'memory.current'].find((name) => readdirSync(cgroup).includes(name))!
  return {
    'sentry threads': readdirSync(`/proc/${pid}/task`).length,
    'sentry descriptors': descriptors(pid).length,
    'sentry MiB': residentMib(pid),
    'gofer MiB': gofer === undefined ? 0 : residentMib(gofer),
    'processes of the container': processes.length,
    'container MiB (cgroup)': mib(Number(readFileSync(join(cgroup, usage), 'utf8'))),
  }
}

/** What is wrong with it, or null. */
async function round(number: number, seconds: number): Promise<string | null> {
  const args = STRESSORS.flatMap((name) => [`--${name}`, '1'])
  const memory = ['--vm-bytes', '48m', '--mmap-bytes', '32m', '--pthread-max', '64', '--fork-max', '8']
  const command = [
    'stress-ng',
    '--verify',
    '--verbose',
    '--temp-path',
    '/tmp',
    '--timeout',
    `${seconds}`,
    ...memory,
    ...args,
  ]
  const child: ChildProcess = spawn(TSSANDBOX, [...base, 'exec', id, ...command, '--metrics-brief'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout!, child.stderr!])
    stream.setEncoding('utf8').on('data', (text: string) => {
      output = (output + text).slice(-100_000)
    })
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
  const deadline = new AbortController()
  const late = sleep((seconds + GRACE_SECONDS) * 1000, 'late' as const, { signal: deadline.signal }).catch(() => null)
  const code = await Promise.race([ended, late])
  deadline.abort()
  if (code === 'late') {
    child.kill('SIGKILL')
    return `did not end within ${GRACE_SECONDS} s of its time`
  }
  const rates = [...output.matchAll(/stress-ng: \w+:\s+\[\d+\] (\S+)\s+(\d+)\s+[\d.]+\s/g)].map(
    ([, n, ops]) => `${n} ${ops}`,
  )
  say(`  ${rates.join(', ') || output.trim().split('\n').at(-1)}`)
  if (code === 0) return null
  const results = join(import.meta.dirname, 'results')
  mkdirSync(results, { recursive: true })
  writeFileSync(join(results, `soak-round-${number}.log`), output)
  const reasons = output.match(/.*(?:(?:fail|error|warn): |terminated on signal|stack smashing).*/g) ?? []
  return `exit code ${code}: ${reasons.slice(0, 5).join('; ')}`
}

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}

async function main(): Promise<number> {
  const root = compatRoot()
  if ('missing' in root) {
    say(`No root file system to run in: ${root.missing}`)
    return 1
  }
  mkdirSync(join(work, 'state'))
  writeBundle(root.path)
  const container = spawn(TSSANDBOX, [...base, 'run', '--bundle', work, id], { stdio: 'ignore' })
  for (let tries = 0; spawnSync(TSSANDBOX, [...base, 'state', id]).status !== 0 && tries < 50; tries++) await sleep(200)
  const { pid }: { pid: number } = JSON.parse(execFileSync(TSSANDBOX, [...base, 'state', id], { encoding: 'utf8' }))
  const problems: string[] = []
  try {
    say('A first round, not counted')
    await round(0, 20)
    await sleep(SETTLE_SECONDS * 1000)
    const before = figures(pid)
    const fdsBefore = descriptors(pid)
    const rounds = Math.max(1, Math.round((Number(values.minutes) * 60) / ROUND_SECONDS))
    for (let i = 1; i <= rounds && container.exitCode === null; i++) {
      const problem = await round(i, ROUND_SECONDS)
      const { 'sentry MiB': memory, 'sentry threads': threads, 'sentry descriptors': fds } = figures(pid)
      say(`round ${i}/${rounds}: ${problem ?? 'ok'}; sentry ${memory} MiB, ${threads} threads, ${fds} descriptors`)
      if (problem) problems.push(`round ${i} ${problem}`)
    }
    await sleep(SETTLE_SECONDS * 1000)
    const after = figures(pid)
    for (const name of Object.keys(before) as (keyof Figures)[]) {
      say(`${name.padEnd(28)} ${String(before[name]).padStart(8)} → ${String(after[name]).padStart(8)}`)
      const slack = name.includes('MiB') ? MEMORY_SLACK_MIB : name === 'sentry descriptors' ? KEPT_ARENAS : 0
      if (after[name] > before[name] + slack) problems.push(`${name}: ${before[name]} before, ${after[name]} after`)
    }
    if (after['sentry descriptors'] > before['sentry descriptors'] + KEPT_ARENAS)
      say(
        `more descriptors: ${descriptors(pid)
          .filter((fd) => !fdsBefore.includes(fd))
          .join(' ')}`,
      )
  } finally {
    spawnSync(TSSANDBOX, [...base, 'kill', id, 'KILL'])
    spawnSync(TSSANDBOX, [...base, 'delete', '--force', id])
    container.kill('SIGKILL')
    rmSync(work, { recursive: true, force: true })
  }
  say(problems.length === 0 ? 'Nothing hung, failed or leaked.' : problems.join('\n'))
  return problems.length === 0 ? 0 : 2
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    spawnSync(TSSANDBOX, [...base, 'delete', '--force', id])
    rmSync(work, { recursive: true, force: true })
    process.exit(1)
  })
}
process.exitCode = await main()
