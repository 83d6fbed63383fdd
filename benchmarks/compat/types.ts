/** What the parts of the compatibility run tell each other: suites give cases, runtimes run them, results are compared. */

/** `pass`; `skip`: it says that it cannot run here; `late`: over its time limit; `died`: it took the sandbox with it. */
export type Status = 'pass' | 'fail' | 'skip' | 'late' | 'died'

/** One command that runs to its end inside and is judged by its exit code and output. */
export interface Case {
  name: string
  /** What the case is about, for the summary by call: a system call, an interface, a module. */
  group: string
  /** A line of shell; its working directory is /tmp, its output is kept. */
  command: string
  /** After this time it is killed, natively as inside. */
  seconds: number
  /** Belongs to the short run of CI. */
  quick: boolean
}

/** The tests inside one case, where its output lists them: how many passed, and what the others did. */
export interface Tests {
  passed: number
  others: Record<string, Status>
}

/** What one finished case says of itself. */
export interface Verdict {
  status: Status
  detail: string
  tests?: Tests
}

export interface Suite {
  name: string
  cases: Case[]
  /** A folder laid over the root file system for this suite, with what the commands name. */
  layer: string | null
  judge(test: Case, exitCode: number, output: string): Verdict
}

export interface Result extends Verdict {
  group: string
  seconds: number
  /** What the first run said of a case that was run again, alone. */
  first?: string
}

/** Results by suite, then by case. */
export type Results = Record<string, Record<string, Result>>

export interface Report {
  date: string
  kernel: string
  commit: string
  /** By runtime; `native` is what the others are measured against. */
  runtimes: Record<string, { version: string; results: Results }>
  /** The support level of each system call, as `tssandbox syscalls` prints it. */
  calls: Record<string, string>
}

export function countTests(tests: Record<string, Status>): Tests {
  const others = Object.entries(tests).filter(([, status]) => status !== 'pass')
  return { passed: Object.keys(tests).length - others.length, others: Object.fromEntries(others) }
}
