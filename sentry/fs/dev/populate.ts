/**
 * The default contents of a container's /dev (OCI runtime spec, "Default Devices"; Linux: drivers/base/devtmpfs.c).
 *
 * Works on any file system that can make nodes; what is there already stays as it is.
 */
import './memory-devices.ts'
import { EEXIST } from '../../abi/errno.ts'
import type { Credentials } from '../../kernel/credentials.ts'
import { type Inode, makeDev, S_IFCHR } from '../../vfs/inode.ts'

/** name, permissions, major, minor. */
const NODES: readonly (readonly [string, number, number, number])[] = [
  ['null', 0o666, 1, 3],
  ['zero', 0o666, 1, 5],
  ['full', 0o666, 1, 7],
  ['random', 0o666, 1, 8],
  ['urandom', 0o666, 1, 9],
  ['tty', 0o666, 5, 0],
]

const LINKS: readonly (readonly [string, string])[] = [
  ['fd', '/proc/self/fd'],
  ['stdin', '/proc/self/fd/0'],
  ['stdout', '/proc/self/fd/1'],
  ['stderr', '/proc/self/fd/2'],
  ['core', '/proc/kcore'],
  ['ptmx', 'pts/ptmx'],
]

/** Directories that other file systems are mounted on. */
const DIRECTORIES = ['pts', 'shm', 'mqueue']

/** Fills `root`, the directory that becomes /dev. 0 or −errno. `creds` own the nodes: the container's root. */
export function populateDev(root: Inode, creds: Credentials): number {
  for (const [name, permissions, major, minor] of NODES) {
    const made = root.mknod(name, S_IFCHR | permissions, makeDev(major, minor), creds)
    if (typeof made === 'number' && made < 0 && made !== -EEXIST) return made
  }
  for (const [name, target] of LINKS) {
    const made = root.symlink(name, target, creds)
    if (typeof made === 'number' && made < 0 && made !== -EEXIST) return made
  }
  for (const name of DIRECTORIES) {
    const made = root.mkdir(name, 0o755, creds)
    if (typeof made === 'number' && made < 0 && made !== -EEXIST) return made
  }
  return 0
}
