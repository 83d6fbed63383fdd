/**
 * Priority-inheritance futexes (Linux: kernel/futex/pi.c, requeue.c). All other futex operations run natively on the
 * host; these need to know who owns a lock in terms of guest thread ids. Nothing is inherited: the sentry has no
 * priorities; what stays is exact ownership, deadlock errors and OWNER_DIED.
 *
 * The word in guest memory is the owner's tid | WAITERS | OWNER_DIED. Guest code changes it without us, by
 * compare-and-swap 0 → tid and tid → 0; once WAITERS is set (atomically, by the host) only the sentry changes it. So
 * every path here sets WAITERS first and reads the word after that.
 */
import { EAGAIN, EDEADLK, EFAULT, EINVAL, EPERM, ESRCH, ETIMEDOUT } from '../abi/errno.ts'
import type { MemoryManager } from '../mm/memory-manager.ts'
import { vmaAfter } from '../mm/vma-list.ts'
import { BLOCK, ERESTARTNOINTR, type SysRet } from './sysret.ts'
import { DEAD, type Task } from './task.ts'

const FUTEX_TID_MASK = 0x3fffffff
const FUTEX_OWNER_DIED = 0x40000000
const FUTEX_WAITERS = 0x80000000

/** A task that waits for a lock, or (requeue) for a condition that will move it to a lock. */
class PiWait {
  readonly task: Task
  addr: number
  queue: PiQueue | null = null
  /** The lock is ours; or the result of the wait. */
  result = 1
  /** FUTEX_WAIT_REQUEUE_PI: the lock to be moved to. */
  readonly lockAddr: number
  readonly lockShared: boolean

  constructor(task: Task, addr: number, lockAddr: number, lockShared: boolean) {
    this.task = task
    this.addr = addr
    this.lockAddr = lockAddr
    this.lockShared = lockShared
  }
}

interface PiQueue {
  readonly key: string
  /** The owner's tid while there are waiters for a lock. */
  owner: number
  readonly waiters: PiWait[]
}

const queues = new Map<string, PiQueue>()
const spaceIds = new WeakMap<object, number>()
let nextSpaceId = 1

function idOf(object: object): number {
  let id = spaceIds.get(object)
  if (id === undefined) {
    id = nextSpaceId++
    spaceIds.set(object, id)
  }
  return id
}

/** What names a futex: the address in one space, or the place in a shared file. */
function keyOf(mm: MemoryManager, addr: number, shared: boolean): string {
  if (shared) {
    const vma = mm.vmas[vmaAfter(mm.vmas, addr)]
    if (vma?.shared && vma.start <= addr) {
      if (vma.file === null) return `anon:${addr}`
      return `file:${idOf(vma.file.inode)}:${vma.offset + (addr - vma.start)}`
    }
  }
  return `mm:${idOf(mm)}:${addr}`
}

function queueFor(key: string): PiQueue {
  let queue = queues.get(key)
  if (queue === undefined) {
    queue = { key, owner: 0, waiters: [] }
    queues.set(key, queue)
  }
  return queue
}

function enqueue(queue: PiQueue, wait: PiWait): void {
  wait.queue = queue
  queue.waiters.push(wait)
}

function dequeue(wait: PiWait): void {
  const queue = wait.queue
  if (queue === null) return
  wait.queue = null
  queue.waiters.splice(queue.waiters.indexOf(wait), 1)
  if (queue.waiters.length === 0) queues.delete(queue.key)
}

/** Ends a wait: its handler returns `result` when it runs next. */
function finish(wait: PiWait, result: number): void {
  dequeue(wait)
  wait.result = result
  wait.task.kernel.wake(wait.task)
}

/** Takes the lock for `t` if nobody has it: 0 taken, 1 to be waited for (WAITERS is set), or −errno. */
function tryLock(t: Task, caller: Task, addr: number, key: string, mayWait: boolean): number {
  if (addr % 4 !== 0) return -EINVAL
  let word = t.readU32(addr)
  if (word < 0) return -EFAULT
  if ((word & FUTEX_TID_MASK) === t.tid) return -EDEADLK
  if (!mayWait && (word & FUTEX_TID_MASK) !== 0) return -EAGAIN
  if (caller.thread.futexOr(addr, FUTEX_WAITERS) < 0) return -EFAULT
  word = t.readU32(addr)
  if (word < 0) return -EFAULT
  const tid = word & FUTEX_TID_MASK
  const queue = queues.get(key)
  if (tid === 0) {
    const waiters = queue !== undefined && queue.waiters.length > 0 ? FUTEX_WAITERS : 0
    if (queue !== undefined) queue.owner = t.tid
    return t.writeU32(addr, (t.tid | (word & FUTEX_OWNER_DIED) | waiters) >>> 0)
  }
  if (!mayWait) return -EAGAIN
  const owner = t.kernel.ids.task(tid)
  if (owner === undefined || owner.state === DEAD) return -ESRCH
  queueFor(key).owner = tid
  return 1
}

