/**
 * /proc/sys (Linux: fs/proc/proc_sysctl.c, kernel/sysctl.c).
 *
 * Two kinds: values that only show and remember (sysctl-values.ts), and those connected to the kernel's state, below.
 * The container's sysctls come in through {@link setSysctl}.
 */

import { getrandom } from '../../../native/host.ts'
import { EACCES, EINVAL, EIO, EPERM } from '../../abi/errno.ts'
import { CAP_SYS_ADMIN } from '../../kernel/credentials.ts'
import type { Kernel } from '../../kernel/kernel.ts'
import type { Task } from '../../kernel/task.ts'
import { UTS_RELEASE, UTS_VERSION } from '../../kernel/uts.ts'
import { ATTR_GID, ATTR_MODE, ATTR_UID, type Inode, type SetAttr } from '../../vfs/inode.ts'
import { sysctl as walkSysctl } from '../../vfs/path-walk.ts'
import { TreeDirectory } from '../pseudo/directory.ts'
import { PseudoFile } from '../pseudo/file.ts'
import type { PseudoSuperBlock } from '../pseudo/inode.ts'
import { IPV4_CONF_VALUES, IPV6_CONF_VALUES, NET_VALUES } from './sysctl-net-values.ts'
import { KERNEL_VALUES } from './sysctl-values.ts'

interface Sysctl {
  readonly permissions: number
  get(kernel: Kernel): string
  /** Takes the text without its newline; 0 or −errno. */
  set(kernel: Kernel, text: string, t: Task | null): number
}

const MAX_VALUE = 1024

class Value implements Sysctl {
  readonly permissions: number
  private text: string
  private readonly numbers: boolean

  constructor(permissions: number, text: string) {
    this.permissions = permissions
    this.text = text
    this.numbers = /^-?\d+(\t-?\d+)*$/.test(text)
  }
  get(): string {
    return this.text
  }
  set(_kernel: Kernel, text: string): number {
    if (!this.numbers) {
      this.text = text.slice(0, MAX_VALUE)
      return 0
    }
    // As proc_dointvec: separated by blanks, fewer than there are leave the rest.
    const given = text.trim().split(/\s+/)
    const have = this.text.split('\t')
    if (given.length > have.length || given.some((n) => !/^-?\d{1,20}$/.test(n))) return -EINVAL
    given.forEach((n, i) => {
      have[i] = n
    })
    this.text = have.join('\t')
    return 0
  }
}

const readOnly = (get: (kernel: Kernel) => string): Sysctl => ({ permissions: 0o444, get, set: () => -EPERM })

/** A random UUID (version 4), new at each call. */
function uuid(): string {
  const b = Buffer.alloc(16)
  getrandom(b, 16, 0)
  b[6] = (b[6]! & 0x0f) | 0x40
  b[8] = (b[8]! & 0x3f) | 0x80
  const h = b.toString('hex')
  return `${h.slice(0, 8)}-${h.slice(8, 12)}-${h.slice(12, 16)}-${h.slice(16, 20)}-${h.slice(20)}`
}

const HOST_NAME_MAX = 64
let bootId = ''

function nameSysctl(get: (k: Kernel) => string, put: (k: Kernel, name: string) => void): Sysctl {
  return {
    permissions: 0o644,
    get,
    set(kernel, text, t) {
      if (t !== null && !t.creds.capable(CAP_SYS_ADMIN)) return -EPERM
      put(kernel, text.slice(0, HOST_NAME_MAX))
      return 0
    },
  }
}

/** Those that are connected to something. */
const LIVE: Record<string, Sysctl> = {
  'kernel/hostname': nameSysctl(
    (k) => k.uts.nodename,
    (k, name) => {
      k.uts.nodename = name
    },
  ),
  'kernel/domainname': nameSysctl(
    (k) => k.uts.domainname,
    (k, name) => {
      k.uts.domainname = name
    },
  ),
  'kernel/ns_last_pid': readOnly((k) => String(k.ids.lastId)),
  'kernel/random/uuid': readOnly(uuid),
  'kernel/random/boot_id': readOnly(() => {
    if (bootId === '') bootId = uuid()
    return bootId
  }),
  'fs/file-nr': readOnly(() => '0\t0\t9223372036854775807'),
  'fs/protected_symlinks': {
    permissions: 0o644,
    get: () => String(walkSysctl.protectedSymlinks),
    set(_kernel, text) {
      if (text !== '0' && text !== '1') return -EINVAL
      walkSysctl.protectedSymlinks = Number(text)
      return 0
    },
  },
}

