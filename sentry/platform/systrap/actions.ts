/**
 * Signal actions of a process in the slot of its only thread, whose stub answers rt_sigaction with them
 * (native/stub/protocol.h: struct stub_actions).
 *
 * Guest code can write all of this at any time: whoever takes an action from here checks it like a call's argument.
 */

/* native/stub/protocol.h; test/unit/systrap-protocol.test.ts checks them. */
export const SIGNALS = 64

/* struct stub_slot, actions in u32 words. */
const TOLD = 180
const CHANGED = 182
const ACTION = 184
/** struct stub_action */
const WORDS = 8

export class SlotActions {
  private readonly words: Uint32Array

  constructor(slot: ArrayBuffer) {
    this.words = new Uint32Array(slot, 0, ACTION + WORDS * SIGNALS)
  }

  tell(actions: Uint32Array): void {
    const w = this.words
    w.set(actions, ACTION)
    this.forgetChanges()
    w[TOLD] = 1
  }
  stop(): void {
    this.words[TOLD] = 0
  }

  changed(after: number): number {
    const lo = after >= 32 ? 0 : this.words[CHANGED]! & (-1 << after)
    if (lo !== 0) return 32 - Math.clz32(lo & -lo)
    const hi = this.words[CHANGED + 1]! & (after <= 32 ? -1 : after >= SIGNALS ? 0 : -1 << (after - 32))
    return hi === 0 ? 0 : 64 - Math.clz32(hi & -hi)
  }
  read(signo: number, out: Uint32Array): void {
    const from = ACTION + WORDS * (signo - 1)
    for (let i = 0; i < WORDS; i++) out[i] = this.words[from + i]!
  }
  forgetChanges(): void {
    this.words[CHANGED] = 0
    this.words[CHANGED + 1] = 0
  }
}
