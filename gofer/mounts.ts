/**
 * Opens the configured mounts for serving, and before that, for a confined gofer, builds the root that holds nothing
 * else: a tmpfs with one entry `m<id>` for each mount.
 */
import { mkdirSync, readFileSync, realpathSync, statSync, writeFileSync } from 'node:fs'
import { basename, dirname } from 'node:path'
import { cstr, openat } from '../native/host.ts'
import {
  chdir,
  MNT_DETACH,
  MOUNT_ATTR_NODEV,
  MOUNT_ATTR_NOSUID,
  MOUNT_ATTR_RDONLY,
  MS_BIND,
  MS_NODEV,
  MS_NOEXEC,
  MS_NOSUID,
  MS_RDONLY,
  MS_REC,
  MS_REMOUNT,
  mount,
  mountSetattr,
  pivotRoot,
  umount2,
} from '../native/host-confine.ts'
import {
  AT_EMPTY_PATH,
  HostMemory,
  O_CLOEXEC,
  O_PATH,
  STATX_MNT_ID,
  STATX_OFFSET,
  STATX_SIZE,
  statxAt,
} from '../native/host-files.ts'
import type { MountConfig } from './config.ts'
import { isENOSYS, must } from './must.ts'
import type { ServedMount } from './resolve.ts'

/** Folders to mount the new root on. The first exists wherever the whole of proc is mounted. */
const STAGING_PLACES = ['/proc/fs', '/mnt', '/tmp', '/run', '/var/tmp']
const AT_FDCWD = -100

/** Kernel interfaces: the sentry has its own, and the host's are nobody's business. */
const PSEUDO_FILE_SYSTEMS = new Set(
  'proc sysfs devtmpfs devpts mqueue cgroup cgroup2 debugfs tracefs securityfs bpf pstore configfs efivarfs fusectl binfmt_misc hugetlbfs nsfs rpc_pipefs selinuxfs autofs'.split(
    ' ',
  ),
)

/** Mount points at or below `path`, innermost last, with their types. */
function mountsBelow(path: string): { point: string; type: string }[] {
  const found: { point: string; type: string }[] = []
  for (const line of readFileSync('/proc/self/mountinfo', 'latin1').split('\n')) {
    const fields = line.split(' ')
    const point = (fields[4] ?? '').replace(/\\([0-7]{3})/g, (_, octal) =>
      String.fromCharCode(Number.parseInt(octal, 8)),
    )
    if (point !== path && !point.startsWith(`${path}/`)) continue
    found.push({ point, type: fields[fields.indexOf('-') + 1] ?? '' })
  }
  return found
}

/** A folder that can be covered, because nothing below it is to be served. */
function stagingPlace(mounts: readonly MountConfig[]): string {
  const sources = mounts.map((m) => realpathSync(m.source))
  for (const place of STAGING_PLACES) {
    const free = !sources.some((s) => s === place || s.startsWith(`${place}/`))
    if (free && statSync(place, { throwIfNoEntry: false })?.isDirectory()) return place
  }
  throw new Error(`no folder to mount the new root on: tried ${STAGING_PLACES.join(', ')}`)
}

/** The name of a single file in the folder that is served in its place: v9fs takes the root of every mount for a folder. */
const SINGLE_FILE = 'file'

function bind(m: MountConfig, staging: string, inFolder: boolean): void {
  const what = `mount ${m.source}`
  const isDirectory = statSync(m.source).isDirectory()
  if (isDirectory !== (m.kind === 'dir')) throw new Error(`${what}: is ${isDirectory ? '' : 'not '}a directory`)
  let target = `${staging}/m${m.id}`
  if (inFolder && !isDirectory) {
    mkdirSync(target)
    target = `${target}/${SINGLE_FILE}`
  }
  if (isDirectory) mkdirSync(target)
  else writeFileSync(target, '')
  must(what, mount(Buffer.from(m.source).toString('latin1'), target, '', MS_BIND | (m.recursive ? MS_REC : 0), ''))
  if (m.recursive) {
    for (const { point, type } of mountsBelow(target).slice(1).reverse()) {
      if (PSEUDO_FILE_SYSTEMS.has(type)) must(`${what}: leave out ${point}`, umount2(point, MNT_DETACH))
    }
  }
  const set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (m.readonly ? MOUNT_ATTR_RDONLY : 0)
  const result = mountSetattr(target, true, set)
  if (!isENOSYS(result)) {
    must(`${what}: set attributes`, result)
    return
  }
  const flags = MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV | (m.readonly ? MS_RDONLY : 0)
  for (const { point } of mountsBelow(target)) must(`${what}: remount ${point}`, mount('', point, '', flags, ''))
}

/** Where {@link enterNewRoot} puts /proc/self/fd when asked to, and leaves the process. */
const DESCRIPTORS = '/fd'

/**
 * What is open, by number, so that it can be opened again without a path. A mount of its own: from there no '..' leads
 * into the rest of /proc.
 */
function bindDescriptors(target: string): void {
  mkdirSync(target)
  must('mount /proc/self/fd', mount('/proc/self/fd', target, '', MS_BIND, ''))
  const flags = MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC
  must('remount /proc/self/fd', mount('', target, '', flags, ''))
}

/** Makes a tmpfs with the mounts the root of this process; nothing else can be named from then on. */
export function enterNewRoot(mounts: readonly MountConfig[], withDescriptors: boolean, filesInFolders: boolean): void {
  const staging = stagingPlace(mounts)
  const options = 'mode=0711,size=1m,nr_inodes=2k'
  must('mount tmpfs', mount('tssandbox-gofer', staging, 'tmpfs', MS_NOSUID | MS_NODEV | MS_NOEXEC, options))
  for (const m of mounts) bind(m, staging, filesInFolders)
  if (withDescriptors) bindDescriptors(`${staging}${DESCRIPTORS}`)
  must('chdir', chdir(staging))
  must('pivot_root', pivotRoot('.', '.'))
  must('unmount the old root', umount2('.', MNT_DETACH))
  must('chdir /', chdir('/'))
  must(
    'remount the root read-only',
    mount('', '/', '', MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, ''),
  )
  if (withDescriptors) must('chdir to our descriptors', chdir(DESCRIPTORS))
}

/** Opens the roots: below `/m<id>` after {@link enterNewRoot}, else where they are. */
export function openMounts(
  mounts: readonly MountConfig[],
  confined: boolean,
): { served: ServedMount[]; ids: Set<bigint> } {
  const served: ServedMount[] = []
  const ids = new Set<bigint>()
  const statx = new HostMemory(STATX_SIZE)
  const empty = new HostMemory(1)
  for (const m of mounts) {
    const real = confined ? `/m${m.id}` : realpathSync(m.source)
    const parentFd = must(real, openat(AT_FDCWD, dirname(real), O_PATH | O_CLOEXEC, 0))
    const name = cstr(basename(real) || '.')
    const rootName = new HostMemory(name.length)
    rootName.bytes.set(name)
    const rootFd = must(real, openat(AT_FDCWD, real, O_PATH | O_CLOEXEC, 0))
    must(real, statxAt(rootFd, empty.address, AT_EMPTY_PATH, STATX_MNT_ID, statx.address))
    ids.add(statx.view.getBigUint64(STATX_OFFSET.mntId, true))
    served[m.id] = {
      id: m.id,
      isDirectory: m.kind === 'dir',
      readonly: m.readonly,
      shared: m.shared,
      allowDevices: m.allowDevices,
      rootFd,
      parentFd,
      rootName,
    }
  }
  return { served, ids }
}
