/**
 * Fids: the client's numbers for files that it has walked to or opened, as descriptors are a process's.
 */
import type { HostMemory } from '../../native/host-files.ts'
import { EBADF, EINVAL, ENFILE } from '../request.ts'
import type { Handle } from './handles.ts'

/** More than a guest's dentry cache holds; about 40 MB of our memory. */
const MAX_FIDS = 262_144

/** A fid made by Txattrwalk (its value is read) or Txattrcreate (its value is written, then set by Tclunk). */
export interface XattrTransfer {
  readonly writing: boolean
  readonly name: HostMemory | null
  readonly flags: number
  readonly value: HostMemory
  readonly size: number
  filled: number
}

export class Fid {
  /** What it refers to. Tlcreate exchanges it. */
  handle: Handle
  /** Who makes files by it: n_uname of the attach that it came from. */
  readonly uid: number
  /** −1: not open. May be the handle's own descriptor. */
  openFd = -1
  /** Where the open directory stands: d_off of the entry read last. */
  directoryLow = 0
  directoryHigh = 0
  xattr: XattrTransfer | null = null
  /** Whether Tlock was used on it. */
  hasLocks = false

  constructor(handle: Handle, uid: number) {
    this.handle = handle
    this.uid = uid
  }
}

export class FidTable {
  private readonly fids = new Map<number, Fid>()

  get(number: number): Fid | undefined {
    return this.fids.get(number)
  }

  /** 0, or why this number cannot be given to a new fid. */
  refuse(number: number): number {
    if (number === 0xffffffff) return -EBADF
    if (this.fids.has(number)) return -EINVAL
    return this.fids.size < MAX_FIDS ? 0 : -ENFILE
  }

  set(number: number, fid: Fid): void {
    this.fids.set(number, fid)
  }

  /** Takes the fid out; the caller releases it. */
  take(number: number): Fid | undefined {
    const fid = this.fids.get(number)
    if (fid !== undefined) this.fids.delete(number)
    return fid
  }

  takeAll(): Fid[] {
    const all = [...this.fids.values()]
    this.fids.clear()
    return all
  }
}
