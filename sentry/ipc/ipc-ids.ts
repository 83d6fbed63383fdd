/**
 * Identifiers and permissions that System V shared memory, semaphores and message queues share (Linux: ipc/util.c).
 *
 * An id is sequence · 32768 + index; indexes are given out in a cycle, so that a stale id of a removed object is not soon
 * an id of another.
 */
import { EACCES, EEXIST, EIDRM, EINVAL, ENOENT, ENOSPC, EPERM } from '../abi/errno.ts'
import { IPC_CREAT, IPC_EXCL, IPC_PERM_SIZE, IPC_PRIVATE } from '../abi/ipc.ts'
import { CAP_IPC_OWNER, CAP_SYS_ADMIN } from '../kernel/credentials.ts'
import type { Task } from '../kernel/task.ts'

const SEQ_STEP = 32768
const MAX_SEQ = 0xffff
/** Indexes wrap at least this late (RADIX_TREE_MAP_SIZE). */
const MIN_CYCLE = 64

/** What every object has: struct kern_ipc_perm. */
export abstract class IpcObject {
  key: number
  id = 0
  seq = 0
  uid: number
  gid: number
  readonly cuid: number
  readonly cgid: number
  mode: number
  /** Removed: those who still hold the object answer −EIDRM. */
  removed = false
  /** Seconds since the epoch. */
  ctime: number

  constructor(t: Task, key: number, flags: number, now: number) {
    this.key = key
    this.uid = t.creds.euid
    this.gid = t.creds.egid
    this.cuid = this.uid
    this.cgid = this.gid
    this.mode = flags & 0o777
    this.ctime = now
  }

  /** ipcperms(): 0 or −EACCES. `flags` holds the wanted bits in any of the three classes. */
  access(t: Task, flags: number): number {
    const wanted = ((flags >> 6) | (flags >> 3) | flags) & 7
    const c = t.creds
    let granted = this.mode
    if (c.euid === this.cuid || c.euid === this.uid) granted >>= 6
    else if (inEffectiveGroup(t, this.cgid) || inEffectiveGroup(t, this.gid)) granted >>= 3
    return (wanted & ~granted) !== 0 && !c.capable(CAP_IPC_OWNER) ? -EACCES : 0
  }

  /** IPC_SET and IPC_RMID: 0 or −EPERM. */
  ownership(t: Task): number {
    const uid = t.creds.euid
    return uid === this.cuid || uid === this.uid || t.creds.capable(CAP_SYS_ADMIN) ? 0 : -EPERM
  }

  /** Writes struct ipc64_perm. */
  encodePerm(out: Buffer): void {
    out.fill(0, 0, IPC_PERM_SIZE)
    out.writeInt32LE(this.key, 0)
    out.writeUInt32LE(this.uid, 4)
    out.writeUInt32LE(this.gid, 8)
    out.writeUInt32LE(this.cuid, 12)
    out.writeUInt32LE(this.cgid, 16)
    out.writeUInt32LE(this.mode, 20)
    out.writeUInt16LE(this.seq, 24)
  }

  /** IPC_SET: owner and permission bits from a struct ipc64_perm. 0 or −EINVAL. */
  setPerm(from: Buffer): number {
    const uid = from.readUInt32LE(4)
    const gid = from.readUInt32LE(8)
    if (uid === 0xffffffff || gid === 0xffffffff) return -EINVAL
    this.uid = uid
    this.gid = gid
    this.mode = (this.mode & ~0o777) | (from.readUInt32LE(20) & 0o777)
    return 0
  }
}

const inEffectiveGroup = (t: Task, gid: number): boolean => t.creds.egid === gid || t.creds.groups.includes(gid)

export class IpcIds<T extends IpcObject> {
  private readonly slots: (T | undefined)[] = []
  private readonly byKey = new Map<number, T>()
  private readonly max: number
  private lastIndex = -1
  private seq = 0
  used = 0

  constructor(max: number) {
    this.max = max
  }

  /** Gives `object` an id and enters its key. Returns the id or −ENOSPC. */
  add(object: T): number {
    if (this.used >= this.max) return -ENOSPC
    const cycle = Math.min(Math.max(Math.floor((this.used * 3) / 2), MIN_CYCLE), this.max)
    let index = this.freeFrom(this.lastIndex + 1, cycle)
    if (index < 0) index = this.freeFrom(0, this.max)
    if (index <= this.lastIndex) this.seq = this.seq >= MAX_SEQ - 1 ? 0 : this.seq + 1
    this.lastIndex = index
    this.slots[index] = object
    object.seq = this.seq
    object.id = this.seq * SEQ_STEP + index
    if (object.key !== IPC_PRIVATE) this.byKey.set(object.key, object)
    this.used++
    return object.id
  }

  private freeFrom(from: number, end: number): number {
    for (let i = from; i < end; i++) if (this.slots[i] === undefined) return i
    return -1
  }

  /** The object of an id, or −EINVAL, or −EIDRM for an id of an earlier user of the slot. */
  get(id: number): T | number {
    if (id < 0) return -EINVAL
    const o = this.slots[id % SEQ_STEP]
    if (o === undefined) return -EINVAL
    return o.id === id ? o : -EIDRM
  }
  /** By index, for the *_STAT commands. */
  at(index: number): T | number {
    return index < 0 ? -EINVAL : (this.slots[index % SEQ_STEP] ?? -EINVAL)
  }
  find(key: number): T | undefined {
    return this.byKey.get(key)
  }

  remove(o: T): void {
    this.hideKey(o)
    if (this.slots[o.id % SEQ_STEP] !== o) return
    this.slots[o.id % SEQ_STEP] = undefined
    o.removed = true
    this.used--
    while (this.slots.length > 0 && this.slots[this.slots.length - 1] === undefined) this.slots.pop()
  }
  /** The key names nothing any more, though the object lives on (shared memory that is still attached). */
  hideKey(o: T): void {
    if (this.byKey.get(o.key) === o) this.byKey.delete(o.key)
    o.key = IPC_PRIVATE
  }

  /** Highest index in use; 0 when there is none (what the *_INFO commands return). */
  get highest(): number {
    return Math.max(0, this.slots.length - 1)
  }
  *all(): Generator<T> {
    for (const o of this.slots) if (o !== undefined) yield o
  }

  /**
   * ipcget(): finds or makes the object of `key`. `check` looks at an existing one, `make` builds a new one.
   */
  obtain(t: Task, key: number, flags: number, check: (o: T) => number, make: () => T | number): number {
    if (key !== IPC_PRIVATE) {
      const found = this.byKey.get(key)
      if (found !== undefined) {
        if ((flags & IPC_CREAT) !== 0 && (flags & IPC_EXCL) !== 0) return -EEXIST
        const err = check(found)
        if (err !== 0) return err
        return found.access(t, flags) === 0 ? found.id : -EACCES
      }
      if ((flags & IPC_CREAT) === 0) return -ENOENT
    }
    if (this.used >= this.max) return -ENOSPC
    const o = make()
    return typeof o === 'number' ? o : this.add(o)
  }
}

/** Puts a count of seconds or bytes as u64. */
export function putU64(out: Buffer, at: number, v: number): void {
  out.writeUInt32LE((v % 0x1_0000_0000) >>> 0, at)
  out.writeUInt32LE(Math.floor(v / 0x1_0000_0000) >>> 0, at + 4)
}
