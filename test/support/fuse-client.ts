/**
 * A FUSE kernel for tests: one call per request, synchronous, over one connection of a gofer. It shares no code with the
 * server but the numbers of wire.ts. Each call returns ≥ 0 or −errno.
 */
import * as wire from '../../gofer/fuse/wire.ts'
import { FramedClient, u32, u64 } from './framed-client.ts'
import type { GoferChild } from './gofer-child.ts'
import { startVmGofer } from './vm-gofer.ts'

export { u32, u64 }
export const cstr = (s: string | Uint8Array): Buffer => Buffer.concat([Buffer.from(s as string), Buffer.alloc(1)])

export function request(opcode: number, unique: number, node: number, fields: Uint8Array[], uid = 0, gid = 0): Buffer {
  const body = Buffer.concat(fields)
  const header = [u32(body.length + 40), u32(opcode), u64(unique), u64(node), u32(uid), u32(gid), u32(1), u32(0)]
  return Buffer.concat([...header, body])
}

export interface Attributes {
  ino: number
  size: number
  blocks: number
  mtime: number
  mtimeNs: number
  mode: number
  nlink: number
  uid: number
  gid: number
  rdev: number
}
export interface Entry {
  node: number
  valid: number
  attributes: Attributes
}
export interface DirectoryEntry {
  entry: Entry | null
  ino: number
  offset: bigint
  type: number
  name: string
}

/** F_RDLCK 0, F_WRLCK 1, F_UNLCK 2. */
export interface LockRequest {
  handle: number
  owner: number
  type: number
  start?: number
  last?: number | bigint
  flock?: boolean
  pid?: number
}

const ALL_FLAGS = 0x7fff_ffff

export class FuseClient extends FramedClient {
  /** Fields of the last answer. */
  body: Buffer = Buffer.alloc(0)
  private at = 0
  private unique = 0
  uid = 0
  gid = 0

  /** A request that has no answer. */
  tell(opcode: number, node: number, ...fields: Uint8Array[]): void {
    this.send(request(opcode, ++this.unique, node, fields, this.uid, this.gid))
  }

  /** One request and its answer: 0, or −errno. */
  call(opcode: number, node: number, ...fields: Uint8Array[]): number {
    this.tell(opcode, node, ...fields)
    const m = this.receive()
    if (m === null) throw new Error('the gofer closed the connection')
    if (Number(m.readBigUInt64LE(8)) !== this.unique) throw new Error(`answer to ${m.readBigUInt64LE(8)}`)
    this.body = m.subarray(16)
    this.at = 0
    const error = m.readInt32LE(4)
    if (error > 0 || error <= -512) throw new Error(`error ${error}: the kernel would not take it`)
    if (error !== 0 && m.length !== 16) throw new Error('an error with fields')
    return error
  }

  private take32(): number {
    this.at += 4
    return this.body.readUInt32LE(this.at - 4)
  }
  private takeBig(): bigint {
    this.at += 8
    return this.body.readBigUInt64LE(this.at - 8)
  }
  private take64(): number {
    return Number(this.takeBig())
  }
  private takeAttributes(): Attributes {
    const [ino, size, blocks] = [this.take64(), this.take64(), this.take64()]
    this.take64()
    const mtime = this.take64()
    this.take64()
    this.take32()
    const mtimeNs = this.take32()
    this.take32()
    const [mode, nlink, uid, gid, rdev] = [this.take32(), this.take32(), this.take32(), this.take32(), this.take32()]
    this.take32()
    this.take32()
    return { ino, size, blocks, mtime, mtimeNs, mode, nlink, uid, gid, rdev }
  }
  private takeEntry(): Entry {
    const node = this.take64()
    this.take64()
    const valid = this.take64()
    this.take64()
    this.take64()
    return { node, valid, attributes: this.takeAttributes() }
  }
  private entry(error: number): Entry | number {
    return error || this.takeEntry()
  }
  get complete(): boolean {
    return this.at === this.body.length
  }

