/**
 * The wire between a sentry (client) and its gofer (server): frames on a SOCK_SEQPACKET socket, one request or one
 * response each, at most MAX_FRAME bytes. One request is outstanding at a time; the response repeats its id. A
 * descriptor may travel with a frame (SCM_RIGHTS).
 *
 *   request    u32 id · u16 type (messages.ts) · u16 mount · fields of the type
 *   response   u32 id · i32 result (≥ 0 or −errno) · fields of the type when result ≥ 0
 *
 *   path       u16 length · bytes · NUL: components from the mount's root joined by '/', none of them '', '.' or '..'
 *   text       u16 length · bytes · NUL (may hold anything but NUL)
 *   blob       u16 length · bytes
 *   time       f64 seconds · u32 nanoseconds
 *   stat       the first STAT_SIZE bytes of struct statx
 *
 * Everything is little-endian. Both sides check what they decode: the reader never leaves the frame, remembers that it
 * would have had to, and `ok` says so at the end. What must stay true: a frame is decoded from memory that the peer
 * cannot change any more.
 */

export const PROTOCOL_VERSION = 1
export const MAX_FRAME = 65536
export const HEADER_SIZE = 8
/** struct statx up to and without stx_mnt_id. */
export const STAT_SIZE = 144
/** Longest path in a frame. Deeper trees exist, but not in a kernel that still answers getcwd(2). */
export const MAX_PATH_BYTES = 16384
export const MAX_NAME = 255
/** Names that READDIR takes as `beside`. */
export const MAX_BESIDE = 64
/** How deep READDIR goes below the directory that it was asked for. */
export const MAX_DEPTH_BELOW = 16
/** CPU numbers that PLACE may name: bits of a cpu_set_t. */
export const MAX_CPUS = 1024
/** Components that one WALK may ask for. */
export const MAX_WALK = 64

/** WALK: do not open what is found. */
export const NO_OPEN = 0xffffffff
/** WALK stop: everything was found; the last component found is a symbolic link and its target follows; −errno: the next component failed so. */
export const WALK_COMPLETE = 0
export const WALK_SYMLINK = 1

/** The bits of OPEN's flags that the gofer takes. */
export const OPEN_FLAGS_ALLOWED = 3 /* O_ACCMODE */ | 0o1000 /* O_TRUNC */

export const MOUNT_READONLY = 1
export const MOUNT_DIRECTORY = 2
/** Names and attributes may change behind the sentry's back. */
export const MOUNT_SHARED = 4

export const ATTR_MODE = 1
export const ATTR_UID = 2
export const ATTR_GID = 4
export const ATTR_SIZE = 8
export const ATTR_ATIME = 16
export const ATTR_MTIME = 32
export const ATTR_ALL = 63

/** Up to here a loop is faster than the call of a library function. */
const SHORT = 40

/** Puts fields one after the other. `ok` turns false where they would not fit; nothing is written from then on. */
export class FrameWriter {
  readonly bytes: Buffer
  private readonly view: DataView
  pos = 0
  ok = true

  constructor(bytes: Buffer) {
    this.bytes = bytes
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  }

  private room(n: number): boolean {
    if (this.pos + n <= MAX_FRAME && this.ok) return true
    this.ok = false
    return false
  }

  request(id: number, type: number, mount: number): this {
    this.pos = 0
    this.ok = true
    return this.u32(id).u16(type).u16(mount)
  }

  /** The result is filled in by {@link setResult}. */
  response(id: number): this {
    this.pos = 0
    this.ok = true
    return this.u32(id).i32(0)
  }

  setResult(result: number): void {
    this.view.setInt32(4, result, true)
  }

  u16(value: number): this {
    if (this.room(2)) this.view.setUint16(this.pos, value, true)
    this.pos += 2
    return this
  }
  u32(value: number): this {
    if (this.room(4)) this.view.setUint32(this.pos, value, true)
    this.pos += 4
    return this
  }
  i32(value: number): this {
    if (this.room(4)) this.view.setInt32(this.pos, value, true)
    this.pos += 4
    return this
  }
  f64(value: number): this {
    if (this.room(8)) this.view.setFloat64(this.pos, value, true)
    this.pos += 8
    return this
  }

  /** Also a path: the caller vouches for its form. */
  text(s: string): this {
    this.u16(s.length & 0xffff)
    if (s.length <= 0xffff && this.room(s.length + 1)) {
      this.bytes.write(s, this.pos, 'latin1')
      this.bytes[this.pos + s.length] = 0
    } else this.ok = false
    this.pos += s.length + 1
    return this
  }

  blob(data: Uint8Array): this {
    this.u16(data.length & 0xffff)
    if (data.length <= 0xffff && this.room(data.length)) this.bytes.set(data, this.pos)
    else this.ok = false
    this.pos += data.length
    return this
  }

