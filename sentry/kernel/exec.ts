/**
 * execve(2): a new program in a new address space (fs/exec.c, fs/binfmt_script.c).
 *
 * Everything that can fail happens in a fresh host process before the old one is touched, so there is no point of no
 * return: an error leaves the caller as it was.
 */

import { getrandom } from '../../native/host.ts'
import { E2BIG, EINVAL, ELIBBAD, ELOOP, ENOEXEC, ENOMEM } from '../abi/errno.ts'
import { type ElfImage, imageSpan, isFixed, mapElf, parseElf, type ZeroRange } from '../mm/elf.ts'
import { buildStack, stackStringsSize } from '../mm/initial-stack.ts'
import { KernelIovIter } from '../mm/iov-iter.ts'
import { MemoryManager, MMAP_MIN, PAGE, pageUp } from '../mm/memory-manager.ts'
import { PROT_EXEC, PROT_READ, PROT_WRITE, Vma } from '../mm/vma.ts'
import { findFree } from '../mm/vma-list.ts'
import { CS, DS, EFLAGS, ES, FS, GS, ORIG_RAX, REGS_WORDS, RIP, RSP, SS, setReg } from '../platform/amd64/registers.ts'
import type { GuestThread } from '../platform/platform.ts'
import type { FileDescription } from '../vfs/file-description.ts'
import { openForExec } from '../vfs/open.ts'
import type { Path } from '../vfs/path.ts'
import { LOOKUP_FOLLOW, walkAt } from '../vfs/path-walk.ts'
import { type ExecCredentials, execCredentials } from './exec-credentials.ts'
import { dethread, execReleaseMm } from './exit.ts'
import { pinHostThread } from './host-proc.ts'
import { RLIMIT_STACK } from './limits.ts'
import { execStop } from './ptrace.ts'
import { execSignals } from './signal-inherit.ts'
import { NO_RESULT, type SysRet } from './sysret.ts'
import type { Task } from './task.ts'

const AT_FDCWD = -100
/** Linux: a script's interpreter may be a script, four times over. */
const MAX_SCRIPTS = 5
const SCRIPT_HEAD = 256
const MAX_ARG_STRLEN = 131072
const STACK_MAX = 256 * 1024 * 1024
const MB = 1024 * 1024

/** The file that `path` names, opened for execution, or −errno. */
export function openExec(t: Task, path: Path | number): FileDescription | number {
  return typeof path === 'number' ? path : openForExec(t, path)
}

interface Program {
  file: FileDescription
  elf: ElfImage
  interp: FileDescription | null
  interpElf: ElfImage | null
  argv: string[]
}

/** Replaces the program of `t` (trapped). Takes over `file`'s reference. NO_RESULT, or −errno with nothing changed. */
export function execve(t: Task, file: FileDescription, filename: string, argv: string[], envp: string[]): SysRet {
  const limit = Math.max(Math.min(t.group.limits.soft[RLIMIT_STACK]! / 4, 6 * MB), MAX_ARG_STRLEN)
  if (stackStringsSize(argv, envp) + filename.length > limit) {
    file.unref()
    return -E2BIG
  }
  for (const s of argv) if (s.length >= MAX_ARG_STRLEN) return closing(file, -E2BIG)
  for (const s of envp) if (s.length >= MAX_ARG_STRLEN) return closing(file, -E2BIG)
  const program = recognise(t, file, filename, argv.length === 0 ? [''] : argv)
  if (typeof program === 'number') return program
  const creds = execCredentials(t, program.file)
  const ret = load(t, program, filename, envp, creds)
  program.file.unref()
  // Only the program itself stays protected from writers while it runs.
  program.interp?.claimWrite(0)
  program.interp?.unref()
  return ret
}

function closing(file: FileDescription, error: number): number {
  file.unref()
  return error
}

/** Follows `#!` lines to an ELF file and opens its interpreter. Owns `file` from here on. */
function recognise(t: Task, first: FileDescription, filename: string, args: string[]): Program | number {
  let file = first
  let argv = args
  let name = filename
  for (let depth = 0; ; depth++) {
    const head = new Uint8Array(SCRIPT_HEAD)
    const got = file.read(t, new KernelIovIter(head), 0)
    if (got < 0) return closing(file, got)
    if (head[0] !== 0x23 || head[1] !== 0x21) return recogniseElf(t, file, head.subarray(0, got), argv)
    if (depth === MAX_SCRIPTS) return closing(file, -ELOOP)
    const line = scriptLine(head, got)
    if (typeof line === 'number') return closing(file, line)
    file.unref()
    argv = [line.interpreter, ...(line.argument === null ? [] : [line.argument]), name, ...argv.slice(1)]
    name = line.interpreter
    const next = openExec(t, walkAt(t, AT_FDCWD, name, LOOKUP_FOLLOW))
    if (typeof next === 'number') return next
    file = next
  }
}

