/** Nothing of the host's names is left: the root of a confined process. Its mount namespace is its own (native/launch). */
import { mkdirSync, statSync } from 'node:fs'
import {
  chdir,
  MNT_DETACH,
  MS_BIND,
  MS_NODEV,
  MS_NOEXEC,
  MS_NOSUID,
  MS_RDONLY,
  MS_REMOUNT,
  mount,
  pivotRoot,
  umount2,
} from '../../native/host-confine.ts'

const INERT = MS_NOSUID | MS_NODEV | MS_NOEXEC
/** Folders to mount the new root on; any will do. The first exists wherever the whole of proc is mounted. */
const STAGING_PLACES = ['/proc/fs', '/mnt', '/tmp', '/run']

export function must(what: string, result: number): number {
  if (result < 0) throw new Error(`cannot confine this process: ${what} (errno ${-result})`)
  return result
}

/** An empty, read-only tmpfs, with a /proc that shows the sandbox's own processes and no kernel settings. */
export function enterEmptyRoot(): void {
  const staging = STAGING_PLACES.find((p) => statSync(p, { throwIfNoEntry: false })?.isDirectory())
  if (staging === undefined) throw new Error('cannot confine the sentry: no folder to mount its root on')
  must('mount tmpfs', mount('tssandbox-sentry', staging, 'tmpfs', INERT, 'mode=0555,size=4k,nr_inodes=3'))
  mkdirSync(`${staging}/proc`, 0o555)
  // Linux < 5.8 has no such view of its own per mount: there it is the host's, read-only, as the sandbox's user sees it.
  if (mount('proc', `${staging}/proc`, 'proc', INERT | MS_RDONLY, 'subset=pid,hidepid=2') < 0) {
    must('bind /proc', mount('/proc', `${staging}/proc`, '', MS_BIND, ''))
  }
  must('chdir', chdir(staging))
  must('pivot_root', pivotRoot('.', '.'))
  must('unmount the old root', umount2('.', MNT_DETACH))
  must('chdir /', chdir('/'))
  must('read-only /proc', mount('', '/proc', '', MS_REMOUNT | MS_BIND | MS_RDONLY | INERT, ''))
  must('read-only /', mount('', '/', '', MS_REMOUNT | MS_BIND | MS_RDONLY | INERT, ''))
}
