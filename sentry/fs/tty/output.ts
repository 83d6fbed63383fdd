/**
 * Output side of N_TTY: what OPOST does to characters, and the echo buffer (Linux: drivers/tty/n_tty.c, do_output_char,
 * process_output_block, __process_echoes).
 *
 * Echoes are operations, not just characters, because erasing needs to know columns at the time they are carried out.
 * They wait in the echo buffer while the hardware has no room.
 */
import { IUTF8, OCRNL, OLCUC, ONLCR, ONLRET, ONOCR, OPOST, TABDLY, type Termios, XTABS } from './termios.ts'

/** Where output goes: the other side of a pty, or a host terminal. */
export interface Hardware {
  /** Bytes that {@link put} surely takes. */
  writeRoom(): number
  put(buf: Uint8Array, at: number, len: number): number
  /** Output may have come: wake readers, write to the host. */
  flushOutput(): void
  /** Drops output that was not taken yet (TCOFLSH, signals). */
  discardOutput(): void
}

// Classes as the kernel's own ctype table has them: Latin-1 letters count as letters.
export const isControl = (c: number): boolean => c < 32 || c === 127
export const isLower = (c: number): boolean => (c >= 97 && c <= 122) || (c >= 0xdf && c !== 0xf7)
export const isUpper = (c: number): boolean => (c >= 65 && c <= 90) || (c >= 0xc0 && c <= 0xde && c !== 0xd7)
const isContinuation = (c: number): boolean => (c & 0xc0) === 0x80
const toUpper = (c: number): number => (isLower(c) ? c - 32 : c)

const ECHO_SIZE = 4096
const ECHO_MASK = ECHO_SIZE - 1
const ECHO_BLOCK = 256
const ECHO_DISCARD = ECHO_SIZE - (ECHO_BLOCK + 32)
const OP_START = 0xff
const OP_MOVE_BACK_COL = 0x80
const OP_SET_CANON_COL = 0x81
const OP_ERASE_TAB = 0x82

const BYTES = new Uint8Array(8)
const CRLF = Uint8Array.of(13, 10)
const SPACES = new Uint8Array(8).fill(32)

export class TtyOutput {
  private readonly termios: Termios
  private readonly hw: Hardware
  private column = 0
  private canonColumn = 0
  private readonly echo = new Uint8Array(ECHO_SIZE)
  private head = 0
  private commit = 0
  private mark = 0
  private tail = 0

  constructor(termios: Termios, hw: Hardware) {
    this.termios = termios
    this.hw = hw
  }

  private putByte(c: number): void {
    BYTES[0] = c
    this.hw.put(BYTES, 0, 1)
  }
  private utf8Tail(c: number): boolean {
    return (this.termios.iflag & IUTF8) !== 0 && isContinuation(c)
  }

  /** One character through OPOST. The room it took, or −1: none left. */
  private outputChar(char: number, space: number): number {
    let c = char
    if (space === 0) return -1
    const oflag = this.termios.oflag
    switch (c) {
      case 10:
        if (oflag & ONLRET) this.column = 0
        if (oflag & ONLCR) {
          if (space < 2) return -1
          this.canonColumn = this.column = 0
          this.hw.put(CRLF, 0, 2)
          return 2
        }
        this.canonColumn = this.column
        break
      case 13:
        if (oflag & ONOCR && this.column === 0) return 0
        if (oflag & OCRNL) {
          c = 10
          if (oflag & ONLRET) this.canonColumn = this.column = 0
          break
        }
        this.canonColumn = this.column = 0
        break
      case 9: {
        const spaces = 8 - (this.column & 7)
        if ((oflag & TABDLY) === XTABS) {
          if (space < spaces) return -1
          this.column += spaces
          this.hw.put(SPACES, 0, spaces)
          return spaces
        }
        this.column += spaces
        break
      }
      case 8:
        if (this.column > 0) this.column--
        break
      default:
        if (!isControl(c)) {
          if (oflag & OLCUC) c = toUpper(c)
          if (!this.utf8Tail(c)) this.column++
        }
    }
    this.putByte(c)
    return 1
  }

  /** Length of the run at `at` that needs no processing; keeps the columns. */
  private plainRun(buf: Uint8Array, at: number, len: number): number {
    const oflag = this.termios.oflag
    for (let i = 0; i < len; i++) {
      const c = buf[at + i]!
      switch (c) {
        case 10:
          if (oflag & ONLRET) this.column = 0
          if (oflag & ONLCR) return i
          this.canonColumn = this.column
          break
        case 13:
          if (oflag & OCRNL || (oflag & ONOCR && this.column === 0)) return i
          this.canonColumn = this.column = 0
          break
        case 9:
          return i
        case 8:
          if (this.column > 0) this.column--
          break
        default:
          if (!isControl(c)) {
            if (oflag & OLCUC) return i
            if (!this.utf8Tail(c)) this.column++
          }
      }
    }
    return len
  }

