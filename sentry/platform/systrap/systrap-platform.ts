/**
 * systrap (DESIGN §6): guest calls become signals inside the guest's process, whose handler talks to the sentry through
 * shared memory. No ptrace once the zygote stands.
 *
 * native/stub/protocol.h documents every shared word, native/host/systrap.c drives them.
 */
import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import * as host from '../../../native/host.ts'
import { ptCall, ptDetach, ptInit, ptSigfd, ptSlotTid, ptVmRead, ptVmWrite, ptWatch } from '../../../native/ptrace.ts'
import { SECCOMP_TRAP } from '../../../native/seccomp.ts'
import {
  stAbandon,
  stAwait,
  stBatch,
  stCall,
  stControlFd,
  stExitThread,
  stFork,
  stGetFpu,
  stInit,
  stInterrupt,
  stMapSlot,
  stNewArena,
  stResume,
  stSetFpu,
  stSetIds,
  stSetListener,
  stTable,
  stThread,
  stThreadGone,
  stUnmapSlot,
  stWait,
  stWakeFd,
  THREAD_BYTES,
  THREAD_ROWS,
} from '../../../native/systrap.ts'
import { EAGAIN } from '../../abi/errno.ts'
import {
  SYS_close,
  SYS_futex,
  SYS_mmap,
  SYS_munmap,
  SYS_rt_sigaction,
  SYS_sigaltstack,
} from '../../abi/syscall-numbers.ts'
import { REGS_WORDS } from '../amd64/registers.ts'
import type { MemoryOps } from '../memory-ops.ts'
import type { AddressSpace, GuestThread, Platform } from '../platform.ts'
import { guestFilter, STUB_BASE, STUB_OPS } from '../stub.ts'
import { emptyAddressSpace, installFilter, startZygote, writeScratch } from '../zygote.ts'

/* native/stub/protocol.h; test/unit/systrap-protocol.test.ts checks them. */
export const ARENA_BASE = 0x7fff80000000
export const SLOT_SIZE = 0x10000
export const ARENA_SLOTS = 16384
export const CONTROL_ADDR = 0x7fffe0000000
export const STUB_RESTORER = 0x7ffff0000060
export const STUB_HANDLER = 0x7ffff0000070
export const STUB_ENTER = 0x7ffff0000080
export const INTERRUPT_SIGNAL = 23
export const SIGNAL_STACK_OFFSET = 0x2000

/* struct thread of native/host/systrap.c, in u32 words. */
const TRAP = 54
const SIGNO = 55
const CODE = 56
const TID = 57
const FAULT_ADDR = 58
const TRAPNO = 60
const ERROR_CODE = 61

const TWO32 = 0x1_0000_0000
const MAX_EVENTS = 64
const FUTEX_WAKE = 1
/** How long both sides spin before they sleep, at most: about what a wake-up across CPUs costs. */
const SPIN_US = 50
/** SIGILL SIGTRAP SIGBUS SIGFPE SIGSEGV SIGSYS and the interrupt. */
const TRAP_SIGNALS = [4, 5, 7, 8, 11, 31, INTERRUPT_SIGNAL]
/** SA_SIGINFO | SA_ONSTACK | SA_RESTART | SA_RESTORER */
const TRAP_SIGNAL_FLAGS = 0x1c000004
/** Local slots whose threads may still be on their way out, looked at per allocation. */
const MAX_PROBES = 4

class SystrapThread implements GuestThread {
  readonly regs: Uint32Array
  readonly space: SystrapSpace
  readonly row: number
  readonly local: number
  private readonly words: Uint32Array
  owner: object | null = null

  constructor(table: ArrayBuffer, row: number, space: SystrapSpace, local: number) {
    this.words = new Uint32Array(table, row * THREAD_BYTES, THREAD_BYTES / 4)
    this.regs = new Uint32Array(table, row * THREAD_BYTES, REGS_WORDS)
    this.row = row
    this.local = local
    this.space = space
    space.threads.push(this)
  }

  get hostTid(): number {
    return this.words[TID]!
  }
  get trap(): number {
    return this.words[TRAP]!
  }
  set trap(trap: number) {
    this.words[TRAP] = trap
  }
  get signo(): number {
    return this.words[SIGNO]! | 0
  }
  get code(): number {
    return this.words[CODE]! | 0
  }
  get faultAddr(): number {
    return this.words[FAULT_ADDR]! + this.words[FAULT_ADDR + 1]! * TWO32
  }
  get faultAddrLo(): number {
    return this.words[FAULT_ADDR]!
  }
  get faultAddrHi(): number {
    return this.words[FAULT_ADDR + 1]!
  }
  get trapno(): number {
    return this.words[TRAPNO]!
  }
  get errorCode(): number {
    return this.words[ERROR_CODE]!
  }

  resume(): void {
    stResume(this.row)
  }
  interrupt(): void {
    stInterrupt(this.row)
  }
  exit(): void {
    const { space } = this
    this.owner = null
    space.threads.splice(space.threads.indexOf(this), 1)
    space.leaving.push({ local: this.local, tid: this.hostTid })
    stExitThread(this.row)
    stAbandon(this.row)
    platform!.retire(this)
  }
  readFpu(out: Uint8Array): number {
    return stGetFpu(this.row, out, out.length)
  }
  writeFpu(state: Uint8Array, len: number): number {
    return stSetFpu(this.row, state, len)
  }
  futexWake(addr: number, count: number): void {
    stCall(this.row, SYS_futex, addr, FUTEX_WAKE, count, 0, 0, 0)
  }
  futexOr(addr: number, bit: number): number {
    const op = FUTEX_OP_OR_SHIFT | ((31 - Math.clz32(bit)) << 12)
    const unused = ARENA_BASE + this.local * SLOT_SIZE + SLOT_UNUSED
    const ret = stCall(this.row, SYS_futex, unused, FUTEX_WAKE_OP, 1, 0, addr, op)
    return Math.min(ret, 0)
  }
}

