/**
 * struct termios: flags, control characters, and its user-space layouts (uapi asm-generic/termbits.h).
 */
export const VINTR = 0
export const VQUIT = 1
export const VERASE = 2
export const VKILL = 3
export const VEOF = 4
export const VTIME = 5
export const VMIN = 6
export const VSTART = 8
export const VSTOP = 9
export const VSUSP = 10
export const VEOL = 11
export const VREPRINT = 12
export const VWERASE = 14
export const VLNEXT = 15
export const VEOL2 = 16
const NCCS = 19
/** A control character that is switched off (_POSIX_VDISABLE). */
export const DISABLED = 0

export const IGNCR = 0o200
export const ICRNL = 0o400
export const INLCR = 0o100
export const ISTRIP = 0o40
export const PARMRK = 0o10
export const IUCLC = 0o1000
export const IXON = 0o2000
export const IXANY = 0o4000
export const IUTF8 = 0o40000

export const OPOST = 1
export const OLCUC = 2
export const ONLCR = 4
export const OCRNL = 0o10
export const ONOCR = 0o20
export const ONLRET = 0o40
export const TABDLY = 0o14000
export const XTABS = 0o14000

export const CSIZE = 0o60
export const CS8 = 0o60
export const CREAD = 0o200
export const PARENB = 0o400
export const CLOCAL = 0o4000
const CBAUD = 0o10017
const BOTHER = 0o10000
const B38400 = 0o17

export const ISIG = 1
export const ICANON = 2
export const ECHO = 0o10
export const ECHOE = 0o20
export const ECHOK = 0o40
export const ECHONL = 0o100
export const NOFLSH = 0o200
export const TOSTOP = 0o400
export const ECHOCTL = 0o1000
export const ECHOPRT = 0o2000
export const ECHOKE = 0o4000
export const IEXTEN = 0o100000
export const EXTPROC = 0o200000

/** Bits per second of the values of CBAUD. */
const SPEEDS = [0, 50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19200, 38400]
const HIGH_SPEEDS = [
  0, 57600, 115200, 230400, 460800, 500000, 576000, 921600, 1000000, 1152000, 1500000, 2000000, 2500000, 3000000,
  3500000, 4000000,
]

export const TERMIOS_SIZE = 36
export const TERMIOS2_SIZE = 44
export const TERMIO_SIZE = 18

export class Termios {
  iflag = 0
  oflag = 0
  cflag = B38400 | CS8 | CREAD
  lflag = 0
  line = 0
  readonly cc = Uint8Array.of(3, 0x1c, 0x7f, 0x15, 4, 0, 1, 0, 0x11, 0x13, 0x1a, 0, 0x12, 0x0f, 0x17, 0x16, 0, 0, 0)
  ispeed = 38400
  ospeed = 38400

  /** What a fresh terminal has (tty_std_termios). */
  static standard(): Termios {
    const t = new Termios()
    t.iflag = ICRNL | IXON
    t.oflag = OPOST | ONLCR
    t.lflag = ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN
    return t
  }

  /** All zero: a mask that locks nothing. */
  static nothing(): Termios {
    const t = new Termios()
    t.cflag = 0
    t.cc.fill(0)
    t.ispeed = t.ospeed = 0
    return t
  }

  /** Puts back from `old` what `locked` has set. */
  keepLocked(old: Termios, locked: Termios): void {
    const keep = (now: number, before: number, mask: number): number => ((now & ~mask) | (before & mask)) >>> 0
    this.iflag = keep(this.iflag, old.iflag, locked.iflag)
    this.oflag = keep(this.oflag, old.oflag, locked.oflag)
    this.cflag = keep(this.cflag, old.cflag, locked.cflag)
    this.lflag = keep(this.lflag, old.lflag, locked.lflag)
    if (locked.line !== 0) this.line = old.line
    for (let i = 0; i < NCCS; i++) if (locked.cc[i] !== 0) this.cc[i] = old.cc[i]!
  }

  copyFrom(other: Termios): void {
    this.iflag = other.iflag
    this.oflag = other.oflag
    this.cflag = other.cflag
    this.lflag = other.lflag
    this.line = other.line
    this.cc.set(other.cc)
    this.ispeed = other.ispeed
    this.ospeed = other.ospeed
  }

  /** struct termios2, of which struct termios is the beginning. */
  encode(out: DataView): void {
    out.setUint32(0, this.iflag, true)
    out.setUint32(4, this.oflag, true)
    out.setUint32(8, this.cflag, true)
    out.setUint32(12, this.lflag, true)
    out.setUint8(16, this.line)
    for (let i = 0; i < NCCS; i++) out.setUint8(17 + i, this.cc[i]!)
    out.setUint32(36, this.ispeed, true)
    out.setUint32(40, this.ospeed, true)
  }
  /** `withSpeeds`: termios2, where BOTHER takes the speed as a number. */
  decode(from: DataView, withSpeeds: boolean): void {
    this.iflag = from.getUint32(0, true)
    this.oflag = from.getUint32(4, true)
    this.cflag = from.getUint32(8, true)
    this.lflag = from.getUint32(12, true)
    this.line = from.getUint8(16)
    for (let i = 0; i < NCCS; i++) this.cc[i] = from.getUint8(17 + i)
    this.setSpeeds(withSpeeds ? from.getUint32(36, true) : 0, withSpeeds ? from.getUint32(40, true) : 0)
  }

  /** struct termio of System V: 16-bit flags and 8 characters. */
  encodeOld(out: DataView): void {
    out.setUint16(0, this.iflag, true)
    out.setUint16(2, this.oflag, true)
    out.setUint16(4, this.cflag, true)
    out.setUint16(6, this.lflag, true)
    out.setUint8(8, this.line)
    for (let i = 0; i < 8; i++) out.setUint8(9 + i, this.cc[i]!)
    out.setUint8(17, 0)
  }
  decodeOld(from: DataView): void {
    this.iflag = (this.iflag & ~0xffff) | from.getUint16(0, true)
    this.oflag = (this.oflag & ~0xffff) | from.getUint16(2, true)
    this.cflag = (this.cflag & ~0xffff) | from.getUint16(4, true)
    this.lflag = (this.lflag & ~0xffff) | from.getUint16(6, true)
    this.line = from.getUint8(8)
    for (let i = 0; i < 8; i++) this.cc[i] = from.getUint8(9 + i)
    this.setSpeeds(0, 0)
  }

  private setSpeeds(input: number, output: number): void {
    const code = this.cflag & CBAUD
    if (code === BOTHER) {
      this.ispeed = input
      this.ospeed = output
    } else {
      this.ospeed = code & BOTHER ? HIGH_SPEEDS[code & 15]! : SPEEDS[code]!
      this.ispeed = this.ospeed
    }
  }
}
