/**
 * MemoryManager: the guest's address space as the guest sees it (Linux: struct mm_struct).
 *
 * The pages belong to the host process under it (DESIGN §4); this keeps the list of mappings, decides what goes where,
 * and has the stub carry out each change. Invariants: `vmas` is sorted and disjoint, every VMA lies in
 * [MMAP_MIN, taskSize), and the host process maps exactly what `vmas` says, plus the stub and the vDSO.
 */
import { EACCES, EBADF, EEXIST, EFAULT, EINVAL, ENOMEM, EOPNOTSUPP, EPERM } from '../abi/errno.ts'
import { RLIMIT_AS, RLIMIT_DATA } from '../kernel/limits.ts'
import { ERESTARTSYS } from '../kernel/sysret.ts'
import type { Task } from '../kernel/task.ts'
import { MemoryOps } from '../platform/memory-ops.ts'
import type { AddressSpace, GuestThread } from '../platform/platform.ts'
import type { FileDescription } from '../vfs/file-description.ts'
import { MS_NOEXEC } from '../vfs/mount.ts'
import { ADVICE, IGNORED, MADV_DOFORK, MADV_DONTFORK, MADV_POPULATE_WRITE, MADV_WIPEONFORK, NATIVE } from './advice.ts'
import {
  MAP_32BIT,
  MAP_FIXED,
  MAP_FIXED_NOREPLACE,
  MAP_GROWSDOWN,
  MAP_HUGETLB,
  MAP_LOCKED,
  MAP_NORESERVE,
  MAP_POPULATE,
  MAP_PRIVATE,
  MAP_SHARED,
  MAP_SHARED_VALIDATE,
  MAP_STACK,
  MAP_SYNC,
  MAP_TYPE,
  PROT_EXEC,
  PROT_READ,
  PROT_WRITE,
  Vma,
} from './vma.ts'
import { findFree, mergeAround, splitAt, vmaAfter } from './vma-list.ts'

export const PAGE = 4096
/** vm.mmap_min_addr: below it systrap keeps the entries of patched call sites (native/stub/protocol.h). */
export const MMAP_MIN = 0x70000
/** vm.max_map_count. */
const MAX_MAPS = 65530

export const pageUp = (n: number): number => Math.ceil(n / PAGE) * PAGE
export const pageDown = (n: number): number => Math.floor(n / PAGE) * PAGE

/** Changes up to this size, in processes with fewer mappings, need not be answered by the host before their call is. */
const LATE_MAX = 2 ** 26
const LATE_MAX_VMAS = 30000

/** One batch for everybody: the kernel is single-threaded. */
const OPS = new MemoryOps()

export class MemoryManager {
  readonly space: AddressSpace
  vmas: Vma[] = []
  readonly taskSize: number
  /** Where mmap starts looking, downwards. */
  mmapBase: number
  /** No page is free from here up to mmapBase: the search of a process with thousands of mappings starts here. */
  private fullDownTo = Number.POSITIVE_INFINITY
  brkStart = 0
  brkEnd = 0
  /** What exec put on the stack; /proc/PID/{cmdline,environ,auxv,stat} read them. */
  argStart = 0
  argEnd = 0
  envStart = 0
  envEnd = 0
  stackStart = 0
  codeStart = 0
  codeEnd = 0
  dataStart = 0
  dataEnd = 0
  auxv: Uint8Array = new Uint8Array(0)
  /** The executable; a reference is held. */
  exe: FileDescription | null = null
  /** mlockall(MCL_FUTURE). */
  lockFuture = false
  private refs = 1

  constructor(space: AddressSpace, taskSize: number) {
    this.space = space
    this.taskSize = taskSize
    this.mmapBase = taskSize
  }

  ref(): this {
    this.refs++
    return this
  }
  get users(): number {
    return this.refs
  }
  /** A task lets go; the last one ends the host process and closes the mapped files. */
  unref(): void {
    if (--this.refs > 0) return
    this.space.kill()
    for (const vma of this.vmas) if (vma.file !== null) vma.file.unref()
    this.vmas = []
    if (this.exe !== null) this.exe.unref()
    this.exe = null
  }

