/**
 * /proc/PID/ns and nsfs: handles of namespaces (Linux: fs/nsfs.c, fs/proc/namespaces.c; namespaces(7)).
 *
 * The container has one namespace of each kind, except that unshare(CLONE_NEWNS) makes further mount namespaces. Two
 * processes are in the same namespace exactly when the inode numbers are equal.
 */
import { EACCES, EINVAL, ENOENT, ENOTTY, EPERM } from '../../abi/errno.ts'
import type { SysRet } from '../../kernel/sysret.ts'
import type { Task } from '../../kernel/task.ts'
import { Dentry } from '../../vfs/dentry.ts'
import { FileDescription } from '../../vfs/file-description.ts'
import { type DirEmitter, type Inode, S_IFREG } from '../../vfs/inode.ts'
import { Path } from '../../vfs/path.ts'
import { AnonInode, AnonSuperBlock } from '../anon.ts'
import { DT_LNK } from '../pseudo/directory.ts'
import type { Subject } from './subject.ts'
import type { ProcSuperBlock } from './super-block.ts'
import { TaskDirectory, TaskLink } from './task-inode.ts'

const NSFS_MAGIC = 0x6e736673
const NSFS = new AnonSuperBlock('nsfs', NSFS_MAGIC)

/** CLONE_NEW* of each kind, for NS_GET_NSTYPE and setns(2). */
const TYPE_FLAG: Record<string, number> = {
  net: 0x40000000,
  uts: 0x04000000,
  ipc: 0x08000000,
  pid: 0x20000000,
  user: 0x10000000,
  mnt: 0x00020000,
  cgroup: 0x02000000,
  time: 0x00000080,
}

/** Entry name → kind, in Linux's order. */
const ENTRIES: readonly (readonly [string, string])[] = [
  ['net', 'net'],
  ['uts', 'uts'],
  ['ipc', 'ipc'],
  ['pid', 'pid'],
  ['pid_for_children', 'pid'],
  ['user', 'user'],
  ['mnt', 'mnt'],
  ['cgroup', 'cgroup'],
  ['time', 'time'],
  ['time_for_children', 'time'],
]

const NS_GET_USERNS = 0xb701
const NS_GET_PARENT = 0xb702
const NS_GET_NSTYPE = 0xb703
const NS_GET_OWNER_UID = 0xb704

export class NamespaceInode extends AnonInode {
  readonly kind: string
  /** The MountNamespace for 'mnt'; otherwise what all share. */
  readonly namespace: object

  constructor(kind: string, namespace: object, ino: number) {
    super(NSFS, ino, S_IFREG | 0o444, 0, 0)
    this.kind = kind
    this.namespace = namespace
  }
  override open(_t: Task, path: Path, flags: number): FileDescription | number {
    return new NamespaceDescription(flags, path, this)
  }
  get text(): string {
    return `${this.kind}:[${this.ino}]`
  }
}

class NamespaceDescription extends FileDescription {
  readonly ns: NamespaceInode

  constructor(flags: number, path: Path, ns: NamespaceInode) {
    super(flags, path)
    this.ns = ns
  }
  get inode(): Inode {
    return this.ns
  }
  override describe(): string {
    return this.ns.text
  }
  override ioctl(t: Task, cmd: number, arg: number): SysRet {
    if (cmd === NS_GET_NSTYPE) return TYPE_FLAG[this.ns.kind]!
    if (cmd === NS_GET_USERNS || cmd === NS_GET_PARENT) return -EPERM
    if (cmd === NS_GET_OWNER_UID) return this.ns.kind === 'user' ? t.writeU32(arg, 0) : -EINVAL
    return -ENOTTY
  }
}

/** Numbers of a container's namespaces lie above those of the host's first ones. */
let nextNamespaceIno = 4026532401
const inodes = new WeakMap<object, Map<string, NamespaceInode>>()

function namespaceInode(s: Subject, kind: string): NamespaceInode {
  const owner: object = kind === 'mnt' ? s.task.fs.namespace : s.kernel
  let byKind = inodes.get(owner)
  if (byKind === undefined) {
    byKind = new Map()
    inodes.set(owner, byKind)
  }
  let inode = byKind.get(kind)
  if (inode === undefined) {
    inode = new NamespaceInode(kind, owner, nextNamespaceIno++)
    byKind.set(kind, inode)
  }
  return inode
}

class NsLink extends TaskLink {
  private readonly kind: string

  constructor(sb: ProcSuperBlock, subject: Subject, ino: number, kind: string) {
    super(sb, subject, 0o777, ino)
    this.kind = kind
  }
  protected target(_t: Task): Path | number {
    if (!this.subject.running) return -EACCES
    const inode = namespaceInode(this.subject, this.kind)
    const dentry = new Dentry(NSFS, NSFS.mount.root, inode.text, inode)
    return new Path(NSFS.mount, dentry)
  }
  protected show(_t: Task): string | number {
    return this.subject.running ? namespaceInode(this.subject, this.kind).text : -EACCES
  }
}

export class NsDirectory extends TaskDirectory {
  private readonly firstIno: number

  constructor(sb: ProcSuperBlock, subject: Subject, ino: number) {
    super(sb, subject, 0o511, ino)
    this.firstIno = sb.nextIno(ENTRIES.length)
  }
  lookup(name: string): Inode | number {
    const i = ENTRIES.findIndex((e) => e[0] === name)
    return i < 0 ? -ENOENT : new NsLink(this.sb as ProcSuperBlock, this.subject, this.firstIno + i, ENTRIES[i]![1])
  }
  readdir(_t: Task, pos: number, out: DirEmitter): number {
    for (let i = Math.max(0, pos - 2); i < ENTRIES.length; i++) {
      if (!out.emit(ENTRIES[i]![0], this.firstIno + i, DT_LNK, i + 3)) return 0
    }
    return 0
  }
}
