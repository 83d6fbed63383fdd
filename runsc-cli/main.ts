/**
 * The `tssandbox` executable. Failures of the runtime: exit 128, plain text on stderr, and a line in `--log`, which is
 * where Docker's shim reads the reason.
 */
import { CommanderError } from 'commander'
import { CliError, RUNTIME_FAILURE } from './errors.ts'
import { Log } from './log.ts'
import { makeProgram, type Outcome } from './program.ts'

async function run(): Promise<number> {
  const outcome: Outcome = { code: 0, globals: null }
  const program = makeProgram(outcome, process.argv.slice(2))
  try {
    await program.parseAsync(process.argv)
    return outcome.code
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : RUNTIME_FAILURE
    const expected = error instanceof CliError || isExpected(error)
    const message = error instanceof Error ? error.message : String(error)
    process.stderr.write(`tssandbox: ${expected ? message : (error as Error).stack}\n`)
    if (outcome.globals) new Log(outcome.globals).error(message)
    return RUNTIME_FAILURE
  }
}

/** Host errors (ENOENT, EACCES, …) and refusals of the sentry carry their own sentence. */
function isExpected(error: unknown): boolean {
  const name = error instanceof Error ? error.constructor.name : ''
  return name.startsWith('Control') || typeof (error as NodeJS.ErrnoException)?.syscall === 'string'
}

export function main(): void {
  void run().then((code) => process.exit(code))
}