  /** The copy for fork(2); `space` is the host's copy of our process. */
  fork(space: AddressSpace): MemoryManager {
    const copy = new MemoryManager(space, this.taskSize)
    copy.mmapBase = this.mmapBase
    copy.brkStart = this.brkStart
    copy.brkEnd = this.brkEnd
    copy.argStart = this.argStart
    copy.argEnd = this.argEnd
    copy.envStart = this.envStart
    copy.envEnd = this.envEnd
    copy.stackStart = this.stackStart
    copy.codeStart = this.codeStart
    copy.codeEnd = this.codeEnd
    copy.dataStart = this.dataStart
    copy.dataEnd = this.dataEnd
    copy.auxv = this.auxv
    copy.exe = this.exe === null ? null : this.exe.ref()
    for (const v of this.vmas) {
      if (v.dontFork) continue
      const c = new Vma(v.start, v.end, v.prot, v.shared, v.file === null ? null : v.file.ref(), v.offset, v.name)
      c.wipeOnFork = v.wipeOnFork
      c.accounted = v.accounted
      copy.vmas.push(c)
    }
    return copy
  }

  // ---- guest memory ------------------------------------------------------------------------------------------------
  copyIn(addr: number, dst: Uint8Array, at: number, len: number): number {
    if (len === 0 || addr >= this.taskSize) return 0
    return this.space.read(addr, dst, at, Math.min(len, this.taskSize - addr))
  }
  copyOut(addr: number, src: Uint8Array, at: number, len: number): number {
    if (len === 0 || addr >= this.taskSize) return 0
    return this.space.write(addr, src, at, Math.min(len, this.taskSize - addr))
  }

  /** Total bytes mapped. */
  get totalSize(): number {
    let total = 0
    for (const v of this.vmas) total += v.end - v.start
    return total
  }

  /** The VMA that holds `addr`. */
  find(addr: number): Vma | undefined {
    const v = this.vmas[vmaAfter(this.vmas, addr)]
    return v !== undefined && v.start <= addr ? v : undefined
  }

  /**
   * Whether a later write of [addr, addr+len) cannot fail, as far as the list knows: private or anonymous memory that may
   * be written. A file behind it could be shorter.
   */
  canWrite(addr: number, len: number): boolean {
    const v = this.find(addr)
    return v !== undefined && addr + len <= v.end && (v.prot & PROT_WRITE) !== 0 && v.file === null
  }

  // ---- changes -----------------------------------------------------------------------------------------------------
  /** What the last change that was put off makes, to be taken back when it fails: new pages, and the break before. */
  private lateStart = 0
  private lateEnd = 0
  private lateBreak = -1

  /**
   * Carries out OPS for the call in progress, at once or with its answer: then the host has hardly a reason to refuse, for it is
   * not large, and far from the limits. [start, end): the pages that it makes. 0 or −errno.
   */
  private change(t: Task, start: number, end: number): number {
    if (this.refs === 1 && end - start <= LATE_MAX && this.vmas.length < LATE_MAX_VMAS && t.returnsAtOnce) {
      if (this.space.applyLater(t.thread, OPS)) {
        this.lateStart = start
        this.lateEnd = end
        this.lateBreak = -1
        return 0
      }
    }
    return this.space.apply(t.thread, OPS)
  }

  /** The change that was put off has failed. Returns what its call is to return. */
  lateChangeFailed(t: Task, error: number): number {
    const { lateStart, lateEnd, lateBreak } = this
    // The guest can say anything here: nothing with a meaning of its own.
    if (error >= 0 || error <= -ERESTARTSYS) error = -ENOMEM
    this.lateStart = this.lateEnd = 0
    this.lateBreak = -1
    if (lateEnd > lateStart) {
      // What was there before may be gone, as on Linux.
      OPS.clear().unmap(lateStart, lateEnd - lateStart)
      this.space.apply(t.thread, OPS)
      this.forget(lateStart, lateEnd)
    }
    if (lateBreak < 0) return error
    this.brkEnd = lateBreak
    return lateBreak
  }

