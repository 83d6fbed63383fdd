/**
 * System V semaphores (semop(2), Linux: ipc/sem.c).
 *
 * Who has to wait leaves its operations with the set. Every change tries those that wait, in order, and carries out what
 * has become possible at once, before the sleeper runs: a value that was waited for cannot be taken by somebody else.
 */
import { E2BIG, EAGAIN, EFBIG, EIDRM, EINVAL, ENOSPC, ERANGE } from '../abi/errno.ts'
import { IPC_NOWAIT, SEM_UNDO, SEMID_DS_SIZE, SEMMNI, SEMMNS, SEMMSL, SEMOPM, SEMVMX } from '../abi/ipc.ts'
import { readRealtime } from '../kernel/clock.ts'
import { addExitHook } from '../kernel/exit.ts'
import { DEAD, type Task } from '../kernel/task.ts'
import type { ThreadGroup } from '../kernel/thread-group.ts'
import { IpcIds, IpcObject, putU64 } from './ipc-ids.ts'

const WOULD_BLOCK = 1
export const PENDING = 1

/** semop(2) in progress: `count` triples of number, operation, flags. */
export class SemOperation {
  readonly set: SemSet
  readonly task: Task
  readonly ops: Int16Array
  /** PENDING, 0 or −errno. */
  result = PENDING
  /** Which triple stopped it. */
  blockedAt = 0

  constructor(set: SemSet, task: Task, ops: Int16Array) {
    this.set = set
    this.task = task
    this.ops = ops
  }
  get count(): number {
    return this.ops.length / 3
  }
}

export class SemSet extends IpcObject {
  readonly values: Int32Array
  readonly pids: Int32Array
  otime = 0
  readonly pending: SemOperation[] = []

  constructor(t: Task, key: number, flags: number, count: number) {
    super(t, key, flags, readRealtime().sec)
    this.values = new Int32Array(count)
    this.pids = new Int32Array(count)
  }

  /** Carries out `op` wholly or not at all: 0, WOULD_BLOCK or −ERANGE. */
  attempt(op: SemOperation): number {
    const { ops } = op
    const undo = (n: number): boolean => (ops[3 * n + 2]! & SEM_UNDO) !== 0
    const adj = hasUndo(ops) ? undoOf(op.task.group, this) : null
    let n = 0
    let ret = 0
    for (; n < op.count; n++) {
      const num = ops[3 * n]!
      const by = ops[3 * n + 1]!
      const value = this.values[num]!
      if (by === 0 ? value !== 0 : value + by < 0) {
        op.blockedAt = n
        ret = WOULD_BLOCK
        break
      }
      if (value + by > SEMVMX) {
        ret = -ERANGE
        break
      }
      if (undo(n)) {
        const left = adj![num]! - by
        if (left < -SEMVMX - 1 || left > SEMVMX) {
          ret = -ERANGE
          break
        }
        adj![num] = left
      }
      this.values[num] = value + by
    }
    if (ret === 0) {
      for (let i = 0; i < op.count; i++) this.pids[ops[3 * i]!] = op.task.group.pid
      this.otime = readRealtime().sec
      return 0
    }
    while (--n >= 0) {
      const num = ops[3 * n]!
      this.values[num]! -= ops[3 * n + 1]!
      if (undo(n)) adj![num]! += ops[3 * n + 1]!
    }
    return ret
  }

  /** Values changed: whoever can go on does, first come first served. */
  update(): void {
    for (let again = true; again; ) {
      again = false
      for (let i = 0; i < this.pending.length; i++) {
        const op = this.pending[i]!
        const ret = op.task.state === DEAD ? -EIDRM : this.attempt(op)
        if (ret === WOULD_BLOCK) continue
        this.pending.splice(i--, 1)
        this.finish(op, ret)
        again ||= ret === 0
      }
    }
  }
  private finish(op: SemOperation, result: number): void {
    op.result = result
    op.task.kernel.wake(op.task)
  }
  cancel(op: SemOperation): void {
    const i = this.pending.indexOf(op)
    if (i >= 0) this.pending.splice(i, 1)
  }

  /** GETNCNT (zero: GETZCNT): who waits for this semaphore. */
  waiters(num: number, zero: boolean): number {
    let n = 0
    for (const op of this.pending) {
      const by = op.ops[3 * op.blockedAt + 1]!
      if (op.ops[3 * op.blockedAt] === num && (zero ? by === 0 : by < 0)) n++
    }
    return n
  }

