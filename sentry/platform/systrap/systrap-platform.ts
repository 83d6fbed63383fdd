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
  stBlock,
  stCall,
  stControl,
  stControlFd,
  stExitThread,
  stFork,
  stGetFpu,
  stInit,
  stInterrupt,
  stKeepArena,
  stMapSlot,
  stNewArena,
  stResume,
  stSetCall,
  stSetFpu,
  stSetIds,
  stSetListener,
  stSlot,
  stTable,
  stTakeArena,
  stTakenArena,
  stThread,
  stThreadGone,
  stUnmapSlot,
  stWait,
  stWaitResult,
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
import { getReg, REGS_WORDS, RIP, setReg } from '../amd64/registers.ts'
import type { MemoryOps } from '../memory-ops.ts'
import {
  type AddressSpace,
  type CallPolicy,
  type GuestThread,
  type Platform,
  TRAP_FAULT,
  TRAP_INTERRUPT,
  type UsageSink,
} from '../platform.ts'
import { guestFilter, STUB_BASE, STUB_OPS } from '../stub.ts'
import { emptyAddressSpace, installFilter, startZygote, writeScratch } from '../zygote.ts'
import { EndUsage } from './end-usage.ts'
import { CONTROL_SIZE, NameTable } from './known-names.ts'
import { codeAround, PatchTable } from './patch-table.ts'
import { SlotWindow } from './window.ts'

/* native/stub/protocol.h; test/unit/systrap-protocol.test.ts checks them. */
export const ARENA_BASE = 0x7fff80000000
export const SLOT_SIZE = 0x10000
export const ARENA_SLOTS = 16384
export const CONTROL_ADDR = 0x7fffe0000000
export const STUB_RESTORER = 0x7ffff0000060
export const STUB_HANDLER = 0x7ffff0000070
export const STUB_ENTER = 0x7ffff0000080
export const INTERRUPT_SIGNAL = 23
export const SIGNAL_STACK_OFFSET = 0x3000
export const SIGNAL_STACK_SIZE = 0x5000
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
const NAMES = 3

/* struct thread of native/host/systrap.c, in u32 words. */
const TRAP = 54
const SIGNO = 55
const CODE = 56
const TID = 57
const FAULT_ADDR = 58
const TRAPNO = 60
const ERROR_CODE = 61
const DEAD = 67
const HOT = 69

const TWO32 = 0x1_0000_0000
const FUTEX_WAKE = 1
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
/** Local slots whose threads may still be on their way out, looked at per allocation. */
const MAX_PROBES = 4

class SystrapThread implements GuestThread {
  readonly regs: Uint32Array
  readonly space: SystrapSpace
  readonly row: number
  readonly local: number
  private readonly words: Uint32Array
  private readonly window: SlotWindow
  owner: object | null = null