  // ---- mmap --------------------------------------------------------------------------------------------------------
  /** mmap(2). `file` null for anonymous; the caller keeps its reference. Returns the address or −errno. */
  mmap(
    t: Task,
    addr: number,
    length: number,
    prot: number,
    flags: number,
    file: FileDescription | null,
    offset: number,
  ): number {
    if (length === 0) return -EINVAL
    const len = pageUp(length)
    if (len > this.taskSize) return -ENOMEM
    const type = flags & MAP_TYPE
    if (type !== MAP_SHARED && type !== MAP_PRIVATE && type !== MAP_SHARED_VALIDATE) return -EINVAL
    const shared = type !== MAP_PRIVATE
    if ((flags & MAP_HUGETLB) !== 0) return -ENOMEM
    if (type === MAP_SHARED_VALIDATE && (flags & MAP_SYNC) !== 0) return -EOPNOTSUPP
    let hostFd = -1
    if (file !== null) {
      const err = checkFile(file, prot, shared)
      if (err < 0) return err
      hostFd = file.mmapFd(shared && file.writable)
      if (hostFd < 0) return hostFd
    } else if ((flags & (MAP_GROWSDOWN | MAP_SHARED)) === (MAP_GROWSDOWN | MAP_SHARED)) {
      return -EINVAL
    }
    const start = this.place(addr, len, flags)
    if (start < 0) return start
    const err = this.checkLimits(t, start, len, prot, shared, (flags & MAP_FIXED) !== 0)
    if (err < 0) return err
    const hostFlags = (shared ? MAP_SHARED : MAP_PRIVATE) | (flags & (MAP_NORESERVE | MAP_POPULATE | MAP_STACK))
    OPS.clear()
    if (file === null) OPS.mapAnonymous(start, len, prot, hostFlags)
    else if (this.showsAlready(start, len, file, offset, hostFlags)) OPS.protect(start, len, prot)
    else OPS.mapFile(start, len, prot, hostFlags, hostFd, offset)
    const done = this.change(t, start, start + len)
    if (done < 0) return done
    this.forget(start, start + len)
    const vma = new Vma(
      start,
      start + len,
      prot,
      shared,
      file === null ? null : file.ref(),
      file === null ? 0 : offset,
      '',
    )
    vma.locked = (flags & MAP_LOCKED) !== 0 || this.lockFuture
    this.insert(vma)
    return start
  }

  /**
   * Whether [start, start+len) shows just these bytes of the file, privately and never written to: how the dynamic loader
   * lays out a library it has mapped whole. Then a new mapping is no more than a change of protection.
   */
  private showsAlready(start: number, len: number, file: FileDescription, offset: number, hostFlags: number): boolean {
    if (hostFlags !== MAP_PRIVATE) return false
    const v = this.find(start)
    if (v === undefined || v.file !== file || v.shared || v.accounted || start + len > v.end) return false
    return v.offset + (start - v.start) === offset
  }

  /** Chooses the address of a new mapping. */
  private place(addr: number, len: number, flags: number): number {
    if ((flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) !== 0) {
      if (addr % PAGE !== 0) return -EINVAL
      if (addr > this.taskSize - len) return -ENOMEM
      if (addr < MMAP_MIN) return -EPERM
      if ((flags & MAP_FIXED_NOREPLACE) !== 0 && this.overlaps(addr, addr + len)) return -EEXIST
      return addr
    }
    if ((flags & MAP_32BIT) !== 0) {
      const low = findFree(this.vmas, len, 0x40000000, 0x80000000)
      return low < 0 ? -ENOMEM : low
    }
    if (addr !== 0) {
      const hint = Math.max(pageDown(addr), MMAP_MIN)
      if (hint <= this.taskSize - len && !this.overlaps(hint, hint + len)) return hint
    }
    let found = findFree(this.vmas, len, MMAP_MIN, this.searchTop())
    if (found < 0) found = findFree(this.vmas, len, this.mmapBase, this.taskSize)
    return found < 0 ? -ENOMEM : found
  }

  private searchTop(): number {
    let top = Math.min(this.fullDownTo, this.mmapBase)
    for (let i = vmaAfter(this.vmas, top - 1); i >= 0; i--) {
      const v = this.vmas[i]
      if (v === undefined || v.start >= top) continue
      if (v.end < top) break
      top = v.start
    }
    this.fullDownTo = top
    return top
  }

  private overlaps(start: number, end: number): boolean {
    const v = this.vmas[vmaAfter(this.vmas, start)]
    return v !== undefined && v.start < end
  }

