/**
 * Fields of config.json that tssandbox does not do. Refused where a container would run with less protection or other
 * behaviour than was asked for; a warning where leaving it out is harmless. Never silently dropped.
 */
import type { Config, Process } from './oci.ts'

type Refuse = (at: string, why: string) => never
type Warn = (at: string, why: string) => void

/** Devices that the sentry has of its own. */
export const OWN_DEVICES: ReadonlySet<string> = new Set(
  ['null', 'zero', 'full', 'random', 'urandom', 'tty', 'console', 'ptmx'].map((name) => `/dev/${name}`),
)

export function refuseUnsupportedProcess(process: Process, at: string, warn: Warn): void {
  if (process.apparmorProfile) warn(`${at}apparmorProfile`, 'not applied: the guest never reaches the host kernel')
  if (process.selinuxLabel) warn(`${at}selinuxLabel`, 'not applied: the guest never reaches the host kernel')
  if (process.scheduler !== undefined) warn(`${at}scheduler`, 'not applied: scheduling is left to the host')
  if (process.ioPriority !== undefined) warn(`${at}ioPriority`, 'not applied')
  if (process.execCPUAffinity !== undefined) warn(`${at}execCPUAffinity`, 'not applied')
}

function allowsAllDevices(rules: unknown[]): boolean {
  return rules.some((rule) => {
    const { allow, type, major, minor } = rule as Record<string, unknown>
    return allow === true && (type === undefined || type === 'a') && major === undefined && minor === undefined
  })
}

export function refuseUnsupported(config: Config, refuse: Refuse, warn: Warn): void {
  for (const os of ['solaris', 'windows', 'vm', 'zos'] as const) {
    if (config[os] !== undefined) refuse(os, 'only Linux containers are supported')
  }
  if (config.process) refuseUnsupportedProcess(config.process, 'process.', warn)
  const linux = config.linux
  if (!linux) return

  if (linux.mountLabel) warn('linux.mountLabel', 'not applied: the guest never reaches the host kernel')
  if (linux.intelRdt !== undefined) warn('linux.intelRdt', 'not applied')
  if (linux.memoryPolicy !== undefined) warn('linux.memoryPolicy', 'not applied')
  if (linux.rootfsPropagation && !/^r?(private|slave)$/.test(linux.rootfsPropagation))
    warn('linux.rootfsPropagation', `"${linux.rootfsPropagation}": mounts never leave or enter the sandbox`)
  if (linux.personality && (linux.personality.domain !== 'LINUX' || linux.personality.flags.length))
    refuse('linux.personality', 'only the LINUX domain without flags is supported')
  if (linux.timeOffsets !== undefined) refuse('linux.timeOffsets', 'time namespaces are not supported')
  if (linux.netDevices !== undefined) refuse('linux.netDevices', 'moving host devices is not supported')
  if (linux.uidMappings.length) refuse('linux.uidMappings', 'user namespaces are not supported')
  if (linux.gidMappings.length) refuse('linux.gidMappings', 'user namespaces are not supported')

  linux.namespaces.forEach(({ type }, i) => {
    if (type === 'user' || type === 'time') refuse(`linux.namespaces[${i}]`, `${type} namespaces are not supported`)
  })
  for (const type of ['pid', 'ipc', 'uts', 'mount'] as const) {
    if (!linux.namespaces.some((n) => n.type === type))
      warn('linux.namespaces', `no ${type} namespace asked for; the container has its own all the same`)
  }

  const foreign = linux.devices.filter((device) => !OWN_DEVICES.has(device.path))
  if (foreign.length && allowsAllDevices(linux.resources?.devices ?? [])) {
    // `docker run --privileged` lists whatever the host has; nobody asked for one of them in particular.
    warn('linux.devices', `host devices are not supported: ${foreign.map((d) => d.path).join(' ')}`)
  } else if (foreign[0]) {
    const i = linux.devices.indexOf(foreign[0])
    refuse(`linux.devices[${i}].path`, `host device ${foreign[0].path} is not supported`)
  }
  const r = linux.resources
  if (r) {
    for (const key of ['hugepageLimits', 'network', 'rdma'] as const)
      if (r[key] !== undefined) warn(`linux.resources.${key}`, 'not applied')
  }
}
