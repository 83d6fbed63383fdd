/**
 * Bindings of native/host/ptrace.c. Everything must be called from the thread that called {@link ptInit}: ptrace knows
 * only the tracer thread. Errors are −errno.
 */
import { libhost, memoryAt } from './library.ts'

type Bytes = NodeJS.ArrayBufferView

const slotsPointer = libhost.func('pt_slots', 'void *', []) as () => number
const slotCount = libhost.func('pt_slot_count', 'int', []) as () => number

export const SLOT_BYTES = 248

export const ptInit = libhost.func('pt_init', 'int', []) as () => number
export const ptWatch = libhost.func('pt_watch', 'int', ['int', 'int', 'uint', 'uint']) as (
  op: number,
  fd: number,
  events: number,
  data: number,
) => number
export const ptZygote = libhost.func('pt_zygote', 'int', ['int', 'int', 'int', 'int', 'int', 'int']) as (
  slot: number,
  stubFd: number,
  wakeFd: number,
  controlFd: number,
  arenaFd: number,
  nice: number,
) => number
/** User and group of the zygote to come, and so of every stub. */
export const ptSetStubId = libhost.func('pt_set_stub_id', 'void', ['int']) as (id: number) => void
export const ptDetach = libhost.func('pt_detach', 'int', ['int', 'ulong']) as (slot: number, rip: number) => number
export const ptSigfd = libhost.func('pt_sigfd', 'int', []) as () => number
export const ptCall = libhost.func('pt_call', 'long', [
  'int',
  'long',
  'long',
  'long',
  'long',
  'long',
  'long',
  'long',
]) as (slot: number, nr: number, a: number, b: number, c: number, d: number, e: number, f: number) => number
export const ptBatch = libhost.func('pt_batch', 'long', ['int', 'void *', 'int']) as (
  slot: number,
  rows: Bytes,
  count: number,
) => number
export const ptClone = libhost.func('pt_clone', 'int', ['int', 'int', 'ulong']) as (
  slot: number,
  child: number,
  flags: number,
) => number
export const ptResume = libhost.func('pt_resume', 'int', ['int']) as (slot: number) => number
export const ptInterrupt = libhost.func('pt_interrupt', 'int', ['int']) as (slot: number) => number
export const ptExitThread = libhost.func('pt_exit_thread', 'void', ['int']) as (slot: number) => void
export const ptAbandon = libhost.func('pt_abandon', 'void', ['int']) as (slot: number) => void
export const ptSlotFree = libhost.func('pt_slot_free', 'int', ['int']) as (slot: number) => number
export const ptGetFpu = libhost.func('pt_get_fpu', 'long', ['int', 'void *', 'ulong']) as (
  slot: number,
  buf: Bytes,
  len: number,
) => number
export const ptSetFpu = libhost.func('pt_set_fpu', 'long', ['int', 'void *', 'ulong']) as (
  slot: number,
  buf: Bytes,
  len: number,
) => number
export const ptVmRead = libhost.func('pt_vm_read', 'long', ['int', 'ulong', 'void *', 'ulong', 'ulong']) as (
  pid: number,
  addr: number,
  buf: Bytes,
  at: number,
  len: number,
) => number
export const ptVmWrite = libhost.func('pt_vm_write', 'long', ['int', 'ulong', 'void *', 'ulong', 'ulong']) as (
  pid: number,
  addr: number,
  buf: Bytes,
  at: number,
  len: number,
) => number
export const ptSetListener = libhost.func('pt_set_listener', 'int', ['int']) as (fd: number) => number
export const ptWait = libhost.func('pt_wait', 'int', ['long', 'void *', 'int', 'void *']) as (
  timeoutNs: number,
  events: Bytes,
  max: number,
  count: Bytes,
) => number

/** The slot table after ptInit: `count` slots of SLOT_BYTES. */
export function ptTable(): { memory: ArrayBuffer; count: number } {
  const count = slotCount()
  return { memory: memoryAt(slotsPointer(), count * SLOT_BYTES), count }
}

/** The host tid in a slot. */
export const ptSlotTid = libhost.func('pt_slot_tid', 'int', ['int']) as (slot: number) => number