  destroy(): void {
    SEM.remove(this)
    for (const list of undoLists.values()) list.delete(this)
    for (const op of this.pending.splice(0)) this.finish(op, -EIDRM)
  }

  encode(out: Buffer): number {
    out.fill(0, 0, SEMID_DS_SIZE)
    this.encodePerm(out)
    putU64(out, 48, this.otime)
    putU64(out, 64, this.ctime)
    putU64(out, 80, this.values.length)
    return SEMID_DS_SIZE
  }
}

export const SEM = new IpcIds<SemSet>(SEMMNI)

export function semaphoresInUse(): number {
  let n = 0
  for (const s of SEM.all()) n += s.values.length
  return n
}

// ---- SEM_UNDO ----------------------------------------------------------------------------------------------------------
/** What to add to each semaphore when the process ends. */
const undoLists = new Map<ThreadGroup, Map<SemSet, Int32Array>>()

function hasUndo(ops: Int16Array): boolean {
  for (let i = 2; i < ops.length; i += 3) if ((ops[i]! & SEM_UNDO) !== 0) return true
  return false
}

function undoOf(group: ThreadGroup, set: SemSet): Int32Array {
  let list = undoLists.get(group)
  if (list === undefined) {
    list = new Map()
    undoLists.set(group, list)
  }
  let adj = list.get(set)
  if (adj === undefined) {
    adj = new Int32Array(set.values.length)
    list.set(set, adj)
  }
  return adj
}

/** What kcmp(2) compares: processes without anything to undo are alike. */
export function undoListOf(group: ThreadGroup): object | null {
  return undoLists.get(group) ?? null
}

/** SETVAL and SETALL forget what was to be undone. `num` −1: of all. */
export function clearUndo(set: SemSet, num: number): void {
  for (const list of undoLists.values()) {
    const adj = list.get(set)
    if (adj === undefined) continue
    if (num < 0) adj.fill(0)
    else adj[num] = 0
  }
}

addExitHook((group) => {
  const list = undoLists.get(group)
  if (list === undefined) return
  undoLists.delete(group)
  for (const [set, adj] of list) {
    if (set.removed) continue
    for (let i = 0; i < adj.length; i++) {
      if (adj[i] === 0) continue
      set.values[i] = Math.min(SEMVMX, Math.max(0, set.values[i]! + adj[i]!))
      set.pids[i] = group.pid
    }
    set.otime = readRealtime().sec
    set.update()
  }
})

// ---- calls -------------------------------------------------------------------------------------------------------------
export function semget(t: Task, key: number, count: number, flags: number): number {
  if (count < 0 || count > SEMMSL) return -EINVAL
  return SEM.obtain(
    t,
    key,
    flags,
    (s) => (count > s.values.length ? -EINVAL : 0),
    () => {
      if (count === 0) return -EINVAL
      return semaphoresInUse() + count > SEMMNS ? -ENOSPC : new SemSet(t, key, flags, count)
    },
  )
}

/**
 * The first run of semop(2): 0, −errno, or an operation that waits. `ops` is checked for its size only.
 */
export function semop(t: Task, id: number, ops: Int16Array): SemOperation | number {
  if (ops.length / 3 > SEMOPM) return -E2BIG
  const set = SEM.get(id)
  if (typeof set === 'number') return set
  // The record of what to undo is made first, as Linux does: the end of a process that has one shows in sem_otime.
  if (hasUndo(ops)) undoOf(t.group, set)
  let alter = false
  let nowait = false
  for (let i = 0; i < ops.length; i += 3) {
    if ((ops[i]! & 0xffff) >= set.values.length) return -EFBIG
    if (ops[i + 1] !== 0) alter = true
  }
  const denied = set.access(t, alter ? 0o222 : 0o444)
  if (denied !== 0) return denied
  const op = new SemOperation(set, t, ops)
  const ret = set.attempt(op)
  if (ret === 0) {
    if (alter) set.update()
    return 0
  }
  if (ret !== WOULD_BLOCK) return ret
  nowait = (ops[3 * op.blockedAt + 2]! & IPC_NOWAIT) !== 0
  if (nowait) return -EAGAIN
  set.pending.push(op)
  return op
}
