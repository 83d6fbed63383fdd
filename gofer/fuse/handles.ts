/**
 * Open files of a shared mount: the guest's kernel opens and closes each, so that a file which others rename or remove
 * meanwhile stays what it is, and its node with it.
 */
import {
  O_ACCMODE,
  O_CLOEXEC,
  O_DSYNC,
  O_NOCTTY,
  O_NONBLOCK,
  O_RDONLY,
  O_SYNC,
  O_TRUNC,
} from '../../native/host-files.ts'
import type { Descriptors } from '../guest/descriptors.ts'
import { reopenFd } from '../guest/scratch.ts'
import { EINVAL, EISDIR, ELOOP, ENXIO, EROFS, S_IFLNK, S_IFREG } from '../request.ts'
import type { Node, NodeTable } from './nodes.ts'

/** What data goes through. */
export interface OpenFile {
  readonly fd: number
}
interface Handle extends OpenFile {
  readonly node: Node
}

/** Never waits, and no terminal becomes ours, should a check here be wrong. O_APPEND is a matter of each write. */
const ALWAYS = O_NONBLOCK | O_NOCTTY | O_CLOEXEC
const KEPT = O_ACCMODE | O_TRUNC | O_DSYNC | O_SYNC

export class Handles {
  private readonly nodes: NodeTable
  private readonly descriptors: Descriptors
  private readonly open = new Map<number, Handle>()
  private last = 0

  constructor(nodes: NodeTable, descriptors: Descriptors) {
    this.nodes = nodes
    this.descriptors = descriptors
  }

  get(id: number): Handle | undefined {
    return this.open.get(id)
  }

  /** Opens a file by the flags of open(2): the handle's number, or −errno. */
  add(node: Node, flags: number, readonly: boolean): number {
    const access = flags & O_ACCMODE
    if (access === O_ACCMODE) return -EINVAL
    if (node.isDirectory) return -EISDIR
    if (node.type !== S_IFREG) return node.type === S_IFLNK ? -ELOOP : -ENXIO
    if (readonly && (access !== O_RDONLY || (flags & O_TRUNC) !== 0)) return -EROFS
    const held = this.nodes.hold(node)
    if (held < 0) return held
    const fd = this.descriptors.refuse() || reopenFd(held, (flags & KEPT) | ALWAYS)
    node.opens++
    if (fd >= 0) return this.adopt(node, fd)
    this.nodes.closed(node)
    return fd
  }

  /** Takes over a descriptor of a node that {@link NodeTable.hold} has and whose `opens` was raised. */
  adopt(node: Node, fd: number): number {
    this.descriptors.used++
    this.open.set(++this.last, { node, fd })
    return this.last
  }

  close(id: number): void {
    const handle = this.open.get(id)
    if (handle === undefined) return
    this.open.delete(id)
    this.descriptors.close(handle.fd)
    this.nodes.closed(handle.node)
  }

  reset(): void {
    for (const id of [...this.open.keys()]) this.close(id)
  }
}
