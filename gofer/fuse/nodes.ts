/**
 * Nodes: files that the guest's kernel knows by number until it forgets them (its inodes). One node for each file of the
 * host, so that hard links are one inode there.
 *
 * A node is held by its directory and name, which costs nothing on the host, and opened for the moment when something is
 * to be done to it. That finds the same file again, or none: what the guest renames is told to {@link NodeTable}; where
 * others do it the guest looks names up again each time, and what it has open is held by an O_PATH descriptor meanwhile.
 * So is a directory that something is looked up in, and a file whose name goes.
 *
 * What must stay true: one O_NOFOLLOW step from the directory's descriptor, and the file found there is the one that the
 * node is of. Nodes and descriptors are counted and bounded.
 */
import { closeFd, HostMemory, O_PATH, STATX_OFFSET } from '../../native/host-files.ts'
import { type Descriptors, deviceBits, type ExportedMount } from '../guest/descriptors.ts'
import { MAX_NAME, statFd, statField, statName, statType } from '../guest/scratch.ts'
import { ENFILE, ENOENT, ESTALE, S_IFDIR } from '../request.ts'
import type { Resolver } from '../resolve.ts'
import { ROOT_NODE } from './wire.ts'

/** More than a guest's memory has room for as inodes; some 60 MB of ours. */
const MAX_NODES = 262_144
const TWO_21 = 0x20_0000
const TWO_32 = 0x1_0000_0000

/** A file or directory that is open for data, until others are needed more. */
export interface Stream {
  readonly fd: number
  readonly writable: boolean
  /** Where an open directory stands. */
  low: number
  high: number
}

export class Node {
  readonly id: number
  /** S_IFMT bits. They never change. */
  readonly type: number
  readonly inoLow: number
  readonly inoHigh: number
  readonly deviceBits: number
  lookups = 0
  /** O_PATH, or −1: it is held by name. */
  fd = -1
  /** By how many handles it is open. */
  opens = 0
  /** Where it can be found; null: it has no name that is known. */
  parent: Node | null = null
  /** latin1 */
  name = ''
  /** What is held by a name in this directory. */
  children: Map<string, Node> | null = null
  stream: Stream | null = null

  /** Of the file of the last {@link statFd} or {@link statName}. */
  constructor(id: number, bits: number) {
    this.id = id
    this.type = statType()
    this.inoLow = statField(STATX_OFFSET.ino)
    this.inoHigh = statField(STATX_OFFSET.ino + 4)
    this.deviceBits = bits
  }

  get isDirectory(): boolean {
    return this.type === S_IFDIR
  }

  /** Whether the last {@link statFd} or {@link statName} was of this file. */
  isStatted(bits: number): boolean {
    return (
      this.inoLow === statField(STATX_OFFSET.ino) &&
      this.inoHigh === statField(STATX_OFFSET.ino + 4) &&
      this.type === statType() &&
      this.deviceBits === bits
    )
  }
}

export class NodeTable {
  readonly exported: ExportedMount
  readonly root: Node
  private readonly resolver: Resolver
  private readonly descriptors: Descriptors
  private readonly byId = new Map<number, Node>()
  private readonly byInode = new Map<number | string, Node>()
  private readonly nameMemory = new HostMemory(MAX_NAME + 1)
  private lastId = ROOT_NODE
  /** Called with a node that is gone and has a stream. */
  private readonly closeStream: (node: Node) => void

  constructor(
    exported: ExportedMount,
    resolver: Resolver,
    descriptors: Descriptors,
    closeStream: (node: Node) => void,
  ) {
    this.exported = exported
    this.resolver = resolver
    this.descriptors = descriptors
    this.closeStream = closeStream
    statFd(exported.mount.rootFd)
    this.root = new Node(ROOT_NODE, 0)
    this.root.fd = exported.mount.rootFd
    this.root.lookups = 1
    this.byId.set(ROOT_NODE, this.root)
    this.byInode.set(NodeTable.key(this.root), this.root)
  }

  get(id: number): Node | undefined {
    return this.byId.get(id)
  }

  /** Inode numbers of the mount's own device that are exact as numbers stay numbers. */
  private static key(node: Node): number | string {
    if (node.deviceBits === 0 && node.inoHigh < TWO_21) return node.inoHigh * TWO_32 + node.inoLow
    return `${node.deviceBits}:${node.inoHigh}:${node.inoLow}`
  }

