/**
 * Files without a name on a kernel-internal tmpfs (Linux: shmem_file_setup): memfd_create(2), SysV shared memory.
 */
import { O_RDWR } from '../../abi/fcntl.ts'
import type { Task } from '../../kernel/task.ts'
import { Dentry } from '../../vfs/dentry.ts'
import type { FileDescription } from '../../vfs/file-description.ts'
import { S_IFREG } from '../../vfs/inode.ts'
import { Mount } from '../../vfs/mount.ts'
import { Path } from '../../vfs/path.ts'
import { TmpfsFile } from './file.ts'
import { TmpfsSuperBlock } from './super-block.ts'

let internal: Mount | null = null

/** The mount is made on first use: most containers never need it. */
function shmMount(): Mount {
  if (internal === null) {
    const sb = new TmpfsSuperBlock({ size: 0, inodes: 0, mode: 0o1777, uid: 0, gid: 0 })
    internal = new Mount(sb, sb.rootDentry, 0)
  }
  return internal
}

/**
 * An unlinked read-write file of `size` zero bytes; /proc shows it as '/NAME (deleted)'. `mmapFd` of the result is a host
 * memfd. −errno if the host has none left.
 */
export function createShmemFile(t: Task, name: string, size: number, mode = 0o777): FileDescription | number {
  const mount = shmMount()
  const sb = mount.sb as TmpfsSuperBlock
  const { fsuid, fsgid } = t.creds
  const inode = new TmpfsFile(sb, sb.newIno(), S_IFREG | mode, fsuid, fsgid)
  inode.nlink = 0
  const err = size === 0 ? 0 : inode.growTo(size)
  if (err !== 0) return err
  const dentry = new Dentry(sb, mount.root, name, inode)
  dentry.unhashed = true
  const file = inode.open(t, new Path(mount, dentry), O_RDWR)
  if (typeof file !== 'number') file.creds = t.creds
  return file
}
