/**
 * ioctl_tty(2): what both sides of a terminal answer (Linux: drivers/tty/tty_io.c, tty_ioctl.c). Those of a pty's master
 * are in pty.ts; settings and sessions asked for through the master are the slave's.
 */
import { EFAULT, EINVAL, EIO, ENOTTY, EPERM } from '../../abi/errno.ts'
import { CAP_SYS_ADMIN } from '../../kernel/credentials.ts'
import type { SysRet } from '../../kernel/sysret.ts'
import type { Task } from '../../kernel/task.ts'
import type { FileDescription } from '../../vfs/file-description.ts'
import { checkWrite, getForeground, getSession, giveUp, setControlling, setForeground } from './job-control.ts'
import { CLOCAL, DISABLED, TERMIO_SIZE, TERMIOS_SIZE, TERMIOS2_SIZE, Termios, VSTART, VSTOP } from './termios.ts'
import type { Tty } from './tty.ts'

const TCGETS = 0x5401
const TCSETS = 0x5402
const TCSETSW = 0x5403
const TCSETSF = 0x5404
const TCGETA = 0x5405
const TCSETA = 0x5406
const TCSETAW = 0x5407
const TCSETAF = 0x5408
const TCSBRK = 0x5409
const TCXONC = 0x540a
const TCFLSH = 0x540b
const TIOCEXCL = 0x540c
const TIOCNXCL = 0x540d
const TIOCSCTTY = 0x540e
const TIOCGPGRP = 0x540f
const TIOCSPGRP = 0x5410
const TIOCOUTQ = 0x5411
const TIOCSTI = 0x5412
const TIOCGWINSZ = 0x5413
const TIOCSWINSZ = 0x5414
const TIOCGSOFTCAR = 0x5419
const TIOCSSOFTCAR = 0x541a
const TIOCINQ = 0x541b
const TIOCCONS = 0x541d
const TIOCSSERIAL = 0x541f
const TIOCGPTPEER = 0x5441
const TIOCNOTTY = 0x5422
const TIOCSETD = 0x5423
const TIOCGETD = 0x5424
const TCSBRKP = 0x5425
const TIOCSBRK = 0x5427
const TIOCCBRK = 0x5428
const TIOCGSID = 0x5429
const TCGETS2 = 0x802c542a
const TCSETS2 = 0x402c542b
const TCSETSW2 = 0x402c542c
const TCSETSF2 = 0x402c542d
const TIOCGDEV = 0x80045432
const TIOCVHANGUP = 0x5437
const TIOCGLCKTRMIOS = 0x5456
const TIOCSLCKTRMIOS = 0x5457
const TIOCGEXCL = 0x80045440

const TCIFLUSH = 0
const TCOFLUSH = 1
const TCIOFLUSH = 2

const ARG = new Uint8Array(64)
const VIEW = new DataView(ARG.buffer)