  /**
   * The node of the file of the last stat, which is `name` in the directory, with a lookup more; or −errno. `fd` ≥ 0 is a
   * descriptor of it without a name, taken over, and already counted.
   */
  found(directory: Node, name: string, fd = -1): Node | number {
    const made = new Node(0, deviceBits(this.exported))
    const key = NodeTable.key(made)
    let node = this.byInode.get(key)
    if (node === undefined || node.type !== made.type) {
      if (this.byId.size >= MAX_NODES) {
        if (fd >= 0) this.descriptors.close(fd)
        return -ENFILE
      }
      node = new Node(++this.lastId, made.deviceBits)
      this.byId.set(node.id, node)
      this.byInode.set(key, node)
      if (fd >= 0) node.fd = fd
      else this.setName(node, directory, name)
    } else if (fd >= 0) this.descriptors.close(fd)
    else if (node !== this.root && (node.parent !== directory || node.name !== name)) {
      this.loseName(node)
      this.setName(node, directory, name)
    }
    node.lookups++
    return node
  }

  private setName(node: Node, directory: Node, name: string): void {
    directory.children ??= new Map()
    const before = directory.children.get(name)
    if (before !== undefined) this.loseName(before)
    directory.children.set(name, node)
    node.parent = directory
    node.name = name
  }

  private loseName(node: Node): void {
    const { parent } = node
    if (parent === null) return
    node.parent = null
    parent.children!.delete(node.name)
    this.dropUnused(parent)
  }

  /** A descriptor, kept with the node; or −errno. */
  hold(node: Node): number {
    if (node.fd >= 0) return node.fd
    const fd = this.open(node)
    if (fd < 0) return fd
    node.fd = fd
    this.descriptors.used++
    return fd
  }

  /** A descriptor for the moment, to be given back; or −errno. */
  borrow(node: Node): number {
    return node.fd >= 0 ? node.fd : this.open(node)
  }
  giveBack(node: Node, fd: number): void {
    if (fd >= 0 && fd !== node.fd) closeFd(fd)
  }

  /** A handle is closed: the last one lets go of the descriptor, when the node can be found without. */
  closed(node: Node): void {
    node.opens--
    if (node.opens > 0 || node.fd < 0 || node.parent === null || node === this.root) return
    if (node.isDirectory || node.lookups === 0) return
    this.descriptors.close(node.fd)
    node.fd = -1
  }

  private open(node: Node): number {
    const { parent } = node
    if (parent === null) return -ESTALE
    const refused = this.descriptors.refuse()
    if (refused !== 0) return refused
    this.nameMemory.writeString(0, node.name)
    // A directory that names are held in is held itself.
    const fd = this.resolver.openName(parent.fd, this.nameMemory.address, O_PATH, 0)
    if (fd < 0) return fd === -ENOENT ? -ESTALE : fd
    const error = statFd(fd) || (node.isStatted(deviceBits(this.exported)) ? 0 : -ESTALE)
    if (error === 0) return fd
    closeFd(fd)
    return error
  }

  /** Its attributes, as by {@link statFd}. 0 or −errno. */
  stat(node: Node): number {
    if (node.fd >= 0) return statFd(node.fd)
    if (node.parent === null) return -ESTALE
    this.nameMemory.writeString(0, node.name)
    const error = statName(node.parent.fd, this.nameMemory.address)
    if (error !== 0) return error === -ENOENT ? -ESTALE : error
    return node.isStatted(deviceBits(this.exported)) ? 0 : -ESTALE
  }

  /** A name is about to go: who is held by it is held by a descriptor from now on. */
  beforeRemoval(directory: Node, name: string): void {
    const node = directory.children?.get(name)
    if (node === undefined) return
    this.hold(node)
    this.loseName(node)
  }

  /** A name has moved; `exchange`: and the other to its place. */
  renamed(from: Node, name: string, to: Node, newName: string, exchange: boolean): void {
    const moved = from.children?.get(name)
    const other = exchange ? to.children?.get(newName) : undefined
    if (moved === other) return
    // The directories outlive this: they are the request's.
    if (moved !== undefined) this.loseName(moved)
    if (other !== undefined) this.loseName(other)
    if (moved !== undefined) this.setName(moved, to, newName)
    if (other !== undefined) this.setName(other, from, name)
  }

  forget(id: number, lookups: number): void {
    const node = this.byId.get(id)
    if (node === undefined || node === this.root) return
    node.lookups = Math.max(0, node.lookups - lookups)
    this.dropUnused(node)
  }

  /** And then perhaps the directory that it was held in, and so on: a guest decides how deep. */
  private dropUnused(first: Node): void {
    for (let node: Node | null = first; node !== null; ) {
      if (node.lookups > 0) return
      this.byId.delete(node.id)
      const key = NodeTable.key(node)
      if (this.byInode.get(key) === node) this.byInode.delete(key)
      if (node.children !== null && node.children.size > 0) return
      if (node.stream !== null) this.closeStream(node)
      if (node.fd >= 0) this.descriptors.close(node.fd)
      node.fd = -1
      const parent: Node | null = node.parent
      node.parent = null
      if (parent !== null) parent.children!.delete(node.name)
      node = parent
    }
  }

  /** Forgets all but the root. */
  reset(): void {
    for (const node of [...this.byId.values()]) this.forget(node.id, node.lookups)
    if (this.root.stream !== null) this.closeStream(this.root)
  }
}
