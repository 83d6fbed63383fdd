/**
 * A thread of a guest's process under systrap: its row of native/host/systrap.c, its slot of the arena.
 */
import {
  stAbandon,
  stBlock,
  stCall,
  stExitThread,
  stGetFpu,
  stInterrupt,
  stSetFpu,
  stSlot,
  stWhole,
  THREAD_BYTES,
} from '../../../native/systrap.ts'
import { SYS_futex } from '../../abi/syscall-numbers.ts'
import { REGS_WORDS } from '../amd64/registers.ts'
import type { GuestThread } from '../platform.ts'
import { SlotActions } from './actions.ts'
import { driver } from './driver.ts'
import { ARENA_BASE, SLOT_SIZE } from './layout.ts'
import { SlotOpened } from './opened.ts'
import type { SystrapSpace } from './space.ts'
import { SlotWindow } from './window.ts'

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
const PARTIAL = 76

const TWO32 = 0x1_0000_0000
const FUTEX_WAKE = 1
/* An atomic OR, and no wake: the first word is one that nobody waits on. */
const FUTEX_WAKE_OP = 5
const FUTEX_OP_OR_SHIFT = 0xa0000000
const SLOT_UNUSED = 0xfc0
/* struct stub_slot, in u32 words. */
const SLOT_USED = 44

export class SystrapThread implements GuestThread {
  readonly regs: Uint32Array
  readonly space: SystrapSpace
  readonly row: number
  readonly local: number
  readonly cpuBefore: number
  private readonly words: Uint32Array
  private readonly window: SlotWindow
  private readonly opened: SlotOpened
  private readonly actions: SlotActions
  owner: object | null = null
  /** Of what it runs before it goes on, the last is a change that the kernel has ordered; else a patch of ours. */
  lateChange = false

  constructor(table: ArrayBuffer, row: number, space: SystrapSpace, local: number) {
    this.words = new Uint32Array(table, row * THREAD_BYTES, THREAD_BYTES / 4)
    this.regs = new Uint32Array(table, row * THREAD_BYTES, REGS_WORDS)
    this.row = row
    this.local = local
    this.space = space
    const slot = stSlot(row)
    const used = new Uint32Array(slot, 4 * SLOT_USED, 2)
    this.cpuBefore = used[0]! + used[1]! * TWO32
    this.window = new SlotWindow(slot)
    this.opened = new SlotOpened(slot)
    this.actions = new SlotActions(slot)
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

  wholeRegs(): void {
    if (this.words[PARTIAL] !== 0) stWhole(this.row)
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
    this.window.answer(ids, root, driver!.names[1]!)
  }
  readonly answers = true
  get openedData(): Uint8Array {
    return this.opened.data
  }
  tellOpened(fd: number, stat: Uint32Array, length: number): void {
    this.opened.tell(fd, stat, length, driver!.names[2]!)
  }
  takeOpened(again: boolean): number {
    return this.opened.take(again)
  }
  forgetOpened(): void {
    this.opened.forget()
  }
  tellActions(actions: Uint32Array): void {
    this.actions.tell(actions)
  }
  stopActions(): void {
    this.actions.stop()
  }
  changedAction(after: number): number {
    return this.actions.changed(after)
  }
  readAction(signo: number, out: Uint32Array): void {
    this.actions.read(signo, out)
  }
  forgetChangedActions(): void {
    this.actions.forgetChanges()
  }
  remember(): void {
    this.window.remember(driver!.names[0]!)
  }

  resume(): void {
    this.window.reset()
    driver!.resume(this.row)
  }
  park(): void {
    stBlock(this.row)
  }
  interrupt(): void {
    driver!.resumeNow()
    stInterrupt(this.row)
  }
  exit(): void {
    const { space } = this
    this.owner = null
    space.threads.splice(space.threads.indexOf(this), 1)
    if (space.rest(this)) return
    space.leaving.push({ local: this.local, tid: this.hostTid })
    stExitThread(this.row)
    stAbandon(this.row)
    driver!.retire(this)
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