  constructor(table: ArrayBuffer, row: number, space: SystrapSpace, local: number) {
    this.words = new Uint32Array(table, row * THREAD_BYTES, THREAD_BYTES / 4)
    this.regs = new Uint32Array(table, row * THREAD_BYTES, REGS_WORDS)
    this.row = row
    this.local = local
    this.space = space
    this.window = new SlotWindow(stSlot(row))
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

  /** The host process is gone. */
  get dead(): boolean {
    return this.words[DEAD] !== 0
  }
  get hot(): boolean {
    return this.words[HOT] !== 0
  }
  patchCallSite(start: number, end: number): void {
    this.space.patchCallSite(this, start, end)
  }
  windowRead(addr: number, dst: Uint8Array, at: number, len: number): number {
    return this.window.read(addr, dst, at, len)
  }
  windowString(addr: number): string | null {
    return this.window.string(addr)
  }
  windowWrite(addr: number, src: Uint8Array, at: number, len: number): boolean {
    return this.window.write(addr, src, at, len)
  }
  get windowPending(): boolean {
    return this.window.pending
  }
  windowFlush(): void {
    const { space } = this
    this.window.flush((addr, src, at, len) => space.write(addr, src, at, len))
  }
  windowDrop(): void {
    this.window.drop()
  }
  answer(ids: Uint32Array | null, root: number): void {
    this.window.answer(ids, root, platform!.names[1]!)
  }
  opened(fd: number, stat: Uint32Array): void {
    this.window.opened(fd, stat, platform!.names[2]!)
  }
  remember(): void {
    this.window.remember(platform!.names[0]!)
  }

  resume(): void {
    this.window.reset()
    platform!.resume(this.row)
  }
  park(): void {
    stBlock(this.row)
  }
  interrupt(): void {
    platform!.resumeNow()
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

const SYSCALL_SIZE = 2
const CODE_BYTES = new Uint8Array(1024)

class SystrapSpace implements AddressSpace {
  hostPid = 0
  readonly threads: SystrapThread[] = []
  readonly arenaFd: number
  /** Slots of threads that were told to exit; free once the host thread is gone. */
  readonly leaving: { local: number; tid: number }[] = []
  private nextLocal: number
  private dead = false
  /** A child had our arena for a moment; a hostile one may have kept it. */
  forked = false
  private patches: PatchTable | null = null

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

  /** See GuestThread.patchCallSite(). */
  patchCallSite(thread: SystrapThread, low: number, high: number): void {
    const site = getReg(thread.regs, RIP) - SYSCALL_SIZE
    if (site < low || site + SYSCALL_SIZE > high) return
    if (this.patches === null) this.patches = new PatchTable()
    if (!this.patches.worthTrying(site)) return
    if (this.patches.shared) this.patches = new PatchTable(this.patches)
    const { start, end } = codeAround(site, low, high)
    const got = this.read(start, CODE_BYTES, 0, end - start)
    const alone = this.threads.length === 1
    this.patches.patch(thread.row, site, CODE_BYTES.subarray(0, got), start, alone, (nr) => platform!.isDirect(nr))
  }
  /** Patched sites of the parent's pages, which are the child's too. */
  inheritPatches(parent: SystrapSpace): void {
    if (parent.patches !== null) parent.patches.shared = true
    this.patches = parent.patches
  }
  /** Sends a thread on that stumbled over a patched site; false: the fault is the guest's. */
  mend(thread: SystrapThread): boolean {
    if (this.patches === null) return false
    const rip = this.patches.mend(
      getReg(thread.regs, RIP),
      (addr, dst) => this.read(addr, dst, 0, dst.length) === dst.length,
    )
    if (rip < 0) return false
    setReg(thread.regs, RIP, rip)
    return true
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
  tellUsage(sink: UsageSink): boolean {
    if (this.threads.some((thread) => thread.dead)) return false
    platform!.endUsage.expect(this.hostPid, sink)
    return true
  }
  kill(): void {
    if (this.dead) return
    this.dead = true
    host.kill(this.hostPid, 9)
    for (const thread of this.threads) {
      thread.owner = null
      stAbandon(thread.row)
    }
    const kept = this.onlyFirstSlot() && stKeepArena(this.threads[0]!.row, this.arenaFd) >= 0
    for (const thread of this.threads) {
      if (kept) platform!.forget(thread)
      else platform!.retire(thread)
    }
    this.threads.length = 0
    if (!kept) host.close(this.arenaFd)
  }
  /** No slot but that of the process's first thread was ever mapped, nor in any other process. */
  private onlyFirstSlot(): boolean {
    const { firstLocal, nextLocal, threads } = this
    return (
      !this.forked &&
      nextLocal === (firstLocal === 0 ? 1 : 0) &&
      threads.length === 1 &&
      threads[0]!.local === firstLocal
    )
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
  /** Count and events of the last wait. */
  private readonly events = stWaitResult()
  readonly endUsage = new EndUsage()
  readonly names: Uint32Array
  readonly known: NameTable
  /** A thread that goes on with the next wait: one foreign call for both. −1 = none. */
  private resuming = -1

  /** Throws when the host does not let us. */
  constructor() {
    platform = this
    const ep = ptInit()
    if (ep < 0) throw new Error(`systrap platform: cannot initialise (errno ${-ep})`)
    const ret = stInit(ep, ptSigfd(), availableParallelism() > 1 ? SPIN_US : 0)
    if (ret < 0) throw new Error(`systrap platform: cannot initialise (errno ${-ret})`)
    this.table = stTable()
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
    const resumed = this.resuming
    this.resuming = -1
    const row = stWait(resumed, Math.min(timeoutNs, 2 ** 52))
    this.hostEventCount = this.events[0]!
    const thread = row < 0 ? null : (this.threads[row] ?? null)
    if (thread !== null && thread.trap === TRAP_FAULT && thread.signo === SIGILL && thread.space.mend(thread))
      thread.trap = TRAP_INTERRUPT
    return thread
  }
  hostEventData(index: number): number {
    return this.events[3 * index + 2]!
  }
  hostEventMask(index: number): number {
    return this.events[3 * index + 1]!
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
