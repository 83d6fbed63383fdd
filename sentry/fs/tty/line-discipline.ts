/**
 * N_TTY, the line discipline: turns what is typed into lines, signals and echoes (Linux: drivers/tty/n_tty.c).
 *
 * Input lies in one ring of 4096 bytes. Canonical mode: bytes between `canonHead` and `readHead` are the line being
 * edited, `flags` marks the last byte of each finished line (an EOF is a marked 0 byte that is never copied out).
 * Raw mode: everything up to `commitHead` can be read.
 */
import { SIGINT, SIGQUIT, SIGTSTP } from '../../abi/signal.ts'
import type { IovIter } from '../../mm/iov-iter.ts'
import { isControl, isLower, isUpper, type TtyOutput } from './output.ts'
import * as T from './termios.ts'

const SIZE = 4096
const MASK = SIZE - 1

/** What the discipline asks of its terminal. */
export interface LineOwner {
  readonly termios: T.Termios
  readonly output: TtyOutput
  /** A key for the foreground process group. */
  signalForeground(sig: number): void
  /** XOFF and XON. */
  stop(): void
  start(): void
  readonly stopped: boolean
  /** Stopped by TCOOFF: only TCOON starts it again. */
  readonly stoppedByProgram: boolean
  discardOutput(): void
  /** Packet mode: the input queue was flushed. */
  inputFlushed(): void
  /** Input can be read. */
  inputReady(): void
}

const isAlnum = (c: number): boolean => (c >= 48 && c <= 57) || isUpper(c) || isLower(c)
const toLower = (c: number): number => (isUpper(c) ? c + 32 : c)

export class LineDiscipline {
  private readonly owner: LineOwner
  private readonly termios: T.Termios
  private readonly buf = new Uint8Array(SIZE)
  private readonly flags = new Uint8Array(SIZE)
  /** Characters that need a look (char_map). */
  private readonly special = new Uint8Array(256)
  private raw = true
  private canonical = false
  private readHead = 0
  private commitHead = 0
  private canonHead = 0
  private readTail = 0
  private lnext = false
  private erasing = false

  constructor(owner: LineOwner) {
    this.owner = owner
    this.termios = owner.termios
    this.termiosChanged(null)
  }

  private out(): TtyOutput {
    return this.owner.output
  }
  private local(flag: number): boolean {
    return (this.termios.lflag & flag) !== 0
  }
  private input(flag: number): boolean {
    return (this.termios.iflag & flag) !== 0
  }
  private isChar(c: number, index: number): boolean {
    return c === this.termios.cc[index]
  }

  // ---- settings ----------------------------------------------------------------------------------------------------
  termiosChanged(old: T.Termios | null): void {
    const t = this.termios
    if (old === null || ((old.lflag ^ t.lflag) & (T.ICANON | T.EXTPROC)) !== 0) {
      this.flags.fill(0)
      if (!this.local(T.ICANON) || this.readHead === this.readTail) {
        this.canonHead = this.readTail
      } else {
        // What was typed in raw mode counts as a line, as if ^D had been pressed after it.
        this.flags[(this.readHead - 1) & MASK] = 1
        this.canonHead = this.readHead
      }
      this.commitHead = this.readHead
      this.erasing = false
      this.lnext = false
    }
    this.canonical = this.local(T.ICANON)
    const inputs = T.ISTRIP | T.IUCLC | T.IGNCR | T.ICRNL | T.INLCR | T.IXON | T.PARMRK
    this.raw = (t.iflag & inputs) === 0 && (t.lflag & (T.ICANON | T.ISIG | T.ECHO)) === 0
    this.mapSpecial()
    if (!this.input(T.IXON) && old !== null && old.iflag & T.IXON && !this.owner.stoppedByProgram) {
      this.owner.start()
      this.out().processEchoes()
    }
  }

