/**
 * ELF64 loader (fs/binfmt_elf.c): parses a hostile file with every offset and size checked, and lays its segments out.
 *
 * Nothing here touches the running program: a failure leaves it as it was.
 */
import { ENOEXEC, ENOMEM } from '../abi/errno.ts'
import type { Task } from '../kernel/task.ts'
import type { FileDescription } from '../vfs/file-description.ts'
import { KernelIovIter } from './iov-iter.ts'
import { type MemoryManager, PAGE, pageDown, pageUp } from './memory-manager.ts'
import { PROT_EXEC, PROT_READ, PROT_WRITE, Vma } from './vma.ts'

const ET_EXEC = 2
const ET_DYN = 3
const EM_X86_64 = 62
const PT_LOAD = 1
const PT_INTERP = 3
const PT_GNU_STACK = 0x6474e551
const PF_X = 1
const PF_W = 2
const PF_R = 4
const EHDR_SIZE = 64
const PHDR_SIZE = 56
/** Linux reads at most 64 KiB of program headers. */
const MAX_PHDRS = 65536 / PHDR_SIZE
/** More loadable segments than any linker makes; bounds the image's operations. */
const MAX_LOADS = 16
const PATH_MAX = 4096

interface Segment {
  readonly flags: number
  readonly offset: number
  readonly vaddr: number
  readonly filesz: number
  readonly memsz: number
}

export interface ElfImage {
  readonly type: number
  readonly entry: number
  readonly loads: readonly Segment[]
  readonly phnum: number
  /** Address of the program headers in the image before relocation; 0 unknown. */
  readonly phdrAddr: number
  readonly interp: string | null
  readonly execStack: boolean
  /** Largest p_align of the loads. */
  readonly align: number
}

/** Reads exactly [offset, offset+len) or fails. */
export function readExact(t: Task, file: FileDescription, offset: number, len: number): Uint8Array | number {
  const buf = new Uint8Array(len)
  let done = 0
  while (done < len) {
    const n = file.read(t, new KernelIovIter(buf, done, len - done), offset + done)
    if (n < 0) return n
    if (n === 0) return -ENOEXEC
    done += n
  }
  return buf
}

/** The headers, or −errno. `head` holds the first bytes of the file. */
export function parseElf(t: Task, file: FileDescription, head: Uint8Array): ElfImage | number {
  if (head.length < EHDR_SIZE) return -ENOEXEC
  const h = new DataView(head.buffer, head.byteOffset, head.length)
  const MAGIC = 0x464c457f
  const CLASS64_LSB = 0x0102
  if (h.getUint32(0, true) !== MAGIC || h.getUint16(4, true) !== CLASS64_LSB) return -ENOEXEC
  const type = h.getUint16(16, true)
  if ((type !== ET_EXEC && type !== ET_DYN) || h.getUint16(18, true) !== EM_X86_64) return -ENOEXEC
  const phnum = h.getUint16(56, true)
  const phoff = Number(h.getBigUint64(32, true))
  if (h.getUint16(54, true) !== PHDR_SIZE || phnum < 1 || phnum > MAX_PHDRS) return -ENOEXEC
  const table = readExact(t, file, phoff, phnum * PHDR_SIZE)
  if (typeof table === 'number') return table
  return parseSegments(t, file, new DataView(table.buffer), {
    type,
    entry: Number(h.getBigUint64(24, true)),
    phnum,
    phoff,
  })
}

interface Header {
  type: number
  entry: number
  phnum: number
  phoff: number
}

