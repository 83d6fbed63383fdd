/**
 * Window size of a console whose other end is held by a process that knows nothing of us (Docker's shim has the pty's
 * master). The host kernel tells the foreground process group of a terminal about a new size, so the sentry makes the
 * console its controlling terminal, and takes SIGWINCH from a descriptor.
 */
import { ioctl, ioctlInt, read } from '../../native/host.ts'
import { signalEventfd } from '../../native/signal.ts'
import { type ContainerControl, type ControlPoller, EPOLLIN } from './control.ts'

const TIOCSCTTY = 0x540e
const TIOCGWINSZ = 0x5413
const SIGHUP = 1
const SIGWINCH = 28
const INIT = 1

export function followConsoleSize(console: number, control: ContainerControl, poller: ControlPoller): number {
  const r = ioctlInt(console, TIOCSCTTY, 0)
  if (r < 0) return r
  // Its end comes as SIGHUP, which is the guest's to act on: the console sees the hang-up by itself.
  const hangup = signalEventfd(SIGHUP)
  if (hangup < 0) return hangup
  const fd = signalEventfd(SIGWINCH)
  if (fd < 0) return fd
  const count = Buffer.alloc(8)
  const size = Buffer.alloc(8)
  const onHostEvents = () => {
    read(fd, count, count.length)
    if (ioctl(console, TIOCGWINSZ, size) >= 0) control.resize(INIT, size.readUInt16LE(0), size.readUInt16LE(2))
  }
  return poller.watch(fd, EPOLLIN, { onHostEvents })
}
