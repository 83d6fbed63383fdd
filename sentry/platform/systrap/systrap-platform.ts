/**
 * systrap (DESIGN §6): guest calls become signals inside the guest's process, whose handler talks to the sentry through
 * shared memory. No ptrace once the zygote stands.
 *
 * native/stub/protocol.h documents every shared word, native/host/systrap.c drives them.
 */
import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import * as host from '../../../native/host.ts'
import { ptCall, ptDetach, ptInit, ptSigfd, ptSlotTid, ptWatch } from '../../../native/ptrace.ts'
import { SECCOMP_TRAP } from '../../../native/seccomp.ts'
import {
  stAwait,
  stControl,
  stControlFd,
  stFork,
  stInit,
  stMapSlot,
  stNewArena,
  stResume,
  stRise,
  stSetCall,
  stSetIds,
  stSetListener,
  stTable,
  stTakeArena,
  stTakenArena,
  stThread,
  stTurn,
  stUnmapSlot,
  stWait,
  stWakeFd,
  THREAD_ROWS,
  TURN_COUNT,
  TURN_EVENTS,
  TURN_NOW,
  TURN_RESUME,
  TURN_ROW,
  TURN_TIMEOUT,
} from '../../../native/systrap.ts'
import { EAGAIN } from '../../abi/errno.ts'
import { SYS_close, SYS_mmap, SYS_munmap, SYS_rt_sigaction, SYS_sigaltstack } from '../../abi/syscall-numbers.ts'
import {
  type CallPolicy,
  type GuestThread,
  type Platform,
  TRAP_FAILED,
  TRAP_FAULT,
  TRAP_INTERRUPT,
} from '../platform.ts'
import { guestFilter, STUB_BASE, STUB_OPS } from '../stub.ts'
import { emptyAddressSpace, installFilter, startZygote, writeScratch } from '../zygote.ts'
import { setDriver } from './driver.ts'
import { EndUsage } from './end-usage.ts'
import { CONTROL_SIZE, NameTable } from './known-names.ts'
import {
  ARENA_BASE,
  CONTROL_ADDR,
  INTERRUPT_SIGNAL,
  SIGNAL_STACK_OFFSET,
  SIGNAL_STACK_SIZE,
  SLOT_SIZE,
  STUB_ENTER,
  STUB_HANDLER,
  STUB_RESTORER,
} from './layout.ts'
import { SystrapSpace } from './space.ts'
import { SystrapThread } from './thread.ts'

/* CALL_* */
const COPY_STRING = 1
const COPY_BYTES = 2
const COPY_SIXTEEN = 3
const COPY_ARG_SHIFT = 2
const STRING_ARG_SHIFT = 5
const ANSWER_SHIFT = 8
const MEMO = 0x0800
const DIRECT = 0x8000

/* struct stub_control, in u32 words. */
const NAMES = 16

const TWO32 = 0x1_0000_0000
/** How long both sides spin before they sleep, at most: about what a wake-up across CPUs costs. */
const SPIN_US = 50
/** SIGILL SIGTRAP SIGBUS SIGFPE SIGSEGV SIGSYS and the interrupt. */
const TRAP_SIGNALS = [4, 5, 7, 8, 11, 31, INTERRUPT_SIGNAL]
/** SA_SIGINFO | SA_ONSTACK | SA_RESTART | SA_RESTORER | SA_NODEFER */
const TRAP_SIGNAL_FLAGS = 0x5c000004
/** In a handler: everything but SIGBUS and SIGSEGV, which the stub's own copying may raise. */
const TRAP_SIGNAL_MASK = 0xffffffff & ~(1 << (7 - 1)) & ~(1 << (11 - 1))
const SIGILL = 4
/** So long without a trap or event, and the sentry makes an address space in advance. */
const SPARE_IDLE_NS = 50_000

/** Can this CPU and kernel run systrap? The stub keeps FS and GS with instructions that the kernel must have enabled. */
export function systrapAvailable(): boolean {
  const auxv = readFileSync('/proc/self/auxv')
  const AT_HWCAP2 = 26n
  const HWCAP2_FSGSBASE = 2n
  for (let at = 0; at + 16 <= auxv.length; at += 16)
    if (auxv.readBigUInt64LE(at) === AT_HWCAP2) return (auxv.readBigUInt64LE(at + 8) & HWCAP2_FSGSBASE) !== 0n
  return false
}

export class SystrapPlatform implements Platform {
  readonly name = 'systrap'
  readonly taskSize = STUB_BASE
  readonly vdso = { start: 0, size: 0 }
  readonly vvar = { start: 0, size: 0 }
  hostEventCount = 0
  private readonly table: ArrayBuffer
  private readonly threads: (SystrapThread | null)[] = []
  private readonly freeRows: number[] = []
  private nextRow = 0
  private readonly zygote: SystrapThread
  /** What goes into a wait and comes out of it. */
  private readonly times: Float64Array
  private readonly words: Int32Array
  resting = 0
  readonly endUsage = new EndUsage()
  readonly names: Uint32Array
  readonly known: NameTable
  /** A thread that goes on with the next wait: one foreign call for both. −1 = none. */
  private resuming = -1

