/**
 * The platform interface (DESIGN §5): how guest code runs and traps. The kernel above never knows which platform is
 * under it.
 *
 * A GuestThread is either running guest code or stopped in a trap. While stopped, `regs` are the guest's registers; the
 * kernel may change them and calls resume(). Memory operations run in a stopped thread of the address space.
 */
import type { MemoryOps } from './memory-ops.ts'

export const TRAP_NONE = 0
/** A system call: number in ORIG_RAX, arguments in their registers. */
export const TRAP_SYSCALL = 1
/** A synchronous exception: `signo`, `code`, `faultAddr`, `trapno`, `errorCode`. */
export const TRAP_FAULT = 2
/** Stopped because of interrupt(), or for no reason the kernel needs to know. */
export const TRAP_INTERRUPT = 3
/** The host thread is gone (killed from outside, or after exit()/kill()). */
export const TRAP_GONE = 4
/** An operation of {@link AddressSpace.applyLater} failed, `code` says why (−errno): the guest has not gone on. */
export const TRAP_FAILED = 5

/** GuestThread.takeOpened(); native/stub/protocol.h. */
export const OPENED_CLOSED = 0x10000

export interface GuestThread {
  /** See amd64/registers.ts. Valid while stopped; R15 … RBX only after wholeRegs() or readFpu(). */
  readonly regs: Uint32Array
  /** All of `regs` may be read and changed. Preconditions: stopped. */
  wholeRegs(): void
  readonly space: AddressSpace
  readonly hostTid: number
  /** CPU time in ns that the host's thread had used before it became this one. */
  readonly cpuBefore: number
  /** TRAP_* of the last stop, and its details for a fault. */
  trap: number
  signo: number
  code: number
  faultAddr: number
  /** The same, exact: an address of the upper half does not fit a double. */
  readonly faultAddrLo: number
  readonly faultAddrHi: number
  trapno: number
  errorCode: number
  /** The kernel's Task that runs on this thread. */
  owner: object | null

  /** Continues guest code with `regs`. Preconditions: stopped. */
  resume(): void
  /** Makes a running thread stop with TRAP_INTERRUPT soon. Harmless when stopped. */
  interrupt(): void
  /** Ends a stopped thread alone (not its process). Its TRAP_GONE is swallowed. */
  exit(): void
  /** FPU, SSE, AVX state in XSAVE layout (ptrace NT_X86_XSTATE). Returns the size, or −errno. Preconditions: stopped. */
  readFpu(out: Uint8Array): number
  writeFpu(state: Uint8Array, len: number): number
  /** Stopped for long: it need not wait busily. */
  park(): void
  /** The call in progress came from a place that costs a signal each time; {@link patchCallSite} may spare it. */
  readonly hot: boolean
  /**
   * Rewrites the call's site, which lies within [start, end) of a private mapping that may be read and executed, so that it
   * traps faster. Best effort; what the guest computes stays the same. Preconditions: stopped in a call.
   */
  patchCallSite(start: number, end: number): void
  /**
   * The copy window (DESIGN §6): bytes that the call's arguments point at, taken when it trapped. Returns `len`, or −1
   * where the window does not have them all. Preconditions: stopped in a call.
   */
  windowRead(addr: number, dst: Uint8Array, at: number, len: number): number
  /** The NUL-terminated string at `addr`, or null where the window does not have it. */
  windowString(addr: number): string | null
  /**
   * Bytes to be written when the thread resumes; false: no room. The caller has made sure that guest memory is there; if it
   * is not after all, the call ends with EFAULT. Order with other writes: {@link windowFlush}.
   */
  windowWrite(addr: number, src: Uint8Array, at: number, len: number): boolean
  /** Writes what windowWrite() has put off at once. */
  windowFlush(): void
  readonly windowPending: boolean
  /** From here on the window has nothing: somebody else may change what the arguments point at. */
  windowDrop(): void
  /**
   * What getpid, gettid, getuid, getgid, geteuid and getegid answer without a trap; null: they trap. `root`: which names of
   * {@link Platform.known} hold for the thread until the second word of {@link Platform.names} moves; 0: none.
   */
  answer(ids: Uint32Array | null, root: number): void
  /**
   * The answer to the call in progress, which depends on its path argument alone, stays the same until {@link Platform.names}
   * or the ids move: the same call again may be answered so without a trap.
   */
  remember(): void
  /** Whether what is told here makes the platform answer calls itself; false: it has no use for it. */
  readonly answers: boolean
  /** Where to put what a file begins with, before {@link tellOpened}. */
  readonly openedData: Uint8Array
  /**
   * Until the third word of {@link Platform.names} moves, the platform may answer fstat of `fd` with `stat` (struct stat), read
   * and pread64 with the `length` bytes in {@link openedData} (−1: none) and close. What came of it: {@link takeOpened}.
   */
  tellOpened(fd: number, stat: Uint32Array, length: number): void
  /**
   * Bytes by which reads have moved the file's position, with OPENED_CLOSED where the descriptor is closed; each is said once.
   * From here on reads trap. `again`: the others need not; else the thread may run, and is answered nothing more.
   */
  takeOpened(again: boolean): number
  forgetOpened(): void
  /**
   * The platform may answer rt_sigaction, until {@link stopActions}, with these: 64 × struct kernel_sigaction. The process has no
   * other thread. It may run when the others are called.
   */
  tellActions(actions: Uint32Array): void
  stopActions(): void
  /** The next signal after this number whose action the guest has changed; 0: none. */
  changedAction(after: number): number
  readAction(signo: number, out: Uint32Array): void
  /** They are taken over. Preconditions: stopped. */
  forgetChangedActions(): void
  /** Runs one futex(FUTEX_WAKE) natively in the address space; for clear_child_tid and robust lists. */
  futexWake(addr: number, count: number): void
  /** Atomically sets one bit of the futex word at `addr` (FUTEX_WAKE_OP, natively). 0 or −errno. Preconditions: stopped. */
  futexOr(addr: number, bit: number): number
}