  private mapSpecial(): void {
    const map = this.special
    const cc = this.termios.cc
    map.fill(0)
    if (this.input(T.IGNCR | T.ICRNL)) map[13] = 1
    if (this.input(T.INLCR)) map[10] = 1
    if (this.canonical) {
      map[10] = 1
      for (const i of [T.VERASE, T.VKILL, T.VEOF, T.VEOL]) map[cc[i]!] = 1
      if (this.local(T.IEXTEN)) {
        for (const i of [T.VWERASE, T.VLNEXT, T.VEOL2]) map[cc[i]!] = 1
        if (this.local(T.ECHO)) map[cc[T.VREPRINT]!] = 1
      }
    }
    if (this.input(T.IXON)) {
      map[cc[T.VSTART]!] = 1
      map[cc[T.VSTOP]!] = 1
    }
    if (this.local(T.ISIG)) for (const i of [T.VINTR, T.VQUIT, T.VSUSP]) map[cc[i]!] = 1
    map[T.DISABLED] = 0
  }

  // ---- input -------------------------------------------------------------------------------------------------------
  /** Takes typed bytes as far as there is room; returns how many. */
  receive(src: Uint8Array, at: number, len: number): number {
    let done = 0
    while (done < len) {
      let room = SIZE - (this.readHead - this.readTail)
      if (this.input(T.PARMRK)) room = Math.floor((room + 2) / 3)
      room--
      if (room <= 0) {
        // A line that is too long still lets editing characters through: each overwrites the last place.
        const overflow = this.canonical && this.canonHead === this.readTail
        if (overflow && room < 0) this.readHead--
        room = overflow ? 1 : 0
      }
      const n = Math.min(len - done, room)
      if (n === 0) break
      this.take(src, at + done, n)
      done += n
    }
    return done
  }

  private take(src: Uint8Array, at: number, len: number): void {
    if (this.raw) {
      for (let i = 0; i < len; i++) this.put(src[at + i]!)
    } else {
      for (let i = 0; i < len; i++) this.char(src[at + i]!)
      if (this.local(T.ECHO | T.ECHONL)) this.out().flushEchoes()
    }
    if (this.canonical && !this.local(T.EXTPROC)) return
    this.commitHead = this.readHead
    if (this.readHead !== this.readTail) this.owner.inputReady()
  }

  private put(c: number): void {
    this.buf[this.readHead++ & MASK] = c
  }

  private char(typed: number): void {
    let c = typed
    if (this.input(T.ISTRIP)) c &= 0x7f
    if (this.input(T.IUCLC) && this.local(T.IEXTEN)) c = toLower(c)
    if (this.lnext) {
      this.lnext = false
      this.ordinary(c)
    } else if (this.local(T.EXTPROC)) {
      this.put(c)
    } else if (this.special[c] === 1) {
      this.specialChar(c)
    } else {
      this.ordinary(c)
    }
  }

  private restartOnAny(): void {
    if (this.owner.stopped && !this.owner.stoppedByProgram && this.input(T.IXON) && this.input(T.IXANY)) {
      this.owner.start()
      this.out().processEchoes()
    }
  }

  private ordinary(c: number): void {
    this.restartOnAny()
    if (this.local(T.ECHO)) {
      this.finishErasing()
      if (this.canonHead === this.readHead) this.out().setCanonColumn()
      this.echo(c)
      this.out().commitEchoes()
    }
    this.putMarked(c)
  }
  /** PARMRK doubles \377. */
  private putMarked(c: number): void {
    if (c === 0xff && this.input(T.PARMRK)) this.put(c)
    this.put(c)
  }
  private echo(c: number): void {
    this.out().echoChar(c, this.local(T.ECHOCTL))
  }

  private specialChar(typed: number): void {
    let c = typed
    if (this.input(T.IXON)) {
      if (this.isChar(c, T.VSTART)) {
        this.owner.start()
        this.out().processEchoes()
        return
      }
      if (this.isChar(c, T.VSTOP)) {
        this.owner.stop()
        return
      }
    }
    if (this.local(T.ISIG)) {
      const sig = this.isChar(c, T.VINTR)
        ? SIGINT
        : this.isChar(c, T.VQUIT)
          ? SIGQUIT
          : this.isChar(c, T.VSUSP)
            ? SIGTSTP
            : 0
      if (sig !== 0) {
        this.signal(sig, c)
        return
      }
    }
    this.restartOnAny()
    if (c === 13) {
      if (this.input(T.IGNCR)) return
      if (this.input(T.ICRNL)) c = 10
    } else if (c === 10 && this.input(T.INLCR)) {
      c = 13
    }
    if (this.canonical && this.editChar(c)) return
    if (this.local(T.ECHO)) {
      this.finishErasing()
      if (c === 10) {
        this.out().echoRaw(10)
      } else {
        if (this.canonHead === this.readHead) this.out().setCanonColumn()
        this.echo(c)
      }
      this.out().commitEchoes()
    }
    this.putMarked(c)
  }

