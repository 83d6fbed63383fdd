/**
 * devpts: /dev/pts, where slaves of pseudo-terminals have their names (Linux: fs/devpts/inode.c). Every mount is an
 * instance of its own. Options: uid, gid, mode, ptmxmode, max; newinstance changes nothing.
 */
import { EBUSY, EINVAL, ENODEV, ENOENT, ENOSPC } from '../../abi/errno.ts'
import { O_NOCTTY } from '../../abi/fcntl.ts'
import { CAP_SYS_ADMIN, type Credentials } from '../../kernel/credentials.ts'
import { RLIMIT_NOFILE } from '../../kernel/limits.ts'
import type { Task } from '../../kernel/task.ts'
import type { FileDescription } from '../../vfs/file-description.ts'
import { parseOptions, registerFileSystem } from '../../vfs/file-system.ts'
import { type DirEmitter, type Inode, makeDev, S_IFCHR } from '../../vfs/inode.ts'
import type { Mount, MountNamespace } from '../../vfs/mount.ts'
import { Path } from '../../vfs/path.ts'
import { lookupChild, walkFrom } from '../../vfs/path-walk.ts'
import { PseudoDirectory } from '../pseudo/directory.ts'
import { PseudoInode, PseudoSuperBlock } from '../pseudo/inode.ts'
import { acquireAtOpen } from './job-control.ts'
import { type PtyHome, PtyMaster, PtySlave } from './pty.ts'
import type { Tty } from './tty.ts'
import { TtyFile } from './tty-file.ts'

const DT_CHR = 2
const MAX_PTYS = 4096
const O_CLOEXEC = 0o2000000
const PTMX_DEV = makeDev(5, 2)

/** Opens a terminal by a node that stands for it: the checks of tty_open(). */
export function openTty(t: Task, tty: Tty, node: Inode, path: Path | null, flags: number): FileDescription | number {
  const refused = tty.mayOpen()
  if (refused !== 0) return refused
  if (tty.exclusive && !t.creds.capable(CAP_SYS_ADMIN)) return -EBUSY
  const file = new TtyFile(tty, node, path, flags)
  if ((flags & O_NOCTTY) === 0) acquireAtOpen(t, tty, flags)
  return file
}

class SlaveNode extends PseudoInode {
  readonly tty: Tty
  dead = false

  constructor(sb: DevPts, tty: Tty, index: number, permissions: number) {
    super(sb, S_IFCHR | permissions, index + 3)
    this.rdev = tty.deviceNumber
    this.blksize = 1024
    this.tty = tty
  }
  override get alive(): boolean {
    return !this.dead
  }
  open(t: Task, path: Path, flags: number): FileDescription | number {
    return openTty(t, this.tty, this, path, flags)
  }
}

class PtmxNode extends PseudoInode {
  constructor(sb: DevPts, permissions: number) {
    super(sb, S_IFCHR | permissions, 2)
    this.rdev = PTMX_DEV
    this.blksize = 1024
  }
  open(t: Task, path: Path, flags: number): FileDescription | number {
    return (this.sb as DevPts).openMaster(t, this, path, flags)
  }
}

class PtsDirectory extends PseudoDirectory {
  private readonly pts: DevPts
  constructor(sb: DevPts) {
    super(sb, 0o755, 1)
    this.pts = sb
    this.blksize = 1024
  }
  lookup(name: string): Inode | number {
    if (name === 'ptmx') return this.pts.ptmx
    return (/^(0|[1-9]\d*)$/.test(name) ? this.pts.nodes[Number(name)] : undefined) ?? -ENOENT
  }
  readdir(_t: Task, pos: number, out: DirEmitter): number {
    const nodes = this.pts.nodes
    // Newest first, as Linux lists its dentries.
    for (let at = pos - 2; at <= nodes.length; at++) {
      const node = at === nodes.length ? this.pts.ptmx : nodes[nodes.length - 1 - at]
      if (node === undefined) continue
      const name = at === nodes.length ? 'ptmx' : String(nodes.length - 1 - at)
      if (!out.emit(name, node.ino, DT_CHR, at + 3)) return 0
    }
    return 0
  }
}

interface PtsOptions {
  uid: number
  gid: number
  mode: number
  ptmxmode: number
  max: number
}

function parse(text: string): PtsOptions | number {
  const options = { uid: -1, gid: -1, mode: 0o600, ptmxmode: 0, max: MAX_PTYS }
  for (const [key, value] of parseOptions(text)) {
    if (key === 'newinstance') continue
    const octal = key === 'mode' || key === 'ptmxmode'
    if (!(octal ? /^[0-7]+$/ : /^\d+$/).test(value)) return -EINVAL
    const n = Number.parseInt(value, octal ? 8 : 10)
    if (key === 'uid' || key === 'gid') options[key] = n
    else if (octal) options[key as 'mode' | 'ptmxmode'] = n & 0o777
    else if (key === 'max') options.max = Math.min(n, MAX_PTYS)
    else return -EINVAL
  }
  return options
}

