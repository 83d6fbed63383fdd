/** CPython's own regression tests of the modules that lie directly over system calls (Debian's libpython3.11-testsuite). */
import { type Case, countTests, type Status, type Suite } from '../types.ts'

/** Modules, and whether they are short enough for the run of CI. */
const MODULES: Record<string, boolean> = {
  test_os: true,
  test_posix: true,
  test_subprocess: false,
  test_signal: false,
  test_threading: true,
  test_socket: false,
  test_select: true,
  test_selectors: true,
  test_mmap: true,
  test_pty: true,
  test_fcntl: true,
  test_time: true,
  test_tempfile: true,
  test_shutil: true,
  test_io: false,
  test_asyncio: false,
  test_multiprocessing_spawn: false,
}
const SECONDS = 600

const OUTCOME: Record<string, Status> = {
  ok: 'pass',
  'expected failure': 'pass',
  skipped: 'skip',
  FAIL: 'fail',
  ERROR: 'fail',
  'unexpected success': 'fail',
}

/** Verbose unittest output: `name (id) ... ok`, with a line of documentation or of noise in between. */
export function readTests(output: string): Record<string, Status> {
  const tests: Record<string, Status> = {}
  let current: string | null = null
  for (const line of output.split('\n')) {
    const begun = /^\w+ \((test[\w.]+)\)/.exec(line)
    if (begun) {
      if (current !== null) tests[current] ??= 'pass'
      current = begun[1]!
    }
    const ended = /(?:^|\.\.\. ?|[^\w])(ok|FAIL|ERROR|expected failure|unexpected success|skipped)(?: ['"].*)?$/.exec(
      line,
    )
    if (ended && current !== null) {
      tests[current] = OUTCOME[ended[1]!]!
      current = null
    }
    const failed = /^(?:FAIL|ERROR): \w+ \((test[\w.]+)\)/.exec(line)
    if (failed) tests[failed[1]!] = 'fail'
  }
  // The one that never ended.
  if (current !== null && !/^Ran \d+ tests? in/m.test(output)) tests[current] = 'late'
  return tests
}

export function cpythonSuite(): Suite {
  const cases: Case[] = Object.entries(MODULES).map(([name, quick]) => ({
    name,
    group: name,
    command: `exec python3.11 -m test -v ${name}`,
    seconds: SECONDS,
    quick,
  }))
  return {
    name: 'cpython',
    cases,
    layer: null,
    judge(_test, code, output) {
      const tests = readTests(output)
      const bad = Object.keys(tests).filter((name) => tests[name] !== 'pass' && tests[name] !== 'skip')
      const status = code === 0 ? 'pass' : code === 124 || code === 137 ? 'late' : 'fail'
      return {
        status,
        detail: status === 'pass' ? '' : `exit code ${code}: ${bad.join(', ')}`,
        tests: countTests(tests),
      }
    },
  }
}