  private checkLimits(t: Task, start: number, len: number, prot: number, shared: boolean, fixed: boolean): number {
    if (this.vmas.length >= MAX_MAPS) return -ENOMEM
    const soft = t.group.limits.soft
    if (soft[RLIMIT_AS] !== Number.POSITIVE_INFINITY) {
      const replaced = fixed ? this.mappedIn(start, start + len) : 0
      if (this.totalSize - replaced + len > soft[RLIMIT_AS]!) return -ENOMEM
    }
    if (!shared && (prot & PROT_WRITE) !== 0 && soft[RLIMIT_DATA] !== Number.POSITIVE_INFINITY) {
      let data = 0
      for (const v of this.vmas) if (!v.shared && (v.prot & PROT_WRITE) !== 0) data += v.end - v.start
      if (data + len > soft[RLIMIT_DATA]!) return -ENOMEM
    }
    return 0
  }

  private mappedIn(start: number, end: number): number {
    let total = 0
    for (let i = vmaAfter(this.vmas, start); i < this.vmas.length && this.vmas[i]!.start < end; i++) {
      const v = this.vmas[i]!
      total += Math.min(end, v.end) - Math.max(start, v.start)
    }
    return total
  }

  private insert(vma: Vma): void {
    const at = vmaAfter(this.vmas, vma.start)
    this.vmas.splice(at, 0, vma)
    mergeAround(this.vmas, at)
  }

  /** Takes [start, end) out of the list, splitting at the edges. The host side is the caller's. */
  private forget(start: number, end: number): void {
    const first = splitAt(this.vmas, start)
    const last = splitAt(this.vmas, end)
    for (let i = first; i < last; i++) {
      const file = this.vmas[i]!.file
      if (file !== null) file.unref()
    }
    this.vmas.splice(first, last - first)
    if (end > this.fullDownTo) this.fullDownTo = end
  }

  munmap(t: Task, addr: number, length: number): number {
    if (addr % PAGE !== 0 || length === 0 || addr > this.taskSize || length > this.taskSize - addr) return -EINVAL
    const len = pageUp(length)
    if (!this.overlaps(addr, addr + len)) return 0
    // Below is nothing of the guest's, but of the platform's.
    const from = Math.max(addr, MMAP_MIN)
    OPS.clear().unmap(from, addr + len - from)
    const err = this.change(t, 0, 0)
    if (err < 0) return err
    this.forget(addr, addr + len)
    return 0
  }

  mprotect(t: Task, addr: number, length: number, prot: number): number {
    if (addr % PAGE !== 0) return -EINVAL
    if (length === 0) return 0
    const len = pageUp(length)
    const end = addr + len
    if (addr > this.taskSize || len > this.taskSize - addr) return -ENOMEM
    if ((prot & ~(PROT_READ | PROT_WRITE | PROT_EXEC)) !== 0) return -EINVAL
    let at = addr
    for (let i = vmaAfter(this.vmas, addr); at < end; i++) {
      const v = this.vmas[i]
      if (v === undefined || v.start > at) break
      if (v.shared && v.file !== null && (prot & PROT_WRITE) !== 0 && !v.file.writable) return -EACCES
      at = v.end
    }
    // Linux changes what lies before a hole, then reports it.
    const reach = Math.min(at, end)
    if (reach > addr) {
      OPS.clear().protect(addr, reach - addr, prot)
      const err = this.change(t, 0, 0)
      if (err < 0) return err
      const first = splitAt(this.vmas, addr)
      const last = splitAt(this.vmas, reach)
      for (let i = first; i < last; i++) {
        const v = this.vmas[i]!
        v.prot = prot
        if (!v.shared && (prot & PROT_WRITE) !== 0) v.accounted = true
      }
      for (let i = last; i >= first; i--) mergeAround(this.vmas, i)
    }
    return at < end ? -ENOMEM : 0
  }

