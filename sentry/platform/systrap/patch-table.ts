/**
 * The patched call sites of an address space. Forks share the table until one of them patches, as they share the pages.
 *
 * What the table says may be out of date (the guest can map something else over a site): then the site traps by signal
 * again, turns hot again, and is looked at again.
 */
import { stRun, stRunLater } from '../../../native/systrap.ts'
import { SYS_mmap, SYS_mprotect } from '../../abi/syscall-numbers.ts'
import {
  entryBytes,
  mendSite,
  PATCH_BASE,
  PATCH_ENTRY_SIZE,
  PATCH_SIZE,
  patchSite,
  REACH,
  type Store,
} from './amd64/call-site.ts'

/* native/stub/protocol.h */
export const STUB_SITE = 0x7ffff0000090
export const OP_STORE = 0x10000
const OP_WORDS = 8
const STORE_MAX = 32
const MAX_OPS = 32
const PAGE = 4096

const READ_EXEC = 5
const READ_WRITE_EXEC = 7
const MAP_PRIVATE_FIXED_ANONYMOUS = 0x32
const ENTRIES = PATCH_SIZE / PATCH_ENTRY_SIZE

/** A batch for the stub: struct stub_op. Off the hot path: once for each site. */
class StubOps {
  readonly words = new BigUint64Array(MAX_OPS * OP_WORDS)
  count = 0

  add(nr: number, ...args: (number | bigint)[]): void {
    const at = this.count++ * OP_WORDS
    this.words.fill(0n, at, at + OP_WORDS)
    this.words[at] = BigInt(nr)
    args.forEach((arg, i) => {
      this.words[at + 1 + i] = BigInt.asUintN(64, BigInt(arg))
    })
  }
  store({ addr, bytes }: Store): void {
    for (let at = 0; at < bytes.length; at += STORE_MAX) {
      const piece = bytes.slice(at, at + STORE_MAX)
      const buffer = Buffer.alloc(STORE_MAX)
      buffer.set(piece)
      this.add(OP_STORE, addr + at, piece.length, ...[0, 8, 16, 24].map((offset) => buffer.readBigUInt64LE(offset)))
    }
  }
}

export class PatchTable {
  /** Site → its entry; 0 = cannot be patched. */
  private readonly sites: Map<number, number>
  private next: number
  shared = false

  constructor(from: PatchTable | null = null) {
    this.sites = new Map(from === null ? [] : from.sites)
    this.next = from === null ? 0 : from.next
  }

  /** Whether there is any use in looking at this site. */
  worthTrying(site: number): boolean {
    return this.sites.get(site) !== 0 && this.next < ENTRIES
  }

  /**
   * Where a thread goes on that met an illegal instruction at `rip`: at a site that was being patched, or between the two
   * instructions of a patched one. −1: it is the guest's own fault. `read` copies guest memory.
   */
  mend(rip: number, read: (addr: number, dst: Uint8Array) => boolean): number {
    const bytes = new Uint8Array(7)
    for (const site of [rip, rip + 5]) {
      const entry = this.sites.get(site) ?? 0
      const on = entry === 0 || !read(site - 5, bytes) ? -1 : mendSite(bytes, site, entry, rip)
      if (on >= 0) return on
    }
    return -1
  }

  /**
   * Patches the `syscall` at `site`, in thread `row` (stopped): when it goes on, if it is alone. `code`: the bytes from `start` on, of one private mapping
   * that may be read and executed. `alone`: no other thread runs in this address space. Preconditions: not shared.
   */
  patch(
    row: number,
    site: number,
    code: Uint8Array,
    start: number,
    alone: boolean,
    direct: (nr: number) => boolean,
  ): void {
    const index = this.next === 0 ? 1 : this.next
    const known = this.sites.get(site) ?? 0
    const entry = known || PATCH_BASE + index * PATCH_ENTRY_SIZE
    const patch = patchSite(code, start, site, entry)
    // A call that is made natively anyway gains nothing, and must be able to restart.
    if (patch === null || (patch.number >= 0 && direct(patch.number))) {
      // A thread may have trapped here before another one had the site patched.
      if (known === 0) this.sites.set(site, 0)
      return
    }
    const ops = new StubOps()
    if (this.next === 0) {
      ops.add(SYS_mmap, PATCH_BASE, PATCH_SIZE, READ_WRITE_EXEC, MAP_PRIVATE_FIXED_ANONYMOUS, -1, 0)
      ops.store({ addr: PATCH_BASE, bytes: [...Buffer.from(new BigUint64Array([BigInt(STUB_SITE)]).buffer)] })
    }
    ops.add(SYS_mprotect, PATCH_BASE, PATCH_SIZE, READ_WRITE_EXEC)
    ops.store({ addr: entry, bytes: entryBytes(entry, site, patch.number) })
    ops.add(SYS_mprotect, PATCH_BASE, PATCH_SIZE, READ_EXEC)

    const places = patch.stores.map((store) => store.addr)
    const from = Math.floor(Math.min(...places) / PAGE) * PAGE
    const length = Math.ceil((Math.max(...places) + PAGE / 256 - from) / PAGE) * PAGE
    ops.add(SYS_mprotect, from, length, READ_WRITE_EXEC)
    patch.stores.forEach((store, i) => {
      // Taking the right to write away makes the host interrupt every CPU that runs this address space.
      if (i > 0 && !alone) {
        ops.add(SYS_mprotect, from, length, READ_EXEC)
        ops.add(SYS_mprotect, from, length, READ_WRITE_EXEC)
      }
      ops.store(store)
    })
    ops.add(SYS_mprotect, from, length, READ_EXEC)
    this.last = { site, from, length }
    const late = alone && stRunLater(row, ops.words, ops.count) === 0
    if (!late && stRun(row, ops.words, ops.count) < 0) {
      this.failed(row)
      return
    }
    this.sites.set(site, entry)
    if (known === 0) this.next = index + 1
  }
  private last = { site: 0, from: 0, length: 0 }

  /** The last patch, or what was left of it when thread `row` (stopped) went on, has failed. */
  failed(row: number): void {
    const { site, from, length } = this.last
    this.sites.set(site, 0)
    const undo = new StubOps()
    undo.add(SYS_mprotect, from, length, READ_EXEC)
    stRun(row, undo.words, undo.count)
  }
}

/** The range of code that {@link PatchTable.patch} wants to see for a site within [low, high). */
export function codeAround(site: number, low: number, high: number): { start: number; end: number } {
  return { start: Math.max(low, site - REACH), end: Math.min(high, site + 2 + REACH) }
}