  /** Throws when the host does not let us. */
  constructor() {
    setDriver(this)
    const ep = ptInit()
    if (ep < 0) throw new Error(`systrap platform: cannot initialise (errno ${-ep})`)
    const ret = stInit(ep, ptSigfd(), availableParallelism() > 1 ? SPIN_US : 0)
    if (ret < 0) throw new Error(`systrap platform: cannot initialise (errno ${-ret})`)
    this.table = stTable()
    const { times, words } = stTurn()
    this.times = times
    this.words = words
    const control = stControl(CONTROL_SIZE)
    this.names = new Uint32Array(control, NAMES * 4, 3)
    this.known = new NameTable(control, this.names)
    this.zygote = this.startZygote()
  }

  private startZygote(): SystrapThread {
    const PTRACE_SLOT = 0
    const arena = stNewArena()
    if (arena < 0) throw new Error(`systrap platform: cannot make an arena (errno ${-arena})`)
    startZygote(PTRACE_SLOT, { wake: stWakeFd(), control: stControlFd(), arena })
    const pid = ptSlotTid(PTRACE_SLOT)
    emptyAddressSpace(PTRACE_SLOT, pid, this.vdso, this.vvar)
    const CONTROL_FD = 7
    const ARENA_FD = 8
    const call = (nr: number, ...args: number[]): void => {
      const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = args
      const result = ptCall(PTRACE_SLOT, nr, a, b, c, d, e, f)
      if (result < 0) throw new Error(`systrap platform: setting up the stub failed (call ${nr}, errno ${-result})`)
    }
    const MAP_SHARED_FIXED = 0x11
    call(SYS_mmap, CONTROL_ADDR, CONTROL_SIZE, 1, MAP_SHARED_FIXED, CONTROL_FD, 0)
    call(SYS_mmap, ARENA_BASE, SLOT_SIZE, 3, MAP_SHARED_FIXED, ARENA_FD, 0)
    call(SYS_close, CONTROL_FD)
    call(SYS_close, ARENA_FD)
    this.installHandlers(pid, call)
    stSetListener(installFilter(PTRACE_SLOT, pid, guestFilter(SECCOMP_TRAP, true)))
    call(SYS_munmap, STUB_OPS, 4096)

    const space = new SystrapSpace(arena, 0)
    space.hostPid = pid
    const row = this.nextRow++
    stMapSlot(row, arena, 0)
    stSetIds(row, pid, pid)
    ptDetach(PTRACE_SLOT, STUB_ENTER)
    const ready = stAwait(row)
    if (ready < 0) throw new Error('systrap platform: the stub died while starting')
    return new SystrapThread(this.table, row, space, 0)
  }

  /** One handler for all traps, with every signal blocked, on the slot's own stack. */
  private installHandlers(pid: number, call: (nr: number, ...args: number[]) => void): void {
    const scratch = new DataView(new ArrayBuffer(64))
    const u64 = (at: number, value: number): void => {
      scratch.setUint32(at, value % TWO32, true)
      scratch.setUint32(at + 4, Math.floor(value / TWO32), true)
    }
    // struct kernel_sigaction, then stack_t.
    u64(0, STUB_HANDLER)
    u64(8, TRAP_SIGNAL_FLAGS)
    u64(16, STUB_RESTORER)
    scratch.setUint32(24, TRAP_SIGNAL_MASK >>> 0, true)
    scratch.setUint32(28, 0xffffffff, true)
    u64(32, ARENA_BASE + SIGNAL_STACK_OFFSET)
    u64(40, 0)
    u64(48, SIGNAL_STACK_SIZE)
    writeScratch(pid, new Uint8Array(scratch.buffer))
    for (const signal of TRAP_SIGNALS) call(SYS_rt_sigaction, signal, STUB_OPS, 0, 8)
    call(SYS_sigaltstack, STUB_OPS + 32, 0)
  }

  private allocateRow(): number {
    const row = this.freeRows.pop()
    if (row !== undefined) return row
    return this.nextRow < THREAD_ROWS ? this.nextRow++ : -1
  }

  /** The thread is gone; its row stays taken. */
  forget(thread: SystrapThread): void {
    if (this.resuming === thread.row) this.resuming = -1
    this.threads[thread.row] = null
  }
  /** The thread's row may be used again. */
  retire(thread: SystrapThread): void {
    this.forget(thread)
    stUnmapSlot(thread.row)
    this.freeRows.push(thread.row)
  }

  private adopt(row: number, space: SystrapSpace, local: number): SystrapThread {
    const thread = new SystrapThread(this.table, row, space, local)
    while (this.threads.length <= row) this.threads.push(null)
    this.threads[row] = thread
    return thread
  }

  private giveUp(row: number, error: number): number {
    stUnmapSlot(row)
    this.freeRows.push(row)
    return error
  }