/** The common end of a wait that may time out or be interrupted. */
function waitMore(t: Task, wait: PiWait): SysRet {
  if (wait.queue === null) return wait.result
  if (t.timedOut) {
    dequeue(wait)
    return -ETIMEDOUT
  }
  const ret = t.waitOn(null, 0, ERESTARTNOINTR)
  if (ret !== BLOCK) dequeue(wait)
  return ret
}

/** FUTEX_LOCK_PI. The deadline is already in the task. */
export function lockPi(t: Task, addr: number, shared: boolean): SysRet {
  if (t.sysState instanceof PiWait) return waitMore(t, t.sysState)
  const key = keyOf(t.mm, addr, shared)
  const ret = tryLock(t, t, addr, key, true)
  if (ret <= 0) return ret
  const wait = new PiWait(t, addr, 0, false)
  t.sysState = wait
  enqueue(queueFor(key), wait)
  return waitMore(t, wait)
}

/** FUTEX_TRYLOCK_PI. */
export function tryLockPi(t: Task, addr: number, shared: boolean): SysRet {
  return tryLock(t, t, addr, keyOf(t.mm, addr, shared), false)
}

/** Hands the lock to the first waiter, if there is one. */
function handOver(queue: PiQueue, died: number): boolean {
  for (;;) {
    const next = queue.waiters[0]
    if (next === undefined) return false
    const word = (next.task.tid | FUTEX_WAITERS | died) >>> 0
    const ret = next.task.writeU32(next.addr, word)
    queue.owner = next.task.tid
    finish(next, ret < 0 ? -EFAULT : 0)
    if (ret === 0) return true
  }
}

/** FUTEX_UNLOCK_PI. */
export function unlockPi(t: Task, addr: number, shared: boolean): SysRet {
  if (addr % 4 !== 0) return -EINVAL
  const word = t.readU32(addr)
  if (word < 0) return -EFAULT
  if ((word & FUTEX_TID_MASK) !== t.tid) return -EPERM
  const queue = queues.get(keyOf(t.mm, addr, shared))
  if (queue !== undefined && handOver(queue, 0)) return 0
  return t.writeU32(addr, 0)
}

/** FUTEX_WAIT_REQUEUE_PI: waits on `addr` until a requeue moves the task to the lock at `lockAddr` and it gets that. */
export function waitRequeuePi(t: Task, addr: number, expected: number, lockAddr: number, shared: boolean): SysRet {
  if (t.sysState instanceof PiWait) return waitMore(t, t.sysState)
  if (addr === lockAddr || addr % 4 !== 0) return -EINVAL
  const word = t.readU32(addr)
  if (word < 0) return -EFAULT
  if (word !== expected) return -EAGAIN
  const wait = new PiWait(t, addr, lockAddr, shared)
  t.sysState = wait
  enqueue(queueFor(`cond:${keyOf(t.mm, addr, shared)}`), wait)
  return waitMore(t, wait)
}

/** FUTEX_CMP_REQUEUE_PI: the first waiter gets the lock if it is free, the others wait for it. Returns how many moved. */
export function cmpRequeuePi(
  t: Task,
  addr: number,
  wake: number,
  requeue: number,
  lockAddr: number,
  expected: number,
  shared: boolean,
): SysRet {
  if (addr === lockAddr || wake !== 1 || requeue < 0) return -EINVAL
  const word = t.readU32(addr)
  if (word < 0) return -EFAULT
  if (word !== expected) return -EAGAIN
  const cond = queues.get(`cond:${keyOf(t.mm, addr, shared)}`)
  if (cond === undefined) return 0
  const lockKey = keyOf(t.mm, lockAddr, shared)
  let moved = 0
  for (const wait of cond.waiters.slice(0, wake + requeue)) {
    if (wait.lockAddr !== lockAddr) return moved > 0 ? moved : -EINVAL
    const ret = tryLock(wait.task, t, lockAddr, lockKey, true)
    if (ret === 0) finish(wait, 0)
    else if (ret < 0) {
      if (moved === 0) return ret
      finish(wait, ret)
    } else {
      dequeue(wait)
      wait.addr = lockAddr
      enqueue(queueFor(lockKey), wait)
    }
    moved++
  }
  return moved
}

/** A thread ends: it waits for nothing any more, and what it owned goes to the next with OWNER_DIED. */
export function exitPiFutexes(t: Task): void {
  if (queues.size === 0) return
  if (t.sysState instanceof PiWait) dequeue(t.sysState)
  for (const queue of [...queues.values()]) {
    if (queue.owner === t.tid && !queue.key.startsWith('cond:')) handOver(queue, FUTEX_OWNER_DIED)
  }
}