function parseSegments(t: Task, file: FileDescription, p: DataView, header: Header): ElfImage | number {
  const loads: Segment[] = []
  let interp: string | null = null
  let execStack = false
  let phdrAddr = 0
  let align = PAGE
  for (let at = 0; at < p.byteLength; at += PHDR_SIZE) {
    const kind = p.getUint32(at, true)
    const flags = p.getUint32(at + 4, true)
    const offset = Number(p.getBigUint64(at + 8, true))
    const vaddr = Number(p.getBigUint64(at + 16, true))
    const filesz = Number(p.getBigUint64(at + 32, true))
    const memsz = Number(p.getBigUint64(at + 40, true))
    if (kind === PT_GNU_STACK) execStack = (flags & PF_X) !== 0
    if (kind === PT_INTERP && interp === null) {
      if (filesz < 2 || filesz > PATH_MAX) return -ENOEXEC
      const text = readExact(t, file, offset, filesz)
      if (typeof text === 'number') return text
      if (text[filesz - 1] !== 0) return -ENOEXEC
      interp = Buffer.from(text).latin1Slice(0, text.indexOf(0))
    }
    if (kind !== PT_LOAD) continue
    const previous = loads[loads.length - 1]
    if (filesz > memsz || memsz > 2 ** 47 || vaddr > 2 ** 47 || offset > 2 ** 52) return -ENOEXEC
    if (vaddr % PAGE !== offset % PAGE || (previous !== undefined && vaddr < previous.vaddr)) return -ENOEXEC
    if (memsz === 0) continue
    if (loads.length === MAX_LOADS) return -ENOEXEC
    const wanted = Number(p.getBigUint64(at + 48, true))
    if (wanted > align && wanted <= 2 ** 30 && Math.log2(wanted) % 1 === 0) align = wanted
    if (offset <= header.phoff && header.phoff < offset + filesz) phdrAddr = vaddr + header.phoff - offset
    loads.push({ flags, offset, vaddr, filesz, memsz })
  }
  if (loads.length === 0) return -ENOEXEC
  return { type: header.type, entry: header.entry, loads, phnum: header.phnum, phdrAddr, interp, execStack, align }
}

/** Bytes from the first to the last page of the image, and the first page's address. */
export function imageSpan(elf: ElfImage): { low: number; size: number } {
  const low = pageDown(elf.loads[0]!.vaddr)
  let high = 0
  for (const s of elf.loads) high = Math.max(high, pageUp(s.vaddr + s.memsz))
  return { low, size: high - low }
}

export const isFixed = (elf: ElfImage): boolean => elf.type === ET_EXEC

const toProt = (flags: number): number =>
  ((flags & PF_R) !== 0 ? PROT_READ : 0) |
  ((flags & PF_W) !== 0 ? PROT_WRITE : 0) |
  ((flags & PF_X) !== 0 ? PROT_EXEC : 0)

/** A range to be zeroed once the image is mapped: the rest of a segment's last file page. */
export interface ZeroRange {
  readonly addr: number
  readonly len: number
}

/** Adds the segments, moved by `bias`, to the image that `mm` is building. 0 or −errno. */
export function mapElf(
  mm: MemoryManager,
  file: FileDescription,
  elf: ElfImage,
  bias: number,
  zero: ZeroRange[],
): number {
  const hostFd = file.mmapFd(false)
  if (hostFd < 0) return hostFd
  for (const s of elf.loads) {
    const start = pageDown(s.vaddr + bias)
    const fileEnd = s.vaddr + bias + s.filesz
    const end = pageUp(s.vaddr + bias + s.memsz)
    if (end > mm.taskSize) return -ENOMEM
    const prot = toProt(s.flags)
    const mapped = s.filesz > 0 ? pageUp(fileEnd) : start
    if (mapped > start) {
      const err = mm.addToImage(new Vma(start, mapped, prot, false, file.ref(), pageDown(s.offset), ''), hostFd)
      if (err < 0) return err
      if (s.memsz > s.filesz && mapped > fileEnd && (prot & PROT_WRITE) !== 0)
        zero.push({ addr: fileEnd, len: mapped - fileEnd })
    }
    if (end > mapped) {
      const err = mm.addToImage(new Vma(mapped, end, prot, false, null, 0, ''), -1)
      if (err < 0) return err
    }
  }
  return 0
}