  /** The flags that were agreed on. */
  init(minor = wire.MINOR, flags = ALL_FLAGS, major = wire.MAJOR): number {
    const error = this.call(wire.INIT, 0, u32(major), u32(minor), u32(131072), u32(flags), Buffer.alloc(48))
    if (error) return error
    const answered = [this.take32(), this.take32()]
    if (answered[0] !== wire.MAJOR || answered[1]! > minor || this.body.length !== 64) throw new Error('FUSE_INIT')
    this.take32()
    return this.take32()
  }
  lookup(node: number, name: string | Uint8Array): Entry | number {
    return this.entry(this.call(wire.LOOKUP, node, cstr(name)))
  }
  /** Its node, or −errno; −2 for what is known not to be there. */
  find(node: number, name: string): number {
    const e = this.lookup(node, name)
    return typeof e === 'number' ? e : e.node || -2
  }
  forget(node: number, lookups = 1): void {
    this.tell(wire.FORGET, node, u64(lookups))
  }
  forgetAll(nodes: readonly number[]): void {
    this.tell(wire.BATCH_FORGET, 0, u32(nodes.length), u32(0), ...nodes.flatMap((n) => [u64(n), u64(1)]))
  }
  getattr(node: number, flags = 0): Attributes | number {
    const error = this.call(wire.GETATTR, node, u32(flags), u32(0), u64(0))
    if (error) return error
    this.take64()
    this.take64()
    return this.takeAttributes()
  }
  setattr(
    node: number,
    valid: number,
    a: { mode?: number; uid?: number; gid?: number; size?: number | bigint; mtime?: number; mtimeNs?: number } = {},
  ): Attributes | number {
    const error = this.call(
      wire.SETATTR,
      node,
      ...[u32(valid), u32(0), u64(0), u64(a.size ?? 0), u64(0), u64(0), u64(a.mtime ?? 0), u64(0)],
      ...[u32(0), u32(a.mtimeNs ?? 0), u32(0), u32(a.mode ?? 0), u32(0), u32(a.uid ?? 0), u32(a.gid ?? 0), u32(0)],
    )
    if (error) return error
    this.take64()
    this.take64()
    return this.takeAttributes()
  }
  mkdir(node: number, name: string, mode: number): Entry | number {
    return this.entry(this.call(wire.MKDIR, node, u32(mode), u32(0), cstr(name)))
  }
  mknod(node: number, name: string, mode: number, rdev = 0): Entry | number {
    return this.entry(this.call(wire.MKNOD, node, u32(mode), u32(rdev), u32(0), u32(0), cstr(name)))
  }
  symlink(node: number, name: string, target: string): Entry | number {
    return this.entry(this.call(wire.SYMLINK, node, cstr(name), cstr(target)))
  }
  link(node: number, directory: number, name: string): Entry | number {
    return this.entry(this.call(wire.LINK, directory, u64(node), cstr(name)))
  }
  create(node: number, name: string, mode: number, flags = 2): Entry | number {
    return this.entry(this.call(wire.CREATE, node, u32(flags), u32(mode), u32(0), u32(0), cstr(name)))
  }
  tmpfile(node: number, mode: number): Entry | number {
    return this.entry(this.call(wire.TMPFILE, node, u32(2), u32(mode), u32(0), u32(0), cstr('#1')))
  }
  /** The handle, of shared mounts. */
  open(node: number, flags: number, openFlags = 0): number {
    return this.call(wire.OPEN, node, u32(flags), u32(openFlags)) || this.take64()
  }
  /** That of the last {@link create}. */
  get created(): number {
    return this.take64()
  }
  release(node: number, handle: number, owner = 0): number {
    return this.call(wire.RELEASE, node, u64(handle), u32(0), u32(wire.RELEASE_FLOCK_UNLOCK), u64(owner))
  }
  flush(node: number, handle: number, owner: number): number {
    return this.call(wire.FLUSH, node, u64(handle), u32(0), u32(0), u64(owner))
  }
  private lockFields(l: LockRequest): Buffer[] {
    const { handle, owner, type, start = 0, last = 0x7fff_ffff_ffff_ffffn, flock = false, pid = owner } = l
    const range = [u64(start), u64(last), u32(type), u32(pid)]
    return [u64(handle), u64(owner), ...range, u32(flock ? wire.LK_FLOCK : 0), u32(0)]
  }
  setlk(node: number, l: LockRequest): number {
    return this.call(wire.SETLK, node, ...this.lockFields(l))
  }
  /** Sends it; the number that its answer will have. */
  waitFor(node: number, l: LockRequest): number {
    this.tell(wire.SETLKW, node, ...this.lockFields(l))
    return this.unique
  }
  /** Number and error of the next answer. */
  next(): [number, number] {
    const m = this.receive()!
    return [Number(m.readBigUInt64LE(8)), m.readInt32LE(4)]
  }
  interrupt(unique: number): void {
    this.tell(wire.INTERRUPT, 0, u64(unique))
  }
  getlk(node: number, l: LockRequest): { start: number; last: bigint; type: number; pid: number } | number {
    const error = this.call(wire.GETLK, node, ...this.lockFields(l))
    return error || { start: this.take64(), last: this.takeBig(), type: this.take32(), pid: this.take32() }
  }
  unlink(node: number, name: string): number {
    return this.call(wire.UNLINK, node, cstr(name))
  }
  rmdir(node: number, name: string): number {
    return this.call(wire.RMDIR, node, cstr(name))
  }
  rename(from: number, name: string, to: number, newName: string, flags = -1): number {
    if (flags < 0) return this.call(wire.RENAME, from, u64(to), cstr(name), cstr(newName))
    return this.call(wire.RENAME2, from, u64(to), u32(flags), u32(0), cstr(name), cstr(newName))
  }
  readlink(node: number): string | number {
    return this.call(wire.READLINK, node) || this.body.toString()
  }
  read(node: number, offset: number | bigint, size: number, handle = 0): Buffer | number {
    const error = this.call(wire.READ, node, u64(handle), u64(offset), u32(size), u32(0), u64(0), u32(0), u32(0))
    return error || this.body
  }
  write(
    node: number,
    offset: number | bigint,
    data: string | Uint8Array,
    flags = 0,
    handle = 0,
    openFlags = 0,
  ): number {
    const bytes = Buffer.from(data as string)
    const fields = [u64(handle), u64(offset), u32(bytes.length), u32(flags), u64(0), u32(openFlags), u32(0), bytes]
    return this.call(wire.WRITE, node, ...fields) || this.take32()
  }
  /** All of a directory, a page at a time. */
  list(node: number, plus = true, size = 4096): DirectoryEntry[] | number {
    const all: DirectoryEntry[] = []
    for (let offset = 0n; ; ) {
      const opcode = plus ? wire.READDIRPLUS : wire.READDIR
      const error = this.call(opcode, node, u64(0), u64(offset), u32(size), u32(0), u64(0), u32(0), u32(0))
      if (error) return error
      if (this.body.length > size) throw new Error('more than was asked for')
      if (this.body.length === 0) return all
      while (this.at < this.body.length) {
        const entry = plus ? this.takeEntry() : null
        const ino = this.take64()
        offset = this.takeBig()
        const [length, type] = [this.take32(), this.take32()]
        const name = this.body.toString('utf8', this.at, this.at + length)
        this.at += (length + 7) & ~7
        all.push({ entry, ino, offset, type, name })
      }
      if (!this.complete) throw new Error('a directory entry is cut off')
    }
  }
  fsync(node: number): number {
    return this.call(wire.FSYNC, node, u64(0), u32(0), u32(0))
  }
  statfs(node: number): { blocks: number; bsize: number; namelen: number } | number {
    const error = this.call(wire.STATFS, node)
    if (error) return error
    const blocks = this.take64()
    this.at += 32
    return { blocks, bsize: this.take32(), namelen: this.take32() }
  }
  setxattr(node: number, name: string, value: string, flags = 0): number {
    const bytes = Buffer.from(value)
    return this.call(wire.SETXATTR, node, u32(bytes.length), u32(flags), cstr(name), bytes)
  }
  getxattr(node: number, name: string, size = 65536): string | number {
    const error = this.call(wire.GETXATTR, node, u32(size), u32(0), cstr(name))
    return error || (size === 0 ? this.take32() : this.body.toString())
  }
  listxattr(node: number, size = 65536): string | number {
    const error = this.call(wire.LISTXATTR, node, u32(size), u32(0))
    return error || (size === 0 ? this.take32() : this.body.toString())
  }
  removexattr(node: number, name: string): number {
    return this.call(wire.REMOVEXATTR, node, cstr(name))
  }
  fallocate(node: number, mode: number, offset: number | bigint, length: number | bigint): number {
    return this.call(wire.FALLOCATE, node, u64(0), u64(offset), u64(length), u32(mode), u32(0))
  }
  lseek(node: number, offset: number, whence: number): number {
    return this.call(wire.LSEEK, node, u64(0), u64(offset), u32(whence), u32(0)) || this.take64()
  }
  copy(from: number, fromAt: number, to: number, toAt: number, length: number | bigint): number {
    const fields = [u64(0), u64(fromAt), u64(to), u64(0), u64(toAt), u64(length), u64(0)]
    return this.call(wire.COPY_FILE_RANGE, from, ...fields) || this.take32()
  }
}

export interface FuseGofer extends GoferChild {
  readonly clients: FuseClient[]
}

/** A real gofer process with a connection for each mount. */
export function startFuse(mounts: readonly object[], confine: boolean, maxDescriptors?: number): FuseGofer {
  const gofer = startVmGofer(mounts, confine, '--fuse-fds', mounts.length, maxDescriptors)
  return { ...gofer, clients: gofer.fds.map((fd) => new FuseClient(fd)) }
}
