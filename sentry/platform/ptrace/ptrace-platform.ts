/**
 * The reference platform: PTRACE_EVENT_SECCOMP stops, one per guest system call (DESIGN §5).
 *
 * A call is answered by skipping it (ORIG_RAX = −1) and storing the result. Memory operations and clones are made by the
 * stub inside the guest's process, at a stop. The zygote is the pristine stub process that every exec is forked from.
 */
import * as host from '../../../native/host.ts'
import {
  ptAbandon,
  ptBatch,
  ptCall,
  ptClone,
  ptExitThread,
  ptGetFpu,
  ptInit,
  ptInterrupt,
  ptResume,
  ptSetFpu,
  ptSetListener,
  ptSlotFree,
  ptTable,
  ptVmRead,
  ptVmWrite,
  ptWait,
  ptWatch,
  SLOT_BYTES,
} from '../../../native/ptrace.ts'
import { seccompTrace } from '../../../native/seccomp.ts'
import { ENOMEM } from '../../abi/errno.ts'
import { SYS_futex } from '../../abi/syscall-numbers.ts'
import { openHostPidFile } from '../../kernel/host-proc.ts'
import { type FaultState, faultCode, MAX_INSTRUCTION } from '../amd64/fault-code.ts'
import { getReg, RDI, REGS_WORDS, RIP, RSP } from '../amd64/registers.ts'
import type { MemoryOps } from '../memory-ops.ts'
import { type AddressSpace, type GuestThread, type Platform, TRAP_FAULT } from '../platform.ts'
import { guestFilter, STUB_BASE, STUB_OPS } from '../stub.ts'
import { emptyAddressSpace, installFilter, NO_FDS, startZygote } from '../zygote.ts'

const CLOCK_MONOTONIC = 1
const TWO32 = 0x1_0000_0000
/* struct slot of native/host/ptrace.h, in u32 words. */
const TRAP = 54
const SIGNO = 55
const CODE = 56
const TID = 57
const FAULT_ADDR = 58

const NO_DATA = new Uint8Array(0)
const CLONE_THREAD_FLAGS = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x40000
const CLONE_PROCESS_FLAGS = 0x8000 | 17
const MAX_EVENTS = 64
const FUTEX_WAKE = 1

const CODE_BYTES = new Uint8Array(MAX_INSTRUCTION)
const PAGEMAP_ENTRY = new Uint8Array(8)

/** Bit 63 of the host's pagemap; false where that cannot be read. */
function isPagePresent(hostPid: number, addr: number): boolean {
  if (addr >= 0x800000000000) return false
  const fd = openHostPidFile(hostPid, 'pagemap')
  if (fd < 0) return false
  const got = host.pread(fd, PAGEMAP_ENTRY, 8, Math.floor(addr / 4096) * 8)
  host.close(fd)
  return got === 8 && (PAGEMAP_ENTRY[7]! & 0x80) !== 0
}

class PtraceThread implements GuestThread {
  readonly regs: Uint32Array
  readonly space: PtraceSpace
  readonly hostTid: number
  readonly cpuBefore = 0
  readonly slot: number
  private readonly words: Uint32Array
  trapno = 0
  errorCode = 0
  owner: object | null = null

