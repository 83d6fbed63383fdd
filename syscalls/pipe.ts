/**
 * pipe(2), pipe2(2).
 */
import { EFAULT, EINVAL } from '../sentry/abi/errno.ts'
import { O_CLOEXEC, O_DIRECT, O_NONBLOCK } from '../sentry/abi/fcntl.ts'
import { createPipe } from '../sentry/fs/pipe.ts'
import { RLIMIT_NOFILE } from '../sentry/kernel/limits.ts'
import type { SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'
import type { FileDescription } from '../sentry/vfs/file-description.ts'

const ENDS: FileDescription[] = []
const FDS = new Uint8Array(8)
const FDS_VIEW = new DataView(FDS.buffer)

export function sysPipe(t: Task): SysRet {
  return pipe(t, 0)
}

export function sysPipe2(t: Task): SysRet {
  return pipe(t, t.argI32(1))
}

function pipe(t: Task, flags: number): SysRet {
  if (flags & ~(O_CLOEXEC | O_NONBLOCK | O_DIRECT)) return -EINVAL
  createPipe(t.creds, flags, ENDS)
  const limit = t.group.limits.soft[RLIMIT_NOFILE]!
  const cloexec = (flags & O_CLOEXEC) !== 0
  const reader = t.fds.install(ENDS[0]!, cloexec, limit)
  if (reader < 0) {
    ENDS[1]!.unref()
    return reader
  }
  const writer = t.fds.install(ENDS[1]!, cloexec, limit)
  if (writer < 0) {
    t.fds.close(t, reader)
    return writer
  }
  FDS_VIEW.setInt32(0, reader, true)
  FDS_VIEW.setInt32(4, writer, true)
  if (t.writeBytes(t.argPtr(0), FDS) < 0) {
    t.fds.close(t, reader)
    t.fds.close(t, writer)
    return -EFAULT
  }
  return 0
}
