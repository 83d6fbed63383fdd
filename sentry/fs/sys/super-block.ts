/**
 * sysfs: the device tree of a machine with CPUs, memory and network interfaces, and nothing else (Linux: fs/sysfs).
 *
 * Read-only in effect: stores are refused. Built when it is mounted; only network interfaces follow what changes.
 */
import { registerFileSystem } from '../../vfs/file-system.ts'
import { type PseudoDirectory, PseudoSymlink, TreeDirectory } from '../pseudo/directory.ts'
import { PseudoSuperBlock } from '../pseudo/inode.ts'
import { type Attribute, SysfsFile } from './attribute.ts'
import { addCpus } from './cpu.ts'
import { addInterfaces } from './net.ts'

const SYSFS_MAGIC = 0x62656572

export class SysfsSuperBlock extends PseudoSuperBlock {
  readonly type = 'sysfs'
  protected readonly magic = SYSFS_MAGIC
  readonly root: TreeDirectory

  constructor() {
    super()
    this.source = 'sysfs'
    this.root = new TreeDirectory(this, 0o555)
    build(this)
  }

  /** The directory at `path` ('a/b/c'), made with its parents. */
  dir(path: string): TreeDirectory {
    let at = this.root
    for (const name of path.split('/')) at = at.dir(name, 0o755)
    return at
  }
  /** Attribute files of a directory. */
  attributes(path: string, attributes: Record<string, Attribute>): void {
    const dir = this.dir(path)
    for (const [name, text] of Object.entries(attributes)) dir.add(name, new SysfsFile(this, 0o444, text))
  }
  link(path: string, target: string): void {
    const slash = path.lastIndexOf('/')
    this.dir(path.slice(0, slash)).add(path.slice(slash + 1), new PseudoSymlink(this, target))
  }
  /** Puts a directory that lists itself at `path`. */
  place(path: string, make: (sb: SysfsSuperBlock) => PseudoDirectory): void {
    const slash = path.lastIndexOf('/')
    this.dir(path.slice(0, slash)).add(path.slice(slash + 1), make(this))
  }
}

const EMPTY = [
  'block',
  'bus/cpu/devices',
  'bus/cpu/drivers',
  'bus/node/devices',
  'class/block',
  'class/mem',
  'class/tty',
  'class/dmi/id',
  'dev/block',
  'dev/char',
  'devices/platform',
  'firmware',
  'fs/cgroup',
  'kernel/debug',
  'kernel/security',
  'kernel/tracing',
  'kernel/mm/ksm',
  'module',
  'power',
  'hypervisor',
]

function build(sb: SysfsSuperBlock): void {
  for (const path of EMPTY) sb.dir(path)
  addCpus(sb)
  addInterfaces(sb)
  sb.attributes('kernel', {
    address_bits: '48\n',
    cpu_byteorder: 'little\n',
    fscaps: '1\n',
    oops_count: '0\n',
    profiling: '0\n',
    rcu_expedited: '0\n',
    rcu_normal: '0\n',
    uevent_seqnum: '0\n',
    warn_count: '0\n',
  })
  sb.attributes('kernel/mm/transparent_hugepage', {
    defrag: 'always defer defer+madvise [madvise] never\n',
    enabled: 'always [madvise] never\n',
    hpage_pmd_size: '2097152\n',
    shmem_enabled: 'always within_size advise [never] deny force\n',
    use_zero_page: '1\n',
  })
  sb.attributes('kernel/mm/hugepages/hugepages-2048kB', {
    free_hugepages: '0\n',
    nr_hugepages: '0\n',
    nr_overcommit_hugepages: '0\n',
    resv_hugepages: '0\n',
    surplus_hugepages: '0\n',
  })
}

registerFileSystem({
  name: 'sysfs',
  nodev: true,
  mount(request) {
    const sb = new SysfsSuperBlock()
    sb.source = request.source
    return sb
  },
})