  mremap(t: Task, addr: number, oldLength: number, newLength: number, flags: number, newAddr: number): number {
    const MAYMOVE = 1
    const FIXED = 2
    const DONTUNMAP = 4
    if ((flags & ~(MAYMOVE | FIXED | DONTUNMAP)) !== 0) return -EINVAL
    if ((flags & FIXED) !== 0 && (flags & MAYMOVE) === 0) return -EINVAL
    if ((flags & DONTUNMAP) !== 0 && ((flags & MAYMOVE) === 0 || pageUp(oldLength) !== pageUp(newLength)))
      return -EINVAL
    if (addr % PAGE !== 0 || newLength === 0) return -EINVAL
    const oldLen = pageUp(oldLength)
    const newLen = pageUp(newLength)
    if (newLen > this.taskSize) return -EINVAL
    const vma = this.find(addr)
    if (vma === undefined) return -EFAULT
    if (oldLen === 0 && !vma.shared) return -EINVAL
    if ((flags & FIXED) !== 0) {
      if (newAddr % PAGE !== 0 || newAddr > this.taskSize - newLen) return -EINVAL
      if (newAddr < addr + oldLen && addr < newAddr + newLen) return -EINVAL
      if (newAddr < MMAP_MIN) return -EPERM
    } else if ((flags & DONTUNMAP) === 0) {
      if (newLen <= oldLen) {
        if (newLen < oldLen) {
          const err = this.munmap(t, addr + newLen, oldLen - newLen)
          if (err < 0) return err
        }
        return addr
      }
    }
    if (addr + oldLen > vma.end) return -EFAULT
    if (newLen > oldLen) {
      const err = this.checkLimits(t, addr, newLen - oldLen, vma.prot, vma.shared, false)
      if (err < 0) return err
      const grown = addr + newLen
      if (
        (flags & (FIXED | DONTUNMAP)) === 0 &&
        addr + oldLen === vma.end &&
        grown <= this.taskSize &&
        !this.overlaps(vma.end, grown)
      ) {
        OPS.clear().remap(addr, oldLen, newLen, 0, 0)
        if (this.space.apply(t.thread, OPS) === 0) {
          vma.end = grown
          mergeAround(this.vmas, this.vmas.indexOf(vma))
          return addr
        }
      }
    }
    if ((flags & MAYMOVE) === 0) return -ENOMEM
    const target = (flags & FIXED) !== 0 ? newAddr : this.place((flags & DONTUNMAP) !== 0 ? newAddr : 0, newLen, 0)
    if (target < 0) return target
    return this.move(t, vma, addr, oldLen, newLen, target, (flags & DONTUNMAP) !== 0)
  }

  private move(
    t: Task,
    vma: Vma,
    addr: number,
    oldLen: number,
    newLen: number,
    target: number,
    keepOld: boolean,
  ): number {
    const MAYMOVE_FIXED = 3
    if ((keepOld || oldLen === 0) && vma.file !== null && !vma.shared && keepOld) return -EINVAL
    OPS.clear().remap(addr, oldLen, newLen, keepOld ? MAYMOVE_FIXED | 4 : MAYMOVE_FIXED, target)
    const err = this.space.apply(t.thread, OPS)
    if (err < 0) return err
    const file = vma.file === null ? null : vma.file.ref()
    const offset = vma.file === null ? 0 : vma.offset + (addr - vma.start)
    const moved = new Vma(target, target + newLen, vma.prot, vma.shared, file, offset, vma.name)
    moved.accounted = vma.accounted
    if (!keepOld && oldLen > 0) this.forget(addr, addr + oldLen)
    this.forget(target, target + newLen)
    this.insert(moved)
    return target
  }

  /** madvise(2). */
  madvise(t: Task, addr: number, length: number, advice: number): number {
    if (addr % PAGE !== 0) return -EINVAL
    const len = pageUp(length)
    if (len < length || addr + len > 2 ** 53) return -EINVAL
    const kind = ADVICE[advice]
    if (kind === undefined) return -EINVAL
    if (len === 0) return 0
    const end = addr + len
    let at = addr
    let hole = false
    OPS.clear()
    for (let i = vmaAfter(this.vmas, addr); i < this.vmas.length && this.vmas[i]!.start < end; i++) {
      const v = this.vmas[i]!
      if (v.start > at) hole = true
      at = v.end
    }
    if (at < end) hole = true
    if (addr >= this.taskSize) return -ENOMEM
    if (kind !== IGNORED) {
      const stop = Math.min(end, this.taskSize)
      const from = Math.max(addr, MMAP_MIN)
      if (stop <= from) return -ENOMEM
      OPS.advise(from, stop - from, advice)
      const err = this.space.apply(t.thread, OPS)
      if (err < 0 && err !== -ENOMEM) return err
      if (kind !== NATIVE) this.markForkAdvice(addr, stop, advice)
    }
    return hole ? -ENOMEM : 0
  }