  private signal(sig: number, c: number): void {
    this.owner.signalForeground(sig)
    if (!this.local(T.NOFLSH)) {
      this.out().clearEchoes()
      this.owner.discardOutput()
      this.flush()
    }
    if (this.input(T.IXON)) this.owner.start()
    if (this.local(T.ECHO)) {
      this.echo(c)
      this.out().commitEchoes()
    } else {
      this.out().processEchoes()
    }
  }

  /** Characters that edit or end a line; false: an ordinary one after all. */
  private editChar(c: number): boolean {
    const out = this.out()
    const extended = this.local(T.IEXTEN)
    if (this.isChar(c, T.VERASE) || this.isChar(c, T.VKILL) || (this.isChar(c, T.VWERASE) && extended)) {
      this.erase(c)
      out.commitEchoes()
      return true
    }
    if (this.isChar(c, T.VLNEXT) && extended) {
      this.lnext = true
      if (this.local(T.ECHO)) {
        this.finishErasing()
        if (this.local(T.ECHOCTL)) {
          out.echoRaw(0x5e)
          out.echoRaw(8)
          out.commitEchoes()
        }
      }
      return true
    }
    if (this.isChar(c, T.VREPRINT) && this.local(T.ECHO) && extended) {
      this.finishErasing()
      this.echo(c)
      out.echoRaw(10)
      for (let i = this.canonHead; i !== this.readHead; i++) this.echo(this.buf[i & MASK]!)
      out.commitEchoes()
      return true
    }
    if (c === 10) {
      if (this.local(T.ECHO | T.ECHONL)) {
        out.echoRaw(10)
        out.commitEchoes()
      }
      this.endLine(c)
      return true
    }
    if (this.isChar(c, T.VEOF)) {
      this.endLine(T.DISABLED)
      return true
    }
    if (this.isChar(c, T.VEOL) || (this.isChar(c, T.VEOL2) && extended)) {
      if (this.local(T.ECHO)) {
        if (this.canonHead === this.readHead) out.setCanonColumn()
        this.echo(c)
        out.commitEchoes()
      }
      if (c === 0xff && this.input(T.PARMRK)) this.put(c)
      this.endLine(c)
      return true
    }
    return false
  }

  private endLine(c: number): void {
    this.flags[this.readHead & MASK] = 1
    this.put(c)
    this.canonHead = this.readHead
    this.owner.inputReady()
  }

  private finishErasing(): void {
    if (!this.erasing) return
    this.out().echoRaw(0x2f)
    this.erasing = false
  }

  private isContinuation(c: number): boolean {
    return this.input(T.IUTF8) && (c & 0xc0) === 0x80
  }

  private erase(key: number): void {
    const out = this.out()
    if (this.readHead === this.canonHead) return
    const one = this.isChar(key, T.VERASE)
    const word = !one && this.isChar(key, T.VWERASE)
    const echo = this.local(T.ECHO)
    if (!one && !word) {
      if (!echo) {
        this.readHead = this.canonHead
        return
      }
      if (!this.local(T.ECHOK) || !this.local(T.ECHOKE) || !this.local(T.ECHOE)) {
        this.readHead = this.canonHead
        this.finishErasing()
        this.echo(this.termios.cc[T.VKILL]!)
        if (this.local(T.ECHOK)) out.echoRaw(10)
        return
      }
    }
    let seenWord = false
    while (this.readHead !== this.canonHead) {
      let head = this.readHead
      let c: number
      do {
        head--
        c = this.buf[head & MASK]!
      } while (this.isContinuation(c) && head !== this.canonHead)
      if (this.isContinuation(c)) break
      if (word) {
        if (isAlnum(c) || c === 0x5f) seenWord = true
        else if (seenWord) break
      }
      const count = this.readHead - head
      this.readHead = head
      if (echo) this.echoErased(c, head, count, one)
      if (one) break
    }
    if (this.readHead === this.canonHead && echo) this.finishErasing()
  }

