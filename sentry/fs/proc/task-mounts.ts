/**
 * /proc/PID/{mounts,mountinfo,mountstats} (Linux: fs/proc_namespace.c): what the process can reach from its root.
 */
import { dentryName, pathName } from '../../vfs/d-path.ts'
import { devMajor, devMinor } from '../../vfs/inode.ts'
import {
  type Mount,
  MS_NOATIME,
  MS_NODEV,
  MS_NODIRATIME,
  MS_NOEXEC,
  MS_NOSUID,
  MS_NOSYMFOLLOW,
  MS_RDONLY,
  MS_RELATIME,
} from '../../vfs/mount.ts'
import { Path } from '../../vfs/path.ts'
import { escapeOctal } from './format.ts'
import type { Subject } from './subject.ts'

const MANGLED = ' \t\n\\#'

const OPTIONS: readonly (readonly [number, string])[] = [
  [MS_NOSUID, 'nosuid'],
  [MS_NODEV, 'nodev'],
  [MS_NOEXEC, 'noexec'],
  [MS_NOATIME, 'noatime'],
  [MS_NODIRATIME, 'nodiratime'],
  [MS_RELATIME, 'relatime'],
  [MS_NOSYMFOLLOW, 'nosymfollow'],
]

function mountOptions(m: Mount): string {
  let text = ''
  for (const [flag, name] of OPTIONS) if ((m.flags & flag) !== 0) text += `,${name}`
  return text
}

const superOptions = (m: Mount): string => (m.sb.options === '' ? '' : `,${m.sb.options}`)

/** The mounts and their mount points as the process sees them. */
function visible(s: Subject): [Mount, string][] {
  if (!s.running) return []
  const { namespace, root } = s.task.fs
  const list: [Mount, string][] = []
  for (const m of namespace.mounts) {
    const { name, reachable } = pathName(new Path(m, m.root), root)
    if (reachable) list.push([m, name])
  }
  return list
}

/** /proc/PID/mounts. */
export function renderMounts(s: Subject): string {
  let text = ''
  for (const [m, point] of visible(s)) {
    const mode = m.readonly ? 'ro' : 'rw'
    text += `${escapeOctal(m.sb.source, MANGLED)} ${escapeOctal(point, MANGLED)} ${m.sb.type} `
    text += `${mode}${mountOptions(m)}${superOptions(m)} 0 0\n`
  }
  return text
}

/** The parent of a namespace's root mount: the kernel's own rootfs, which nobody sees. */
const ROOTFS_MOUNT_ID = 1

/** /proc/PID/mountinfo. */
export function renderMountinfo(s: Subject): string {
  let text = ''
  for (const [m, point] of visible(s)) {
    const dev = `${devMajor(m.sb.dev)}:${devMinor(m.sb.dev)}`
    const mode = (m.flags & MS_RDONLY) !== 0 ? 'ro' : 'rw'
    text += `${m.id} ${m.parent?.id ?? ROOTFS_MOUNT_ID} ${dev} ${escapeOctal(dentryName(m.root), MANGLED)} `
    text += `${escapeOctal(point, MANGLED)} ${mode}${mountOptions(m)} - ${m.sb.type} ${escapeOctal(m.sb.source, MANGLED)} `
    text += `${m.sb.readonly ? 'ro' : 'rw'}${superOptions(m)}\n`
  }
  return text
}

/** /proc/PID/mountstats. */
export function renderMountstats(s: Subject): string {
  let text = ''
  for (const [m, point] of visible(s)) {
    text += `device ${escapeOctal(m.sb.source, MANGLED)} mounted on ${escapeOctal(point, MANGLED)} with fstype ${m.sb.type}\n`
  }
  return text
}
