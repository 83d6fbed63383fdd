/**
 * What execve(2) does to credentials (Linux: fs/exec.c bprm_fill_uid, security/commoncap.c cap_bprm_creds_from_file;
 * capabilities(7), "Transformation of capabilities during execve()").
 *
 * File capabilities (the security.capability attribute) are not read: a program that has them runs without.
 */
import type { FileDescription } from '../vfs/file-description.ts'
import { MS_NOSUID } from '../vfs/mount.ts'
import { CAP_SETUID, CAP_SYS_PTRACE, CAPS_NONE, type CapSet, type Credentials } from './credentials.ts'
import type { Task } from './task.ts'

export interface ExecCredentials {
  creds: Credentials
  /** AT_SECURE: the program got privileges that its caller did not have. */
  secure: boolean
  /** Whether others may look into the process (Linux: the checks of begin_new_exec, on the old ids, and commit_creds). */
  dumpable: boolean
}

const S_ISUID = 0o4000
const S_ISGID = 0o2000
const S_IXGRP = 0o010
export const SECBIT_NOROOT = 1
export const SECBIT_NO_SETUID_FIXUP = 4
export const SECBIT_KEEP_CAPS = 16
export const SECBIT_NO_CAP_AMBIENT_RAISE = 64

const or = (a: CapSet, b: CapSet): CapSet => ({ lo: (a.lo | b.lo) >>> 0, hi: (a.hi | b.hi) >>> 0 })
const and = (a: CapSet, b: CapSet): CapSet => ({ lo: (a.lo & b.lo) >>> 0, hi: (a.hi & b.hi) >>> 0 })
const subset = (a: CapSet, of: CapSet): boolean => (a.lo & ~of.lo) === 0 && (a.hi & ~of.hi) === 0

export function execCredentials(t: Task, file: FileDescription): ExecCredentials {
  const old = t.creds
  const inode = file.inode
  let { euid, egid } = old
  const mayGain = !old.noNewPrivs && (file.path === null || (file.path.mount.flags & MS_NOSUID) === 0)
  if (mayGain) {
    if (inode.mode & S_ISUID) euid = inode.uid
    if ((inode.mode & (S_ISGID | S_IXGRP)) === (S_ISGID | S_IXGRP)) egid = inode.gid
  }
  // By the file, not because the caller already ran under two identities (Linux 6.16 and later).
  const isSetId = euid !== old.euid || !old.inGroup(egid)

  // P'(permitted) = (P(inheritable) & F(inheritable)) | (F(permitted) & bounding) | P'(ambient)
  let permitted: CapSet = CAPS_NONE
  let effective = false
  if ((old.securebits & SECBIT_NOROOT) === 0 && (euid === 0 || old.uid === 0)) {
    permitted = or(old.bounding, old.inheritable)
    effective = euid === 0
  }
  // Who may not trace the powerful does not get there by tracing (Linux: LSM_UNSAFE_PTRACE).
  const watched = t.traced !== null && !t.traced.tracer.creds.capable(CAP_SYS_PTRACE)
  if ((old.noNewPrivs || watched) && (isSetId || !subset(permitted, old.permitted))) {
    if (old.noNewPrivs || !old.capable(CAP_SETUID)) {
      euid = old.uid
      egid = old.gid
    }
    permitted = and(permitted, old.permitted)
  }
  const ambient = isSetId ? CAPS_NONE : old.ambient
  permitted = or(permitted, ambient)
  const creds = old.with({
    euid,
    egid,
    suid: euid,
    sgid: egid,
    fsuid: euid,
    fsgid: egid,
    permitted,
    effective: effective ? permitted : ambient,
    ambient,
    securebits: old.securebits & ~SECBIT_KEEP_CAPS,
  })
  t.keepCaps = false
  const secure =
    isSetId || euid !== old.uid || egid !== old.gid || (old.uid !== 0 && (effective || !subset(permitted, ambient)))
  const sameIds =
    euid === old.euid &&
    egid === old.egid &&
    euid === old.fsuid &&
    egid === old.fsgid &&
    subset(permitted, old.permitted)
  return { creds, secure, dumpable: sameIds && old.euid === old.uid && old.egid === old.gid }
}