  /** Copies fields that lie in another buffer, without a length. */
  copy(from: Uint8Array, start: number, length: number): this {
    if (this.room(length)) {
      if (length > SHORT) this.bytes.set(from.subarray(start, start + length), this.pos)
      else for (let i = 0; i < length; i++) this.bytes[this.pos + i] = from[start + i]!
    }
    this.pos += length
    return this
  }

  /** Overwrites the last `length` bytes. */
  replace(from: Uint8Array, start: number, length: number): void {
    if (this.ok) this.bytes.set(from.subarray(start, start + length), this.pos - length)
  }

  /** Counts bytes that were put here by address. */
  advance(length: number): this {
    this.room(length)
    this.pos += length
    return this
  }

  /** Bytes that can still be written. */
  get left(): number {
    return MAX_FRAME - this.pos
  }
  patchU16(at: number, value: number): void {
    this.view.setUint16(at, value, true)
  }
  patchU32(at: number, value: number): void {
    this.view.setUint32(at, value, true)
  }
  patchI32(at: number, value: number): void {
    this.view.setInt32(at, value, true)
  }
}

/** Takes fields one after the other. Reading past the end yields zeros and turns `ok` false. */
export class FrameReader {
  readonly bytes: Buffer
  readonly view: DataView
  pos = 0
  end = 0
  ok = true

  constructor(bytes: Buffer) {
    this.bytes = bytes
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  }

  start(length: number): void {
    this.pos = 0
    this.end = length
    this.ok = true
  }

  private take(n: number): number {
    const at = this.pos
    if (n > this.end - at) {
      this.ok = false
      this.pos = this.end
      return -1
    }
    this.pos = at + n
    return at
  }

  u16(): number {
    const at = this.take(2)
    return at < 0 ? 0 : this.view.getUint16(at, true)
  }
  u32(): number {
    const at = this.take(4)
    return at < 0 ? 0 : this.view.getUint32(at, true)
  }
  i32(): number {
    const at = this.take(4)
    return at < 0 ? 0 : this.view.getInt32(at, true)
  }
  f64(): number {
    const at = this.take(8)
    return at < 0 ? 0 : this.view.getFloat64(at, true)
  }

  /** Skips `length` bytes and returns where they begin, or −1. */
  skip(length: number): number {
    return this.take(length)
  }

  /**
   * Takes a text and returns where it begins; its length is then in `textLength`. 0 bytes long and `ok` false if it
   * leaves the frame, is not terminated or holds a NUL.
   */
  textAt(): number {
    const length = this.u16()
    const at = this.take(length + 1)
    this.textLength = 0
    if (at < 0) return 0
    if (indexOfNul(this.bytes, at, length) !== at + length) {
      this.ok = false
      return 0
    }
    this.textLength = length
    return at
  }
  textLength = 0

  text(): string {
    const at = this.textAt()
    return this.bytes.toString('latin1', at, at + this.textLength)
  }

  /** A copy. */
  blob(): Uint8Array {
    const length = this.u16()
    const at = this.take(length)
    return at < 0 ? new Uint8Array(0) : new Uint8Array(this.bytes.subarray(at, at + length))
  }

  /** Everything was there and nothing is left. */
  get complete(): boolean {
    return this.ok && this.pos === this.end
  }
}

/** Where the first NUL in bytes [at, at + length] of a text is, or beyond: −1 or a later place. */
function indexOfNul(bytes: Buffer, at: number, length: number): number {
  if (length > SHORT) return bytes.indexOf(0, at)
  for (let i = at; i <= at + length; i++) if (bytes[i] === 0) return i
  return -1
}

const SLASH = 47
const DOT = 46

/**
 * Whether bytes [at, at + length) form a path of the wire: no empty, '.' or '..' component, none longer than MAX_NAME,
 * no NUL. The empty path is the mount's root. 0 or the errno that it deserves, positive.
 */
export function checkPath(bytes: Uint8Array, at: number, length: number): number {
  if (length === 0) return 0
  if (length > MAX_PATH_BYTES) return ENAMETOOLONG
  const end = at + length
  let start = at
  for (let i = at; i <= end; i++) {
    const c = i === end ? SLASH : bytes[i]!
    if (c === 0) return EINVAL
    if (c !== SLASH) continue
    const n = i - start
    if (n === 0 || (n === 1 && bytes[start] === DOT)) return EINVAL
    if (n === 2 && bytes[start] === DOT && bytes[start + 1] === DOT) return EINVAL
    if (n > MAX_NAME) return ENAMETOOLONG
    start = i + 1
  }
  return 0
}
/* Not from sentry/abi: the gofer imports nothing of the kernel it distrusts. */
const EINVAL = 22
const ENAMETOOLONG = 36
