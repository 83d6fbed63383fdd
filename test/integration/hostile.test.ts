/**
 * Guests that attack the stub under them and their bundle's edges; programs-hostile.test.ts looks at the same from the
 * host's side, with escapes by mounts and fork bombs.
 */
import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { busyboxRoot } from '../support/roots.ts'
import { PLATFORMS, run, sandboxed } from '../support/run.ts'
import { finished, sleep, until, Workspace } from '../support/tssandbox.ts'

const BUILT = join(process.cwd(), '.cache/hostile')

beforeAll(() => {
  mkdirSync(BUILT, { recursive: true })
  const source = join(process.cwd(), 'test/hostile/stub-jump.c')
  execFileSync('cc', ['-O1', '-static', '-Wall', '-Werror', '-o', join(BUILT, 'stub-jump'), source, '-pthread'])
})

describe.each(PLATFORMS)('a guest that attacks its stub, on %s', (platform) => {
  test('jumps into the stub and scribbles over its memory: only its own process suffers', async () => {
    const r = await run(sandboxed(platform, [join(BUILT, 'stub-jump')]), { seconds: 90 })
    expect(r.stdout).toContain('mappings of descriptors: 0\n')
    expect(r.stdout).toContain('clone: harmless\n')
    expect(r.stdout).not.toContain('can be written')
    expect(r.stdout.endsWith('alive\n')).toBe(true)
    expect(r.code).toBe(0)
  })
})

/** DESIGN §5's table, as strace names the calls; `restart_syscall` is the kernel resuming a futex wait. */
const ALLOWED = new Set(
  (
    'futex sched_yield clock_gettime gettimeofday time getcpu mmap munmap mprotect mremap madvise rt_sigreturn ' +
    'sigaltstack exit close write clone prctl restart_syscall'
  ).split(' '),
)
const hasStrace = existsSync('/usr/bin/strace')
// A traced process cannot be traced twice: on ptrace the sentry already is the tracer.
const canStrace = hasStrace && PLATFORMS.includes('systrap')

describe.skipIf(!canStrace)(
  `what stub processes ask of the host ${canStrace ? '' : '(no strace, or no systrap)'}`,
  () => {
    test('only the calls of the table', { timeout: 60_000 }, async () => {
      const script = 'i=0; while [ $i -lt 400 ]; do ls -l /etc | sort | md5sum; (exit 3); i=$((i+1)); done >/dev/null'
      const [command, ...args] = sandboxed('systrap', ['sh', '-c', script])
      const child = spawn(command!, args, { stdio: 'ignore' })
      const stubs = () => stubProcesses(child.pid!)
      await until(() => stubs().length > 1)
      const log = join(BUILT, 'strace.log')
      const attach = stubs().flatMap((pid) => ['-p', String(pid)])
      const strace = spawn('strace', ['-f', '-qq', '-o', log, ...attach], { stdio: 'ignore' })
      await sleep(4000)
      strace.kill('SIGINT')
      await finished(strace)
      child.kill('SIGKILL')
      await finished(child)
      const seen = callsThatRan(readFileSync(log, 'latin1').split('\n'))
      expect(seen.size).toBeGreaterThan(3)
      expect([...seen].filter((name) => !ALLOWED.has(name))).toEqual([])
    })
  },
)

/**
 * A call that the filter traps never runs: strace shows it, and SIGSYS as the next thing in that thread. Nor does one
 * that a kill cuts off at its entry: what strace prints of it are the registers of a dying thread.
 */
function callsThatRan(lines: readonly string[]): Set<string> {
  const seen = new Set<string>()
  const last = new Map<string, string>()
  for (const line of lines) {
    const [, tid, text] = /^(\d+) +(.*)$/.exec(line) ?? []
    if (tid === undefined || text === undefined) continue
    const name = /^(?:<\.\.\. )?(\w+)(?:\(| resumed)/.exec(text)?.[1]
    const before = last.get(tid)
    // A thread that is killed in between never gets its SIGSYS.
    if (text.startsWith('--- SIGSYS') || text.startsWith('+++')) last.delete(tid)
    else if (before !== undefined && name !== before) {
      seen.add(before)
      last.delete(tid)
    }
    if (name !== undefined) last.set(tid, name)
  }
  return seen
}

function stubProcesses(cli: number): number[] {
  const found: number[] = []
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    try {
      const ancestors = parent(parent(Number(name)))
      if (ancestors === cli && readFileSync(`/proc/${name}/cmdline`, 'latin1') === '') found.push(Number(name))
      else if (ancestors === cli && readFileSync(`/proc/${name}/comm`, 'latin1') === '3\n') found.push(Number(name))
    } catch {
      // It ended in between.
    }
  }
  return found
}

const parent = (pid: number): number =>
  Number(/^PPid:\t(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? 0)

const root = busyboxRoot()
const rootfs = 'path' in root ? root.path : ''
const why = process.getuid?.() !== 0 ? 'not root' : 'missing' in root ? root.missing : ''

describe.skipIf(why)(`a guest that wants out of its bundle ${why}`, () => {
  const w = new Workspace()
  afterAll(() => void w.clean())
  const SECRET = 'the host keeps this'
  const secret = join(w.base, 'secret')
  writeFileSync(secret, SECRET)
  let ids = 0
  const inside = (script: string) => {
    const dir = w.bundle(rootfs, ['sh', '-c', script], () => {}, true)
    return w.run(['run', '--bundle', dir, `hostile-${process.pid}-${ids++}`])
  }

  test('.. and links lead nowhere', () => {
    const script = `
      for p in ../../../../../..${secret} /proc/self/root/../..${secret} /proc/1/root${secret} /proc/1/cwd/..${secret} \
        /proc/self/fd/0/../../..${secret} /dev/../..${secret}; do cat $p 2>/dev/null; done
      ln -s ${secret} /a; ln -s ../../../../../../..${secret} /b; ln -s / /c; ln -s /proc/1/root /d
      cat /a /b /c${secret} /d${secret} 2>/dev/null
      ln ${secret} /e 2>/dev/null; cat /e 2>/dev/null
      mkdir /m; mount --bind / /m 2>/dev/null; cat /m/../..${secret} /m${secret} 2>/dev/null
      mount -t proc proc /m 2>/dev/null; cat /m/1/root${secret} 2>/dev/null
      mknod /k b 254 0 2>/dev/null; head -c 16 /k 2>/dev/null; mknod /mem c 1 1 2>/dev/null; head -c 16 /mem 2>/dev/null
      echo end`
    expect(inside(script)).toMatchObject({ code: 0, out: 'end\n' })
  })

  test('renames that race with walks win nothing', () => {
    const script = `
      mkdir -p /x/dir${w.base}; echo mine > /x/dir${secret}; ln -s / /x/link
      ( while :; do mv /x/dir /x/name; mv /x/name /x/dir; mv /x/link /x/name; mv /x/name /x/link; done ) &
      ( while :; do ln -sfn ${w.base} /x/swap; rm -f /x/swap; mkdir /x/swap; echo mine > /x/swap/secret; rm -r /x/swap; done ) 2>/dev/null &
      i=0; while [ $i -lt 300 ]; do cat /x/name${secret} /x/link${secret} /x/dir/..${secret} /x/swap/secret 2>/dev/null; i=$((i+1)); done
      kill %1 %2; echo end`
    const r = inside(script)
    expect(r.out).not.toContain(SECRET)
    expect(r.out.endsWith('end\n')).toBe(true)
  })
})