export interface AddressSpace {
  readonly hostPid: number
  /** Copies between guest memory and a buffer; return the bytes copied before a fault. Page protections are obeyed. */
  read(addr: number, dst: Uint8Array, at: number, len: number): number
  write(addr: number, src: Uint8Array, at: number, len: number): number
  /** Runs the operations in order in `thread` (stopped, of this space) until one fails. 0 or −errno. */
  apply(thread: GuestThread, ops: MemoryOps): number
  /**
   * Has `thread` run the operations when it is resumed, before guest code goes on. False: that is not possible, {@link apply} is. Preconditions: `thread` is the only one of the space, and is resumed next.
   */
  applyLater(thread: GuestThread, ops: MemoryOps): boolean
  /** Copy-on-write copy for fork(2), with one stopped thread that has the registers of `parent` (stopped). */
  fork(parent: GuestThread): GuestThread | number
  /** One more thread, stopped, with the registers of `parent` (stopped). */
  newThread(parent: GuestThread): GuestThread | number
  /**
   * Has `sink` told what the process will have used when it is gone, by {@link Platform.settle} at the latest. False: nobody
   * will tell; the host knows it now. Precondition: kill() follows.
   */
  tellUsage(sink: UsageSink): boolean
  /** Kills the host process with all its threads. */
  kill(): void
}

export interface UsageSink {
  used(maxRssKb: number, minorFaults: number, majorFaults: number): void
}

/** Names about which the platform may answer calls of every guest, while the first word of {@link Platform.names} stays. */
export interface KnownNames {
  /** Entries. */
  readonly size: number
  /**
   * An absolute name, for threads with `root`: calls that ask for it end with `result`, ENOENT (for all of them) or EINVAL
   * (readlink). Returns its entry, whose former name is forgotten, or −1: it was not taken.
   */
  publish(name: string, root: number, result: number): number
  /** No call that starts after this is answered with the entry. */
  withdraw(index: number): void
}

export interface Platform {
  readonly name: string
  /** An empty address space (exec) with one stopped thread, or −errno. */
  newAddressSpace(): GuestThread | number
  /** CLOCK_MONOTONIC in ns when the last wait ended, or some µs before. */
  readonly now: number
  /**
   * Waits until a guest thread stopped, host fds became ready, or it is `timeoutNs` after {@link now}; < 0 waits for ever,
   * 0 polls. Returns the stopped thread, or null when `hostEvents` > 0, the time is over, or a signal of the host came.
   */
  wait(timeoutNs: number): GuestThread | null
  /** After wait(): number of ready host fds, and their epoll data. */
  readonly hostEventCount: number
  hostEventData(index: number): number
  hostEventMask(index: number): number
  /** epoll_ctl on the platform's epoll set. `data` < 2^31. 0 or −errno. */
  watchHostFd(op: number, fd: number, events: number, data: number): number
  /** End of the user's part of the address space; everything above belongs to the stub and the vDSO. */
  readonly taskSize: number
  readonly vdso: { start: number; size: number }
  readonly vvar: { start: number; size: number }
  /**
   * Three words that the kernel moves: whenever a name may lead elsewhere than before, with anybody's root, and before any
   * file or its attributes may change, or what a descriptor stands for.
   */
  readonly names: Uint32Array
  /** null: every call traps. */
  readonly known: KnownNames | null
  /** What happens to a call before it traps, by number: {@link CallPolicy}. A platform without windows ignores it. */
  setCallPolicy(nr: number, policy: CallPolicy): void
  /** Waits for what {@link AddressSpace.tellUsage} promised: processes that were killed a moment ago. */
  settle(): void
  shutdown(): void
}

/** What the stub may do with a call before the sentry sees it. */
export interface CallPolicy {
  /** It runs natively, or changes more than the result: never through a patched site. */
  direct: boolean
  /** Index of an argument that is a path, a second one, −1 for none. */
  path: number
  path2: number
  /** Index of an argument that points to as many bytes as the next one says, −1 for none. */
  bytes: number
  /** {@link GuestThread.remember} may be used: a call with a path. */
  memo: boolean
  /** CHECK_* of native/stub/protocol.h for a call that only asks for its path, else 0. */
  check: number
  /** Index of an argument that points to 16 bytes (struct timespec), −1 for none. */
  sixteen: number
  /** Place in the ids of {@link GuestThread.answer}, −1 for none. */
  answer: number
}
