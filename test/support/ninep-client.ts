/**
 * A 9P2000.L client for tests: one call per message, synchronous, over one connection of a gofer. It shares no code with
 * the server but the numbers of wire.ts. Each call returns ≥ 0 or −errno.
 */
import * as wire from '../../gofer/ninep/wire.ts'
import { FramedClient, u32, u64 } from './framed-client.ts'
import type { GoferChild } from './gofer-child.ts'
import { startVmGofer } from './vm-gofer.ts'

export { u32, u64 }
export const u8 = (n: number): Buffer => Buffer.from([n])
export const u16 = (n: number): Buffer => {
  const b = Buffer.alloc(2)
  b.writeUInt16LE(n)
  return b
}
export const str = (s: string | Uint8Array): Buffer => {
  const bytes = Buffer.from(s as string)
  return Buffer.concat([u16(bytes.length), bytes])
}
export function frame(type: number, tag: number, ...fields: Uint8Array[]): Buffer {
  const body = Buffer.concat(fields)
  return Buffer.concat([u32(body.length + 7), u8(type), u16(tag), body])
}

export interface Qid {
  type: number
  version: number
  path: bigint
}
export interface Attributes {
  valid: number
  qid: Qid
  mode: number
  uid: number
  gid: number
  nlink: number
  rdev: number
  size: number
  blocks: number
  atimeMs: number
  mtimeMs: number
  ctimeMs: number
  mtimeNs: bigint
}
export interface Entry {
  qid: Qid
  offset: bigint
  type: number
  name: string
}
export interface Lock {
  type: number
  start: number
  length: number
  pid: number
  client: string
}

export class NinepClient extends FramedClient {
  /** Fields of the last response. */
  body: Buffer = Buffer.alloc(0)
  private at = 0
  private tag = 0

  /** One message and its answer: 0, or −errno. */
  call(type: number, ...fields: Uint8Array[]): number {
    this.tag = (this.tag + 1) & 0x7fff
    this.send(frame(type, this.tag, ...fields))
    const m = this.receive()
    if (m === null) throw new Error('the gofer closed the connection')
    if (m.readUInt16LE(5) !== this.tag) throw new Error(`answer to tag ${m.readUInt16LE(5)}, not ${this.tag}`)
    this.body = m.subarray(7)
    this.at = 0
    const answered = m[4]!
    if (answered === wire.RLERROR) return -this.takeU32()
    if (answered !== type + 1) throw new Error(`answer of type ${answered} to ${type}`)
    return 0
  }

  takeU8(): number {
    return this.body.readUInt8(this.at++)
  }
  takeU16(): number {
    this.at += 2
    return this.body.readUInt16LE(this.at - 2)
  }
  takeU32(): number {
    this.at += 4
    return this.body.readUInt32LE(this.at - 4)
  }
  takeBig(): bigint {
    this.at += 8
    return this.body.readBigUInt64LE(this.at - 8)
  }
  takeU64(): number {
    return Number(this.takeBig())
  }
  takeString(): string {
    const n = this.takeU16()
    this.at += n
    return this.body.toString('utf8', this.at - n, this.at)
  }
  takeQid(): Qid {
    return { type: this.takeU8(), version: this.takeU32(), path: this.takeBig() }
  }
  get complete(): boolean {
    return this.at === this.body.length
  }

