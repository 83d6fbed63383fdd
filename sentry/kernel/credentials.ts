/**
 * Credentials of a task (Linux: struct cred). Immutable: a change makes a new object, so that a file description or a
 * message can keep the credentials of its opener or sender by reference.
 *
 * Capability sets are two u32 (lo, hi): 41 capabilities do not fit a small integer.
 */
export interface CapSet {
  readonly lo: number
  readonly hi: number
}
export const CAPS_NONE: CapSet = { lo: 0, hi: 0 }
export const CAP_LAST = 40
export const CAPS_ALL: CapSet = { lo: 0xffffffff, hi: 0x1ff }

export const CAP_CHOWN = 0
export const CAP_DAC_OVERRIDE = 1
export const CAP_DAC_READ_SEARCH = 2
export const CAP_FOWNER = 3
export const CAP_FSETID = 4
export const CAP_KILL = 5
export const CAP_SETGID = 6
export const CAP_SETUID = 7
export const CAP_SETPCAP = 8
export const CAP_LINUX_IMMUTABLE = 9
export const CAP_NET_BIND_SERVICE = 10
export const CAP_NET_BROADCAST = 11
export const CAP_NET_ADMIN = 12
export const CAP_NET_RAW = 13
export const CAP_IPC_LOCK = 14
export const CAP_IPC_OWNER = 15
export const CAP_SYS_MODULE = 16
export const CAP_SYS_RAWIO = 17
export const CAP_SYS_CHROOT = 18
export const CAP_SYS_PTRACE = 19
export const CAP_SYS_PACCT = 20
export const CAP_SYS_ADMIN = 21
export const CAP_SYS_BOOT = 22
export const CAP_SYS_NICE = 23
export const CAP_SYS_RESOURCE = 24
export const CAP_SYS_TIME = 25
export const CAP_SYS_TTY_CONFIG = 26
export const CAP_MKNOD = 27
export const CAP_LEASE = 28
export const CAP_AUDIT_WRITE = 29
export const CAP_AUDIT_CONTROL = 30
export const CAP_SETFCAP = 31
export const CAP_MAC_OVERRIDE = 32
export const CAP_MAC_ADMIN = 33
export const CAP_SYSLOG = 34
export const CAP_WAKE_ALARM = 35
export const CAP_BLOCK_SUSPEND = 36
export const CAP_AUDIT_READ = 37
export const CAP_PERFMON = 38
export const CAP_BPF = 39
export const CAP_CHECKPOINT_RESTORE = 40

export interface CredentialFields {
  readonly uid: number
  readonly gid: number
  readonly euid: number
  readonly egid: number
  readonly suid: number
  readonly sgid: number
  readonly fsuid: number
  readonly fsgid: number
  readonly groups: readonly number[]
  readonly permitted: CapSet
  readonly effective: CapSet
  readonly inheritable: CapSet
  readonly bounding: CapSet
  readonly ambient: CapSet
  readonly securebits: number
  readonly noNewPrivs: boolean
}

export class Credentials implements CredentialFields {
  readonly uid: number
  readonly gid: number
  readonly euid: number
  readonly egid: number
  readonly suid: number
  readonly sgid: number
  readonly fsuid: number
  readonly fsgid: number
  readonly groups: readonly number[]
  readonly permitted: CapSet
  readonly effective: CapSet
  readonly inheritable: CapSet
  readonly bounding: CapSet
  readonly ambient: CapSet
  readonly securebits: number
  readonly noNewPrivs: boolean

  constructor(f: CredentialFields) {
    this.uid = f.uid
    this.gid = f.gid
    this.euid = f.euid
    this.egid = f.egid
    this.suid = f.suid
    this.sgid = f.sgid
    this.fsuid = f.fsuid
    this.fsgid = f.fsgid
    this.groups = f.groups
    this.permitted = f.permitted
    this.effective = f.effective
    this.inheritable = f.inheritable
    this.bounding = f.bounding
    this.ambient = f.ambient
    this.securebits = f.securebits
    this.noNewPrivs = f.noNewPrivs
  }

  with(changes: Partial<CredentialFields>): Credentials {
    return new Credentials({ ...this, ...changes })
  }

  capable(cap: number): boolean {
    return capHas(this.effective, cap)
  }

  /** Whether `gid` is the file-system group or a supplementary one. */
  inGroup(gid: number): boolean {
    return this.fsgid === gid || this.groups.includes(gid)
  }
}

export function capHas(set: CapSet, cap: number): boolean {
  return (cap < 32 ? (set.lo >>> cap) & 1 : (set.hi >>> (cap - 32)) & 1) !== 0
}

export function rootCredentials(): Credentials {
  return new Credentials({
    uid: 0,
    gid: 0,
    euid: 0,
    egid: 0,
    suid: 0,
    sgid: 0,
    fsuid: 0,
    fsgid: 0,
    groups: [],
    permitted: CAPS_ALL,
    effective: CAPS_ALL,
    inheritable: CAPS_NONE,
    bounding: CAPS_ALL,
    ambient: CAPS_NONE,
    securebits: 0,
    noNewPrivs: false,
  })
}
