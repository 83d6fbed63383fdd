/**
 * semget(2), semop(2), semtimedop(2), semctl(2).
 */
import { E2BIG, EAGAIN, EFAULT, EINTR, EINVAL, ERANGE } from '../sentry/abi/errno.ts'
import {
  GETALL,
  GETNCNT,
  GETPID,
  GETVAL,
  GETZCNT,
  IPC_INFO,
  IPC_PERM_SIZE,
  IPC_RMID,
  IPC_SET,
  IPC_STAT,
  SEM_INFO,
  SEM_STAT,
  SEM_STAT_ANY,
  SEMMNI,
  SEMMNS,
  SEMMSL,
  SEMOPM,
  SEMVMX,
  SETALL,
  SETVAL,
} from '../sentry/abi/ipc.ts'
import {
  clearUndo,
  PENDING,
  SEM,
  SemOperation,
  type SemSet,
  semaphoresInUse,
  semget,
  semop,
} from '../sentry/ipc/sem.ts'
import { readRealtime } from '../sentry/kernel/clock.ts'
import { BLOCK, type SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'

const SEMBUF_SIZE = 6
const DS = Buffer.alloc(128)

export const sysSemget = (t: Task): SysRet => semget(t, t.argI32(0), t.argI32(1), t.argI32(2))
export const sysSemop = (t: Task): SysRet => operate(t, 0)
export const sysSemtimedop = (t: Task): SysRet => operate(t, t.argPtr(3))

function operate(t: Task, timeout: number): SysRet {
  if (t.sysState instanceof SemOperation) return waitFor(t, t.sysState)
  if (timeout !== 0) {
    const sec = t.readU64(timeout)
    const nsec = t.readU64(timeout + 8)
    if (sec < 0 || nsec < 0) return -EFAULT
    if (sec >= 2 ** 63 || nsec >= 1e9) return -EINVAL
    t.deadlineIn(sec * 1e9 + nsec)
  }
  const count = t.argU32(2)
  const id = t.argI32(0)
  if (count < 1 || id < 0) return -EINVAL
  if (count > SEMOPM) return -E2BIG
  const raw = Buffer.alloc(count * SEMBUF_SIZE)
  if (t.readBytes(t.argPtr(1), raw) < 0) return -EFAULT
  const ops = new Int16Array(count * 3)
  for (let i = 0; i < ops.length; i++) ops[i] = raw.readInt16LE(2 * i)
  const op = semop(t, id, ops)
  if (typeof op === 'number') return op
  t.sysState = op
  return waitFor(t, op)
}

function waitFor(t: Task, op: SemOperation): SysRet {
  if (op.result !== PENDING) return op.result
  const ret = t.timedOut ? -EAGAIN : t.waitOn(null, 0, EINTR)
  if (ret !== BLOCK) op.set.cancel(op)
  return ret
}

export function sysSemctl(t: Task): SysRet {
  const id = t.argI32(0)
  const num = t.argI32(1)
  const cmd = t.argI32(2)
  const arg = t.argPtr(3)
  if (id < 0) return -EINVAL
  switch (cmd) {
    case IPC_INFO:
    case SEM_INFO:
      return info(t, cmd, arg)
    case IPC_STAT:
    case SEM_STAT:
    case SEM_STAT_ANY: {
      const s = cmd === IPC_STAT ? SEM.get(id) : SEM.at(id)
      if (typeof s === 'number') return s
      const denied = cmd === SEM_STAT_ANY ? 0 : s.access(t, 0o444)
      if (denied !== 0) return denied
      return t.writeBytes(arg, DS, s.encode(DS)) < 0 ? -EFAULT : cmd === IPC_STAT ? 0 : s.id
    }
    case IPC_SET: {
      if (t.readBytes(arg, DS, IPC_PERM_SIZE) < 0) return -EFAULT
      const s = SEM.get(id)
      if (typeof s === 'number') return s
      const err = s.ownership(t) || s.setPerm(DS)
      if (err === 0) s.ctime = readRealtime().sec
      return err
    }
    case IPC_RMID: {
      const s = SEM.get(id)
      if (typeof s === 'number') return s
      const err = s.ownership(t)
      if (err === 0) s.destroy()
      return err
    }
    case GETALL:
    case SETALL:
    case GETVAL:
    case SETVAL:
    case GETPID:
    case GETNCNT:
    case GETZCNT: {
      if (cmd === SETVAL && ((arg | 0) < 0 || (arg | 0) > SEMVMX)) return -ERANGE
      const s = SEM.get(id)
      if (typeof s === 'number') return s
      if (cmd === GETALL) return s.access(t, 0o444) || getAll(t, s, arg)
      if (cmd === SETALL) return s.access(t, 0o222) || setAll(t, s, arg)
      if (cmd === SETVAL) {
        if (num < 0 || num >= s.values.length) return -EINVAL
        return s.access(t, 0o222) || setValue(t, s, num, arg | 0)
      }
      const denied = s.access(t, 0o444)
      if (denied !== 0) return denied
      if (num < 0 || num >= s.values.length) return -EINVAL
      if (cmd === GETVAL) return s.values[num]!
      if (cmd === GETPID) return s.pids[num]!
      return s.waiters(num, cmd === GETZCNT)
    }
    default:
      return -EINVAL
  }
}

function info(t: Task, cmd: number, addr: number): SysRet {
  const busy = cmd === SEM_INFO
  const words = [SEMMNS, SEMMNI, SEMMNS, SEMMNS, SEMMSL, SEMOPM, SEMOPM, 20, SEMVMX, SEMVMX]
  if (busy) {
    words[7] = SEM.used
    words[9] = semaphoresInUse()
  }
  words.forEach((w, i) => {
    DS.writeInt32LE(w, 4 * i)
  })
  return t.writeBytes(addr, DS, 40) < 0 ? -EFAULT : SEM.highest
}

function getAll(t: Task, s: SemSet, addr: number): SysRet {
  const out = Buffer.alloc(2 * s.values.length)
  s.values.forEach((v, i) => {
    out.writeUInt16LE(v, 2 * i)
  })
  return t.writeBytes(addr, out)
}

function setAll(t: Task, s: SemSet, addr: number): SysRet {
  const values = Buffer.alloc(2 * s.values.length)
  if (t.readBytes(addr, values) < 0) return -EFAULT
  for (let i = 0; i < s.values.length; i++) if (values.readUInt16LE(2 * i) > SEMVMX) return -ERANGE
  for (let i = 0; i < s.values.length; i++) {
    s.values[i] = values.readUInt16LE(2 * i)
    s.pids[i] = t.group.pid
  }
  clearUndo(s, -1)
  s.ctime = readRealtime().sec
  s.update()
  return 0
}

function setValue(t: Task, s: SemSet, num: number, value: number): SysRet {
  clearUndo(s, num)
  s.values[num] = value
  s.pids[num] = t.group.pid
  s.ctime = readRealtime().sec
  s.update()
  return 0
}
