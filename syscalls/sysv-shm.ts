/**
 * shmget(2), shmat(2), shmdt(2), shmctl(2).
 */
import { EFAULT, EINVAL } from '../sentry/abi/errno.ts'
import {
  IPC_INFO,
  IPC_PERM_SIZE,
  IPC_RMID,
  IPC_SET,
  IPC_STAT,
  SHM_INFO,
  SHM_LOCK,
  SHM_STAT,
  SHM_STAT_ANY,
  SHM_UNLOCK,
  SHMMAX_HI,
  SHMMAX_LO,
  SHMMNI,
} from '../sentry/abi/ipc.ts'
import { putU64 } from '../sentry/ipc/ipc-ids.ts'
import { lockSegment, removeSegment, SHM, shmat, shmdt, shmget } from '../sentry/ipc/shm.ts'
import { readRealtime } from '../sentry/kernel/clock.ts'
import type { SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'

const DS = Buffer.alloc(128)

export const sysShmget = (t: Task): SysRet => shmget(t, t.argI32(0), t.argPtr(1), t.argI32(2))
export const sysShmat = (t: Task): SysRet => shmat(t, t.argI32(0), t.argPtr(1), t.argI32(2))
export const sysShmdt = (t: Task): SysRet => shmdt(t, t.argPtr(0))

export function sysShmctl(t: Task): SysRet {
  const id = t.argI32(0)
  const cmd = t.argI32(1)
  const addr = t.argPtr(2)
  if (cmd < 0 || id < 0) return -EINVAL
  switch (cmd) {
    case IPC_INFO:
      DS.fill(0)
      for (const at of [0, 32]) {
        DS.writeUInt32LE(SHMMAX_LO, at)
        DS.writeUInt32LE(SHMMAX_HI, at + 4)
      }
      putU64(DS, 8, 1)
      putU64(DS, 16, SHMMNI)
      putU64(DS, 24, SHMMNI)
      return t.writeBytes(addr, DS, 72) < 0 ? -EFAULT : SHM.highest
    case SHM_INFO: {
      let pages = 0
      for (const s of SHM.all()) pages += s.pages
      DS.fill(0)
      DS.writeInt32LE(SHM.used, 0)
      putU64(DS, 8, pages)
      putU64(DS, 16, pages)
      return t.writeBytes(addr, DS, 48) < 0 ? -EFAULT : SHM.highest
    }
    case IPC_STAT:
    case SHM_STAT:
    case SHM_STAT_ANY: {
      const s = cmd === IPC_STAT ? SHM.get(id) : SHM.at(id)
      if (typeof s === 'number') return s
      const denied = cmd === SHM_STAT_ANY ? 0 : s.access(t, 0o444)
      if (denied !== 0) return denied
      return t.writeBytes(addr, DS, s.encode(DS)) < 0 ? -EFAULT : cmd === IPC_STAT ? 0 : s.id
    }
    case IPC_SET: {
      if (t.readBytes(addr, DS, IPC_PERM_SIZE) < 0) return -EFAULT
      const s = SHM.get(id)
      if (typeof s === 'number') return s
      const err = s.ownership(t) || s.setPerm(DS)
      if (err === 0) s.ctime = readRealtime().sec
      return err
    }
    case IPC_RMID: {
      const s = SHM.get(id)
      return typeof s === 'number' ? s : removeSegment(t, s)
    }
    case SHM_LOCK:
    case SHM_UNLOCK: {
      const s = SHM.get(id)
      return typeof s === 'number' ? s : lockSegment(t, s, cmd === SHM_LOCK)
    }
    default:
      return -EINVAL
  }
}
