/**
 * What a new program finds on its stack: argc, argv, envp, the auxiliary vector and their strings (create_elf_tables).
 */
import { readFileSync } from 'node:fs'
import { getrandom } from '../../native/host.ts'
import { PAGE } from './memory-manager.ts'

const AT_PHDR = 3
const AT_PHENT = 4
const AT_PHNUM = 5
const AT_PAGESZ = 6
const AT_BASE = 7
const AT_FLAGS = 8
const AT_ENTRY = 9
const AT_UID = 11
const AT_EUID = 12
const AT_GID = 13
const AT_EGID = 14
const AT_PLATFORM = 15
const AT_HWCAP = 16
const AT_CLKTCK = 17
const AT_SECURE = 23
const AT_RANDOM = 25
const AT_HWCAP2 = 26
const AT_EXECFN = 31
const AT_SYSINFO_EHDR = 33
const AT_MINSIGSTKSZ = 51

/** What of the host's own vector is true for guests too. */
const HOST: ReadonlyMap<number, number> = (() => {
  const vector = readFileSync('/proc/self/auxv')
  const values = new Map<number, number>()
  for (let at = 0; at + 16 <= vector.length; at += 16)
    values.set(Number(vector.readBigUInt64LE(at)), Number(vector.readBigUInt64LE(at + 8)))
  return values
})()

export interface StackContents {
  argv: readonly string[]
  envp: readonly string[]
  execfn: string
  phdr: number
  phnum: number
  base: number
  entry: number
  uid: number
  euid: number
  gid: number
  egid: number
  secure: boolean
  vdso: number
}

export interface BuiltStack {
  /** Bytes that end at `top`. */
  readonly bytes: Buffer
  readonly sp: number
  readonly auxv: Uint8Array
  readonly argStart: number
  readonly argEnd: number
  readonly envStart: number
  readonly envEnd: number
}

/** Bytes that the strings and pointers need, for the E2BIG check. */
export function stackStringsSize(argv: readonly string[], envp: readonly string[]): number {
  let n = 8 * (argv.length + envp.length)
  for (const s of argv) n += s.length + 1
  for (const s of envp) n += s.length + 1
  return n
}

export function buildStack(c: StackContents, top: number): BuiltStack {
  const strings = Buffer.alloc(stackStringsSize(c.argv, c.envp) + c.execfn.length + 1 + 8)
  let at = 0
  const put = (s: string): number => {
    const start = at
    at += strings.latin1Write(s, at) + 1
    return start
  }
  const argOffsets = c.argv.map(put)
  const argEndOffset = at
  const envOffsets = c.envp.map(put)
  const envEndOffset = at
  const execfnOffset = put(c.execfn)
  const stringsBase = top - 8 - at

  const low = Buffer.alloc(16 + 16)
  low.latin1Write('x86_64', 0)
  getrandom(RANDOM, 16, 0)
  low.set(RANDOM, 16)
  const lowBase = Math.floor((stringsBase - low.length) / 16) * 16
  const aux: [number, number][] = [
    [AT_SYSINFO_EHDR, c.vdso],
    [AT_MINSIGSTKSZ, HOST.get(AT_MINSIGSTKSZ) ?? 2048],
    [AT_HWCAP, HOST.get(AT_HWCAP) ?? 0],
    [AT_PAGESZ, PAGE],
    [AT_CLKTCK, 100],
    [AT_PHDR, c.phdr],
    [AT_PHENT, 56],
    [AT_PHNUM, c.phnum],
    [AT_BASE, c.base],
    [AT_FLAGS, 0],
    [AT_ENTRY, c.entry],
    [AT_UID, c.uid],
    [AT_EUID, c.euid],
    [AT_GID, c.gid],
    [AT_EGID, c.egid],
    [AT_SECURE, c.secure ? 1 : 0],
    [AT_RANDOM, lowBase + 16],
    [AT_HWCAP2, HOST.get(AT_HWCAP2) ?? 0],
    [AT_EXECFN, stringsBase + execfnOffset],
    [AT_PLATFORM, lowBase],
    [0, 0],
  ]
  const words = 1 + c.argv.length + 1 + c.envp.length + 1
  const tableSize = words * 8 + aux.length * 16
  const sp = Math.floor((lowBase - tableSize) / 16) * 16
  const bytes = Buffer.alloc(top - sp)
  let w = 0
  const word = (value: number): void => {
    bytes.writeUInt32LE(value % 0x1_0000_0000, w)
    bytes.writeUInt32LE(Math.floor(value / 0x1_0000_0000), w + 4)
    w += 8
  }
  word(c.argv.length)
  for (const o of argOffsets) word(stringsBase + o)
  word(0)
  for (const o of envOffsets) word(stringsBase + o)
  word(0)
  const auxStart = w
  for (const [key, value] of aux) {
    word(key)
    word(value)
  }
  const auxv = new Uint8Array(bytes.subarray(auxStart, w))
  bytes.set(low, lowBase - sp)
  bytes.set(strings.subarray(0, at), stringsBase - sp)
  return {
    bytes,
    sp,
    auxv,
    argStart: stringsBase,
    argEnd: stringsBase + argEndOffset,
    envStart: stringsBase + argEndOffset,
    envEnd: stringsBase + envEndOffset,
  }
}

const RANDOM = new Uint8Array(16)