  /** The agreed msize. */
  version(msize: number, version = '9P2000.L'): number {
    return this.call(wire.TVERSION, u32(msize), str(version)) || this.takeU32()
  }
  attach(fid: number, aname: string, uid = 0): number {
    return this.call(wire.TATTACH, u32(fid), u32(wire.NO_FID), str('root'), str(aname), u32(uid))
  }
  /** How many of the names were found. */
  walk(fid: number, newfid: number, ...names: (string | Uint8Array)[]): number {
    return (
      this.call(wire.TWALK, u32(fid), u32(newfid), u16(names.length), ...names.map((n) => str(n))) || this.takeU16()
    )
  }
  clunk(fid: number): number {
    return this.call(wire.TCLUNK, u32(fid))
  }
  lopen(fid: number, flags: number): number {
    return this.call(wire.TLOPEN, u32(fid), u32(flags))
  }
  lcreate(fid: number, name: string, flags: number, mode: number, gid = 0): number {
    return this.call(wire.TLCREATE, u32(fid), str(name), u32(flags), u32(mode), u32(gid))
  }
  /** The data, or −errno. */
  read(fid: number, offset: number, count: number): Buffer | number {
    const error = this.call(wire.TREAD, u32(fid), u64(offset), u32(count))
    return error || this.body.subarray(4, 4 + this.takeU32())
  }
  write(fid: number, offset: number | bigint, data: string | Uint8Array): number {
    const bytes = Buffer.from(data as string)
    return this.call(wire.TWRITE, u32(fid), u64(offset), u32(bytes.length), bytes) || this.takeU32()
  }
  getattr(fid: number): Attributes | number {
    const error = this.call(wire.TGETATTR, u32(fid), u64(0x3fff))
    if (error < 0) return error
    const valid = this.takeU64()
    const qid = this.takeQid()
    const [mode, uid, gid] = [this.takeU32(), this.takeU32(), this.takeU32()]
    const [nlink, rdev, size] = [this.takeU64(), this.takeU64(), this.takeU64()]
    this.takeU64()
    const blocks = this.takeU64()
    const times: bigint[] = []
    for (let i = 0; i < 4; i++) times.push(BigInt.asIntN(64, this.takeBig()) * 1_000_000_000n + this.takeBig())
    this.takeU64()
    this.takeU64()
    const [atimeMs, mtimeMs, ctimeMs] = times.map((t) => Number(t) / 1e6) as [number, number, number]
    const mtimeNs = times[1]!
    return { valid, qid, mode, uid, gid, nlink, rdev, size, blocks, atimeMs, mtimeMs, ctimeMs, mtimeNs }
  }
  setattr(
    fid: number,
    valid: number,
    a: { mode?: number; uid?: number; gid?: number; size?: number; atime?: number; mtime?: number } = {},
  ): number {
    return this.call(
      wire.TSETATTR,
      ...[u32(fid), u32(valid), u32(a.mode ?? 0), u32(a.uid ?? 0), u32(a.gid ?? 0), u64(a.size ?? 0)],
      ...[u64(a.atime ?? 0), u64(0), u64(a.mtime ?? 0), u64(0)],
    )
  }
  readdir(fid: number, offset: bigint, count: number): Entry[] | number {
    const error = this.call(wire.TREADDIR, u32(fid), u64(offset), u32(count))
    if (error < 0) return error
    const end = this.takeU32() + 4
    const entries: Entry[] = []
    while (this.at < end) {
      entries.push({ qid: this.takeQid(), offset: this.takeBig(), type: this.takeU8(), name: this.takeString() })
    }
    if (!this.complete) throw new Error('Rreaddir is not as long as it says')
    return entries
  }
  mkdir(dfid: number, name: string, mode: number, gid = 0): number {
    return this.call(wire.TMKDIR, u32(dfid), str(name), u32(mode), u32(gid))
  }
  mknod(dfid: number, name: string, mode: number, major = 0, minor = 0, gid = 0): number {
    return this.call(wire.TMKNOD, u32(dfid), str(name), u32(mode), u32(major), u32(minor), u32(gid))
  }
  symlink(dfid: number, name: string, target: string, gid = 0): number {
    return this.call(wire.TSYMLINK, u32(dfid), str(name), str(target), u32(gid))
  }
  link(dfid: number, fid: number, name: string): number {
    return this.call(wire.TLINK, u32(dfid), u32(fid), str(name))
  }
  unlinkat(dfid: number, name: string, flags = 0): number {
    return this.call(wire.TUNLINKAT, u32(dfid), str(name), u32(flags))
  }
  renameat(from: number, name: string, to: number, newName: string): number {
    return this.call(wire.TRENAMEAT, u32(from), str(name), u32(to), str(newName))
  }
  rename(fid: number, dfid: number, name: string): number {
    return this.call(wire.TRENAME, u32(fid), u32(dfid), str(name))
  }
  remove(fid: number): number {
    return this.call(wire.TREMOVE, u32(fid))
  }
  readlink(fid: number): string | number {
    return this.call(wire.TREADLINK, u32(fid)) || this.takeString()
  }
  fsync(fid: number, dataOnly = false): number {
    return this.call(wire.TFSYNC, u32(fid), u32(dataOnly ? 1 : 0))
  }
  /** The size of the value. */
  xattrwalk(fid: number, newfid: number, name: string): number {
    return this.call(wire.TXATTRWALK, u32(fid), u32(newfid), str(name)) || this.takeU64()
  }
  xattrcreate(fid: number, name: string, size: number, flags = 0): number {
    return this.call(wire.TXATTRCREATE, u32(fid), str(name), u64(size), u32(flags))
  }
  /** LOCK_STATUS_*, or −errno. */
  lock(fid: number, type: number, start: number, length: number, pid: number, client = 'vm', flags = 0): number {
    const fields = [u32(fid), u8(type), u32(flags), u64(start), u64(length), u32(pid), str(client)]
    return this.call(wire.TLOCK, ...fields) || this.takeU8()
  }
  getlock(fid: number, type: number, start: number, length: number, pid: number, client = 'vm'): Lock | number {
    const error = this.call(wire.TGETLOCK, u32(fid), u8(type), u64(start), u64(length), u32(pid), str(client))
    if (error < 0) return error
    return {
      type: this.takeU8(),
      start: this.takeU64(),
      length: this.takeU64(),
      pid: this.takeU32(),
      client: this.takeString(),
    }
  }
}

export interface NinepGofer extends GoferChild {
  readonly clients: NinepClient[]
}

/** A real gofer process with so many connections; confined when asked (needs root). */
export function startNinep(
  mounts: readonly object[],
  confine: boolean,
  connections = 1,
  maxDescriptors?: number,
): NinepGofer {
  const gofer = startVmGofer(mounts, confine, '--ninep-fds', connections, maxDescriptors)
  return { ...gofer, clients: gofer.fds.map((fd) => new NinepClient(fd)) }
}