  private echoErased(c: number, head: number, count: number, one: boolean): void {
    const out = this.out()
    if (this.local(T.ECHOPRT)) {
      if (!this.erasing) {
        out.echoRaw(0x5c)
        this.erasing = true
      }
      this.echo(c)
      for (let i = 1; i < count; i++) {
        out.echoRaw(this.buf[(head + i) & MASK]!)
        out.moveBackColumn()
      }
    } else if (one && !this.local(T.ECHOE)) {
      this.echo(this.termios.cc[T.VERASE]!)
    } else if (c === 9) {
      let columns = 0
      let afterTab = false
      for (let i = this.readHead; i !== this.canonHead; ) {
        const before = this.buf[--i & MASK]!
        if (before === 9) {
          afterTab = true
          break
        }
        if (isControl(before)) columns += this.local(T.ECHOCTL) ? 2 : 0
        else if (!this.isContinuation(before)) columns++
      }
      out.eraseTab(columns, afterTab)
    } else {
      const times = isControl(c) ? (this.local(T.ECHOCTL) ? 2 : 0) : 1
      for (let i = 0; i < times; i++) {
        out.echoRaw(8)
        out.echoRaw(32)
        out.echoRaw(8)
      }
    }
  }

  // ---- reading -----------------------------------------------------------------------------------------------------
  get isCanonical(): boolean {
    return this.canonical && !this.local(T.EXTPROC)
  }

  /** Bytes that read(2) could take now; a finished empty line (^D) counts as one. */
  get available(): number {
    return this.isCanonical ? this.canonHead - this.readTail : this.commitHead - this.readTail
  }

  /** FIONREAD: without the markers of ^D. */
  get queued(): number {
    if (!this.isCanonical) return this.readHead - this.readTail
    let n = this.canonHead - this.readTail
    for (let i = this.readTail; i !== this.canonHead; i++) {
      if (this.flags[i & MASK] === 1 && this.buf[i & MASK] === T.DISABLED) n--
    }
    return n
  }

  /** Canonical mode: at most one line. Returns the bytes copied; −1 on a fault. Preconditions: available > 0. */
  readLine(iter: IovIter): number {
    const want = Math.min(iter.remaining, this.canonHead - this.readTail)
    let n = 0
    let found = false
    while (n < want && !found) found = this.flags[(this.readTail + n++) & MASK] === 1
    const last = (this.readTail + n - 1) & MASK
    const eof = found && this.buf[last] === T.DISABLED
    const copy = eof ? n - 1 : n
    const copied = this.copyOut(iter, copy)
    if (found) {
      this.flags[last] = 0
    } else if (this.readTail + n !== this.canonHead) {
      // The buffer ended exactly where a ^D stands: that ^D is spent.
      const next = (this.readTail + n) & MASK
      if (this.flags[next] === 1 && this.buf[next] === T.DISABLED) {
        this.flags[next] = 0
        n++
      }
    }
    this.readTail += n
    return copied < copy ? -1 : copied
  }

  /** Raw mode. Returns the bytes copied; −1 on a fault. */
  readRaw(iter: IovIter): number {
    const n = Math.min(iter.remaining, this.commitHead - this.readTail)
    const copied = this.copyOut(iter, n)
    this.readTail += n
    return copied < n ? -1 : copied
  }

  private copyOut(iter: IovIter, n: number): number {
    const at = this.readTail & MASK
    const first = Math.min(n, SIZE - at)
    let copied = iter.copyTo(this.buf, at, first)
    if (copied === first && first < n) copied += iter.copyTo(this.buf, 0, n - first)
    return copied
  }

  /** Forgets all input. */
  flush(): void {
    this.readHead = this.canonHead = this.readTail = this.commitHead = 0
    this.erasing = false
    this.flags.fill(0)
    this.owner.inputFlushed()
  }
}
