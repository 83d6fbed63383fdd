/**
 * What the CLI and the sentry say to each other: the boot configuration (one JSON document on a descriptor) and the
 * requests on the control socket. Types only: both processes and their tests import this, so nothing may run here.
 *
 * All strings that the guest can see (arguments, environment, paths, names) are latin1 byte strings: one character per
 * byte. Descriptors are numbers in the sentry; nothing is positional.
 */

/** What a process of the container is started with: config.json's `process`, checked and with defaults filled in. */
export interface ProcessSpec {
  args: string[]
  /** `K=V`. The sentry adds HOME from the container's /etc/passwd when it is missing, as runc does. */
  env: string[]
  cwd: string
  uid: number
  gid: number
  additionalGids: number[]
  /** −1: the default, 0o022. */
  umask: number
  capabilities: CapabilitySets
  rlimits: Rlimit[]
  terminal: boolean
  /** 0 × 0: unknown. */
  consoleSize: { rows: number; cols: number }
  noNewPrivileges: boolean
  /** undefined: as the runtime's own. */
  oomScoreAdj?: number
}

/** Capability numbers (CAP_CHOWN is 0), in ascending order. */
export interface CapabilitySets {
  bounding: number[]
  effective: number[]
  inheritable: number[]
  permitted: number[]
  ambient: number[]
}

/** `resource` is Linux's number (RLIMIT_NOFILE is 7); RLIM_INFINITY is the double Infinity, sent as −1. */
export interface Rlimit {
  resource: number
  soft: number
  hard: number
}

export type MountType = 'gofer' | 'tmpfs' | 'proc' | 'sysfs' | 'devpts' | 'mqueue' | 'cgroup' | 'cgroup2' | 'dev'

/** In the order in which they are mounted; a later one may cover or sit inside an earlier one. */
export interface MountSpec {
  destination: string
  type: MountType
  /** First column of /proc/mounts. */
  source: string
  /** Only for `gofer`: which of the gofer's mounts; −1 otherwise. */
  goferMount: number
  /** The source is one file, not a directory: the mount point is a file too. */
  isFile: boolean
  flags: MountFlags
  /** File system options that are not flags: `size=65536k`, `mode=755`, `ptmxmode=0666`, `gid=5`. */
  options: string[]
}

export interface MountFlags {
  readonly: boolean
  nosuid: boolean
  nodev: boolean
  noexec: boolean
  noatime: boolean
}

export interface BootConfig {
  version: 1
  id: string
  /** The init process. Prepared at boot (so that a missing program fails `create`), run at `start`. */
  process: ProcessSpec
  root: {
    goferMount: number
    readonly: boolean
    /** Writes go to an in-memory upper layer over the gofer's tree. */
    overlay: boolean
  }
  /** Empty: the host's name at the time of creation has been filled in by the CLI, so it is never empty. */
  hostname: string
  domainname: string
  mounts: MountSpec[]
  maskedPaths: string[]
  readonlyPaths: string[]
  /** `host`: sockets of the sentry process, in the network namespace it was started in. */
  network: 'none' | 'host'
  limits: {
    /** Tasks (threads) in the container; 0: no limit. */
    pids: number
    /** Bytes that /proc/meminfo and sysinfo report as total; 0: the host's. The host's cgroup enforces it. */
    memory: number
    /** What sched_getaffinity and /proc/cpuinfo show; 0: the host's. */
    cpus: number
  }
  /** Shown in /proc/self/cgroup; `/` as in a new cgroup namespace. */
  cgroupPath: string
  sysctl: [name: string, value: string][]
  /** Host oom_score_adj of the stub processes: the sentry's own is lower, so that a guest dies before its kernel does. */
  stubOomScoreAdj: number
  platform: PlatformName
  /** For the guest's kernel, with the platform `microvm`. */
  seccomp?: SeccompProfile
  /** Only for the platform `microvm`. */
  microvm?: MicrovmConfig
  /** Instead of a gofer: its mounts by number. */
  shares?: Share[]
  /** Of a pod, whose containers share a virtual machine. */
  pod?: PodConfig | undefined
  /** Run init at once instead of waiting for the `start` request (`do` and foreground `run`). */
  autoStart: boolean
  strace: boolean
  /** A directory for debug and strace logs, opened by the sentry before it locks itself in; empty: none. */
  debugLog: string
  fds: BootFds
}

export type PlatformName = 'auto' | 'ptrace' | 'systrap' | 'microvm'

export interface PodConfig {
  /** `sandbox`: its VM is the pod's. */
  role: 'sandbox' | 'member'
  /** The sandbox's container id. */
  sandbox: string
  /** Bytes for the whole pod; 0: unknown. */
  memory: number
}

export interface MicrovmConfig {
  /** Folder with kernels, images and templates. */
  store: string
  accel: 'auto' | 'kvm' | 'tcg'
  /** Restore a saved VM instead of booting one. */
  template: boolean
  /** Who serves the container's files to the guest. */
  fs: MicrovmFs
}

