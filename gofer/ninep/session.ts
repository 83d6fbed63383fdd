/**
 * One 9P connection: its fids, locks and negotiated size, and the message being served. Handlers take all fields first,
 * then ask `refuse*`, and only then touch files; they put the response's fields and return 0 or −errno.
 *
 * What must stay true: each message gets exactly one answer, whatever it holds, and nothing a session opened outlives it.
 */
import { write } from '../../native/host.ts'
import type { HostMemory } from '../../native/host-files.ts'
import { isName, MessageReader, MessageWriter } from '../guest/codec.ts'
import type { Conversation } from '../guest/connection.ts'
import type { Descriptors } from '../guest/descriptors.ts'
import { LockTable } from '../guest/locks.ts'
import { MAX_NAME, scratch } from '../guest/scratch.ts'
import { EBADF, EINVAL, EIO, ENAMETOOLONG, EOPNOTSUPP, EPROTO, EROFS } from '../request.ts'
import type { Resolver } from '../resolve.ts'
import { type Fid, FidTable } from './fids.ts'
import type { Handle } from './handles.ts'
import { lockKey } from './locks.ts'
import { HEADER_SIZE, MIN_MSIZE, RLERROR, TVERSION } from './wire.ts'

export type Handler = (s: Session) => number

/** What the sessions of a gofer share. */
export interface Exports {
  readonly resolver: Resolver
  readonly descriptors: Descriptors
  /** Roots by mount id. */
  readonly roots: ReadonlyMap<number, Handle>
  /** By message type. */
  readonly handlers: readonly (Handler | undefined)[]
}

/** Values of extended attributes in transfer, per session: sixteen of the largest. */
const MAX_XATTR_BYTES = 16 * 65536

export class Session implements Conversation {
  readonly least = HEADER_SIZE
  readonly shared: Exports
  readonly r: MessageReader
  readonly w: MessageWriter
  readonly fids = new FidTable()
  readonly locks: LockTable
  /** 0 until Tversion agreed on one. */
  msize = 0
  xattrBytes = 0
  private nameError = 0

  constructor(shared: Exports, input: HostMemory, output: HostMemory) {
    this.shared = shared
    this.r = new MessageReader(input)
    this.w = new MessageWriter(output)
    this.locks = new LockTable(shared.descriptors)
  }

  /** Largest message that may arrive. */
  get limit(): number {
    return this.msize === 0 ? MIN_MSIZE : this.msize
  }

  /** Serves the message of `size` ≥ HEADER_SIZE bytes at `at` of the input; puts the response behind `w.pos`. */
  serve(at: number, size: number): void {
    const { r, w } = this
    const type = r.memory.bytes[at + 4]!
    const tag = r.memory.view.getUint16(at + 5, true)
    const start = w.pos
    r.start(at + HEADER_SIZE, at + size)
    w.pos = start + HEADER_SIZE
    this.nameError = 0
    const result = this.dispatch(type)
    if (result < 0) {
      w.pos = start + HEADER_SIZE
      w.u32(-result)
    }
    const end = w.pos
    w.pos = start
    w.u32(end - start)
      .u8(result < 0 ? RLERROR : type + 1)
      .u16(tag)
    w.pos = end
  }

  private dispatch(type: number): number {
    const handler = this.shared.handlers[type]
    if (handler === undefined) return -EOPNOTSUPP
    if (this.msize === 0 && type !== TVERSION) return -EPROTO
    try {
      return handler(this)
    } catch (error) {
      // Our bug; one message is lost, not the container.
      const line = Buffer.from(`gofer: 9P message ${type}: ${(error as Error).stack}\n`)
      write(2, line, line.length)
      return -EIO
    }
  }

  /** Takes a name for something in a directory into scratch memory: its address. {@link refuse} says if it is none. */
  takeName(at: number): number {
    const n = this.r.copyText(scratch.bytes, at, MAX_NAME)
    if (n < 0) this.nameError ||= this.r.length > MAX_NAME ? ENAMETOOLONG : EINVAL
    else if (!isName(scratch.bytes, at, n)) this.nameError ||= EINVAL
    return scratch.at(at)
  }

  /** 0, or why the message is refused: it is malformed, or its fid is not there or not for this. */
  refuse(fid: Fid | undefined): number {
    if (!this.r.complete) return -EPROTO
    if (this.nameError !== 0) return -this.nameError
    return fid === undefined || fid.xattr !== null ? -EBADF : 0
  }

  /** The same of a message that changes something. */
  refuseChange(fid: Fid | undefined): number {
    const error = this.refuse(fid)
    return error !== 0 || !fid!.handle.root.mount.readonly ? error : -EROFS
  }

  /** In the middle of a message: a name that is none. */
  get badName(): number {
    return -this.nameError
  }

  /** Closes what the fid held. */
  release(fid: Fid): void {
    const { handle, openFd } = fid
    if (fid.hasLocks) this.locks.release(lockKey(handle), fid)
    if (openFd >= 0 && openFd !== handle.fd) this.shared.descriptors.close(openFd)
    if (fid.xattr !== null) this.xattrBytes -= fid.xattr.size
    handle.release()
  }

  /** Whether `size` more bytes of attribute values may be kept. */
  reserveXattr(size: number): boolean {
    if (this.xattrBytes + size > MAX_XATTR_BYTES) return false
    this.xattrBytes += size
    return true
  }

  /** Forgets everything: Tversion, or the end. */
  reset(): void {
    for (const fid of this.fids.takeAll()) this.release(fid)
  }
}