/* An atomic OR, and no wake: the first word is one that nobody waits on. */
const FUTEX_WAKE_OP = 5
const FUTEX_OP_OR_SHIFT = 0xa0000000
const SLOT_UNUSED = 0x800

class SystrapSpace implements AddressSpace {
  hostPid = 0
  readonly threads: SystrapThread[] = []
  readonly arenaFd: number
  /** Slots of threads that were told to exit; free once the host thread is gone. */
  readonly leaving: { local: number; tid: number }[] = []
  private nextLocal: number
  private dead = false

  constructor(arenaFd: number, firstLocal: number) {
    this.arenaFd = arenaFd
    this.nextLocal = firstLocal === 0 ? 1 : 0
    this.firstLocal = firstLocal
  }
  private readonly firstLocal: number

  /** A slot number that no thread uses, or −1. */
  allocateLocal(): number {
    for (let i = 0; i < Math.min(this.leaving.length, MAX_PROBES); i++) {
      const { local, tid } = this.leaving[i]!
      if (stThreadGone(this.hostPid, tid) === 0) continue
      this.leaving.splice(i, 1)
      return local
    }
    if (this.nextLocal === this.firstLocal) this.nextLocal++
    return this.nextLocal < ARENA_SLOTS ? this.nextLocal++ : -1
  }
  putBack(local: number): void {
    this.leaving.push({ local, tid: 0x7fffffff })
  }

  read(addr: number, dst: Uint8Array, at: number, len: number): number {
    return ptVmRead(this.hostPid, addr, dst, at, len)
  }
  write(addr: number, src: Uint8Array, at: number, len: number): number {
    return ptVmWrite(this.hostPid, addr, src, at, len)
  }
  apply(thread: GuestThread, ops: MemoryOps): number {
    return ops.count === 0 ? 0 : stBatch((thread as SystrapThread).row, ops.rows, ops.count)
  }
  fork(parent: GuestThread): GuestThread | number {
    return platform!.fork(parent as SystrapThread)
  }
  newThread(parent: GuestThread): GuestThread | number {
    return platform!.newThread(parent as SystrapThread)
  }
  kill(): void {
    if (this.dead) return
    this.dead = true
    host.kill(this.hostPid, 9)
    for (const thread of this.threads) {
      thread.owner = null
      stAbandon(thread.row)
      platform!.retire(thread)
    }
    this.threads.length = 0
    host.close(this.arenaFd)
  }
}

let platform: SystrapPlatform | null = null

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
  private readonly events = new Uint32Array(MAX_EVENTS * 3)
  private readonly eventCount = new Int32Array(1)

  /** Throws when the host does not let us. */
  constructor() {
    platform = this
    const ep = ptInit()
    if (ep < 0) throw new Error(`systrap platform: cannot initialise (errno ${-ep})`)
    const ret = stInit(ep, ptSigfd(), availableParallelism() > 1 ? SPIN_US : 0)
    if (ret < 0) throw new Error(`systrap platform: cannot initialise (errno ${-ret})`)
    this.table = stTable()
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
    call(SYS_mmap, CONTROL_ADDR, 4096, 1, MAP_SHARED_FIXED, CONTROL_FD, 0)
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
    scratch.setUint32(24, 0xffffffff, true)
    scratch.setUint32(28, 0xffffffff, true)
    u64(32, ARENA_BASE + SIGNAL_STACK_OFFSET)
    u64(40, 0)
    u64(48, SLOT_SIZE - SIGNAL_STACK_OFFSET)
    writeScratch(pid, new Uint8Array(scratch.buffer))
    for (const signal of TRAP_SIGNALS) call(SYS_rt_sigaction, signal, STUB_OPS, 0, 8)
    call(SYS_sigaltstack, STUB_OPS + 32, 0)
  }

  private allocateRow(): number {
    const row = this.freeRows.pop()
    if (row !== undefined) return row
    return this.nextRow < THREAD_ROWS ? this.nextRow++ : -1
  }

  /** The thread's row may be used again. */
  retire(thread: SystrapThread): void {
    this.threads[thread.row] = null
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
    const row = this.allocateRow()
    if (row < 0) return -EAGAIN
    const arena = stNewArena()
    let ret = arena < 0 ? arena : stMapSlot(row, arena, parent.local)
    if (ret >= 0) ret = stFork(parent.row, row, arena)
    if (ret < 0) {
      if (arena >= 0) host.close(arena)
      return this.giveUp(row, ret)
    }
    const space = new SystrapSpace(arena, parent.local)
    const thread = this.adopt(row, space, parent.local)
    space.hostPid = thread.hostTid
    return thread
  }

  newThread(parent: SystrapThread): GuestThread | number {
    const { space } = parent
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

  newAddressSpace(): GuestThread | number {
    return this.fork(this.zygote)
  }

  wait(timeoutNs: number): GuestThread | null {
    const row = stWait(Math.min(timeoutNs, 2 ** 52), this.events, MAX_EVENTS, this.eventCount)
    this.hostEventCount = this.eventCount[0]!
    return row < 0 ? null : (this.threads[row] ?? null)
  }
  hostEventData(index: number): number {
    return this.events[3 * index + 1]!
  }
  hostEventMask(index: number): number {
    return this.events[3 * index]!
  }
  watchHostFd(op: number, fd: number, events: number, data: number): number {
    return ptWatch(op, fd, events, data)
  }

  shutdown(): void {
    this.zygote.space.kill()
  }
}
