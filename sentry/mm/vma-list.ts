/**
 * The sorted list of a MemoryManager's VMAs: search, split, merge (Linux: the maple tree and vma_merge).
 */
import { Vma } from './vma.ts'

/** Index of the first VMA that ends after `addr`. */
export function vmaAfter(vmas: readonly Vma[], addr: number): number {
  let low = 0
  let high = vmas.length
  while (low < high) {
    const mid = (low + high) >> 1
    if (vmas[mid]!.end <= addr) low = mid + 1
    else high = mid
  }
  return low
}

/** Makes `addr` a border: returns the index of the first VMA at or after it. */
export function splitAt(vmas: Vma[], addr: number): number {
  const i = vmaAfter(vmas, addr)
  const v = vmas[i]
  if (v === undefined || v.start >= addr) return i
  const offset = v.file === null ? 0 : v.offset + (addr - v.start)
  const tail = new Vma(addr, v.end, v.prot, v.shared, v.file === null ? null : v.file.ref(), offset, v.name)
  tail.dontFork = v.dontFork
  tail.wipeOnFork = v.wipeOnFork
  tail.locked = v.locked
  tail.accounted = v.accounted
  v.end = addr
  vmas.splice(i + 1, 0, tail)
  return i + 1
}

function mergeable(a: Vma, b: Vma): boolean {
  return (
    a.end === b.start &&
    a.prot === b.prot &&
    a.shared === b.shared &&
    a.name === b.name &&
    a.dontFork === b.dontFork &&
    a.wipeOnFork === b.wipeOnFork &&
    a.locked === b.locked &&
    a.accounted === b.accounted &&
    a.file === b.file &&
    // Two shared anonymous mappings are two objects.
    (a.file === null ? !a.shared : a.offset + (a.end - a.start) === b.offset)
  )
}

/** Merges vmas[i] with its neighbours where they continue each other. */
export function mergeAround(vmas: Vma[], i: number): void {
  for (const at of [i, i - 1]) {
    const a = vmas[at]
    const b = vmas[at + 1]
    if (a === undefined || b === undefined || !mergeable(a, b)) continue
    a.end = b.end
    if (b.file !== null) b.file.unref()
    vmas.splice(at + 1, 1)
  }
}

/** The highest gap of `len` bytes within [low, high), or −1. */
export function findFree(vmas: readonly Vma[], len: number, low: number, high: number): number {
  let top = high
  for (let i = vmaAfter(vmas, high - 1); i >= 0; i--) {
    const v = vmas[i]
    if (v === undefined || v.start >= top) continue
    if (v.end <= top && top - Math.max(v.end, low) >= len) return top - len
    top = Math.min(top, v.start)
    if (top - len < low) return -1
  }
  return top - len >= low ? top - len : -1
}
