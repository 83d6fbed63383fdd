/** Puts a checked config.json and the CLI's flags together into the sentry's BootConfig and the gofer's list of mounts. */
import { readFileSync, realpathSync, statSync } from 'node:fs'
import { hostname } from 'node:os'
import { type BootConfig, type BootFds, isByGofer, type PodConfig } from '../../sentry/control/protocol.ts'
import { toBytes } from '../bytes.ts'
import { CliError } from '../errors.ts'
import type { GlobalOptions } from '../options.ts'
import type { LoadedSpec } from './load.ts'
import { type GoferMount, planMounts } from './mounts.ts'
import { podOf } from './pod.ts'
import { processSpec } from './process.ts'

export interface BootPlan {
  /** Everything but the descriptors, which the spawner fills in. */
  boot: BootConfig
  gofer: GoferMount[]
  /** The container whose host name this one has: the sandbox of its pod. */
  namedBy: string | undefined
}

export const NO_BOOT_FDS: BootFds = {
  stdio: [0, 1, 2],
  preserved: [],
  guestCgroups: [],
  gofer: -1,
  control: -1,
  owner: -1,
  phases: -1,
  ready: -1,
  console: -1,
  controllingConsole: false,
}

/** Namespaces of the host that a container can be put into. */
const OF_THE_HOST: readonly string[] = ['network', 'cgroup']
/** Of a pod's containers. In a virtual machine they share them; else each has a kernel, and these, of its own. */
const SHARED_IN_PODS: readonly string[] = ['ipc', 'uts']

const NO_POD_IPC = 'the containers of a pod share files and network, not System V IPC: each has a kernel of its own'
const NO_SECCOMP = 'the OCI seccomp profile is accepted and not applied; the guest never reaches the host kernel'

/** CPUs that a CFS quota allows, rounded up; 0: no quota. */
export function cpusOfQuota(quota: number | undefined, period: number | undefined): number {
  return quota !== undefined && quota > 0 ? Math.max(1, Math.ceil(quota / (period || 100_000))) : 0
}

export function ownOomScoreAdj(): number {
  return Number(readFileSync('/proc/self/oom_score_adj', 'utf8'))
}

function rootMount(rootfs: string, readonly: boolean): GoferMount {
  const stat = statSync(rootfs, { throwIfNoEntry: false })
  if (!stat?.isDirectory()) throw new CliError(`root.path: ${rootfs} is not a directory`)
  return { source: realpathSync(rootfs), readonly, isFile: false, recursive: true, shared: false }
}

export function planBoot(id: string, spec: LoadedSpec, options: GlobalOptions): BootPlan {
  const { config, bundle } = spec
  const linux = config.linux
  const resources = linux?.resources
  const root = rootMount(spec.rootfs, config.root!.readonly)
  const { mounts, gofer } = planMounts(config.mounts, root, bundle, `${bundle}/config.json`)
  const boot: BootConfig = {
    version: 1,
    id,
    process: processSpec(spec.process, `${bundle}/config.json: process`),
    root: { goferMount: 0, readonly: config.root!.readonly, overlay: false },
    hostname: toBytes(config.hostname || hostname()),
    domainname: toBytes(config.domainname ?? '(none)'),
    mounts,
    maskedPaths: (linux?.maskedPaths ?? []).map(toBytes),
    readonlyPaths: (linux?.readonlyPaths ?? []).map(toBytes),
    network: options.network,
    limits: {
      pids: Math.max(0, resources?.pids?.limit ?? 0),
      memory: Math.max(0, resources?.memory?.limit ?? 0),
      cpus: cpusOfQuota(resources?.cpu?.quota, resources?.cpu?.period),
    },
    cgroupPath: '/',
    sysctl: Object.entries(linux?.sysctl ?? {}).map(([k, v]) => [toBytes(k), toBytes(v)]),
    stubOomScoreAdj: spec.process.oomScoreAdj ?? ownOomScoreAdj(),
    platform: options.platform,
    microvm: options.microvm,
    autoStart: false,
    strace: options.strace,
    debugLog: options.debugLog,
    fds: NO_BOOT_FDS,
  }
  const pod = podOfConfig(id, spec)
  if (boot.platform === 'microvm') boot.pod = pod
  if (boot.pod && !(boot.microvm && isByGofer(boot.microvm.fs)))
    throw new CliError('--microvm-fs: containers of a pod have their files from gofers')
  const joins = pod?.role === 'member' ? SHARED_IN_PODS : []
  // A kernel of its own.
  const apart = pod?.role === 'member' && !boot.pod
  if (apart && linux?.namespaces.some(({ type, path }) => type === 'ipc' && path))
    spec.warnings.push(`${bundle}/config.json: linux.namespaces: ${NO_POD_IPC}`)
  linux?.namespaces.forEach(({ type, path }, i) => {
    if (path && !OF_THE_HOST.includes(type) && !joins.includes(type))
      throw new CliError(
        `${bundle}/config.json: linux.namespaces[${i}].path: joining a ${type} namespace is not supported: each sandbox has its own kernel`,
      )
  })
  if (linux?.seccomp) {
    if (boot.platform === 'microvm') boot.seccomp = linux.seccomp
    else spec.warnings.push(`${bundle}/config.json: linux.seccomp: ${NO_SECCOMP}`)
  }
  return { boot, gofer, namedBy: apart && !config.hostname ? pod.sandbox : undefined }
}

function podOfConfig(id: string, { bundle, config }: LoadedSpec): PodConfig | undefined {
  try {
    return podOf(id, config.annotations)
  } catch (error) {
    throw new CliError(`${bundle}/config.json: ${(error as Error).message}`)
  }
}
