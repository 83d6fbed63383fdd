/**
 * `--log`: one line per message, as runc writes them, because Docker's shim reads the reason of a failure from the last
 * error line. Opened with the first message. Not pino: 6.5 ms at every start for a line that is rarely written.
 */
import { appendFileSync } from 'node:fs'
import type { GlobalOptions } from './options.ts'

type Level = 'debug' | 'info' | 'warning' | 'error'

export class Log {
  private readonly options: GlobalOptions

  constructor(options: GlobalOptions) {
    this.options = options
  }

  debug(msg: string): void {
    if (this.options.debug) this.write('debug', msg)
  }

  /** Goes to stderr as well only where there is no log file: a container's own output must stay clean. */
  warn(msg: string): void {
    this.write('warning', msg)
  }

  error(msg: string): void {
    this.write('error', msg)
  }

  private write(level: Level, msg: string): void {
    const { log, logFormat, debug } = this.options
    if (!log) {
      if (debug && level !== 'error') process.stderr.write(`${format('text', level, msg)}\n`)
      return
    }
    try {
      appendFileSync(log, `${format(logFormat, level, msg)}\n`, { mode: 0o644 })
    } catch (error) {
      process.stderr.write(`tssandbox: --log ${log}: ${(error as Error).message}\n`)
    }
  }
}

export function format(kind: 'text' | 'json', level: Level, msg: string, now = new Date()): string {
  const time = now.toISOString().replace(/\.\d+/, '')
  return kind === 'json'
    ? JSON.stringify({ level, msg, time })
    : `time="${time}" level=${level} msg=${JSON.stringify(msg)}`
}