/** Interpreter and its one optional argument of a `#!` line. */
function scriptLine(head: Uint8Array, got: number): { interpreter: string; argument: string | null } | number {
  const text = Buffer.from(head.buffer, 0, got).latin1Slice(2)
  const newline = text.indexOf('\n')
  const match = /^[ \t]*([^ \t\0]+)([ \t]*)/.exec(newline < 0 ? text : text.slice(0, newline))
  if (match === null) return -ENOEXEC
  // Without a newline the line may have been cut: it counts only if the name certainly ended.
  if (newline < 0 && match[2] === '' && !text.includes('\0')) return -ENOEXEC
  const rest = (newline < 0 ? text : text.slice(0, newline)).slice(match[0].length).split('\0')[0]!
  const argument = rest.replace(/[ \t]+$/, '')
  return { interpreter: match[1]!, argument: argument === '' ? null : argument }
}

function recogniseElf(t: Task, file: FileDescription, head: Uint8Array, argv: string[]): Program | number {
  const elf = parseElf(t, file, head)
  if (typeof elf === 'number') return closing(file, elf)
  if (elf.interp === null) return { file, elf, interp: null, interpElf: null, argv }
  const interp = openExec(t, walkAt(t, AT_FDCWD, elf.interp, LOOKUP_FOLLOW))
  if (typeof interp === 'number') return closing(file, interp)
  const interpHead = new Uint8Array(64)
  const got = interp.read(t, new KernelIovIter(interpHead), 0)
  const interpElf = got < 0 ? got : parseElf(t, interp, interpHead.subarray(0, got))
  if (typeof interpElf === 'number') {
    interp.unref()
    return closing(file, interpElf === -ENOEXEC ? -ELIBBAD : interpElf)
  }
  return { file, elf, interp, interpElf, argv }
}

/** Builds the new address space and, when all is well, moves the task into it. */
function load(t: Task, program: Program, filename: string, envp: string[], creds: ExecCredentials): SysRet {
  const thread = t.kernel.platform.newAddressSpace()
  if (typeof thread === 'number') return thread
  const mm = new MemoryManager(thread.space, t.kernel.platform.taskSize)
  const entry = build(t, mm, thread, program, filename, envp, creds)
  if (typeof entry === 'number') {
    mm.unref()
    return entry
  }
  const oldTid = t.tid
  commit(t, mm, thread, filename, creds)
  const regs = thread.regs
  const segments = [regs[CS]!, regs[SS]!]
  regs.fill(0, 0, REGS_WORDS)
  regs[CS] = segments[0]!
  regs[SS] = segments[1]!
  regs[DS] = regs[ES] = regs[FS] = regs[GS] = 0
  regs[EFLAGS] = 0x200
  setReg(regs, ORIG_RAX, -1)
  setReg(regs, RIP, entry.rip)
  setReg(regs, RSP, entry.rsp)
  if (t.traced !== null) execStop(t, oldTid)
  return NO_RESULT
}

interface Entry {
  rip: number
  rsp: number
}

function build(
  t: Task,
  mm: MemoryManager,
  thread: GuestThread,
  program: Program,
  filename: string,
  envp: string[],
  creds: ExecCredentials,
): Entry | number {
  const { elf, interpElf } = program
  const stack = placeStack(t, mm, elf.execStack)
  const zero: ZeroRange[] = []
  let err = mm.addToImage(stack, -1)
  if (err < 0) return err
  const bias = placeImage(mm, elf, interpElf === null)
  if (bias < 0 && !isFixed(elf)) return bias
  err = mapElf(mm, program.file, elf, bias, zero)
  if (err < 0) return err
  let interpBias = 0
  if (program.interp !== null && interpElf !== null) {
    interpBias = placeImage(mm, interpElf, true)
    if (interpBias < 0 && !isFixed(interpElf)) return interpBias
    err = mapElf(mm, program.interp, interpElf, interpBias, zero)
    if (err < 0) return err
  }
  err = mm.loadImage(thread)
  if (err < 0) return err
  for (const range of zero) {
    const zeros = new Uint8Array(range.len)
    if (thread.space.write(range.addr, zeros, 0, range.len) !== range.len) return -EINVAL
  }
  describe(mm, elf, bias)
  const c = creds.creds
  const built = buildStack(
    {
      argv: program.argv,
      envp,
      execfn: filename,
      phdr: elf.phdrAddr === 0 ? 0 : elf.phdrAddr + bias,
      phnum: elf.phnum,
      base: interpBias,
      entry: elf.entry + bias,
      uid: c.uid,
      euid: c.euid,
      gid: c.gid,
      egid: c.egid,
      secure: creds.secure,
      vdso: t.kernel.platform.vdso.start,
    },
    stack.end,
  )
  if (thread.space.write(built.sp, built.bytes, 0, built.bytes.length) !== built.bytes.length) return -ENOMEM
  mm.stackStart = built.sp
  mm.argStart = built.argStart
  mm.argEnd = built.argEnd
  mm.envStart = built.envStart
  mm.envEnd = built.envEnd
  mm.auxv = built.auxv
  mm.exe = program.file.ref()
  return { rip: interpElf === null ? elf.entry + bias : interpElf.entry + interpBias, rsp: built.sp }
}