/** For what lives elsewhere; to be called while the sentry is loaded. */
export function registerSysctl(path: string, permissions: number, access: Pick<Sysctl, 'get' | 'set'>): void {
  LIVE[path] = { permissions, ...access }
}

/** name → sysctl, for all of /proc/sys; shared by every mount. */
let registry: Map<string, Sysctl> | null = null

function allSysctls(): Map<string, Sysctl> {
  if (registry !== null) return registry
  const all = new Map<string, Sysctl>()
  const addLines = (prefix: string, lines: string): void => {
    for (const line of lines.split('\n')) {
      const [name, permissions, ...rest] = line.split(' ')
      if (!name) continue
      const text = rest.join(' ').replace('@osrelease', UTS_RELEASE).replace('@version', UTS_VERSION)
      all.set(prefix + name, new Value(Number.parseInt(permissions!, 8), text))
    }
  }
  addLines('', KERNEL_VALUES)
  addLines('net/', NET_VALUES)
  for (const device of ['all', 'default', 'lo', 'eth0']) {
    addLines(`net/ipv4/conf/${device}/`, IPV4_CONF_VALUES)
    addLines(`net/ipv6/conf/${device}/`, IPV6_CONF_VALUES)
  }
  for (const [name, sysctl] of Object.entries(LIVE)) all.set(name, sysctl)
  registry = all
  return all
}

/** Sets 'net.ipv4.ip_forward' (or with slashes) as the container's configuration asks. 0 or −errno. */
export function setSysctl(kernel: Kernel, name: string, value: string): number {
  const path = name.includes('/') ? name : name.replaceAll('.', '/')
  const sysctl = allSysctls().get(path)
  return sysctl === undefined ? -EINVAL : sysctl.set(kernel, value.trim(), null)
}

class SysctlFile extends PseudoFile {
  private readonly sysctl: Sysctl

  constructor(sb: PseudoSuperBlock, sysctl: Sysctl) {
    super(sb, sysctl.permissions)
    this.sysctl = sysctl
  }
  render(t: Task): string {
    return `${this.sysctl.get(t.kernel)}\n`
  }
  override store(t: Task, text: string): number {
    if ((this.sysctl.permissions & 0o222) === 0) return -EIO
    const end = text.search(/[\n\0]/)
    const err = this.sysctl.set(t.kernel, end < 0 ? text : text.slice(0, end), t)
    return err < 0 ? err : text.length
  }
  /** sysctl_perm: the owner's bits count for uid 0, and no capability overrides them. */
  override permission(t: Task, mask: number): number {
    const bits = t.creds.euid === 0 ? this.mode >> 6 : t.creds.egid === 0 ? this.mode >> 3 : this.mode
    return (mask & ~bits & 7) !== 0 ? -EACCES : 0
  }
  override setattr(attr: SetAttr): number {
    // Truncation means nothing; the rest is not for changing.
    return (attr.valid & (ATTR_MODE | ATTR_UID | ATTR_GID)) !== 0 ? -EPERM : 0
  }
}

/** A directory whose sysctls are made when it is first looked at: most containers read three of the hundreds. */
export class SysctlDirectory extends TreeDirectory {
  private readonly prefix: string
  private filled = false

  constructor(sb: PseudoSuperBlock, prefix: string) {
    super(sb, 0o555)
    this.nlink = 1
    this.prefix = prefix
  }

  private fill(): void {
    if (this.filled) return
    this.filled = true
    const sb = this.sb as PseudoSuperBlock
    for (const [path, sysctl] of allSysctls()) {
      if (!path.startsWith(this.prefix)) continue
      const rest = path.slice(this.prefix.length)
      const slash = rest.indexOf('/')
      const name = slash < 0 ? rest : rest.slice(0, slash)
      if (this.entries.has(name)) continue
      this.add(name, slash < 0 ? new SysctlFile(sb, sysctl) : new SysctlDirectory(sb, `${this.prefix}${name}/`))
    }
    this.nlink = 1
  }
  override lookup(name: string): Inode | number {
    this.fill()
    return super.lookup(name)
  }
  override readdir(...args: Parameters<TreeDirectory['readdir']>): number {
    this.fill()
    return super.readdir(...args)
  }
}
