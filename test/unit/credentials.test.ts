import { describe, expect, it } from 'vitest'
import {
  CAP_CHOWN,
  CAP_NET_RAW,
  CAP_SETUID,
  CAPS_ALL,
  CAPS_NONE,
  type CapSet,
  type Credentials,
  rootCredentials,
} from '../../sentry/kernel/credentials.ts'
import { execCredentials, SECBIT_KEEP_CAPS, SECBIT_NOROOT } from '../../sentry/kernel/exec-credentials.ts'
import { withFsuid, withUids } from '../../sentry/kernel/set-ids.ts'
import type { Task } from '../../sentry/kernel/task.ts'
import type { FileDescription } from '../../sentry/vfs/file-description.ts'

const user = (caps: CapSet = CAPS_NONE): Credentials =>
  rootCredentials().with({
    uid: 1000,
    euid: 1000,
    suid: 1000,
    fsuid: 1000,
    gid: 100,
    egid: 100,
    sgid: 100,
    fsgid: 100,
    permitted: caps,
    effective: caps,
  })
const only = (cap: number): CapSet => ({ lo: 1 << cap, hi: 0 })

const run = (creds: Credentials, mode: number, uid = 0, gid = 0, mountFlags = 0, tracer: Credentials | null = null) =>
  execCredentials(
    { creds, traced: tracer === null ? null : { tracer: { creds: tracer } } } as unknown as Task,
    { inode: { mode, uid, gid }, path: { mount: { flags: mountFlags } } } as unknown as FileDescription,
  )

describe('credentials after execve', () => {
  it('root gets everything that the bounding set allows', () => {
    const c = run(rootCredentials().with({ permitted: CAPS_NONE, effective: CAPS_NONE }), 0o755)
    expect(c.creds.permitted).toEqual(CAPS_ALL)
    expect(c.creds.effective).toEqual(CAPS_ALL)
    expect(c.secure).toBe(false)
    expect(run(rootCredentials().with({ bounding: only(CAP_CHOWN) }), 0o755).creds.permitted).toEqual(only(CAP_CHOWN))
  })
  it('a user loses what is not ambient', () => {
    expect(run(user(only(CAP_NET_RAW)), 0o755).creds.permitted).toEqual(CAPS_NONE)
    const c = run(user(only(CAP_NET_RAW)).with({ ambient: only(CAP_NET_RAW) }), 0o755)
    expect(c.creds.effective).toEqual(only(CAP_NET_RAW))
    expect(c.secure).toBe(false)
  })
  it('set-user-ID root', () => {
    const c = run(user().with({ ambient: only(CAP_CHOWN) }), 0o104755)
    expect([c.creds.uid, c.creds.euid, c.creds.suid, c.creds.fsuid]).toEqual([1000, 0, 0, 0])
    expect(c.creds.effective).toEqual(CAPS_ALL)
    expect(c.creds.ambient).toEqual(CAPS_NONE)
    expect(c.secure).toBe(true)
  })
  it('set-user-ID to another user takes capabilities from root', () => {
    const c = run(rootCredentials(), 0o104755, 5)
    expect(c.creds.euid).toBe(5)
    expect(c.creds.permitted).toEqual(CAPS_ALL)
    expect(c.creds.effective).toEqual(CAPS_NONE)
    expect(c.secure).toBe(true)
  })
  it('set-group-ID only with the execute bit', () => {
    expect(run(user(), 0o102755, 0, 7).creds.egid).toBe(7)
    expect(run(user(), 0o102745, 0, 7).creds.egid).toBe(100)
  })
  it('neither on a nosuid mount nor with no_new_privs', () => {
    expect(run(user(), 0o104755, 0, 0, 2).creds.euid).toBe(1000)
    expect(run(user().with({ noNewPrivs: true }), 0o104755).creds.euid).toBe(1000)
  })
  it('not under the eyes of a tracer who could not trace the result', () => {
    const c = run(user(), 0o104755, 0, 0, 0, user())
    expect([c.creds.euid, c.creds.permitted]).toEqual([1000, CAPS_NONE])
    expect(run(user(), 0o104755, 0, 0, 0, rootCredentials()).creds.euid).toBe(0)
  })
  it('securebits: no root magic; keep-caps is cleared', () => {
    const c = run(rootCredentials().with({ securebits: SECBIT_NOROOT | SECBIT_KEEP_CAPS }), 0o755)
    expect(c.creds.permitted).toEqual(CAPS_NONE)
    expect(c.creds.securebits).toBe(SECBIT_NOROOT)
  })
})

describe('capabilities after set*uid', () => {
  it('leaving root drops all, unless kept', () => {
    const gone = withUids(rootCredentials(), 5, 5, 5)
    expect([gone.permitted, gone.effective]).toEqual([CAPS_NONE, CAPS_NONE])
    const kept = withUids(rootCredentials().with({ securebits: SECBIT_KEEP_CAPS }), 5, 5, 5)
    expect([kept.permitted, kept.effective]).toEqual([CAPS_ALL, CAPS_NONE])
  })
  it('the effective set follows the effective uid', () => {
    const down = withUids(rootCredentials(), 0, 5, 0)
    expect([down.permitted, down.effective]).toEqual([CAPS_ALL, CAPS_NONE])
    expect(withUids(down, 0, 0, 0).effective).toEqual(CAPS_ALL)
  })
  it('file capabilities follow the file-system uid', () => {
    const c = withFsuid(rootCredentials(), 5)
    expect(c.capable(CAP_CHOWN)).toBe(false)
    expect(c.capable(CAP_SETUID)).toBe(true)
    expect(withFsuid(c, 0).effective).toEqual(CAPS_ALL)
  })
})
