/**
 * Window size of a console whose other end is held by a process that knows nothing of us (Docker's shim has the pty's
 * master). The host kernel tells the foreground process group of a terminal about a new size, so the sentry makes the
 * console its controlling terminal. SIGWINCH is blocked in all threads by `launch`; here it is read from a signalfd.
 */
import { ioctl, ioctlInt, raw, read } from '../../native/host.ts'
import { type ContainerControl, type ControlPoller, EPOLLIN } from './control.ts'

const TIOCSCTTY = 0x540e
const TIOCGWINSZ = 0x5413
const SIGWINCH = 28
const SFD_NONBLOCK_CLOEXEC = 0o2004000
const INIT = 1

export function followConsoleSize(console: number, control: ContainerControl, poller: ControlPoller): number {
  const r = ioctlInt(console, TIOCSCTTY, 0)
  if (r < 0) return r
  const mask = Buffer.alloc(8)
  mask.writeUInt32LE(1 << (SIGWINCH - 1), 0)
  const fd = raw.LP(289, -1, mask, 8, SFD_NONBLOCK_CLOEXEC, 0, 0)
  if (fd < 0) return fd
  const info = Buffer.alloc(128)
  const size = Buffer.alloc(8)
  const onHostEvents = () => {
    while (read(fd, info, info.length) > 0) {}
    if (ioctl(console, TIOCGWINSZ, size) >= 0) control.resize(INIT, size.readUInt16LE(0), size.readUInt16LE(2))
  }
  return poller.watch(fd, EPOLLIN, { onHostEvents })
}
