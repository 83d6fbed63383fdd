/**
 * A thread's view of its slot in the arena: the copy window (DESIGN §6, native/stub/protocol.h).
 *
 * Guest code can write the slot at any time: every word is read once and bounded, and what leaves here is a copy.
 */

/* native/stub/protocol.h; test/unit/systrap-protocol.test.ts checks them. */
export const WINDOW_IN_OFFSET = 0x8000
export const WINDOW_IN_SIZE = 0x2000
export const WINDOW_OUT_OFFSET = 0xc000
export const WINDOW_OUT_SIZE = 0x2000
export const MAX_WINDOW_OUT = 8

/* struct stub_slot, in u32 words. */
const IN_LEN = 22
const IN_ADDR = 24
const ANSWERED = 33
const ANSWERS = 34
const OUT_COUNT = 102
const OUT = 104
const MEMO = 136
const MEMO_TURN = 137
const ROOT = 138
const ROOT_TURN = 139
const OPENED = 140
const ACTIONS = 180
/** struct stub_copy */
const OUT_WORDS = 4
const PIECES = 2

const TWO32 = 0x1_0000_0000
/** Below this a loop beats TypedArray.set and the view it needs. */
const SHORT = 24

export class SlotWindow {
  private readonly words: Uint32Array
  private readonly bytes: Uint8Array
  private readonly text: Buffer
  private count = 0
  private used = 0

  constructor(slot: ArrayBuffer) {
    this.words = new Uint32Array(slot, 0, ACTIONS + 1)
    this.bytes = new Uint8Array(slot)
    this.text = Buffer.from(slot)
  }

  /** Offset in the slot of guest address `addr` where `len` bytes of it are in the window, else −1. */
  private locate(addr: number, len: number): number {
    const w = this.words
    for (let i = 0; i < PIECES; i++) {
      const size = w[IN_LEN + i]!
      if (size === 0 || size > WINDOW_IN_SIZE) continue
      const offset = addr - (w[IN_ADDR + 2 * i]! + w[IN_ADDR + 2 * i + 1]! * TWO32)
      if (offset >= 0 && offset + len <= size) return WINDOW_IN_OFFSET + i * WINDOW_IN_SIZE + offset
    }
    return -1
  }

  read(addr: number, dst: Uint8Array, at: number, len: number): number {
    const from = this.locate(addr, len)
    if (from < 0) return -1
    const bytes = this.bytes
    if (len <= SHORT) for (let i = 0; i < len; i++) dst[at + i] = bytes[from + i]!
    else dst.set(bytes.subarray(from, from + len), at)
    return len
  }

  string(addr: number): string | null {
    const w = this.words
    for (let i = 0; i < PIECES; i++) {
      const size = w[IN_LEN + i]!
      if (size === 0 || size > WINDOW_IN_SIZE) continue
      if (addr !== w[IN_ADDR + 2 * i]! + w[IN_ADDR + 2 * i + 1]! * TWO32) continue
      const from = WINDOW_IN_OFFSET + i * WINDOW_IN_SIZE
      const copy = this.text.latin1Slice(from, from + size)
      const end = copy.indexOf('\0')
      return end < 0 ? null : copy.slice(0, end)
    }
    return null
  }

  get pending(): boolean {
    return this.count > 0
  }

  write(addr: number, src: Uint8Array, at: number, len: number): boolean {
    if (this.count === MAX_WINDOW_OUT || this.used + len > WINDOW_OUT_SIZE) return false
    const to = WINDOW_OUT_OFFSET + this.used
    const bytes = this.bytes
    if (len <= SHORT) for (let i = 0; i < len; i++) bytes[to + i] = src[at + i]!
    else bytes.set(len === src.length ? src : src.subarray(at, at + len), to)
    const w = this.words
    const out = OUT + OUT_WORDS * this.count
    w[out] = addr >>> 0
    w[out + 1] = Math.floor(addr / TWO32)
    w[out + 2] = this.used
    w[out + 3] = len
    this.used += len
    w[OUT_COUNT] = ++this.count
    return true
  }

  /** Hands each piece that is put off to `write` and forgets it. The words are ours, but the guest may have changed them. */
  flush(write: (addr: number, src: Uint8Array, at: number, len: number) => number): void {
    const w = this.words
    for (let i = 0; i < this.count; i++) {
      const out = OUT + OUT_WORDS * i
      const addr = w[out]! + w[out + 1]! * TWO32
      const offset = w[out + 2]!
      const len = w[out + 3]!
      if (offset + len <= WINDOW_OUT_SIZE) write(addr, this.bytes, WINDOW_OUT_OFFSET + offset, len)
    }
    w[OUT_COUNT] = 0
    this.reset()
  }

  drop(): void {
    for (let i = 0; i < PIECES; i++) this.words[IN_LEN + i] = 0
  }

  /** The stub carries out what is put off: the thread resumes. */
  reset(): void {
    this.count = 0
    this.used = 0
  }

  /** The stub keeps the answer to the call in progress for as long as `control->names` is `names`. */
  remember(names: number): void {
    this.words[MEMO] = names
  }

  /** `roots`: control->roots. */
  answer(ids: Uint32Array | null, root: number, roots: number): void {
    const w = this.words
    w[ANSWERED] = 0
    w[MEMO_TURN]!++
    w[ROOT] = root
    w[ROOT_TURN] = roots
    w[OPENED] = 0
    w[ACTIONS] = 0
    if (ids === null) return
    for (let i = 0; i < ids.length; i++) w[ANSWERS + i] = ids[i]!
    w[ANSWERED] = 1
  }
}