  constructor(table: ArrayBuffer, slot: number, space: PtraceSpace | null) {
    this.words = new Uint32Array(table, slot * SLOT_BYTES, SLOT_BYTES / 4)
    this.regs = new Uint32Array(table, slot * SLOT_BYTES, REGS_WORDS)
    this.slot = slot
    this.hostTid = this.words[TID]!
    this.space = space ?? new PtraceSpace(this.hostTid)
    this.space.threads.push(this)
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
  get faultAddrLo(): number {
    return this.words[FAULT_ADDR]!
  }
  get faultAddrHi(): number {
    return this.words[FAULT_ADDR + 1]!
  }
  get faultAddr(): number {
    return this.words[FAULT_ADDR]! + this.words[FAULT_ADDR + 1]! * TWO32
  }

  /** What ptrace does not tell of a fault: exception number and error code. */
  describeFault(): void {
    const rip = getReg(this.regs, RIP)
    const got = this.space.read(rip, CODE_BYTES, 0, MAX_INSTRUCTION)
    const state: FaultState = {
      signo: this.signo,
      code: this.code,
      addr: this.faultAddr,
      rip,
      rdi: getReg(this.regs, RDI),
      rsp: getReg(this.regs, RSP),
      present: isPagePresent(this.space.hostPid, this.faultAddr),
      bytes: CODE_BYTES.subarray(0, got),
    }
    const { trapno, errorCode } = faultCode(state)
    this.trapno = trapno
    this.errorCode = errorCode
  }

  resume(): void {
    ptResume(this.slot)
  }
  /** Every call stops the thread, whatever its site: no windows, no patches, no answers. */
  readonly hot = false
  readonly windowPending = false
  park(): void {}
  patchCallSite(): void {}
  windowRead(): number {
    return -1
  }
  windowString(): string | null {
    return null
  }
  windowWrite(): boolean {
    return false
  }
  windowFlush(): void {}
  windowDrop(): void {}
  remember(): void {}
  answer(): void {}
  readonly answers = false
  readonly openedData = NO_DATA
  tellOpened(): void {}
  takeOpened(): number {
    return 0
  }
  forgetOpened(): void {}
  tellActions(): void {}
  stopActions(): void {}
  changedAction(): number {
    return 0
  }
  readAction(): void {}
  forgetChangedActions(): void {}

  interrupt(): void {
    ptInterrupt(this.slot)
  }
  exit(): void {
    this.owner = null
    const threads = this.space.threads
    threads.splice(threads.indexOf(this), 1)
    platform!.retire(this)
    ptExitThread(this.slot)
  }
  wholeRegs(): void {}
  readFpu(out: Uint8Array): number {
    return ptGetFpu(this.slot, out, out.length)
  }
  writeFpu(state: Uint8Array, len: number): number {
    return ptSetFpu(this.slot, state, len)
  }
  futexWake(addr: number, count: number): void {
    ptCall(this.slot, SYS_futex, addr, FUTEX_WAKE, count, 0, 0, 0)
  }
  futexOr(addr: number, bit: number): number {
    const op = FUTEX_OP_OR_SHIFT | ((31 - Math.clz32(bit)) << 12)
    const ret = ptCall(this.slot, SYS_futex, STUB_OPS, FUTEX_WAKE_OP, 1, 0, addr, op)
    return Math.min(ret, 0)
  }
}

/* An atomic OR, and no wake: the first word is one that nobody waits on. */
const FUTEX_WAKE_OP = 5
const FUTEX_OP_OR_SHIFT = 0xa0000000

class PtraceSpace implements AddressSpace {
  readonly hostPid: number
  readonly threads: PtraceThread[] = []
  private dead = false

  constructor(hostPid: number) {
    this.hostPid = hostPid
  }