/** The gofer, by FUSE or by 9P; or others without a gofer. */
export type MicrovmFs = 'fuse' | '9p' | 'virtio-9p' | 'virtiofsd'
export const isByGofer = (fs: MicrovmFs): boolean => fs === 'fuse' || fs === '9p'

/** A mount that a VM has without a gofer. */
export interface Share {
  source: string
  readonly: boolean
}

/** config.json's linux.seccomp. */
export interface SeccompProfile {
  defaultAction: string
  defaultErrnoRet?: number | undefined
  /** undefined: the default ones. */
  flags?: string[] | undefined
  listenerPath?: string | undefined
  syscalls: {
    names: string[]
    action: string
    errnoRet?: number | undefined
    args: { index: number; value: number; valueTwo: number; op: string }[]
  }[]
}

export interface BootFds {
  /** Init's 0, 1 and 2: a descriptor of the sentry, or −1 for `console`. */
  stdio: [number, number, number]
  /** Init's further descriptors, from 3 upwards (`--preserve-fds`): descriptors of the sentry. */
  preserved: number[]
  /** `cgroup.procs`, open for writing, of host cgroups that are for the stub processes alone. */
  guestCgroups: number[]
  /** SEQPACKET socket to the gofer. With a VM: a socket that hangs up when the gofer ends. */
  gofer: number
  /** Only with a VM: 9P connections to the gofer, by the gofer's mount. */
  ninep?: number[]
  /** A member of a pod: a stream socket whose other end its sandbox's monitor has. */
  pod?: number
  /** Listening control socket (stream); −1: none (`do`). */
  control: number
  /**
   * A connected control socket (stream) of the CLI that stays (`do`, foreground `run`), −1: none. When it hangs up the
   * sandbox ends.
   */
  owner: number
  /** Where native/phases.ts writes; −1: nowhere. */
  phases: number
  /** Takes one line, {@link ReadyMessage}, then is closed. */
  ready: number
  /**
   * A host terminal in raw mode that is the hardware behind the container's /dev/console; −1: none. Its size changes come
   * as `resize` requests, from the CLI or from sentry/control/console-size.ts.
   */
  console: number
  /** The console is to be the sentry's controlling terminal, so that size changes reach it (detached with a terminal). */
  controllingConsole: boolean
}

/** The one line on the ready pipe. End of file without a line: the sentry died. */
export type ReadyMessage = { ok: true } | { ok: false; error: string }

/* ---- Control socket: frames of a little-endian u32 length and a msgpackr value, at most MAX_FRAME bytes. ---- */

export const MAX_FRAME = 1 << 20
/** More descriptors than stdio or a console never come with one request. */
export const MAX_FDS = 4

export type Request =
  | { op: 'start' }
  /** Descriptors by SCM_RIGHTS with the frame's first byte: [0, 1, 2], or [console] when `process.terminal`. */
  | { op: 'exec'; process: ProcessSpec; killOnDisconnect: boolean }
  | { op: 'signal'; pid: number; signal: number; target: SignalTarget }
  /** Answered when the process has ended; pid 1 is init. */
  | { op: 'wait'; pid: number }
  | { op: 'ps' }
  | { op: 'state' }
  | { op: 'pause' }
  | { op: 'resume' }
  | { op: 'stats' }
  | { op: 'resize'; pid: number; rows: number; cols: number }
  /** One descriptor: a stream socket on which another container's monitor asks to join this one's VM (microvm/pod.ts). */
  | { op: 'attach' }
  | { op: 'update'; limits: Partial<BootConfig['limits']> }
  /** Kill everything and exit; no answer but the end of the connection. */
  | { op: 'shutdown' }

/** `group`: the process group of pid, as a terminal would; `all`: every process of the container. */
export type SignalTarget = 'process' | 'group' | 'all'

/** Replies come in the order of the requests of one connection. */
export type Reply =
  | { ok: true; value: ReplyValue }
  | { ok: false; error: string /** −errno where there is one, else 0. */; errno: number }

export type ReplyValue = null | { pid: number } | { status: number } | { processes: ProcessInfo[] } | StateInfo | Stats

export type RunState = 'created' | 'running' | 'paused' | 'stopped'

export interface StateInfo {
  state: RunState
}

export interface ProcessInfo {
  pid: number
  ppid: number
  /** The stub process on the host; 0 unknown. */
  hostPid: number
  uid: number
  /** One letter, as in /proc/PID/stat. */
  state: string
  threads: number
  /** CPU time in milliseconds. */
  cpuMs: number
  /** Seconds since the epoch. */
  startTime: number
  tty: string
  command: string
}

export interface Stats {
  tasks: number
  /** Guest system calls answered so far. */
  syscalls: number
  /** CPU time of all guest processes, nanoseconds. */
  cpuUserNs: number
  cpuSystemNs: number
}
