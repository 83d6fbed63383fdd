/**
 * Bindings of native/host/systrap.c. Rows are numbers of the thread table; errors are −errno. One thread only: the
 * sentry's.
 */
import { libhost, memoryAt } from './library.ts'

type Bytes = NodeJS.ArrayBufferView

export const THREAD_ROWS = 16384
export const THREAD_BYTES = 320
const SLOT_BYTES = 0x10000

const rows = libhost.func('st_threads', 'void *', []) as () => number

const slots = libhost.func('st_slots', 'void *', []) as () => number
const control = libhost.func('st_control', 'void *', []) as () => number

export const stInit = libhost.func('st_init', 'int', ['int', 'int', 'int']) as (
  epollFd: number,
  sigchldFd: number,
  spinUs: number,
) => number
export const stControlFd = libhost.func('st_control_fd', 'int', []) as () => number
export const stWakeFd = libhost.func('st_wake_fd', 'int', []) as () => number
export const stNewArena = libhost.func('st_new_arena', 'int', []) as () => number
export const stMapSlot = libhost.func('st_map_slot', 'int', ['int', 'int', 'int']) as (
  row: number,
  arenaFd: number,
  local: number,
) => number
/** Keeps the arena of a killed process for the next fork: 0, or −EAGAIN. */
export const stKeepArena = libhost.func('st_keep_arena', 'int', ['int', 'int']) as (
  row: number,
  arena: number,
) => number
/** A row with a mapped slot like that of another row, or −1; then its arena. */
export const stTakeArena = libhost.func('st_take_arena', 'int', ['int']) as (like: number) => number
export const stTakenArena = libhost.func('st_taken_arena', 'int', []) as () => number
export const stUnmapSlot = libhost.func('st_unmap_slot', 'void', ['int']) as (row: number) => void
export const stSetIds = libhost.func('st_set_ids', 'void', ['int', 'int', 'int']) as (
  row: number,
  pid: number,
  tid: number,
) => void
export const stSetListener = libhost.func('st_set_listener', 'int', ['int']) as (fd: number) => number
export const stBatch = libhost.func('st_batch', 'long', ['int', 'void *', 'int']) as (
  row: number,
  ops: Bytes,
  count: number,
) => number
/** The same when the thread is resumed: 0 or −E2BIG. */
export const stBatchLater = libhost.func('st_batch_later', 'int', ['int', 'void *', 'int']) as (
  row: number,
  ops: Bytes,
  count: number,
) => number
export const stRunLater = libhost.func('st_run_later', 'int', ['int', 'void *', 'int']) as (
  row: number,
  ops: Bytes,
  count: number,
) => number
export const stCall = libhost.func('st_call', 'long', [
  'int',
  'long',
  'long',
  'long',
  'long',
  'long',
  'long',
  'long',
]) as (row: number, nr: number, a: number, b: number, c: number, d: number, e: number, f: number) => number
/** Operations as native/stub/protocol.h has them: struct stub_op, none of which names a file. 0 or −errno. */
export const stRun = libhost.func('st_run', 'long', ['int', 'void *', 'int']) as (
  row: number,
  ops: Bytes,
  count: number,
) => number
export const stSetCall = libhost.func('st_set_call', 'void', ['int', 'int', 'int']) as (
  nr: number,
  how: number,
  check: number,
) => void
/** R15 … RBX of a stopped thread into the table. */
export const stWhole = libhost.func('st_whole', 'void', ['int']) as (row: number) => void
export const stBlock = libhost.func('st_block', 'void', ['int']) as (row: number) => void
export const stFork = libhost.func('st_fork', 'int', ['int', 'int', 'int']) as (
  row: number,
  child: number,
  arenaFd: number,
) => number
export const stThread = libhost.func('st_thread', 'int', ['int', 'int', 'int']) as (
  row: number,
  child: number,
  arenaFd: number,
) => number
/** Whether a thread that was told to rest does so, and can become another one. */
export const stRests = libhost.func('st_rests', 'int', ['int']) as (row: number) => number
/** Makes a resting thread one beside `row`, with its registers: stThread without a clone. */
export const stRise = libhost.func('st_rise', 'int', ['int', 'int']) as (row: number, child: number) => number
export const stRest = libhost.func('st_rest', 'void', ['int']) as (row: number) => void
export const stResume = libhost.func('st_resume', 'int', ['int']) as (row: number) => number
export const stAwait = libhost.func('st_await', 'int', ['int']) as (row: number) => number
export const stThreadGone = libhost.func('st_thread_gone', 'int', ['int', 'int']) as (
  pid: number,
  tid: number,
) => number
export const stInterrupt = libhost.func('st_interrupt', 'int', ['int']) as (row: number) => number
export const stExitThread = libhost.func('st_exit_thread', 'void', ['int']) as (row: number) => void
/** Has the process of a stopped thread, its only one, exit. < 0: it has to be killed. */
export const stEndProcess = libhost.func('st_end_process', 'int', ['int']) as (row: number) => number
export const stAbandon = libhost.func('st_abandon', 'void', ['int']) as (row: number) => void
export const stGetFpu = libhost.func('st_get_fpu', 'long', ['int', 'void *', 'ulong']) as (
  row: number,
  buf: Bytes,
  len: number,
) => number
export const stSetFpu = libhost.func('st_set_fpu', 'long', ['int', 'void *', 'ulong']) as (
  row: number,
  buf: Bytes,
  len: number,
) => number
/** One turn: what goes in and comes out is in {@link stTurn}. */
export const stWait = libhost.func('st_wait', 'void', []) as () => void
const turn = libhost.func('st_turn', 'void *', []) as () => number
const MAX_EVENTS = 64

export const END_REPORTS = 1024
/** Host pid, resident set at its highest in KiB, minor and major page faults. */
export const END_REPORT_WORDS = 4
const ends = libhost.func('st_ends', 'void *', []) as () => number
/** How many reports of ended processes there ever were, then the ring with the last END_REPORTS. */
export function stEnds(): Uint32Array {
  return new Uint32Array(memoryAt(ends(), 4 + 4 * END_REPORT_WORDS * END_REPORTS))
}
/** Waits, briefly, until a process that was killed is reported. */
export const stAwaitEnd = libhost.func('st_await_end', 'void', ['int']) as (hostPid: number) => void

/** struct turn: indexes into `times`, from TURN_RESUME on into `words` of {@link stTurn}; events of three words (mask, data). */
export const TURN_TIMEOUT = 0
export const TURN_NOW = 1
export const TURN_RESUME = 4
export const TURN_ROW = 5
export const TURN_COUNT = 6
export const TURN_EVENTS = 7

/** What goes into a wait and comes out of it. */
export function stTurn(): { times: Float64Array; words: Int32Array } {
  const memory = memoryAt(turn(), 4 * (TURN_EVENTS + 3 * MAX_EVENTS))
  return { times: new Float64Array(memory, 0, TURN_NOW + 1), words: new Int32Array(memory) }
}

/** The pages that all stubs see, after stInit: struct stub_control and what follows. */
export function stControl(size: number): ArrayBuffer {
  return memoryAt(control(), size)
}

/** The thread table after stInit. */
export function stTable(): ArrayBuffer {
  return memoryAt(rows(), THREAD_ROWS * THREAD_BYTES)
}

const views: ArrayBuffer[] = []

/** The slot of a row: the same memory whatever thread has the row. Must not be touched while the row is free. */
export function stSlot(row: number): ArrayBuffer {
  views[row] ??= memoryAt(slots() + row * SLOT_BYTES, SLOT_BYTES)
  return views[row]
}
