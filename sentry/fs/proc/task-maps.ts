/**
 * /proc/PID/{maps,smaps,smaps_rollup,numa_maps}: the mappings of a process (Linux: fs/proc/task_mmu.c, show_map_vma).
 *
 * Addresses, permissions and names are the sentry's; how much of each is resident only the host knows, and is read from
 * the stub process.
 */
import { firstTouchedPage, hostPidFile } from '../../kernel/host-proc.ts'
import type { Task } from '../../kernel/task.ts'
import type { MemoryManager } from '../../mm/memory-manager.ts'
import { PROT_EXEC, PROT_READ, PROT_WRITE, type Vma } from '../../mm/vma.ts'
import { describePath } from '../../vfs/d-path.ts'
import { devMajor, devMinor } from '../../vfs/inode.ts'
import { escapeOctal, hex8 } from './format.ts'
import type { Subject } from './subject.ts'

/** Where the name begins: 25 + 6 * sizeof(void *) - 1, and a space. */
const NAME_COLUMN = 73
const PAGE = 4096

interface Row {
  start: number
  end: number
  /** The line of maps, without its newline. */
  header: string
  vma: Vma | null
}

const hexAddr = (n: number): string => n.toString(16).padStart(8, '0')
const hex2 = (n: number): string => n.toString(16).padStart(2, '0')

function line(
  start: number,
  end: number,
  perms: string,
  offset: number,
  dev: string,
  ino: number,
  name: string,
): string {
  const off = offset < 0x1_0000_0000 ? hex8(offset) : offset.toString(16)
  const head = `${hexAddr(start)}-${hexAddr(end)} ${perms} ${off} ${dev} ${ino} `
  return name === '' ? head : head.padEnd(NAME_COLUMN) + name
}

function vmaRow(v: Vma, mm: MemoryManager, t: Task): Row {
  const perms =
    ((v.prot & PROT_READ) !== 0 ? 'r' : '-') +
    ((v.prot & PROT_WRITE) !== 0 ? 'w' : '-') +
    ((v.prot & PROT_EXEC) !== 0 ? 'x' : '-') +
    (v.shared ? 's' : 'p')
  let dev = '00:00'
  let ino = 0
  let name = v.name
  let offset = 0
  if (v.file !== null) {
    const inode = v.file.inode
    dev = `${hex2(devMajor(inode.sb.dev))}:${hex2(devMinor(inode.sb.dev))}`
    ino = inode.ino
    offset = v.offset
    name = escapeOctal(v.file.path === null ? v.file.describe() : describePath(v.file.path, t.fs.root), '\n')
  } else if (v.shared) {
    // Shared anonymous memory is an unlinked file of the kernel's own tmpfs.
    dev = '00:01'
    ino = 1
    name = '/dev/zero (deleted)'
  }
  const start = v.name === '[stack]' ? stackStart(mm, v) : v.start
  return { start, end: v.end, header: line(start, v.end, perms, offset, dev, ino, name), vma: v }
}

/** What exec gives a stack below its strings (setup_arg_pages). */
const STACK_EXPAND = 0x20000

/**
 * Where Linux would show the stack to begin. All of it is mapped here, so that the host need not grow it; there it grows
 * to the lowest page that was touched.
 */
export function stackStart(mm: MemoryManager, v: Vma): number {
  const initial = Math.floor(mm.argStart / PAGE) * PAGE - STACK_EXPAND
  if (initial <= v.start || initial >= v.end) return v.start
  return Math.min(initial, firstTouchedPage(mm.space.hostPid, v.start, initial))
}

/** All mappings in order, with those that the platform adds to every process. */
function rows(s: Subject, mm: MemoryManager, t: Task): Row[] {
  const list = mm.vmas.map((v) => vmaRow(v, mm, t))
  const { vdso, vvar } = s.kernel.platform
  for (const [area, perms, name] of [
    [vvar, 'r--p', '[vvar]'],
    [vdso, 'r-xp', '[vdso]'],
  ] as const) {
    if (area.size === 0) continue
    const end = area.start + area.size
    list.push({ start: area.start, end, header: line(area.start, end, perms, 0, '00:00', 0, name), vma: null })
  }
  return list.sort((a, b) => a.start - b.start)
}

/** The page that old binaries call for gettimeofday; above what a double holds, so it is a constant. */
const VSYSCALL = 'ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]'

/** /proc/PID/maps. */
export function renderMaps(s: Subject, t: Task): string {
  const mm = s.mm
  if (mm === null) return ''
  let text = ''
  for (const row of rows(s, mm, t)) text += `${row.header}\n`
  return `${text}${VSYSCALL}\n`
}

const FIGURES = [
  'Rss',
  'Pss',
  'Pss_Dirty',
  'Shared_Clean',
  'Shared_Dirty',
  'Private_Clean',
  'Private_Dirty',
  'Referenced',
  'Anonymous',
  'KSM',
  'LazyFree',
  'AnonHugePages',
  'ShmemPmdMapped',
  'FilePmdMapped',
  'Shared_Hugetlb',
  'Private_Hugetlb',
  'Swap',
  'SwapPss',
  'Locked',
]