  read(addr: number, dst: Uint8Array, at: number, len: number): number {
    return ptVmRead(this.hostPid, addr, dst, at, len)
  }
  write(addr: number, src: Uint8Array, at: number, len: number): number {
    return ptVmWrite(this.hostPid, addr, src, at, len)
  }
  apply(thread: GuestThread, ops: MemoryOps): number {
    return ops.count === 0 ? 0 : ptBatch((thread as PtraceThread).slot, ops.rows, ops.count)
  }
  applyLater(): boolean {
    return false
  }
  fork(parent: GuestThread): GuestThread | number {
    return platform!.clone(parent as PtraceThread, CLONE_PROCESS_FLAGS, null)
  }
  newThread(parent: GuestThread): GuestThread | number {
    return platform!.clone(parent as PtraceThread, CLONE_THREAD_FLAGS, this)
  }
  tellUsage(): boolean {
    return false
  }
  kill(): void {
    if (this.dead) return
    this.dead = true
    host.kill(this.hostPid, 9)
    for (const thread of this.threads) {
      thread.owner = null
      platform!.retire(thread)
      ptAbandon(thread.slot)
    }
    this.threads.length = 0
  }
}

let platform: PtracePlatform | null = null

export class PtracePlatform implements Platform {
  readonly name = 'ptrace'
  readonly taskSize = STUB_BASE
  readonly vdso = { start: 0, size: 0 }
  readonly vvar = { start: 0, size: 0 }
  now = host.clockNs(CLOCK_MONOTONIC)
  hostEventCount = 0
  private readonly table: ArrayBuffer
  private readonly slotCount: number
  private readonly threads: (PtraceThread | null)[] = []
  /** Slots whose thread may not be collected yet. */
  private readonly retired: number[] = []
  private nextSlot = 0
  private readonly zygote: PtraceThread
  private readonly events = new Uint32Array(MAX_EVENTS * 3)
  private readonly eventCount = new Int32Array(1)

  /** Throws when the host does not let us trace. Preconditions: SIGCHLD is blocked in every thread. */
  constructor() {
    platform = this
    const ep = ptInit()
    if (ep < 0) throw new Error(`ptrace platform: cannot initialise (errno ${-ep})`)
    const { memory, count } = ptTable()
    this.table = memory
    this.slotCount = count
    this.zygote = this.startZygote()
  }

  private startZygote(): PtraceThread {
    const slot = this.allocateSlot()
    startZygote(slot, NO_FDS)
    const zygote = new PtraceThread(this.table, slot, null)
    emptyAddressSpace(slot, zygote.hostTid, this.vdso, this.vvar)
    ptSetListener(installFilter(slot, zygote.hostTid, guestFilter(seccompTrace(0))))
    return zygote
  }

  private allocateSlot(): number {
    for (let i = 0; i < this.retired.length; i++) {
      const slot = this.retired[i]!
      if (ptSlotFree(slot) === 1) {
        this.retired[i] = this.retired[this.retired.length - 1]!
        this.retired.pop()
        return slot
      }
    }
    return this.nextSlot < this.slotCount ? this.nextSlot++ : -1
  }

  retire(thread: PtraceThread): void {
    this.threads[thread.slot] = null
    this.retired.push(thread.slot)
  }

  clone(parent: PtraceThread, flags: number, space: PtraceSpace | null): PtraceThread | number {
    const slot = this.allocateSlot()
    if (slot < 0) return -ENOMEM
    const ret = ptClone(parent.slot, slot, flags)
    if (ret < 0) {
      this.retired.push(slot)
      return ret
    }
    const thread = new PtraceThread(this.table, slot, space)
    while (this.threads.length <= slot) this.threads.push(null)
    this.threads[slot] = thread
    return thread
  }

  newAddressSpace(): GuestThread | number {
    return this.clone(this.zygote, CLONE_PROCESS_FLAGS, null)
  }

  wait(timeoutNs: number): GuestThread | null {
    const left = timeoutNs <= 0 ? timeoutNs : Math.max(0, this.now + timeoutNs - host.clockNs(CLOCK_MONOTONIC))
    const slot = ptWait(Math.min(left, 2 ** 52), this.events, MAX_EVENTS, this.eventCount)
    this.now = host.clockNs(CLOCK_MONOTONIC)
    this.hostEventCount = this.eventCount[0]!
    if (slot < 0) return null
    const thread = this.threads[slot] ?? null
    if (thread !== null && thread.trap === TRAP_FAULT) thread.describeFault()
    return thread
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

  readonly names = new Uint32Array(3)
  readonly known = null
  setCallPolicy(): void {}

  settle(): void {}
  shutdown(): void {
    this.zygote.space.kill()
  }
}