  fork(parent: SystrapThread): GuestThread | number {
    parent.space.forked = true
    let row = stTakeArena(parent.row)
    const fresh = row < 0
    const arena = fresh ? stNewArena() : stTakenArena()
    if (fresh) row = this.allocateRow()
    if (row < 0) {
      if (arena >= 0) host.close(arena)
      return -EAGAIN
    }
    let ret = arena < 0 ? arena : fresh ? stMapSlot(row, arena, parent.local) : 0
    if (ret >= 0) ret = stFork(parent.row, row, arena)
    if (ret < 0) {
      if (arena >= 0) host.close(arena)
      return this.giveUp(row, ret)
    }
    const space = new SystrapSpace(arena, parent.local)
    space.inheritPatches(parent.space)
    const thread = this.adopt(row, space, parent.local)
    space.hostPid = thread.hostTid
    return thread
  }

  newThread(parent: SystrapThread): GuestThread | number {
    const { space } = parent
    const rested = space.takeResting()
    if (rested !== null) {
      const ret = stRise(parent.row, rested.row)
      if (ret >= 0) return this.adopt(rested.row, space, rested.local)
      space.keepResting(rested)
      return ret
    }
    const local = space.allocateLocal()
    const row = local < 0 ? -1 : this.allocateRow()
    if (row < 0) return -EAGAIN
    let ret = stMapSlot(row, space.arenaFd, local)
    if (ret >= 0) ret = stThread(parent.row, row, space.arenaFd)
    if (ret < 0) {
      space.putBack(local)
      return this.giveUp(row, ret)
    }
    return this.adopt(row, space, local)
  }

  /** The next exec's address space, made while guests leave the sentry time for it. */
  private spare: SystrapThread | null = null
  private wantSpare = false

  newAddressSpace(): GuestThread | number {
    const { spare } = this
    this.spare = null
    this.wantSpare = true
    if (spare !== null && !spare.dead) return spare
    spare?.space.kill()
    return this.fork(this.zygote)
  }

  private makeSpare(): void {
    this.wantSpare = false
    const thread = this.fork(this.zygote)
    if (typeof thread !== 'number') this.spare = thread as SystrapThread
  }

  wait(timeoutNs: number): GuestThread | null {
    if (!this.wantSpare || (timeoutNs >= 0 && timeoutNs < SPARE_IDLE_NS)) return this.waitFor(timeoutNs)
    const thread = this.waitFor(SPARE_IDLE_NS)
    if (thread === null && this.hostEventCount === 0) this.makeSpare()
    return thread
  }

  resume(row: number): void {
    if (this.resuming >= 0) stResume(this.resuming)
    this.resuming = row
  }
  resumeNow(): void {
    if (this.resuming < 0) return
    stResume(this.resuming)
    this.resuming = -1
  }

  private waitFor(timeoutNs: number): GuestThread | null {
    const { words } = this
    this.times[TURN_TIMEOUT] = timeoutNs
    words[TURN_RESUME] = this.resuming
    this.resuming = -1
    stWait()
    this.hostEventCount = words[TURN_COUNT]!
    const row = words[TURN_ROW]!
    const thread = row < 0 ? null : (this.threads[row] ?? null)
    if (thread !== null && thread.trap === TRAP_FAULT && thread.signo === SIGILL && thread.space.mend(thread))
      thread.trap = TRAP_INTERRUPT
    if (thread !== null && thread.trap === TRAP_FAILED && !thread.lateChange) thread.space.patchFailed(thread)
    return thread
  }
  get now(): number {
    return this.times[TURN_NOW]!
  }
  hostEventData(index: number): number {
    return this.words[TURN_EVENTS + 3 * index + 1]!
  }
  hostEventMask(index: number): number {
    return this.words[TURN_EVENTS + 3 * index]!
  }
  watchHostFd(op: number, fd: number, events: number, data: number): number {
    return ptWatch(op, fd, events, data)
  }

  private readonly direct = new Set<number>()
  isDirect(nr: number): boolean {
    return this.direct.has(nr)
  }
  setCallPolicy(nr: number, policy: CallPolicy): void {
    let how = 0
    const first = (kind: number, arg: number): number => kind | (arg << COPY_ARG_SHIFT)
    if (policy.path >= 0) how |= first(COPY_STRING, policy.path)
    else if (policy.bytes >= 0) how |= first(COPY_BYTES, policy.bytes)
    else if (policy.sixteen >= 0) how |= first(COPY_SIXTEEN, policy.sixteen)
    if (policy.path2 >= 0) how |= (policy.path2 + 1) << STRING_ARG_SHIFT
    if (policy.answer >= 0) how |= (policy.answer + 1) << ANSWER_SHIFT
    if (policy.memo) how |= MEMO
    if (policy.direct) {
      how |= DIRECT
      this.direct.add(nr)
    }
    stSetCall(nr, how, policy.check)
  }

  settle(): void {
    this.endUsage.settle()
  }
  shutdown(): void {
    this.spare?.space.kill()
    this.zygote.space.kill()
  }
}