interface HostArea {
  start: number
  end: number
  figures: Map<string, number>
}

/** The host's view of the stub process, in kB. */
function hostAreas(hostPid: number): HostArea[] {
  const areas: HostArea[] = []
  for (const text of hostPidFile(hostPid, 'smaps').split('\n')) {
    const header = /^([0-9a-f]+)-([0-9a-f]+) /.exec(text)
    if (header !== null) {
      areas.push({ start: Number.parseInt(header[1]!, 16), end: Number.parseInt(header[2]!, 16), figures: new Map() })
      continue
    }
    const figure = /^(\w+): +(\d+) kB$/.exec(text)
    if (figure !== null) areas.at(-1)?.figures.set(figure[1]!, Number(figure[2]))
  }
  return areas
}

/** Sums what the host says of [start, end); its areas may be split or merged otherwise than ours. */
function figuresOf(areas: readonly HostArea[], start: number, end: number): Map<string, number> {
  const sum = new Map<string, number>()
  for (const area of areas) {
    const overlap = Math.min(end, area.end) - Math.max(start, area.start)
    if (overlap <= 0) continue
    const share = overlap / (area.end - area.start)
    for (const name of FIGURES) sum.set(name, (sum.get(name) ?? 0) + Math.round((area.figures.get(name) ?? 0) * share))
  }
  return sum
}

const kb = (name: string, value: number): string => `${`${name}:`.padEnd(16)}${String(value).padStart(8)} kB\n`

function vmFlags(v: Vma): string {
  const flags: string[] = []
  if ((v.prot & PROT_READ) !== 0) flags.push('rd')
  if ((v.prot & PROT_WRITE) !== 0) flags.push('wr')
  if ((v.prot & PROT_EXEC) !== 0) flags.push('ex')
  if (v.shared) flags.push('sh')
  flags.push('mr', 'mw', 'me')
  if (v.shared) flags.push('ms')
  if (v.name === '[stack]') flags.push('gd')
  if (v.locked) flags.push('lo')
  if (v.file === null) flags.push('ac')
  return `VmFlags: ${flags.join(' ')} \n`
}

/** /proc/PID/smaps. */
export function renderSmaps(s: Subject, t: Task): string {
  const mm = s.mm
  if (mm === null) return ''
  const areas = hostAreas(mm.space.hostPid)
  let text = ''
  for (const row of rows(s, mm, t)) {
    const figures = figuresOf(areas, row.start, row.end)
    text += `${row.header}\n${kb('Size', (row.end - row.start) / 1024)}${kb('KernelPageSize', 4)}${kb('MMUPageSize', 4)}`
    for (const name of FIGURES) text += kb(name, figures.get(name) ?? 0)
    text += `THPeligible:           0\nProtectionKey:         0\n`
    text += row.vma === null ? 'VmFlags: rd mr de sd \n' : vmFlags(row.vma)
  }
  return text
}

/** /proc/PID/smaps_rollup. */
export function renderSmapsRollup(s: Subject, _t: Task): string {
  const mm = s.mm
  if (mm === null || mm.vmas.length === 0) return ''
  const start = mm.vmas[0]!.start
  const end = mm.vmas.at(-1)!.end
  const areas = hostAreas(mm.space.hostPid)
  const total = new Map<string, number>()
  const kinds = { Pss_Anon: 0, Pss_File: 0, Pss_Shmem: 0 }
  for (const v of mm.vmas) {
    const figures = figuresOf(areas, v.start, v.end)
    for (const [name, value] of figures) total.set(name, (total.get(name) ?? 0) + value)
    kinds[v.file !== null ? 'Pss_File' : v.shared ? 'Pss_Shmem' : 'Pss_Anon'] += figures.get('Pss') ?? 0
  }
  let text = `${line(start, end, '---p', 0, '00:00', 0, '[rollup]')}\n`
  for (const name of FIGURES) {
    text += kb(name, total.get(name) ?? 0)
    if (name === 'Pss_Dirty') for (const [kind, value] of Object.entries(kinds)) text += kb(kind, value)
  }
  return text
}

/** /proc/PID/numa_maps, of a machine with one node. */
export function renderNumaMaps(s: Subject, t: Task): string {
  const mm = s.mm
  if (mm === null) return ''
  let text = ''
  for (const v of mm.vmas) {
    text += `${hexAddr(v.start)} default`
    if (v.file !== null && v.file.path !== null)
      text += ` file=${escapeOctal(describePath(v.file.path, t.fs.root), '\n\t= ')}`
    else if (v.name === '[heap]') text += ' heap'
    else if (v.name === '[stack]') text += ' stack'
    text += ' kernelpagesize_kB=4\n'
  }
  return text
}
