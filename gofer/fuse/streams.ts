/**
 * What is open for data. Of an exclusive mount the guest's kernel does not say when it opens and closes files
 * (FUSE_NO_OPEN_SUPPORT: that is two messages less for each), so they are opened when they are first read or written, and
 * closed when others are needed more or their node is forgotten. So are directories of any mount; files of a shared one
 * are handles.ts.
 *
 * Only regular files and directories are ever opened: the type is that of the descriptor that is opened again, which no
 * rename can change.
 */
import { O_CLOEXEC, O_DIRECTORY, O_NOCTTY, O_NONBLOCK, O_RDONLY, O_RDWR } from '../../native/host-files.ts'
import type { Descriptors } from '../guest/descriptors.ts'
import { reopenFd } from '../guest/scratch.ts'
import { EINVAL, EISDIR, ENOTDIR, S_IFREG } from '../request.ts'
import type { Node, NodeTable, Stream } from './nodes.ts'

const MAX_STREAMS = 512
/** Never waits, and no terminal becomes ours, should a check here be wrong. */
const ALWAYS = O_NONBLOCK | O_NOCTTY | O_CLOEXEC

export class Streams {
  nodes!: NodeTable
  private readonly descriptors: Descriptors
  /** Least recently used first. */
  private readonly open = new Set<Node>()

  constructor(descriptors: Descriptors) {
    this.descriptors = descriptors
  }

  /** Of a regular file; null: {@link error} says why not. */
  file(node: Node, write: boolean): Stream | null {
    const { stream } = node
    if (stream !== null && (stream.writable || !write)) return this.used(node, stream)
    if (node.type !== S_IFREG) return this.fail(node.isDirectory ? -EISDIR : -EINVAL)
    return this.begin(node, write ? O_RDWR : O_RDONLY)
  }

  directory(node: Node): Stream | null {
    const { stream } = node
    if (stream !== null) return this.used(node, stream)
    if (!node.isDirectory) return this.fail(-ENOTDIR)
    return this.begin(node, O_RDONLY | O_DIRECTORY)
  }

  /** −errno of the last one that could not be opened. */
  error = 0

  private fail(error: number): null {
    this.error = error
    return null
  }

  private used(node: Node, stream: Stream): Stream {
    this.open.delete(node)
    this.open.add(node)
    return stream
  }

  private begin(node: Node, access: number): Stream | null {
    const held = this.nodes.borrow(node)
    if (held < 0) return this.fail(held)
    const fd = this.descriptors.refuse() || reopenFd(held, access | ALWAYS)
    this.nodes.giveBack(node, held)
    return fd < 0 ? this.fail(fd) : this.adopt(node, fd, (access & O_RDWR) !== 0)
  }

  /** Takes over a descriptor that was opened for the node. */
  adopt(node: Node, fd: number, writable: boolean): Stream {
    if (node.stream !== null) this.close(node)
    if (this.open.size >= MAX_STREAMS) this.close(this.open.values().next().value!)
    this.descriptors.used++
    const stream = { fd, writable, low: 0, high: 0 }
    node.stream = stream
    this.open.add(node)
    return stream
  }

  close(node: Node): void {
    this.descriptors.close(node.stream!.fd)
    node.stream = null
    this.open.delete(node)
  }
}
