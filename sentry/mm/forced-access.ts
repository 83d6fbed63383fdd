/**
 * A debugger's access to memory (Linux: FOLL_FORCE of ptrace(2) and /proc/PID/mem): pages may be read whatever their
 * protection, and private ones written, which makes them the process's own. Shared ones are written as they allow.
 */
import { close, pread } from '../../native/host.ts'
import { openHostPidFile } from '../kernel/host-proc.ts'
import { DEAD, RUNNING, type Task } from '../kernel/task.ts'
import { MemoryOps } from '../platform/memory-ops.ts'
import type { GuestThread } from '../platform/platform.ts'
import { type MemoryManager, PAGE, pageUp } from './memory-manager.ts'
import { PROT_READ, PROT_WRITE } from './vma.ts'

const OPS = new MemoryOps()

/** Bytes read. The vDSO lies above what the guest's own calls reach, and debuggers look for its symbols. */
export function readForced(t: Task, mm: MemoryManager, addr: number, dst: Uint8Array, at: number, len: number): number {
  const { vdso } = t.kernel.platform
  if (addr >= vdso.start && addr < vdso.start + vdso.size)
    return mm.space.read(addr, dst, at, Math.min(len, vdso.start + vdso.size - addr))
  const done = mm.copyIn(addr, dst, at, len)
  if (done === len || addr + done >= mm.taskSize) return done
  const fd = openHostPidFile(mm.space.hostPid, 'mem')
  if (fd < 0) return done
  const want = Math.min(len, mm.taskSize - addr) - done
  const more = pread(fd, dst.subarray(at + done, at + done + want), want, addr + done)
  close(fd)
  return done + Math.max(more, 0)
}

/** Bytes written. `t` asks; pages are made writable in a thread of `mm` that the sentry has, and only meanwhile. */
export function writeForced(
  t: Task,
  mm: MemoryManager,
  addr: number,
  src: Uint8Array,
  at: number,
  len: number,
): number {
  let done = mm.copyOut(addr, src, at, len)
  const thread = done === len ? null : stoppedThread(t, mm)
  while (done < len && thread !== null) {
    const from = addr + done
    const vma = mm.find(from)
    if (vma === undefined || vma.shared || vma.prot & PROT_WRITE) break
    const page = from - (from % PAGE)
    const part = Math.min(len - done, vma.end - from)
    const size = pageUp(from + part) - page
    if (protect(mm, thread, page, size, vma.prot | PROT_READ | PROT_WRITE) < 0) break
    const put = mm.copyOut(from, src, at + done, part)
    protect(mm, thread, page, size, vma.prot)
    done += put
    if (put < part) break
  }
  return done
}

function protect(mm: MemoryManager, thread: GuestThread, addr: number, len: number, prot: number): number {
  OPS.clear().protect(addr, len, prot)
  return mm.space.apply(thread, OPS)
}

function stoppedThread(t: Task, mm: MemoryManager): GuestThread | null {
  if (t.mm === mm) return t.thread
  for (const other of t.kernel.ids.tasks())
    if (other.mm === mm && other.state !== RUNNING && other.state !== DEAD) return other.thread
  return null
}
