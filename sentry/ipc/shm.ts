/**
 * System V shared memory (shmget(2), Linux: ipc/shm.c): a segment is an unlinked tmpfs file, an attachment a shared mapping
 * of it.
 *
 * Each shmat(2) makes its own description, whose references beyond the first are VMAs: they are shm_nattch. A segment
 * marked for removal goes with its last attachment.
 */
import { EINVAL, ENOMEM, ENOSPC, EPERM } from '../abi/errno.ts'
import { O_RDONLY, O_RDWR } from '../abi/fcntl.ts'
import {
  IPC_CREAT,
  SHM_DEST,
  SHM_EXEC,
  SHM_HUGETLB,
  SHM_LOCKED,
  SHM_RDONLY,
  SHM_REMAP,
  SHM_RND,
  SHMID_DS_SIZE,
  SHMMAX,
  SHMMNI,
} from '../abi/ipc.ts'
import { createShmemFile } from '../fs/tmpfs/shmem.ts'
import { readRealtime } from '../kernel/clock.ts'
import { CAP_IPC_LOCK } from '../kernel/credentials.ts'
import type { Task } from '../kernel/task.ts'
import { MAP_FIXED, MAP_SHARED, PROT_EXEC, PROT_READ, PROT_WRITE } from '../mm/vma.ts'
import { FileDescription } from '../vfs/file-description.ts'
import type { Inode } from '../vfs/inode.ts'
import { IpcIds, IpcObject, putU64 } from './ipc-ids.ts'

const PAGE = 4096
const now = (): number => readRealtime().sec

export class ShmSegment extends IpcObject {
  readonly size: number
  readonly file: FileDescription
  atime = 0
  dtime = 0
  readonly cpid: number
  lpid = 0
  attached = 0

  constructor(t: Task, key: number, flags: number, size: number, file: FileDescription) {
    super(t, key, flags, now())
    this.size = size
    this.file = file
    this.cpid = t.group.pid
  }

  get pages(): number {
    return Math.ceil(this.size / PAGE)
  }
  get dying(): boolean {
    return (this.mode & SHM_DEST) !== 0
  }

  encode(out: Buffer): number {
    out.fill(0, 0, SHMID_DS_SIZE)
    this.encodePerm(out)
    putU64(out, 48, this.size)
    putU64(out, 56, this.atime)
    putU64(out, 64, this.dtime)
    putU64(out, 72, this.ctime)
    out.writeInt32LE(this.cpid, 80)
    out.writeInt32LE(this.lpid, 84)
    putU64(out, 88, this.attached)
    return SHMID_DS_SIZE
  }
}

export const SHM = new IpcIds<ShmSegment>(SHMMNI)

/** One shmat(2). */
export class ShmAttachment extends FileDescription {
  readonly segment: ShmSegment

  constructor(segment: ShmSegment, readonly_: boolean) {
    super(readonly_ ? O_RDONLY : O_RDWR, segment.file.path)
    this.segment = segment
  }
  override get inode(): Inode {
    return this.segment.file.inode
  }
  override mmapFd(write: boolean): number {
    return this.segment.file.mmapFd(write)
  }
  /** A VMA begins to use it. */
  override ref(): this {
    this.segment.attached++
    this.segment.atime = now()
    return super.ref()
  }
  override unref(): void {
    this.segment.attached--
    this.segment.dtime = now()
    super.unref()
    if (this.segment.attached === 0 && this.segment.dying) destroy(this.segment)
  }
  /** shmat is done with its own reference, which no VMA holds. */
  settle(): void {
    super.unref()
  }
}

function destroy(s: ShmSegment): void {
  if (s.removed) return
  SHM.remove(s)
  s.file.unref()
}

export function shmget(t: Task, key: number, size: number, flags: number): number {
  return SHM.obtain(
    t,
    key,
    flags,
    (s) => (s.size < size ? -EINVAL : 0),
    () => {
      if (size < 1 || size > SHMMAX) return -EINVAL
      if (size > 2 ** 46) return -ENOSPC
      if ((flags & SHM_HUGETLB) !== 0 && (flags & IPC_CREAT) !== 0) return -ENOMEM
      const name = `SYSV${(key >>> 0).toString(16).padStart(8, '0')}`
      const file = createShmemFile(t, name, Math.ceil(size / PAGE) * PAGE, 0o777)
      if (typeof file === 'number') return file
      const s = new ShmSegment(t, key, flags, size, file)
      return s
    },
  )
}

/** Returns the address or −errno. */
export function shmat(t: Task, id: number, wanted: number, flags: number): number {
  if (id < 0) return -EINVAL
  let addr = wanted
  if (addr !== 0) {
    if (addr % PAGE !== 0) {
      if ((flags & SHM_RND) === 0) return -EINVAL
      addr -= addr % PAGE
      if (addr === 0 && (flags & SHM_REMAP) !== 0) return -EINVAL
    }
  } else if ((flags & SHM_REMAP) !== 0) return -EINVAL
  const segment = SHM.get(id)
  if (typeof segment === 'number') return segment
  let prot = PROT_READ
  let need = 0o444
  if ((flags & SHM_RDONLY) === 0) {
    prot |= PROT_WRITE
    need |= 0o222
  }
  if ((flags & SHM_EXEC) !== 0) {
    prot |= PROT_EXEC
    need |= 0o111
  }
  const denied = segment.access(t, need)
  if (denied !== 0) return denied
  const length = segment.pages * PAGE
  if (addr !== 0 && (flags & SHM_REMAP) === 0) {
    for (const v of t.mm.vmas) if (v.start < addr + length && addr < v.end) return -EINVAL
  }
  const file = new ShmAttachment(segment, (flags & SHM_RDONLY) !== 0)
  const at = t.mm.mmap(t, addr, length, prot, MAP_SHARED | (addr !== 0 ? MAP_FIXED : 0), file, 0)
  if (at >= 0) segment.lpid = t.group.pid
  file.settle()
  return at
}

export function shmdt(t: Task, addr: number): number {
  if (addr % PAGE !== 0) return -EINVAL
  const first = t.mm.vmas.find((v) => v.file instanceof ShmAttachment && v.start >= addr && v.start - addr === v.offset)
  if (first === undefined) return -EINVAL
  const file = first.file as ShmAttachment
  const end = addr + file.segment.pages * PAGE
  const parts = t.mm.vmas.filter((v) => v.file === file && v.start - addr === v.offset && v.end <= end)
  file.segment.lpid = t.group.pid
  // The pieces are copied: unmapping changes the list.
  for (const { start, size } of parts.map((v) => ({ start: v.start, size: v.end - v.start }))) {
    const err = t.mm.munmap(t, start, size)
    if (err < 0) return err
  }
  return 0
}

/** IPC_RMID: the key is free at once, the segment lives until nobody has it attached. */
export function removeSegment(t: Task, s: ShmSegment): number {
  const err = s.ownership(t)
  if (err !== 0) return err
  if (s.attached > 0) {
    s.mode |= SHM_DEST
    SHM.hideKey(s)
  } else destroy(s)
  return 0
}

/** SHM_LOCK and SHM_UNLOCK: remembered; the host decides what stays in memory. */
export function lockSegment(t: Task, s: ShmSegment, lock: boolean): number {
  if (!t.creds.capable(CAP_IPC_LOCK)) {
    if (t.creds.euid !== s.uid && t.creds.euid !== s.cuid) return -EPERM
    if (lock && t.group.limits.soft[8] === 0) return -EPERM
  }
  if (lock) s.mode |= SHM_LOCKED
  else s.mode &= ~SHM_LOCKED
  return 0
}
