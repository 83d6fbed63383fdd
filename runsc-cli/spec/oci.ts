/**
 * The OCI runtime specification's config.json, as far as Linux goes. One checker per object; the types follow from them.
 * A field that is only refused or warned about is listed too, so that it is never "unknown" (see refuse.ts).
 */
import {
  anything,
  boolean,
  type Checked,
  integer,
  list,
  map,
  object,
  oneOf,
  optional,
  string,
  u32,
  withDefault,
} from './shape.ts'

const idMapping = object({ containerID: u32, hostID: u32, size: u32 })

export const processShape = object({
  terminal: withDefault(boolean, false),
  consoleSize: optional(object({ height: integer(0, 65535), width: integer(0, 65535) })),
  user: withDefault(
    object({
      uid: withDefault(u32, 0),
      gid: withDefault(u32, 0),
      umask: optional(integer(0, 0o777)),
      additionalGids: list(u32),
      username: optional(string),
    }),
    { uid: 0, gid: 0, umask: undefined, additionalGids: [], username: undefined },
  ),
  args: list(string),
  commandLine: optional(string),
  env: list(string),
  cwd: string,
  capabilities: optional(
    object({
      bounding: list(string),
      effective: list(string),
      inheritable: list(string),
      permitted: list(string),
      ambient: list(string),
    }),
  ),
  rlimits: list(object({ type: string, soft: integer(-1), hard: integer(-1) })),
  noNewPrivileges: withDefault(boolean, false),
  apparmorProfile: optional(string),
  oomScoreAdj: optional(integer(-1000, 1000)),
  selinuxLabel: optional(string),
  scheduler: optional(anything),
  ioPriority: optional(anything),
  execCPUAffinity: optional(anything),
})

const hook = object({
  path: string,
  args: list(string),
  env: list(string),
  timeout: optional(integer(1)),
})

const resources = object({
  devices: list(anything),
  memory: optional(
    object({
      limit: optional(integer()),
      reservation: optional(integer()),
      swap: optional(integer()),
      kernel: optional(integer()),
      kernelTCP: optional(integer()),
      swappiness: optional(integer(0)),
      disableOOMKiller: optional(boolean),
      useHierarchy: optional(boolean),
      checkBeforeUpdate: optional(boolean),
    }),
  ),
  cpu: optional(
    object({
      shares: optional(integer(0)),
      quota: optional(integer()),
      burst: optional(integer(0)),
      period: optional(integer(0)),
      realtimeRuntime: optional(integer()),
      realtimePeriod: optional(integer(0)),
      cpus: optional(string),
      mems: optional(string),
      idle: optional(integer()),
    }),
  ),
  pids: optional(object({ limit: optional(integer()) })),
  blockIO: optional(anything),
  hugepageLimits: optional(anything),
  network: optional(anything),
  rdma: optional(anything),
  unified: map(string),
})
export const resourcesShape = resources

const seccomp = object({
  defaultAction: string,
  defaultErrnoRet: optional(integer(0, 4095)),
  architectures: list(string),
  flags: optional(list(string)),
  listenerPath: optional(string),
  listenerMetadata: optional(string),
  syscalls: list(
    object({
      names: list(string),
      action: string,
      errnoRet: optional(integer(0, 4095)),
      args: list(
        object({
          index: integer(0, 5),
          value: integer(0),
          valueTwo: withDefault(integer(0), 0),
          op: string,
        }),
      ),
    }),
  ),
})

const linux = object({
  uidMappings: list(idMapping),
  gidMappings: list(idMapping),
  timeOffsets: optional(anything),
  sysctl: map(string),
  resources: optional(resources),
  cgroupsPath: optional(string),
  namespaces: list(
    object({
      type: oneOf('pid', 'network', 'mount', 'ipc', 'uts', 'user', 'cgroup', 'time'),
      path: optional(string),
    }),
  ),
  devices: list(
    object({
      path: string,
      type: oneOf('c', 'b', 'u', 'p'),
      major: optional(integer()),
      minor: optional(integer()),
      fileMode: optional(integer(0)),
      uid: optional(u32),
      gid: optional(u32),
    }),
  ),
  netDevices: optional(anything),
  seccomp: optional(seccomp),
  rootfsPropagation: optional(string),
  maskedPaths: list(string),
  readonlyPaths: list(string),
  mountLabel: optional(string),
  intelRdt: optional(anything),
  memoryPolicy: optional(anything),
  personality: optional(object({ domain: string, flags: list(string) })),
})

export const configShape = object({
  ociVersion: string,
  process: optional(processShape),
  root: optional(object({ path: string, readonly: withDefault(boolean, false) })),
  hostname: optional(string),
  domainname: optional(string),
  mounts: list(
    object({
      destination: string,
      type: optional(string),
      source: optional(string),
      options: list(string),
      uidMappings: list(idMapping),
      gidMappings: list(idMapping),
    }),
  ),
  hooks: withDefault(
    object({
      prestart: list(hook),
      createRuntime: list(hook),
      createContainer: list(hook),
      startContainer: list(hook),
      poststart: list(hook),
      poststop: list(hook),
    }),
    { prestart: [], createRuntime: [], createContainer: [], startContainer: [], poststart: [], poststop: [] },
  ),
  annotations: map(string),
  linux: optional(linux),
  solaris: optional(anything),
  windows: optional(anything),
  vm: optional(anything),
  zos: optional(anything),
})

export type Config = Checked<typeof configShape>
export type Process = Checked<typeof processShape>
export type OciMount = Config['mounts'][number]
export type Hook = Checked<typeof hook>
export type Hooks = Config['hooks']
export type Resources = Checked<typeof resources>
