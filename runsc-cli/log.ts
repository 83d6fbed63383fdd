/**
 * `--log`: one line per message, as runc writes them, because Docker's shim reads the reason of a failure from the last
 * error line. The JSON form is pino's, with a synchronous destination; runc's text form is ours.
 */
import { appendFileSync } from 'node:fs'
import type { GlobalOptions } from './options.ts'

type Level = 'debug' | 'info' | 'warning' | 'error'

/** Loaded with the first line that is written: it costs 6.5 ms, and most commands write none. */
const loadPino = (): typeof import('pino') => require('pino')

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
      if (debug && level !== 'error') process.stderr.write(`${textLine(level, msg)}\n`)
      return
    }
    try {
      if (logFormat === 'json') writeJson(log, level, msg)
      else appendFileSync(log, `${textLine(level, msg)}\n`, { mode: 0o644 })
    } catch (error) {
      process.stderr.write(`tssandbox: --log ${log}: ${(error as Error).message}\n`)
    }
  }
}

const timestamp = (now: Date): string => now.toISOString().replace(/\.\d+/, '')

/** runc's level names: pino's `warn` is logrus's `warning`. */
function writeJson(file: string, level: Level, msg: string): void {
  const { pino } = loadPino()
  const logger = pino(
    {
      base: null,
      level: 'debug',
      customLevels: { warning: 40 },
      formatters: { level: (label) => ({ level: label }) },
      timestamp: () => `,"time":"${timestamp(new Date())}"`,
    },
    pino.destination({ dest: file, sync: true, append: true, mode: 0o644 }),
  )
  logger[level](msg)
}

export function textLine(level: Level, msg: string, now = new Date()): string {
  return `time="${timestamp(now)}" level=${level} msg=${JSON.stringify(msg)}`
}
