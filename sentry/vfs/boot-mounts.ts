/**
 * The container's first mount namespace, from its boot configuration: root, the list of mounts, masked and read-only paths.
 *
 * Runs as the kernel itself, before any task exists. Missing mount points are made; where that is impossible (a read-only
 * root without an overlay) the error names the destination. Symbolic links in destinations are followed inside the
 * container's root, never outside: there is no outside in this tree.
 */
import { totalmem } from 'node:os'
import { ENOENT } from '../abi/errno.ts'
import { AT_FDCWD } from '../abi/fcntl.ts'
import type { BootConfig, MountFlags, MountSpec } from '../control/protocol.ts'
import { OverlaySuperBlock } from '../fs/overlay/super-block.ts'
import { TmpfsSuperBlock } from '../fs/tmpfs/super-block.ts'
import { rootCredentials } from '../kernel/credentials.ts'
import type { Kernel } from '../kernel/kernel.ts'
import type { Task } from '../kernel/task.ts'
import { fileSystem } from './file-system.ts'
import { FsContext } from './fs-context.ts'
import { S_IFREG } from './inode.ts'
import { Mount, MountNamespace, MS_NOATIME, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, MS_RELATIME } from './mount.ts'
import { attach, bind } from './mount-ops.ts'
import { mkdirAt, mknodAt } from './namei.ts'
import { Path } from './path.ts'
import { LOOKUP_FOLLOW, walk } from './path-walk.ts'
import type { SuperBlock } from './super-block.ts'

export interface RootNamespace {
  readonly namespace: MountNamespace
  readonly root: Path
}

/** Boot walks the tree as root without being a task; file systems ignore who asks at that time. */
function bootWalker(kernel: Kernel, fs: FsContext): Task {
  return { kernel, fs, creds: rootCredentials(), fds: { get: () => undefined }, renewRoot: () => {} } as unknown as Task
}

/**
 * `goferMount` gives the super block of one of the gofer's mounts. Throws with a sentence for the user when a mount cannot
 * be made.
 */
export function buildRootNamespace(
  kernel: Kernel,
  config: BootConfig,
  goferMount: (id: number) => SuperBlock,
): RootNamespace {
  const lower = goferMount(config.root.goferMount)
  const sb = config.root.overlay ? new OverlaySuperBlock(lower, overlaySize(kernel)) : lower
  const mount = new Mount(sb, sb.rootDentry, MS_RELATIME)
  const namespace = new MountNamespace(mount)
  const root = new Path(mount, mount.root)
  const t = bootWalker(kernel, new FsContext(namespace, root, root, 0o022))

  for (const spec of config.mounts) {
    const made = superBlockFor(kernel, spec, goferMount)
    const at = mountPoint(t, spec.destination, spec.isFile)
    const m = new Mount(made, made.rootDentry, flagsOf(spec.flags))
    check(attach(namespace, m, at), spec.destination)
  }
  for (const path of config.readonlyPaths) makeReadonly(t, path)
  mask(t, config.maskedPaths)
  // Last, so that mount points could be made.
  if (config.root.readonly) mount.flags |= MS_RDONLY
  return { namespace, root: t.fs.root }
}

/** As a tmpfs by default: half of the memory there is. The rest is for the programs. */
function overlaySize(kernel: Kernel): number {
  const memory = kernel.memoryLimit > 0 ? Math.min(kernel.memoryLimit, totalmem()) : totalmem()
  return Math.floor(memory / 2)
}

function check(result: number, what: string): void {
  if (result < 0) throw new Error(`mount ${what}: errno ${-result}`)
}

function flagsOf(f: MountFlags): number {
  return (
    (f.readonly ? MS_RDONLY : 0) |
    (f.nosuid ? MS_NOSUID : 0) |
    (f.nodev ? MS_NODEV : 0) |
    (f.noexec ? MS_NOEXEC : 0) |
    (f.noatime ? MS_NOATIME : MS_RELATIME)
  )
}

function superBlockFor(kernel: Kernel, spec: MountSpec, goferMount: (id: number) => SuperBlock): SuperBlock {
  if (spec.type === 'gofer') {
    const sb = goferMount(spec.goferMount)
    if (spec.source !== '') sb.source = spec.source
    return sb
  }
  const type = fileSystem(spec.type)
  if (type === undefined) throw new Error(`mount ${spec.destination}: file system type ${spec.type} is not supported`)
  const flags = flagsOf(spec.flags)
  const sb = type.mount({
    kernel,
    source: spec.source,
    options: spec.options.join(','),
    flags,
    creds: rootCredentials(),
  })
  if (typeof sb === 'number') {
    throw new Error(
      `mount ${spec.destination}: ${spec.type} refuses the options ${JSON.stringify(spec.options)} (errno ${-sb})`,
    )
  }
  return sb
}

/** The path of a mount point, made with its parents if it is missing. */
function mountPoint(t: Task, destination: string, isFile: boolean): Path {
  const found = walk(t, destination, LOOKUP_FOLLOW)
  if (typeof found !== 'number') return found
  if (found !== -ENOENT) throw new Error(`mount point ${destination}: errno ${-found}`)
  const parts = destination.split('/').filter((p) => p !== '')
  let name = ''
  for (let i = 0; i < parts.length; i++) {
    name += `/${parts[i]}`
    const there = walk(t, name, LOOKUP_FOLLOW)
    if (typeof there !== 'number') continue
    const last = i === parts.length - 1
    const made = last && isFile ? mknodAt(t, AT_FDCWD, name, S_IFREG | 0o644, 0) : mkdirAt(t, AT_FDCWD, name, 0o755)
    if (typeof made === 'number') throw new Error(`mount point ${name} cannot be made: errno ${-made}`)
  }
  const path = walk(t, destination, LOOKUP_FOLLOW)
  if (typeof path === 'number') throw new Error(`mount point ${destination}: errno ${-path}`)
  return path
}

/** A path that is not there needs no protection. */
function makeReadonly(t: Task, name: string): void {
  const path = walk(t, name, LOOKUP_FOLLOW)
  if (typeof path === 'number') return
  check(bind(t.fs.namespace, path, path, true), name)
  const { mounts } = t.fs.namespace
  for (let i = mounts.length - 1; i >= 0; i--) {
    if (mounts[i]!.parent !== path.mount || mounts[i]!.mountpoint !== path.dentry) continue
    mounts[i]!.flags |= MS_RDONLY
    return
  }
}

/** Directories are covered by an empty read-only tmpfs, files by an empty file, as runc covers them with /dev/null. */
function mask(t: Task, names: readonly string[]): void {
  let empty: TmpfsSuperBlock | null = null
  for (const name of names) {
    const path = walk(t, name, LOOKUP_FOLLOW)
    if (typeof path === 'number') continue
    if (empty === null) {
      empty = new TmpfsSuperBlock({ size: 4096, inodes: 16, mode: 0o755, uid: 0, gid: 0 })
      const file = empty.root.create('empty', S_IFREG | 0o666, rootCredentials())
      if (typeof file !== 'number') empty.rootDentry.add('empty', file)
    }
    const { namespace } = t.fs
    if (path.inode.isDir) {
      const dir = new TmpfsSuperBlock({ size: 4096, inodes: 16, mode: 0o755, uid: 0, gid: 0 })
      check(attach(namespace, new Mount(dir, dir.rootDentry, MS_RDONLY | MS_RELATIME), path), name)
    } else {
      const file = empty.rootDentry.child('empty')!
      check(attach(namespace, new Mount(empty, file, MS_RELATIME), path), name)
    }
  }
}
