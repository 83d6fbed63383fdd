/**
 * One FUSE connection: one mount of the guest, with its nodes and what is open, and the request being served. Handlers
 * take all fields first, then ask `refuse`, and only then touch files; they put the answer's fields and return 0 or
 * −errno.
 *
 * What must stay true: each request gets exactly one answer, whatever it holds, or none where the protocol has none; and
 * nothing a session opened outlives it.
 */
import { write } from '../../native/host.ts'
import type { HostMemory } from '../../native/host-files.ts'
import { isName, MessageReader, MessageWriter } from '../guest/codec.ts'
import type { Conversation } from '../guest/connection.ts'
import type { Descriptors, ExportedMount } from '../guest/descriptors.ts'
import { MAX_NAME, scratch } from '../guest/scratch.ts'
import { EBADF, EINVAL, EIO, ENAMETOOLONG, ENOSYS, ENOTDIR, EPROTO, EROFS, ESTALE } from '../request.ts'
import type { Resolver } from '../resolve.ts'
import { Handles, type OpenFile } from './handles.ts'
import { Locks } from './locks.ts'
import { type Node, NodeTable } from './nodes.ts'
import { Streams } from './streams.ts'
import { ANSWER_HEADER, INIT, MAX_DATA, MAX_FIELDS, REQUEST_HEADER } from './wire.ts'

export type Handler = (s: Session, node: Node) => number

/** A request that is known. */
export interface Request {
  readonly run: Handler
  /** Refused on read-only mounts. */
  readonly changes: boolean
  /** The protocol has no answer to it. */
  readonly silent: boolean
}

/** What the sessions of a gofer share. */
export interface Shared {
  readonly resolver: Resolver
  readonly descriptors: Descriptors
  /** By opcode. */
  readonly requests: readonly (Request | undefined)[]
}

/** Seconds: until the guest changes it itself, or its memory is needed. */
const FOR_GOOD = 1_000_000_000
/** What a handler returns whose answer is to follow. */
export const LATER = -100_000

/** Before the kernel has said what it can. */
const FIRST_LIMIT = 4096

export class Session implements Conversation {
  readonly least = REQUEST_HEADER
  readonly shared: Shared
  readonly exported: ExportedMount
  readonly r: MessageReader
  readonly w: MessageWriter
  readonly nodes: NodeTable
  readonly streams: Streams
  readonly handles: Handles
  readonly locks: Locks
  /** Others change it, too: nothing that is answered stays valid. */
  readonly isShared: boolean
  /** Seconds. */
  readonly validity: number
  isReady = false
  /** Who asks. */
  uid = 0
  gid = 0
  pid = 0
  uniqueLow = 0
  uniqueHigh = 0
  private nameError = 0

  constructor(shared: Shared, exported: ExportedMount, input: HostMemory, output: HostMemory) {
    const { resolver, descriptors } = shared
    this.shared = shared
    this.exported = exported
    this.r = new MessageReader(input)
    this.w = new MessageWriter(output)
    this.streams = new Streams(descriptors)
    this.nodes = new NodeTable(exported, resolver, descriptors, (node) => this.streams.close(node))
    this.streams.nodes = this.nodes
    this.handles = new Handles(this.nodes, descriptors)
    this.locks = new Locks(this, descriptors)
    this.isShared = exported.mount.shared
    this.validity = this.isShared ? 0 : FOR_GOOD
  }

  get limit(): number {
    return this.isReady ? MAX_DATA + MAX_FIELDS : FIRST_LIMIT
  }

  serve(at: number, size: number): void {
    const { r, w } = this
    const { view } = r.memory
    const opcode = view.getUint32(at + 4, true)
    this.uniqueLow = view.getUint32(at + 8, true)
    this.uniqueHigh = view.getUint32(at + 12, true)
    const start = w.pos
    r.start(at + 16, at + size)
    const id = r.u64()
    this.uid = r.u32()
    this.gid = r.u32()
    this.pid = r.u32()
    r.u32()
    w.pos = start + ANSWER_HEADER
    this.nameError = 0
    const request = this.shared.requests[opcode]
    const result = request === undefined ? -ENOSYS : this.dispatch(request, opcode, id)
    if (request?.silent || result === LATER) w.pos = start
    else this.answer(start, Math.min(result, 0), this.uniqueLow, this.uniqueHigh)
    this.locks.retry()
  }

  /** Puts the header in front of the fields that are there. */
  answer(start: number, error: number, uniqueLow: number, uniqueHigh: number): void {
    const { w } = this
    const end = error < 0 ? start + ANSWER_HEADER : w.pos
    w.pos = start
    w.u32(end - start)
      .u32(error)
      .u32(uniqueLow)
      .u32(uniqueHigh)
    w.pos = end
  }

  /** Whether somebody waits for what may come without a message. */
  get isWaiting(): boolean {
    return this.locks.isWaiting
  }
  /** Looks for it. */
  tick(): void {
    this.locks.retry(true)
  }

  private dispatch(request: Request, opcode: number, id: number): number {
    if (!this.isReady && opcode !== INIT) return -EPROTO
    const node = id === 0 ? this.nodes.root : this.nodes.get(id)
    if (node === undefined) return -ESTALE
    if (request.changes && this.exported.mount.readonly) return -EROFS
    try {
      return request.run(this, node)
    } catch (error) {
      // Our bug; one request is lost, not the container.
      const line = Buffer.from(`gofer: FUSE request ${opcode}: ${(error as Error).stack}\n`)
      write(2, line, line.length)
      return -EIO
    }
  }

  /** Takes a name for something in a directory into scratch memory; {@link refuse} says if it is none. */
  takeName(at: number): string {
    const n = this.r.copyTerminated(scratch.bytes, at, MAX_NAME)
    if (n < 0) {
      this.nameError ||= this.r.ok ? ENAMETOOLONG : EPROTO
      return ''
    }
    if (!isName(scratch.bytes, at, n)) this.nameError ||= EINVAL
    return scratch.bytes.toString('latin1', at, at + n)
  }

  /** What of a regular file is open for a request; null: {@link error} says why not. */
  file(node: Node, handle: number, write: boolean): OpenFile | null {
    if (this.isShared) {
      const open = this.handles.get(handle)
      this.error = -EBADF
      return open?.node === node ? open : null
    }
    const stream = this.streams.file(node, write)
    this.error = this.streams.error
    return stream
  }
  error = 0

  /** 0, or why the request is refused: it is malformed or names nothing. */
  refuse(): number {
    if (!this.r.complete) return -EPROTO
    return -this.nameError
  }

  /** The same of a request about something in this directory: its descriptor, or −errno. */
  directory(node: Node): number {
    const refused = this.refuse()
    if (refused !== 0) return refused
    return node.isDirectory ? this.nodes.hold(node) : -ENOTDIR
  }

  reset(): void {
    this.locks.reset()
    this.handles.reset()
    this.nodes.reset()
  }
}
