/**
 * msgget(2), msgsnd(2), msgrcv(2), msgctl(2).
 */
import { EAGAIN, EFAULT, EIDRM, EINVAL, EPERM } from '../sentry/abi/errno.ts'
import {
  IPC_INFO,
  IPC_NOWAIT,
  IPC_RMID,
  IPC_SET,
  IPC_STAT,
  MSG_INFO,
  MSG_STAT,
  MSG_STAT_ANY,
  MSGMAX,
  MSGMNB,
  MSGMNI,
  MSQID_DS_SIZE,
} from '../sentry/abi/ipc.ts'
import { checkReceive, deliver, MSG, MsgQueue, msgget, NOTHING } from '../sentry/ipc/msg.ts'
import { readRealtime } from '../sentry/kernel/clock.ts'
import { CAP_SYS_RESOURCE } from '../sentry/kernel/credentials.ts'
import { ERESTARTNOHAND, type SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'
import { EPOLLIN, EPOLLOUT } from '../sentry/vfs/file-description.ts'

const DS = Buffer.alloc(128)

export const sysMsgget = (t: Task): SysRet => msgget(t, t.argI32(0), t.argI32(1))

/** The queue of argument 0; a call that slept keeps the one it slept on, which may be gone. */
function queueArg(t: Task, access: number): MsgQueue | number {
  if (t.sysState instanceof MsgQueue && t.sysState.removed) return -EIDRM
  const q = MSG.get(t.argI32(0))
  if (typeof q === 'number') return q
  const denied = q.access(t, access)
  return denied !== 0 ? denied : q
}

export function sysMsgsnd(t: Task): SysRet {
  const size = t.argI64(2)
  const flags = t.argI32(3)
  if (t.argI32(0) < 0 || size < 0 || size > MSGMAX) return -EINVAL
  const lo = t.readU64(t.argPtr(1))
  if (lo < 0) return -EFAULT
  const type = lo >= 2 ** 63 ? -1 : lo
  if (type < 1) return -EINVAL
  const data = Buffer.alloc(size)
  if (size > 0 && t.readBytes(t.argPtr(1) + 8, data) < 0) return -EFAULT
  const q = queueArg(t, 0o222)
  if (typeof q === 'number') return q
  if (!q.fits(size)) {
    if ((flags & IPC_NOWAIT) !== 0) return -EAGAIN
    t.sysState = q
    return t.waitOn(q.queue, EPOLLOUT, ERESTARTNOHAND)
  }
  q.send(t, type, data)
  return 0
}

export function sysMsgrcv(t: Task): SysRet {
  const size = t.argI64(2)
  const type = t.argI64(3)
  const flags = t.argI32(4)
  if (t.argI32(0) < 0) return -EINVAL
  const bad = checkReceive(size, flags)
  if (bad !== 0) return bad
  const q = queueArg(t, 0o444)
  if (typeof q === 'number') return q
  const m = q.receive(t, size, type, flags)
  if (m === -EAGAIN) {
    if ((flags & IPC_NOWAIT) !== 0) return NOTHING
    t.sysState = q
    return t.waitOn(q.queue, EPOLLIN, ERESTARTNOHAND)
  }
  return typeof m === 'number' ? m : deliver(t, m, t.argPtr(1), size)
}

export function sysMsgctl(t: Task): SysRet {
  const id = t.argI32(0)
  const cmd = t.argI32(1)
  const addr = t.argPtr(2)
  if (id < 0 || cmd < 0) return -EINVAL
  switch (cmd) {
    case IPC_INFO:
    case MSG_INFO: {
      let messages = 0
      let bytes = 0
      for (const q of MSG.all()) {
        messages += q.messages.length
        bytes += q.bytes
      }
      const busy = cmd === MSG_INFO
      const words = [(MSGMNI * MSGMNB) / 1024, MSGMNB, MSGMAX, MSGMNB, MSGMNI, 16, MSGMNB]
      if (busy) {
        words[0] = MSG.used
        words[1] = messages
        words[6] = bytes
      }
      DS.fill(0)
      words.forEach((w, i) => {
        DS.writeInt32LE(w, 4 * i)
      })
      DS.writeUInt16LE(0xffff, 28)
      return t.writeBytes(addr, DS, 32) < 0 ? -EFAULT : MSG.highest
    }
    case IPC_STAT:
    case MSG_STAT:
    case MSG_STAT_ANY: {
      const q = cmd === IPC_STAT ? MSG.get(id) : MSG.at(id)
      if (typeof q === 'number') return q
      const denied = cmd === MSG_STAT_ANY ? 0 : q.access(t, 0o444)
      if (denied !== 0) return denied
      return t.writeBytes(addr, DS, q.encode(DS)) < 0 ? -EFAULT : cmd === IPC_STAT ? 0 : q.id
    }
    case IPC_SET: {
      if (t.readBytes(addr, DS, MSQID_DS_SIZE) < 0) return -EFAULT
      const q = MSG.get(id)
      if (typeof q === 'number') return q
      const denied = q.ownership(t)
      if (denied !== 0) return denied
      const bytes = DS.readUInt32LE(88) + DS.readUInt32LE(92) * 0x1_0000_0000
      if (bytes > MSGMNB && !t.creds.capable(CAP_SYS_RESOURCE)) return -EPERM
      const err = q.setPerm(DS)
      if (err !== 0) return err
      q.maxBytes = bytes
      q.ctime = readRealtime().sec
      q.queue.wake(EPOLLIN | EPOLLOUT)
      return 0
    }
    case IPC_RMID: {
      const q = MSG.get(id)
      if (typeof q === 'number') return q
      const denied = q.ownership(t)
      if (denied === 0) q.destroy()
      return denied
    }
    default:
      return -EINVAL
  }
}
