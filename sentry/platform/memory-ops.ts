/**
 * A batch of memory operations for a guest address space: the host calls that carry out what mm/ decided.
 *
 * Operations are rows of eight doubles: number, six arguments, and for a file mapping the host fd to hand over. Reused;
 * never larger than a page of rows.
 */
const ROW = 8
export const MAX_OPS = 48

const SYS_MMAP = 9
const SYS_MPROTECT = 10
const SYS_MUNMAP = 11
const SYS_MREMAP = 25
const SYS_MADVISE = 28
const MAP_FIXED = 0x10
const MAP_ANONYMOUS = 0x20

export class MemoryOps {
  readonly rows = new Float64Array(MAX_OPS * ROW)
  count = 0

  clear(): this {
    this.count = 0
    return this
  }
  get full(): boolean {
    return this.count >= MAX_OPS - 2
  }

  private push(nr: number, a: number, b: number, c: number, d: number, e: number, f: number, fd: number): void {
    const at = this.count++ * ROW
    const rows = this.rows
    rows[at] = nr
    rows[at + 1] = a
    rows[at + 2] = b
    rows[at + 3] = c
    rows[at + 4] = d
    rows[at + 5] = e
    rows[at + 6] = f
    rows[at + 7] = fd
  }

  /** mmap at a fixed place. `flags`: MAP_PRIVATE or MAP_SHARED with modifiers. */
  mapAnonymous(addr: number, len: number, prot: number, flags: number): void {
    this.push(SYS_MMAP, addr, len, prot, flags | MAP_FIXED | MAP_ANONYMOUS, -1, 0, -1)
  }
  mapFile(addr: number, len: number, prot: number, flags: number, hostFd: number, offset: number): void {
    this.push(SYS_MMAP, addr, len, prot, flags | MAP_FIXED, 0, offset, hostFd)
  }
  /** Whether the file mapping of row `index` goes on at `addr` with these bytes of the file. */
  continues(index: number, addr: number, flags: number, hostFd: number, offset: number): boolean {
    const rows = this.rows
    const at = index * ROW
    if (index < 0 || rows[at] !== SYS_MMAP || rows[at + 7] !== hostFd || rows[at + 4] !== (flags | MAP_FIXED))
      return false
    const len = rows[at + 2]!
    return rows[at + 1]! + len === addr && rows[at + 6]! + len === offset
  }
  /** Makes the mapping of row `index` longer. */
  extend(index: number, len: number): void {
    this.rows[index * ROW + 2]! += len
  }
  unmap(addr: number, len: number): void {
    this.push(SYS_MUNMAP, addr, len, 0, 0, 0, 0, -1)
  }
  protect(addr: number, len: number, prot: number): void {
    this.push(SYS_MPROTECT, addr, len, prot, 0, 0, 0, -1)
  }
  remap(oldAddr: number, oldLen: number, newLen: number, flags: number, newAddr: number): void {
    this.push(SYS_MREMAP, oldAddr, oldLen, newLen, flags, newAddr, 0, -1)
  }
  advise(addr: number, len: number, advice: number): void {
    this.push(SYS_MADVISE, addr, len, advice, 0, 0, 0, -1)
  }
}
