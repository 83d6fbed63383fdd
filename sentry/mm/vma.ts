/**
 * A mapping of the guest's address space (Linux: struct vm_area_struct).
 */
import type { FileDescription } from '../vfs/file-description.ts'

export const PROT_READ = 1
export const PROT_WRITE = 2
export const PROT_EXEC = 4
export const MAP_SHARED = 1
export const MAP_PRIVATE = 2
export const MAP_SHARED_VALIDATE = 3
export const MAP_TYPE = 15
export const MAP_FIXED = 0x10
export const MAP_ANONYMOUS = 0x20
export const MAP_32BIT = 0x40
export const MAP_GROWSDOWN = 0x100
export const MAP_DENYWRITE = 0x800
export const MAP_EXECUTABLE = 0x1000
export const MAP_LOCKED = 0x2000
export const MAP_NORESERVE = 0x4000
export const MAP_POPULATE = 0x8000
export const MAP_NONBLOCK = 0x10000
export const MAP_STACK = 0x20000
export const MAP_HUGETLB = 0x40000
export const MAP_SYNC = 0x80000
export const MAP_FIXED_NOREPLACE = 0x100000

export class Vma {
  start: number
  end: number
  prot: number
  /** Shared (writes are seen by others) or private. */
  shared: boolean
  /** The mapped file; the VMA holds a reference. null = anonymous. */
  file: FileDescription | null
  /** File offset of `start`. */
  offset: number
  /** '[heap]', '[stack]' or '' for /proc/PID/maps. */
  name: string
  /** MADV_DONTFORK, MADV_WIPEONFORK, mlock. */
  dontFork = false
  wipeOnFork = false
  locked = false
  /** Has ever been private and writable (VM_ACCOUNT): such a mapping never merges with one that has not. */
  accounted: boolean

  constructor(
    start: number,
    end: number,
    prot: number,
    shared: boolean,
    file: FileDescription | null,
    offset: number,
    name: string,
  ) {
    this.start = start
    this.end = end
    this.prot = prot
    this.shared = shared
    this.file = file
    this.offset = offset
    this.name = name
    this.accounted = !shared && (prot & PROT_WRITE) !== 0
  }
}
