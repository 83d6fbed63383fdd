/**
 * The address space of a guest's process under systrap: its arena with the slots of its threads, its patched call sites.
 */
import * as host from '../../../native/host.ts'
import { ptVmRead, ptVmWrite } from '../../../native/ptrace.ts'
import {
  stAbandon,
  stBatch,
  stBatchLater,
  stEndProcess,
  stKeepArena,
  stRest,
  stRests,
  stThreadGone,
} from '../../../native/systrap.ts'
import { getReg, RIP, setReg } from '../amd64/registers.ts'
import type { MemoryOps } from '../memory-ops.ts'
import { type AddressSpace, type GuestThread, TRAP_INTERRUPT, type UsageSink } from '../platform.ts'
import { driver } from './driver.ts'
import { ARENA_SLOTS } from './layout.ts'
import { codeAround, PatchTable } from './patch-table.ts'
import type { SystrapThread } from './thread.ts'

/** Local slots whose threads may still be on their way out, looked at per allocation. */
const MAX_PROBES = 4
/** Host threads that are kept for the next ones, in a process and in all (OWN_TASKS of runsc-cli/cgroup/limits.ts). */
const MAX_RESTING = 4
const MAX_RESTING_IN_ALL = 32
const SYSCALL_SIZE = 2
const CODE_BYTES = new Uint8Array(1024)

export class SystrapSpace implements AddressSpace {
  hostPid = 0
  readonly threads: SystrapThread[] = []
  readonly arenaFd: number
  /** Slots of threads that were told to exit; free once the host thread is gone. */
  readonly leaving: { local: number; tid: number }[] = []
  /** Threads that ended, whose host threads sleep until they become others: to clone one costs ten times as much. */
  private readonly resting: SystrapThread[] = []
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
  /** Keeps the host's thread of one that ends; false: it has to end, too. */
  rest(thread: SystrapThread): boolean {
    if (this.resting.length === MAX_RESTING || driver!.resting === MAX_RESTING_IN_ALL) return false
    stRest(thread.row)
    driver!.forget(thread)
    this.keepResting(thread)
    return true
  }
  keepResting(thread: SystrapThread): void {
    this.resting.push(thread)
    driver!.resting++
    stAbandon(thread.row)
  }
  /** One that rests, and does so no more, or null. */
  takeResting(): SystrapThread | null {
    for (let i = this.resting.length - 1; i >= 0; i--) {
      const thread = this.resting[i]!
      if (stRests(thread.row) === 0) continue
      this.resting.splice(i, 1)
      driver!.resting--
      return thread
    }
    return null
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
    thread.lateChange = false
    this.patches.patch(thread.row, site, CODE_BYTES.subarray(0, got), start, alone, (nr) => driver!.isDirect(nr))
  }
  /** What was left of a patch when `thread` went on has failed: it goes on unpatched. */
  patchFailed(thread: SystrapThread): void {
    thread.trap = TRAP_INTERRUPT
    if (this.patches !== null) this.patches.failed(thread.row)
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
  applyLater(thread: GuestThread, ops: MemoryOps): boolean {
    const own = thread as SystrapThread
    if (this.threads.length > 1 || stBatchLater(own.row, ops.rows, ops.count) < 0) return false
    own.lateChange = true
    return true
  }
  fork(parent: GuestThread): GuestThread | number {
    return driver!.fork(parent as SystrapThread)
  }
  newThread(parent: GuestThread): GuestThread | number {
    return driver!.newThread(parent as SystrapThread)
  }
  tellUsage(sink: UsageSink): boolean {
    if (this.threads.some((thread) => thread.dead)) return false
    driver!.endUsage.expect(this.hostPid, sink)
    return true
  }
  kill(): void {
    if (this.dead) return
    this.dead = true
    const { resting } = this
    const alone = this.threads.length === 1 && this.leaving.length === 0 && resting.length === 0
    if (!alone || stEndProcess(this.threads[0]!.row) < 0) host.kill(this.hostPid, 9)
    for (const thread of this.threads) {
      thread.owner = null
      stAbandon(thread.row)
    }
    const kept = this.onlyFirstSlot() && stKeepArena(this.threads[0]!.row, this.arenaFd) >= 0
    for (const thread of this.threads) {
      if (kept) driver!.forget(thread)
      else driver!.retire(thread)
    }
    for (const thread of resting) driver!.retire(thread)
    this.threads.length = 0
    driver!.resting -= resting.length
    resting.length = 0
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