export class DevPts extends PseudoSuperBlock implements PtyHome {
  readonly type = 'devpts'
  protected readonly magic = 0x1cd1
  protected override readonly blockSize: number = 1024
  readonly root: Inode
  readonly ptmx: Inode
  readonly nodes: (SlaveNode | undefined)[] = []
  private readonly settings: PtsOptions

  constructor(settings: PtsOptions) {
    super()
    this.settings = settings
    this.root = new PtsDirectory(this)
    this.ptmx = new PtmxNode(this, settings.ptmxmode)
    const octal = (n: number): string => n.toString(8).padStart(3, '0')
    this.options =
      (settings.uid >= 0 ? `uid=${settings.uid},` : '') +
      (settings.gid >= 0 ? `gid=${settings.gid},` : '') +
      `mode=${octal(settings.mode)},ptmxmode=${octal(settings.ptmxmode)}` +
      (settings.max < MAX_PTYS ? `,max=${settings.max}` : '')
  }

  /** Lowest free number, or −ENOSPC. */
  freeIndex(): number {
    let index = 0
    while (this.nodes[index] !== undefined) index++
    return index < this.settings.max ? index : -ENOSPC
  }

  /** Gives a terminal the name `index`. */
  enter(tty: Tty, index: number, creds: Credentials): Inode {
    const node = new SlaveNode(this, tty, index, this.settings.mode)
    node.uid = this.settings.uid >= 0 ? this.settings.uid : creds.fsuid
    node.gid = this.settings.gid >= 0 ? this.settings.gid : creds.fsgid
    this.nodes[index] = node
    tty.node = node
    return node
  }
  remove(index: number): void {
    const node = this.nodes[index]
    if (node === undefined) return
    node.dead = true
    node.nlink = 0
    this.nodes[index] = undefined
  }

  openMaster(t: Task, node: Inode, path: Path, flags: number): FileDescription | number {
    const index = this.freeIndex()
    if (index < 0) return index
    const slave = new PtySlave(index)
    this.enter(slave, index, t.creds)
    return new PtyMaster(slave, node, path, flags, this)
  }

  masterGone(slave: PtySlave): void {
    this.remove(slave.index)
  }

  openPeer(t: Task, master: PtyMaster, flags: number): number {
    const node = master.slave.node!
    const path = master.path === null ? null : slavePath(master.path.mount, this, master.slave.index)
    const file = openTty(t, master.slave, node, path, flags & ~O_CLOEXEC)
    if (typeof file === 'number') return file
    file.creds = t.creds
    return t.fds.install(file, (flags & O_CLOEXEC) !== 0, t.group.limits.soft[RLIMIT_NOFILE]!)
  }
}

/** The path of slave `index` below a mount of its devpts; null when the mount shows something else (a bound ptmx). */
function slavePath(mount: Mount, pts: DevPts, index: number): Path | null {
  if (mount.sb !== pts || mount.root.inode !== pts.root) return null
  const dentry = lookupChild(mount.root, String(index))
  return typeof dentry === 'number' || dentry.inode === null ? null : new Path(mount, dentry)
}

/** The devpts of a container, and the path of one of its slaves. */
export function findDevPts(namespace: MountNamespace): DevPts | null {
  for (const mount of namespace.mounts) if (mount.sb instanceof DevPts) return mount.sb
  return null
}
export function pathInDevPts(namespace: MountNamespace, pts: DevPts, index: number): Path | null {
  for (const mount of namespace.mounts) {
    const path = slavePath(mount, pts, index)
    if (path !== null) return path
  }
  return null
}

/** A ptmx node outside devpts: the instance mounted on 'pts' beside it (Linux: devpts_ptmx_path). */
export function openPtmxNode(t: Task, node: Inode, path: Path, flags: number): FileDescription | number {
  const beside = walkFrom(t, new Path(path.mount, path.dentry.parent), 'pts', 0)
  if (typeof beside === 'number' || !(beside.inode.sb instanceof DevPts)) return -ENODEV
  return beside.inode.sb.openMaster(t, node, path, flags)
}

registerFileSystem({
  name: 'devpts',
  nodev: true,
  mount(request) {
    const settings = parse(request.options)
    return typeof settings === 'number' ? settings : new DevPts(settings)
  },
})
