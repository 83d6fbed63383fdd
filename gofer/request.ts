/**
 * The request being served: decoded header, the frame's fields, and what the handlers share. One object, reused.
 *
 * Handlers take all fields first, then ask `refuse*`, which says whether the frame was well-formed and the operation is
 * one that this mount allows; only then do they touch the file system.
 */
import { closeFd, type HostMemory, STATX_BASIC_AND_BTIME, STATX_OFFSET, statxAt } from '../native/host-files.ts'
import { checkPath, type FrameReader, type FrameWriter, STAT_SIZE } from './protocol.ts'
import { Place, type Resolver, type ServedMount } from './resolve.ts'

export const EPERM = 1
export const ENOENT = 2
export const EINTR = 4
export const EIO = 5
export const ENXIO = 6
export const EBADF = 9
export const EAGAIN = 11
export const ENOMEM = 12
export const EEXIST = 17
export const EXDEV = 18
export const ENOTDIR = 20
export const EISDIR = 21
export const EINVAL = 22
export const ENFILE = 23
export const EFBIG = 27
export const EROFS = 30
export const ERANGE = 34
export const ENAMETOOLONG = 36
export const ENOLCK = 37
export const ENOSYS = 38
export const ELOOP = 40
export const ENODATA = 61
export const EPROTO = 71
export const EOVERFLOW = 75
export const EMSGSIZE = 90
export const EOPNOTSUPP = 95
export const ESTALE = 116
export const E2BIG = 7

export const S_IFMT = 0o170000
export const S_IFSOCK = 0o140000
export const S_IFLNK = 0o120000
export const S_IFREG = 0o100000
export const S_IFBLK = 0o060000
export const S_IFDIR = 0o040000
export const S_IFCHR = 0o020000
export const S_IFIFO = 0o010000

/** Scratch memory: a struct statx first, then room for directory entries, link texts and the like. */
export const SCRATCH_STAT = 0
export const SCRATCH_DATA = 512
export const SCRATCH_DATA_SIZE = 16384
export const SCRATCH_LINK = SCRATCH_DATA + SCRATCH_DATA_SIZE
export const SCRATCH_LINK_SIZE = 4096
export const SCRATCH_EMPTY = SCRATCH_LINK + SCRATCH_LINK_SIZE
/** What {@link listEntries} says of its entries. */
export const SCRATCH_LISTED = SCRATCH_EMPTY + 16
export const SCRATCH_SIZE = SCRATCH_LISTED + 16

/** A path of the frame. */
export interface PathField {
  at: number
  length: number
}

export class Request {
  readonly resolver: Resolver
  readonly r: FrameReader
  readonly w: FrameWriter
  /** The received frame. */
  readonly frame: HostMemory
  /** The frame to be sent. */
  readonly out: HostMemory
  readonly scratch: HostMemory
  /** Ids of the mounts that we serve, as statx shows them: what a descriptor from the sentry must lie on. */
  readonly mountIds: ReadonlySet<bigint>
  mount: ServedMount
  readonly first: PathField = { at: 0, length: 0 }
  readonly second: PathField = { at: 0, length: 0 }
  readonly place = new Place()
  readonly otherPlace = new Place()
  /** To be sent along with the response, then closed. −1: none. */
  donated = -1
  /** What came along with the request. −1: none. */
  received = -1
  private pathError = 0

  constructor(
    resolver: Resolver,
    r: FrameReader,
    w: FrameWriter,
    frame: HostMemory,
    out: HostMemory,
    scratch: HostMemory,
    mount: ServedMount,
    mountIds: ReadonlySet<bigint>,
  ) {
    this.resolver = resolver
    this.r = r
    this.w = w
    this.frame = frame
    this.out = out
    this.scratch = scratch
    this.mount = mount
    this.mountIds = mountIds
  }

  begin(mount: ServedMount, received: number): void {
    this.mount = mount
    this.received = received
    this.donated = -1
    this.pathError = 0
  }

  /** Closes what the request held. */
  end(): void {
    this.place.release()
    this.otherPlace.release()
    if (this.received >= 0) closeFd(this.received)
    if (this.donated >= 0) closeFd(this.donated)
  }

  takePath(into: PathField): void {
    into.at = this.r.textAt()
    into.length = this.r.textLength
    if (this.pathError === 0) this.pathError = checkPath(this.r.bytes, into.at, into.length)
  }

  /** 0, or why a request that only reads is refused. */
  refuseRead(): number {
    if (!this.r.complete) return -EPROTO
    return -this.pathError
  }

  /** 0, or why a request that changes something is refused. */
  refuseChange(): number {
    if (!this.r.complete) return -EPROTO
    if (this.pathError !== 0) return -this.pathError
    return this.mount.readonly ? -EROFS : 0
  }

  /** 0, or why a request that makes or removes the name `path` is refused: a mount's root is not ours to name. */
  refuseNaming(path: PathField): number {
    return this.refuseChange() || (path.length === 0 ? -EINVAL : 0)
  }

  resolve(path: PathField, place: Place): number {
    return this.resolver.parent(place, this.mount, this.frame, path.at, path.length)
  }

  pathString(path: PathField): string {
    return this.frame.bytes.toString('latin1', path.at, path.at + path.length)
  }

  /** statx into the scratch memory. */
  stat(dirfd: number, name: number, flags: number, mask = STATX_BASIC_AND_BTIME): number {
    return statxAt(dirfd, name, flags, mask, this.scratch.at(SCRATCH_STAT))
  }
  /** Of the last {@link stat}. */
  get mode(): number {
    return this.scratch.view.getUint16(SCRATCH_STAT + STATX_OFFSET.mode, true)
  }
  get uid(): number {
    return this.scratch.view.getUint32(SCRATCH_STAT + STATX_OFFSET.uid, true)
  }
  get gid(): number {
    return this.scratch.view.getUint32(SCRATCH_STAT + STATX_OFFSET.gid, true)
  }

  /** Puts the last {@link stat} into the response. */
  putStat(): void {
    this.w.copy(this.scratch.bytes, SCRATCH_STAT, STAT_SIZE)
  }

  get emptyString(): number {
    return this.scratch.at(SCRATCH_EMPTY)
  }
}
