/** Host pseudo-terminals and terminal modes, for the CLI. ≥ 0 or −errno. */
import { close, ioctl, ioctlInt, openat } from './host.ts'

const AT_FDCWD = -100
const O_RDWR_NOCTTY_CLOEXEC = 0o2000402
const TCGETS = 0x5401
const TCSETS = 0x5402
const TIOCSPTLCK = 0x40045431
const TIOCGPTN = 0x80045430
const TIOCGPTPEER = 0x5441
const TIOCGWINSZ = 0x5413
const TIOCSWINSZ = 0x5414
const TIOCGPGRP = 0x540f
const TIOCSCTTY = 0x540e

/** struct termios of TCGETS: four u32 flag words, line, 19 control characters. */
export type Termios = Buffer
const TERMIOS_SIZE = 36
const IFLAG = 0
const OFLAG = 4
const CFLAG = 8
const LFLAG = 12
const CC = 17
const VTIME = 5
const VMIN = 6

export interface Pty {
  master: number
  slave: number
  name: string
}

export function openPty(): Pty | number {
  const master = openat(AT_FDCWD, '/dev/ptmx', O_RDWR_NOCTTY_CLOEXEC, 0)
  if (master < 0) return master
  const n = Buffer.alloc(4)
  let r = ioctl(master, TIOCSPTLCK, n)
  if (r >= 0) r = ioctl(master, TIOCGPTN, n)
  const slave = r < 0 ? r : ioctlInt(master, TIOCGPTPEER, O_RDWR_NOCTTY_CLOEXEC)
  if (slave < 0) {
    close(master)
    return slave
  }
  return { master, slave, name: `/dev/pts/${n.readUInt32LE(0)}` }
}

/** −ENOTTY: not a terminal. */
export function getTermios(fd: number): Termios | number {
  const t = Buffer.alloc(TERMIOS_SIZE)
  const r = ioctl(fd, TCGETS, t)
  return r < 0 ? r : t
}

export const setTermios = (fd: number, t: Termios): number => ioctl(fd, TCSETS, t)

/** cfmakeraw(3). */
export function makeRaw(t: Termios): Termios {
  const raw = Buffer.from(t)
  const clear = (at: number, bits: number) => raw.writeUInt32LE((raw.readUInt32LE(at) & ~bits) >>> 0, at)
  clear(IFLAG, 0o2753 /* IGNBRK BRKINT PARMRK ISTRIP INLCR IGNCR ICRNL IXON */)
  clear(OFLAG, 1 /* OPOST */)
  clear(LFLAG, 0o100113 /* ISIG ICANON ECHO ECHONL IEXTEN */)
  clear(CFLAG, 0o460 /* CSIZE PARENB */)
  raw.writeUInt32LE(raw.readUInt32LE(CFLAG) | 0o60 /* CS8 */, CFLAG)
  raw[CC + VMIN] = 1
  raw[CC + VTIME] = 0
  return raw
}

export function getWindowSize(fd: number): { rows: number; cols: number } {
  const size = Buffer.alloc(8)
  if (ioctl(fd, TIOCGWINSZ, size) < 0) return { rows: 0, cols: 0 }
  return { rows: size.readUInt16LE(0), cols: size.readUInt16LE(2) }
}

export function setWindowSize(fd: number, rows: number, cols: number): number {
  const size = Buffer.alloc(8)
  size.writeUInt16LE(rows, 0)
  size.writeUInt16LE(cols, 2)
  return ioctl(fd, TIOCSWINSZ, size)
}

/** The foreground process group of a terminal that is ours; −ENOTTY otherwise. */
export function foregroundGroup(fd: number): number {
  const pgrp = Buffer.alloc(4)
  const r = ioctl(fd, TIOCGPGRP, pgrp)
  return r < 0 ? r : pgrp.readInt32LE(0)
}

/** Makes a terminal the controlling one of this session leader. */
export const takeTerminal = (fd: number): number => ioctlInt(fd, TIOCSCTTY, 0)
