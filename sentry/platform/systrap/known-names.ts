/**
 * The table of names that all guests know (native/stub/protocol.h, struct stub_known): the sentry writes it, stubs read it
 * and answer with it.
 *
 * Invariants: an entry's `names` is 0 while the rest of it is written, and whenever its owner (vfs/known-names.ts) has
 * withdrawn it. Only names asked for twice get in: what is asked for once, and then made, would only push out others.
 */
import type { KnownNames } from '../platform.ts'

/* native/stub/protocol.h; test/unit/systrap-protocol.test.ts checks them. */
export const KNOWN_OFFSET = 0x1000
export const KNOWN = 2048
export const KNOWN_WAYS = 4
export const KNOWN_NAME = 108
export const CONTROL_SIZE = 0x43000

/* struct stub_name, in u32 words; what is before the name. */
const ENTRY_WORDS = 32
const NAMES = 0
const TURN = 1
const ROOT = 2
const LEN = 3
const RESULT = 4
const NAME = 20

/** Hashes of names asked for lately. */
const ASKED = 4096

function hashOf(name: string): number {
  let hash = 2166136261
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 16777619)
  return hash >>> 0
}

export class NameTable implements KnownNames {
  readonly size = KNOWN
  private readonly names: Uint32Array
  private readonly hashes: Uint32Array
  private readonly words: Uint32Array
  private readonly bytes: Uint8Array
  private readonly asked = new Uint32Array(ASKED)
  private victim = 0

  /** `control`: struct stub_control and what follows; `names`: its word of that name. */
  constructor(control: ArrayBuffer, names: Uint32Array) {
    const entries = KNOWN_OFFSET + 4 * KNOWN
    this.names = names
    this.hashes = new Uint32Array(control, KNOWN_OFFSET, KNOWN)
    this.words = new Uint32Array(control, entries, KNOWN * ENTRY_WORDS)
    this.bytes = new Uint8Array(control, entries, KNOWN * ENTRY_WORDS * 4)
  }

  publish(name: string, root: number, result: number): number {
    if (name.length > KNOWN_NAME) return -1
    const hash = hashOf(name)
    const seen = hash % ASKED
    if (this.asked[seen] !== hash) {
      this.asked[seen] = hash
      return -1
    }
    const index = this.place(name, hash)
    const w = this.words
    const at = index * ENTRY_WORDS
    const now = this.names[0]!
    if (w[at + NAMES] === now && w[at + ROOT] === root && w[at + RESULT] === result && this.holds(index, name, hash))
      return index
    Atomics.store(w, at + NAMES, 0)
    Atomics.store(w, at + TURN, w[at + TURN]! + 1)
    this.hashes[index] = hash
    w[at + ROOT] = root
    w[at + LEN] = name.length
    w[at + RESULT] = result
    const to = at * 4 + NAME
    for (let i = 0; i < name.length; i++) this.bytes[to + i] = name.charCodeAt(i)
    Atomics.store(w, at + NAMES, now)
    return index
  }

  withdraw(index: number): void {
    Atomics.store(this.words, index * ENTRY_WORDS + NAMES, 0)
    // A name that comes and goes is not told at once again.
    this.asked[this.hashes[index]! % ASKED] = 0
  }

  /** The entry that has the name or may get it: one that does not count, or one of the others in turn. */
  private place(name: string, hash: number): number {
    const first = (((hash ^ (hash >>> 16)) >>> 0) % KNOWN) & ~(KNOWN_WAYS - 1)
    let free = -1
    for (let i = first; i < first + KNOWN_WAYS; i++) {
      if (this.holds(i, name, hash)) return i
      if (this.words[i * ENTRY_WORDS + NAMES] !== this.names[0]) free = i
    }
    if (free >= 0) return free
    this.victim = (this.victim + 1) % KNOWN_WAYS
    return first + this.victim
  }

  private holds(index: number, name: string, hash: number): boolean {
    const at = index * ENTRY_WORDS
    if (this.hashes[index] !== hash || this.words[at + LEN] !== name.length) return false
    const from = at * 4 + NAME
    for (let i = 0; i < name.length; i++) if (this.bytes[from + i] !== name.charCodeAt(i)) return false
    return true
  }
}