  /** A program's output. Returns how many of its bytes were taken. */
  write(buf: Uint8Array, len: number): number {
    if ((this.termios.oflag & OPOST) === 0) return this.hw.put(buf, 0, Math.min(len, this.hw.writeRoom()))
    let at = 0
    while (at < len) {
      const room = this.hw.writeRoom()
      if (room <= 0) break
      const run = this.plainRun(buf, at, Math.min(len - at, room))
      if (run > 0) {
        this.hw.put(buf, at, run)
        at += run
        continue
      }
      if (this.outputChar(buf[at]!, room) < 0) break
      at++
    }
    return at
  }

  // ---- echo --------------------------------------------------------------------------------------------------------
  private add(c: number): void {
    this.echo[this.head++ & ECHO_MASK] = c
  }
  echoRaw(c: number): void {
    if (c === OP_START) this.add(OP_START)
    this.add(c)
  }
  /** `showControl`: as ^X (ECHOCTL). */
  echoChar(c: number, showControl: boolean): void {
    if (c === OP_START) {
      this.add(OP_START)
      this.add(OP_START)
      return
    }
    if (showControl && isControl(c) && c !== 9) this.add(OP_START)
    this.add(c)
  }
  moveBackColumn(): void {
    this.add(OP_START)
    this.add(OP_MOVE_BACK_COL)
  }
  setCanonColumn(): void {
    this.add(OP_START)
    this.add(OP_SET_CANON_COL)
  }
  eraseTab(columns: number, afterTab: boolean): void {
    this.add(OP_START)
    this.add(OP_ERASE_TAB)
    this.add((columns & 7) | (afterTab ? 0x80 : 0))
  }

  clearEchoes(): void {
    this.head = this.tail = this.mark = this.commit = 0
  }
  commitEchoes(): void {
    const old = this.commit - this.tail
    this.mark = this.head
    const n = this.head - this.tail
    if (n < ECHO_BLOCK || n % ECHO_BLOCK > old % ECHO_BLOCK) return
    this.commit = this.head
    this.runEchoes()
  }
  /** Carries out what is committed, as far as there is room. */
  processEchoes(): void {
    if (this.mark === this.tail) return
    this.commit = this.mark
    this.runEchoes()
    this.hw.flushOutput()
  }
  flushEchoes(): void {
    if (this.commit === this.head) return
    this.commit = this.head
    this.runEchoes()
  }

  private runEchoes(): void {
    let space = this.hw.writeRoom()
    let tail = this.tail
    const at = (i: number): number => this.echo[i & ECHO_MASK]!
    while (tail < this.commit) {
      const c = at(tail)
      if (c !== OP_START) {
        const used = this.termios.oflag & OPOST ? this.outputChar(c, space) : space > 0 ? 1 : -1
        if (used < 0) break
        if ((this.termios.oflag & OPOST) === 0) this.putByte(c)
        space -= used
        tail++
        continue
      }
      if (tail + 1 >= this.commit) break
      const op = at(tail + 1)
      if (op === OP_ERASE_TAB) {
        if (tail + 2 >= this.commit) break
        let columns = at(tail + 2)
        if ((columns & 0x80) === 0) columns += this.canonColumn
        const back = 8 - (columns & 7)
        if (back > space) break
        space -= back
        for (let i = 0; i < back; i++) {
          this.putByte(8)
          if (this.column > 0) this.column--
        }
        tail += 3
        continue
      }
      if (op === OP_SET_CANON_COL) {
        this.canonColumn = this.column
      } else if (op === OP_MOVE_BACK_COL) {
        if (this.column > 0) this.column--
      } else if (op === OP_START) {
        if (space === 0) break
        this.putByte(OP_START)
        this.column++
        space--
      } else {
        if (space < 2) break
        this.putByte(0x5e)
        this.putByte(op ^ 0x40)
        this.column += 2
        space -= 2
      }
      tail += 2
    }
    // Nearly full: drop the oldest operations rather than overrun the ring.
    while (this.commit > tail && this.commit - tail >= ECHO_DISCARD) {
      if (at(tail) === OP_START) tail += at(tail + 1) === OP_ERASE_TAB ? 3 : 2
      else tail++
    }
    this.tail = tail
  }
}