/** A random number of pages below `pages`, as an address offset. */
function randomPages(pages: number): number {
  getrandom(RANDOM, 8, 0)
  return ((RANDOM[0]! * 0x200000 + (RANDOM[1]! >>> 11)) % pages) * PAGE
}
const RANDOM = new Uint32Array(2)

/** The stack at the top, its size the limit; mmap starts below it. */
function placeStack(t: Task, mm: MemoryManager, executable: boolean): Vma {
  const size = pageUp(Math.min(Math.max(t.group.limits.soft[RLIMIT_STACK]!, 128 * 1024), STACK_MAX))
  const top = mm.taskSize - PAGE - randomPages(1 << 22)
  const prot = PROT_READ | PROT_WRITE | (executable ? PROT_EXEC : 0)
  mm.mmapBase = top - Math.max(size + MB, 128 * MB) - randomPages(1 << 28)
  return new Vma(top - size, top, prot, false, null, 0, '[stack]')
}

/** Where a position-independent image goes: its bias, 0 for fixed ones, or −errno. */
function placeImage(mm: MemoryManager, elf: ElfImage, asLibrary: boolean): number {
  if (isFixed(elf)) return 0
  const { low, size } = imageSpan(elf)
  const span = size + elf.align
  const start = asLibrary
    ? findFree(mm.vmas, span, MMAP_MIN, mm.mmapBase)
    : Math.floor(0x555555554000 / elf.align) * elf.align + randomPages(1 << 28)
  if (start < 0) return -ENOMEM
  const aligned = Math.ceil(start / elf.align) * elf.align
  return aligned - low
}

/** Code, data and break of the new image. */
function describe(mm: MemoryManager, elf: ElfImage, bias: number): void {
  let end = 0
  for (const s of elf.loads) {
    const start = s.vaddr + bias
    if ((s.flags & 1) !== 0) {
      if (mm.codeStart === 0) mm.codeStart = start
      mm.codeEnd = Math.max(mm.codeEnd, start + s.filesz)
    } else if ((s.flags & 2) !== 0) {
      mm.dataStart = start
      mm.dataEnd = Math.max(mm.dataEnd, start + s.filesz)
    }
    end = Math.max(end, start + s.memsz)
  }
  mm.brkStart = pageUp(end) + randomPages(1 << 13)
  mm.brkEnd = mm.brkStart
}

/** The task becomes the new program. Nothing here can fail. */
function commit(t: Task, mm: MemoryManager, thread: GuestThread, filename: string, creds: ExecCredentials): void {
  dethread(t)
  execReleaseMm(t)
  const oldThread = t.thread
  const oldMm = t.mm
  oldThread.owner = null
  t.group.signals.actions.withdraw()
  t.thread = thread
  if (t.sched.affinity !== null) pinHostThread(thread.hostTid, t.sched.affinity)
  t.regs = thread.regs
  thread.owner = t
  t.mm = mm
  if (oldMm.users > 1) oldThread.exit()
  oldMm.unref()

  const vforkParent = t.group.vforkParent
  t.group.vforkParent = null
  if (vforkParent !== null) t.kernel.wake(vforkParent)
  if (t.fds.shared) {
    const copy = t.fds.clone()
    t.fds.unref(t)
    t.fds = copy
  }
  t.fds.doExec(t)
  execSignals(t)
  t.creds = creds.creds
  t.group.execed = true
  t.group.dumpable = creds.dumpable ? 1 : 0
  t.name = filename.slice(filename.lastIndexOf('/') + 1).slice(0, 15)
  t.clearChildTid = 0
  t.robustList = 0
  if (creds.secure) t.parentDeathSignal = 0
}