  private markForkAdvice(start: number, end: number, advice: number): void {
    const first = splitAt(this.vmas, start)
    const last = splitAt(this.vmas, end)
    for (let i = first; i < last; i++) {
      const v = this.vmas[i]!
      if (advice === MADV_DONTFORK) v.dontFork = true
      else if (advice === MADV_DOFORK) v.dontFork = false
      else if (advice === MADV_WIPEONFORK) v.wipeOnFork = true
      else v.wipeOnFork = false
    }
  }

  /** brk(2): the new break, or the old one when it cannot move. */
  brk(t: Task, wanted: number): number {
    if (wanted < this.brkStart || wanted > this.taskSize) return this.brkEnd
    const from = pageUp(this.brkEnd)
    const to = pageUp(wanted)
    if (wanted - this.brkStart + (this.dataEnd - this.dataStart) > t.group.limits.soft[RLIMIT_DATA]!) return this.brkEnd
    if (to > from) {
      if (this.overlaps(from, to + PAGE)) return this.brkEnd
      if (this.checkLimits(t, from, to - from, PROT_READ | PROT_WRITE, false, false) < 0) return this.brkEnd
      OPS.clear().mapAnonymous(from, to - from, PROT_READ | PROT_WRITE, MAP_PRIVATE)
      if (this.change(t, from, to) < 0) return this.brkEnd
      this.lateBreak = this.brkEnd
      this.insert(new Vma(from, to, PROT_READ | PROT_WRITE, false, null, 0, '[heap]'))
    } else if (to < from) {
      if (this.munmap(t, to, from - to) < 0) return this.brkEnd
    }
    this.brkEnd = wanted
    return wanted
  }

  /** Makes the pages of [addr, addr+len) present and writable, in the guest's own context. Best effort. */
  populate(thread: GuestThread, addr: number, len: number): void {
    if (addr >= this.taskSize || len > this.taskSize - addr) return
    const start = pageDown(addr)
    OPS.clear().advise(start, pageUp(addr + len) - start, MADV_POPULATE_WRITE)
    this.space.apply(thread, OPS)
  }

  /**
   * For exec: adds a mapping to the image of a space in which no task runs yet; {@link loadImage} makes them all at
   * once. Takes over `file`'s reference. At most MAX_OPS − 2 mappings.
   */
  addToImage(vma: Vma, hostFd: number): number {
    if (this.vmas.length === 0) OPS.clear()
    if (OPS.full) {
      if (vma.file !== null) vma.file.unref()
      return -ENOMEM
    }
    const flags = (vma.shared ? MAP_SHARED : MAP_PRIVATE) | (vma.name === '[stack]' ? MAP_NORESERVE | MAP_STACK : 0)
    const len = vma.end - vma.start
    if (hostFd < 0) {
      OPS.mapAnonymous(vma.start, len, vma.prot, flags)
    } else if (OPS.continues(this.imageRow, vma.start, flags, hostFd, vma.offset)) {
      // A donated descriptor costs more than a change of protection: one mapping for segments that continue each other.
      OPS.extend(this.imageRow, len)
      OPS.protect(vma.start, len, vma.prot)
    } else {
      this.imageRow = OPS.count
      OPS.mapFile(vma.start, len, vma.prot, flags, hostFd, vma.offset)
    }
    this.forget(vma.start, vma.end)
    this.insert(vma)
    return 0
  }
  /** The batch's row of the last file mapping; −1 = none. */
  private imageRow = -1
  loadImage(thread: GuestThread): number {
    return this.space.apply(thread, OPS)
  }
}

/** May `file` be mapped so? 0 or −errno, in Linux's order (do_mmap). */
function checkFile(file: FileDescription, prot: number, shared: boolean): number {
  if ((file.flags & 0o10000000) !== 0) return -EBADF
  if (!file.readable) return -EACCES
  if (shared && (prot & PROT_WRITE) !== 0 && !file.writable) return -EACCES
  const path = file.path
  if (path !== null && (path.mount.flags & MS_NOEXEC) !== 0 && (prot & PROT_EXEC) !== 0) return -EPERM
  return 0
}
