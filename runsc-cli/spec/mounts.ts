/**
 * config.json's mounts as the sentry's: which file system, which flags, and for binds which of the gofer's mounts.
 */
import { realpathSync, statSync } from 'node:fs'
import { resolve } from 'node:path'
import type { MountFlags, MountSpec, MountType } from '../../sentry/control/protocol.ts'
import { toBytes } from '../bytes.ts'
import { CliError } from '../errors.ts'
import type { OciMount } from './oci.ts'
import { OWN_DEVICES } from './refuse.ts'

/** A tree (or file) that the gofer serves. Index 0 is the root. */
export interface GoferMount {
  /** Absolute, without symbolic links. */
  source: string
  readonly: boolean
  isFile: boolean
  /** Mounts below come along. */
  recursive: boolean
  /** Others may change it meanwhile: names are not cached. */
  shared: boolean
}

export interface MountPlan {
  mounts: MountSpec[]
  gofer: GoferMount[]
}

const FLAGS: Record<string, [keyof MountFlags, boolean]> = {
  ro: ['readonly', true],
  rw: ['readonly', false],
  nosuid: ['nosuid', true],
  suid: ['nosuid', false],
  nodev: ['nodev', true],
  dev: ['nodev', false],
  noexec: ['noexec', true],
  exec: ['noexec', false],
  noatime: ['noatime', true],
  atime: ['noatime', false],
  rro: ['readonly', true],
}

/** Options that are about propagation, atime variants or synchronous writes: nothing to do in a kernel of one container. */
const WITHOUT_EFFECT = new Set(
  (
    'bind rbind defaults async sync dirsync relatime norelatime strictatime nostrictatime lazytime nolazytime diratime ' +
    'nodiratime rnosuid rsuid rnodev rdev rnoexec rexec rrw remount private rprivate shared rshared slave rslave ' +
    'unbindable runbindable acl noacl iversion noiversion mand nomand loud silent nosymfollow symfollow tmpcopyup'
  ).split(' '),
)

const TYPES: Record<string, MountType> = {
  proc: 'proc',
  sysfs: 'sysfs',
  tmpfs: 'tmpfs',
  devpts: 'devpts',
  mqueue: 'mqueue',
  cgroup: 'cgroup',
  cgroup2: 'cgroup2',
  devtmpfs: 'dev',
}

function splitOptions(options: string[]): { flags: MountFlags; rest: string[]; bind: boolean; rbind: boolean } {
  const flags: MountFlags = { readonly: false, nosuid: false, nodev: false, noexec: false, noatime: false }
  const rest: string[] = []
  let bind = false
  for (const option of options) {
    const flag = FLAGS[option]
    if (flag) flags[flag[0]] = flag[1]
    else if (!WITHOUT_EFFECT.has(option)) rest.push(option)
    if (option === 'bind' || option === 'rbind') bind = true
  }
  return { flags, rest, bind, rbind: options.includes('rbind') }
}

const onDevice = (path: string) => path === '/dev'

export function planMounts(mounts: OciMount[], root: GoferMount, bundle: string, file: string): MountPlan {
  const plan: MountPlan = { mounts: [], gofer: [root] }
  mounts.forEach((mount, i) => {
    const at = `${file}: mounts[${i}]`
    const destination = resolve('/', mount.destination)
    const { flags, rest, bind, rbind } = splitOptions(mount.options)
    const common = { destination: toBytes(destination), source: toBytes(mount.source ?? mount.type ?? 'none'), flags }
    if (mount.uidMappings.length) throw new CliError(`${at}.uidMappings: id-mapped mounts are not supported`)
    if (mount.gidMappings.length) throw new CliError(`${at}.gidMappings: id-mapped mounts are not supported`)

    if (bind || mount.type === 'bind') {
      if (!mount.source) throw new CliError(`${at}.source: a bind mount needs one`)
      const source = resolve(bundle, mount.source)
      const stat = statSync(source, { throwIfNoEntry: false })
      if (!stat) throw new CliError(`${at}.source: ${source}: no such file or directory`)
      if (stat.isCharacterDevice() && OWN_DEVICES.has(destination)) return
      if (stat.isCharacterDevice() || stat.isBlockDevice())
        throw new CliError(`${at}.source: ${source}: host devices are not supported`)
      const isFile = !stat.isDirectory()
      plan.gofer.push({
        source: realpathSync(source),
        readonly: flags.readonly,
        isFile,
        recursive: rbind,
        shared: true,
      })
      const goferMount = plan.gofer.length - 1
      plan.mounts.push({ ...common, type: 'gofer', goferMount, isFile, options: [] })
      return
    }
    const type = TYPES[mount.type ?? '']
    if (!type) throw new CliError(`${at}.type: "${mount.type ?? ''}" is not supported`)
    plan.mounts.push({
      ...common,
      // A tmpfs on /dev is where runc makes the device nodes; ours come with the file system.
      type: type === 'tmpfs' && onDevice(destination) ? 'dev' : type,
      goferMount: -1,
      isFile: false,
      options: rest.map(toBytes),
    })
  })
  if (!plan.mounts.some((m) => onDevice(m.destination))) plan.mounts.unshift(DEFAULT_DEV)
  return plan
}

export const NO_FLAGS: MountFlags = { readonly: false, nosuid: false, nodev: false, noexec: false, noatime: false }

const DEFAULT_DEV: MountSpec = {
  destination: '/dev',
  type: 'dev',
  source: 'tmpfs',
  goferMount: -1,
  isFile: false,
  flags: { ...NO_FLAGS, nosuid: true },
  options: ['mode=755', 'size=65536k'],
}

/** Every mount option that is understood, for `features`. */
export const MOUNT_OPTIONS: readonly string[] = [...Object.keys(FLAGS), ...WITHOUT_EFFECT].sort()
