/**
 * What changing user ids does to capabilities (Linux: security/commoncap.c, cap_emulate_setxuid; capabilities(7),
 * "Effect of user ID changes on capabilities").
 */
import {
  CAP_CHOWN,
  CAP_DAC_OVERRIDE,
  CAP_DAC_READ_SEARCH,
  CAP_FOWNER,
  CAP_FSETID,
  CAP_LINUX_IMMUTABLE,
  CAP_MAC_OVERRIDE,
  CAP_MKNOD,
  CAPS_NONE,
  type CapSet,
  type CredentialFields,
  type Credentials,
} from './credentials.ts'
import { SECBIT_KEEP_CAPS, SECBIT_NO_SETUID_FIXUP } from './exec-credentials.ts'
import type { Task } from './task.ts'

/** Capabilities that act on files: they follow the file-system uid. */
const FS_CAPS: CapSet = (() => {
  let lo = 0
  const caps = [
    CAP_CHOWN,
    CAP_DAC_OVERRIDE,
    CAP_DAC_READ_SEARCH,
    CAP_FOWNER,
    CAP_FSETID,
    CAP_LINUX_IMMUTABLE,
    CAP_MKNOD,
  ]
  for (const cap of caps) lo |= 1 << cap
  return { lo: lo >>> 0, hi: 1 << (CAP_MAC_OVERRIDE - 32) }
})()

/** Credentials after set*uid changed ruid, euid or suid as given (fsuid follows euid). */
export function withUids(old: Credentials, uid: number, euid: number, suid: number): Credentials {
  const changes: Mutable = { uid, euid, suid, fsuid: euid }
  if ((old.securebits & SECBIT_NO_SETUID_FIXUP) === 0) {
    const wasRoot = old.uid === 0 || old.euid === 0 || old.suid === 0
    const isRoot = uid === 0 || euid === 0 || suid === 0
    if (wasRoot && !isRoot) {
      if ((old.securebits & SECBIT_KEEP_CAPS) === 0) {
        changes.permitted = CAPS_NONE
        changes.effective = CAPS_NONE
      }
      changes.ambient = CAPS_NONE
    }
    if (old.euid === 0 && euid !== 0) changes.effective = CAPS_NONE
    if (old.euid !== 0 && euid === 0) changes.effective = changes.permitted ?? old.permitted
  }
  return old.with(changes)
}

/** Credentials after setfsuid(2). */
export function withFsuid(old: Credentials, fsuid: number): Credentials {
  const changes: Mutable = { fsuid }
  if ((old.securebits & SECBIT_NO_SETUID_FIXUP) === 0) {
    const { effective, permitted } = old
    if (old.fsuid === 0 && fsuid !== 0) {
      changes.effective = {
        lo: (effective.lo & ~FS_CAPS.lo) >>> 0,
        hi: (effective.hi & ~FS_CAPS.hi) >>> 0,
      }
    } else if (old.fsuid !== 0 && fsuid === 0) {
      changes.effective = {
        lo: (effective.lo | (permitted.lo & FS_CAPS.lo)) >>> 0,
        hi: (effective.hi | (permitted.hi & FS_CAPS.hi)) >>> 0,
      }
    }
  }
  return old.with(changes)
}

type Mutable = { -readonly [K in keyof CredentialFields]?: CredentialFields[K] }

/** Installs new credentials (Linux: commit_creds): a change of identity makes a process undumpable. */
export function commitCredentials(t: Task, creds: Credentials): void {
  const old = t.creds
  const gained = (creds.permitted.lo & ~old.permitted.lo) !== 0 || (creds.permitted.hi & ~old.permitted.hi) !== 0
  if (
    creds.euid !== old.euid ||
    creds.egid !== old.egid ||
    creds.fsuid !== old.fsuid ||
    creds.fsgid !== old.fsgid ||
    gained
  ) {
    t.group.dumpable = 0
    t.parentDeathSignal = 0
  }
  t.creds = creds
}
