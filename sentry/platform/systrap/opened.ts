/**
 * What a thread's stub knows of the file that the thread opened last (native/stub/protocol.h: struct stub_opened): its
 * attributes, what it begins with, and what the thread has done with it meanwhile.
 *
 * Guest code can write all of this at any time: what is taken from here says what the guest could have done by calls as well.
 */
import { OPENED_CLOSED } from '../platform.ts'

/* native/stub/protocol.h; test/unit/systrap-protocol.test.ts checks them. */
export const OPENED_DATA_OFFSET = 0xe000
export const OPENED_DATA_SIZE = 0x2000
export const OPENED_POSITION = 0x3fff
export const OPENED_DATA = 0x20000
export const OPENED_WITHDRAWN = 0x40000

/* struct stub_slot, opened in u32 words. */
const FD = 140
const CHANGES = 141
const PUT_OFF = 142
const LEN = 143
const STAT = 144
const STAT_WORDS = 36

export class SlotOpened {
  private readonly words: Int32Array
  private readonly slot: ArrayBuffer
  private bytes: Uint8Array | null = null

  constructor(slot: ArrayBuffer) {
    this.slot = slot
    this.words = new Int32Array(slot, 0, STAT + STAT_WORDS)
  }

  get data(): Uint8Array {
    return (this.bytes ??= new Uint8Array(this.slot, OPENED_DATA_OFFSET, OPENED_DATA_SIZE))
  }

  /** `changes`: control->changes. */
  tell(fd: number, stat: Uint32Array, length: number, changes: number): void {
    const w = this.words
    w[FD] = fd + 1
    w[CHANGES] = changes
    w[PUT_OFF] = length < 0 ? 0 : OPENED_DATA
    w[LEN] = length
    for (let i = 0; i < STAT_WORDS; i++) w[STAT + i] = stat[i]!
  }

  take(again: boolean): number {
    // Nothing since the last time: an exchange costs a lock.
    if (again && this.words[PUT_OFF] === 0) return 0
    const word = Atomics.exchange(this.words, PUT_OFF, again ? 0 : OPENED_WITHDRAWN)
    if ((word & OPENED_WITHDRAWN) !== 0) return 0
    return (word & OPENED_CLOSED) | ((word & OPENED_DATA) === 0 ? 0 : word & OPENED_POSITION)
  }

  forget(): void {
    this.words[FD] = 0
  }
}
