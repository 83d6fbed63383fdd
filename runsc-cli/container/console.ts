/**
 * Terminals of the host side. Detached containers get a new pty whose master goes over `--console-socket`; foreground
 * ones lend the user's own terminal. Either way the sentry gets it in raw mode: the line discipline is the sentry's.
 */
import { close, raw } from '../../native/host.ts'
import {
  foregroundGroup,
  getTermios,
  getWindowSize,
  makeRaw,
  openPty,
  type Pty,
  setTermios,
  setWindowSize,
} from '../../native/pty.ts'
import { AF_UNIX, connectUnix, SOCK_CLOEXEC, SOCK_STREAM, sendWithFds, socket } from '../../native/unix-socket.ts'
import { CliError } from '../errors.ts'

/** Opens a pty in raw mode and hands its master to whoever listens at `socketPath`. Returns the slave. */
export function consoleForSocket(socketPath: string, size: { rows: number; cols: number }): number {
  const pty = openPty()
  if (typeof pty === 'number') throw new CliError(`cannot open a pseudo-terminal: errno ${-pty}`)
  try {
    prepare(pty, size)
    sendMaster(pty, socketPath)
  } catch (error) {
    close(pty.slave)
    throw error
  } finally {
    close(pty.master)
  }
  return pty.slave
}

function prepare(pty: Pty, size: { rows: number; cols: number }): void {
  const termios = getTermios(pty.slave)
  if (typeof termios === 'number') throw new CliError(`cannot read terminal modes: errno ${-termios}`)
  setTermios(pty.slave, makeRaw(termios))
  if (size.rows && size.cols) setWindowSize(pty.slave, size.rows, size.cols)
}

function sendMaster(pty: Pty, socketPath: string): void {
  const fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)
  const name = Buffer.from(pty.name)
  let r = fd
  if (r >= 0) r = connectUnix(fd, socketPath)
  if (r >= 0) r = sendWithFds(fd, name, name.length, [pty.master], 0)
  if (fd >= 0) close(fd)
  if (r < 0) throw new CliError(`--console-socket ${socketPath}: errno ${-r}`)
}

/** The user's terminal while a container has it. */
export interface BorrowedTerminal {
  fd: number
  size: { rows: number; cols: number }
  /** Calls back with each new size. */
  onResize(callback: (rows: number, cols: number) => void): void
  restore(): void
}

/**
 * Takes the terminal on `fd` in raw mode; null when it is none, or when we are in its background (taking it would stop
 * us). It is given back when the process exits, however that comes about.
 */
export function borrowTerminal(fd: number): BorrowedTerminal | null {
  const before = getTermios(fd)
  if (typeof before === 'number') return null
  const group = foregroundGroup(fd)
  if (group >= 0 && group !== ownGroup()) return null
  setTermios(fd, makeRaw(before))
  let restored = false
  const restore = () => {
    if (!restored) setTermios(fd, before)
    restored = true
  }
  process.on('exit', restore)
  return {
    fd,
    size: getWindowSize(fd),
    onResize(callback) {
      process.on('SIGWINCH', () => {
        const { rows, cols } = getWindowSize(fd)
        callback(rows, cols)
      })
    },
    restore,
  }
}

function ownGroup(): number {
  return raw.L(111, 0, 0, 0, 0, 0, 0)
}