/** `tty`: the slave or console. `ofMaster`: asked through the other side of the pty. */
export function ttyIoctl(
  t: Task,
  tty: Tty,
  file: FileDescription,
  ofMaster: boolean,
  cmd: number,
  arg: number,
): SysRet {
  switch (cmd) {
    case TCGETS:
      tty.termios.encode(VIEW)
      return t.writeBytes(arg, ARG, TERMIOS_SIZE)
    case TCGETS2:
      tty.termios.encode(VIEW)
      return t.writeBytes(arg, ARG, TERMIOS2_SIZE)
    case TCGETA:
      tty.termios.encodeOld(VIEW)
      return t.writeBytes(arg, ARG, TERMIO_SIZE)
    case TIOCGLCKTRMIOS:
      tty.lockedTermios.encode(VIEW)
      return t.writeBytes(arg, ARG, TERMIOS_SIZE)
    case TIOCSLCKTRMIOS:
      if (!t.creds.capable(CAP_SYS_ADMIN)) return -EPERM
      if (t.readBytes(arg, ARG, TERMIOS_SIZE) < 0) return -EFAULT
      tty.lockedTermios.decode(VIEW, false)
      return 0
    case TCSETS:
    case TCSETSW:
      return setTermios(t, tty, arg, TERMIOS_SIZE, false)
    case TCSETSF:
      return setTermios(t, tty, arg, TERMIOS_SIZE, true)
    case TCSETS2:
    case TCSETSW2:
      return setTermios(t, tty, arg, TERMIOS2_SIZE, false)
    case TCSETSF2:
      return setTermios(t, tty, arg, TERMIOS2_SIZE, true)
    case TCSETA:
    case TCSETAW:
      return setTermios(t, tty, arg, TERMIO_SIZE, false)
    case TCSETAF:
      return setTermios(t, tty, arg, TERMIO_SIZE, true)
    case TIOCGWINSZ: {
      const w = tty.window
      VIEW.setUint16(0, w.rows, true)
      VIEW.setUint16(2, w.cols, true)
      VIEW.setUint16(4, w.xpixel, true)
      VIEW.setUint16(6, w.ypixel, true)
      return t.writeBytes(arg, ARG, 8)
    }
    case TIOCSWINSZ:
      if (t.readBytes(arg, ARG, 8) < 0) return -EFAULT
      tty.resize(VIEW.getUint16(0, true), VIEW.getUint16(2, true), VIEW.getUint16(4, true), VIEW.getUint16(6, true))
      return 0
    case TIOCGPGRP:
      return getForeground(t, tty, ofMaster, arg)
    case TIOCSPGRP:
      return setForeground(t, tty, arg)
    case TIOCGSID:
      return getSession(t, tty, ofMaster, arg)
    case TIOCSCTTY:
      return setControlling(t, tty, file.flags, arg)
    case TIOCNOTTY:
      return ofMaster ? -ENOTTY : giveUp(t, tty)
    case TIOCINQ:
      return t.writeU32(arg, tty.line.queued)
    case TIOCOUTQ:
      return t.writeU32(arg, 0)
    case TCSBRK:
    case TCSBRKP:
    case TIOCSBRK:
    case TIOCCBRK: {
      // A break means nothing on these lines, and output never lingers.
      const change = checkWrite(t, tty)
      return change
    }
    case TCXONC:
      return flowControl(t, tty, arg)
    case TCFLSH:
      return flush(t, tty, arg)
    case TIOCEXCL:
      tty.exclusive = true
      return 0
    case TIOCNXCL:
      tty.exclusive = false
      return 0
    case TIOCGEXCL:
      return t.writeU32(arg, tty.exclusive ? 1 : 0)
    case TIOCGDEV:
      return t.writeU32(arg, tty.deviceNumber)
    case TIOCGETD:
      return t.writeU32(arg, 0)
    case TIOCSETD: {
      const discipline = t.readU32(arg)
      if (discipline < 0) return discipline
      return discipline === 0 ? 0 : -EINVAL
    }
    case TIOCGSOFTCAR:
      return t.writeU32(arg, tty.termios.cflag & CLOCAL ? 1 : 0)
    case TIOCSSOFTCAR: {
      const on = t.readU32(arg)
      if (on < 0) return on
      if (on) tty.termios.cflag |= CLOCAL
      else tty.termios.cflag &= ~CLOCAL
      return 0
    }
    case TIOCSTI:
      // As with dev.tty.legacy_tiocsti = 0: typing for others is how sandboxes get left.
      return t.creds.capable(CAP_SYS_ADMIN) && !ofMaster ? pushBack(t, tty, arg) : -EIO
    case TIOCSSERIAL:
      return t.readBytes(arg, ARG, 64) < 0 ? -EFAULT : -ENOTTY
    case TIOCGPTPEER:
      return -EIO
    case TIOCCONS:
      return t.creds.capable(CAP_SYS_ADMIN) ? 0 : -EPERM
    case TIOCVHANGUP:
      if (!t.creds.capable(CAP_SYS_ADMIN)) return -EPERM
      tty.hangUp()
      return 0
    default:
      return -ENOTTY
  }
}

function setTermios(t: Task, tty: Tty, arg: number, size: number, flushFirst: boolean): number {
  const change = checkWrite(t, tty)
  if (change !== 0) return change
  if (t.readBytes(arg, ARG, size) < 0) return -EFAULT
  const next = new Termios()
  next.copyFrom(tty.termios)
  if (size === TERMIO_SIZE) next.decodeOld(VIEW)
  else next.decode(VIEW, size === TERMIOS2_SIZE)
  next.keepLocked(tty.termios, tty.lockedTermios)
  if (flushFirst) tty.flushInput()
  tty.setTermios(next)
  return 0
}

function flowControl(t: Task, tty: Tty, action: number): number {
  const change = checkWrite(t, tty)
  if (change !== 0) return change
  switch (action) {
    case 0: // TCOOFF
      tty.stoppedByProgram = true
      tty.stop()
      return 0
    case 1: // TCOON
      tty.stoppedByProgram = false
      tty.start()
      return 0
    case 2: // TCIOFF
    case 3: {
      // TCION
      const c = tty.termios.cc[action === 2 ? VSTOP : VSTART]!
      ARG[0] = c
      if (c !== DISABLED) tty.put(ARG, 0, 1)
      tty.flushOutput()
      return 0
    }
    default:
      return -EINVAL
  }
}

function flush(t: Task, tty: Tty, queue: number): number {
  const change = checkWrite(t, tty)
  if (change !== 0) return change
  if (queue !== TCIFLUSH && queue !== TCOFLUSH && queue !== TCIOFLUSH) return -EINVAL
  if (queue !== TCOFLUSH) tty.flushInput()
  if (queue !== TCIFLUSH) tty.discardOutput()
  return 0
}

function pushBack(t: Task, tty: Tty, arg: number): number {
  if (t.readBytes(arg, ARG, 1) < 0) return -EFAULT
  tty.receive(ARG, 0, 1)
  return 0
}
