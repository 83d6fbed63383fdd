/**
 * The Open POSIX test suite (Debian's source package posixtestsuite): one program per assertion of an interface's
 * specification, compiled here and kept. Its source comes through an apt configuration of its own; the machine's is
 * only read for the mirror.
 */
import { execFile, spawnSync } from 'node:child_process'
import { existsSync, globSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { aptMirror, CACHE } from '../../../test/support/roots.ts'
import type { Case, Status, Suite } from '../types.ts'

const PACKAGE = 'posixtestsuite'
const WHERE = 'opt/posix'
const SECONDS = 40
/** Part of the short run: the first assertions of the interfaces that are system calls, not of libc alone. */
const QUICK = /^(aio|clock_|fork|fsync|getpid|kill|lio|mlock|mmap|mq_|munmap|nanosleep|sched|sem_|shm_|sig|timer)/
/** Tens of seconds by what they wait for; sched_yield: needs real-time priorities, which the sentry keeps but does not apply. */
const NOT_QUICK = /^(timer_settime\/2-1|timer_getoverrun\/[12]-1|sched_yield\/1-1)$/
const STATUS: Record<number, Status> = {
  0: 'pass',
  1: 'fail',
  2: 'fail',
  4: 'skip',
  5: 'skip',
  124: 'late',
  137: 'late',
}
const MEANING: Record<number, string> = { 1: 'failed', 2: 'unresolved', 4: 'unsupported', 5: 'untested' }

/** Fetches and unpacks the source; why it could not, or null. */
function fetchSource(folder: string): string | null {
  const mirror = aptMirror()
  if (!mirror) return 'no Debian mirror in the apt configuration'
  const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg'
  const options = existsSync(keyring) ? ` [signed-by=${keyring}]` : ''
  mkdirSync(join(folder, 'apt/lists/partial'), { recursive: true })
  mkdirSync(join(folder, 'apt/cache/archives/partial'), { recursive: true })
  writeFileSync(join(folder, 'apt/sources.list'), `deb-src${options} ${mirror.uri} ${mirror.suite} main\n`)
  const apt = (...args: string[]) =>
    spawnSync(
      'apt-get',
      [
        `-oDir::Etc::sourcelist=${folder}/apt/sources.list`,
        '-oDir::Etc::sourceparts=-',
        `-oDir::State::lists=${folder}/apt/lists`,
        `-oDir::Cache=${folder}/apt/cache`,
        ...args,
      ],
      { cwd: folder, stdio: 'ignore' },
    ).status === 0
  if (!apt('update') || !apt('source', '--download-only', PACKAGE)) return `${PACKAGE} cannot be downloaded`
  const archive = readdirSync(folder).find((name) => name.includes('.orig.tar'))
  if (!archive || spawnSync('tar', ['-xf', archive], { cwd: folder }).status !== 0) return 'no source archive'
  return null
}

const compiler = promisify(execFile)

/** Compiles every test that has a main into `layer`; those that do not compile are not tests of a kernel. */
async function compileAll(source: string, layer: string): Promise<void> {
  const files = globSync('conformance/{behavior,interfaces}/**/*.c', { cwd: source }).sort()
  const flags = ['-O1', '-w', '-std=gnu99', '-D_POSIX_C_SOURCE=200112L', '-D_XOPEN_SOURCE=600', '-I', 'include']
  const one = async (file: string) => {
    if (!/\bmain\s*\(/.test(readFileSync(join(source, file), 'latin1'))) return
    const program = join(layer, WHERE, file.replace(/^conformance\/(interfaces\/)?/, '').replace(/\.c$/, ''))
    mkdirSync(join(program, '..'), { recursive: true })
    await compiler('cc', [...flags, '-o', program, file, '-lpthread', '-lrt', '-lm'], { cwd: source }).catch(() => {})
  }
  const worker = async () => {
    for (let file = files.shift(); file !== undefined; file = files.shift()) await one(file)
  }
  await Promise.all(Array.from({ length: availableParallelism() }, worker))
}

async function build(): Promise<{ layer: string } | { missing: string }> {
  const path = join(CACHE, `${PACKAGE}-1`)
  if (existsSync(path)) return { layer: path }
  const temporary = `${path}.${process.pid}.tmp`
  const scratch = join(temporary, 'scratch')
  mkdirSync(scratch, { recursive: true })
  const problem = fetchSource(scratch)
  if (!problem) {
    await compileAll(join(scratch, PACKAGE), temporary)
    rmSync(scratch, { recursive: true })
    renameSync(temporary, path)
    return { layer: path }
  }
  rmSync(temporary, { recursive: true })
  return { missing: problem }
}

/** The tests of shared memory and of message queues leave objects behind under fixed names. */
const CLEAN = 'rm -rf /dev/shm/* /dev/mqueue/*; '

export async function posixSuite(): Promise<Suite | { missing: string }> {
  const built = await build()
  if ('missing' in built) return built
  const base = join(built.layer, WHERE)
  const cases: Case[] = globSync('**/*', { cwd: base, withFileTypes: true })
    // `buildonly`: what other tests run with arguments.
    .filter((entry) => entry.isFile() && !entry.name.includes('buildonly'))
    .map((entry) => join(entry.parentPath, entry.name).slice(base.length + 1))
    .sort(byNumber)
    .map((name) => ({
      name,
      group: name.split('/')[0]!,
      command: `${CLEAN}cd /${WHERE}/${name.slice(0, name.lastIndexOf('/'))} && exec ./${name.slice(name.lastIndexOf('/') + 1)}`,
      seconds: SECONDS,
      quick: QUICK.test(name) && /\/[12]-1$/.test(name) && !NOT_QUICK.test(name),
    }))
  return {
    name: 'posix',
    cases,
    layer: built.layer,
    judge(_test, code, output) {
      const status = STATUS[code] ?? 'fail'
      const last = output.trim().split('\n').at(-1) ?? ''
      return { status, detail: status === 'pass' ? '' : `${MEANING[code] ?? `exit code ${code}`}: ${last}` }
    },
  }
}

const byNumber = (a: string, b: string): number => a.localeCompare(b, 'en', { numeric: true })
