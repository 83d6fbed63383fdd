/**
 * Patched call sites (DESIGN §6): how a `syscall` instruction of guest code becomes a jump into the stub, which spares the
 * signal. Pure: it looks at bytes and says which bytes to store, in which order.
 *
 * Two forms. Where the two bytes of `syscall` have nine bytes of padding between functions within reach, they become a
 * short jump there, and the padding a jump through the table: it serves any call, and no thread can see half of it. Else
 * `mov $number, %eax; syscall` becomes that jump itself; whoever stands or jumps between the two instructions meets 06,
 * which is no instruction, and makes the call from the site's entry.
 *
 * What must stay true: after each store the code is right for a thread that has run up to any instruction of it.
 */

/* native/stub/protocol.h; test/unit/systrap-protocol.test.ts checks them. */
export const PATCH_BASE = 0x60000
export const PATCH_SIZE = 0x10000
export const PATCH_ENTRY_SIZE = 64
export const PATCH_RETURN = 8
export const PATCH_GS_LOAD = 26
export const PATCH_CALL = 40

/** Bytes around a site that decide: a short jump reaches no further. */
export const REACH = 128 + 16

const SYSCALL_0 = 0x0f
const SYSCALL_1 = 0x05
const MOV_EAX = 0xb8
const JMP_SHORT = 0xeb
const RET = 0xc3
/** The third byte of every entry's address. */
const NO_INSTRUCTION = 0x06
/** jmp *absolute32 */
const JMP_ABSOLUTE = [0xff, 0x24, 0x25]
const JMP_SIZE = 7
const HOLE_SIZE = 2 + JMP_SIZE
const ALIGNMENT = 16

/** One store: all at once where it has two bytes, else byte by byte. */
export interface Store {
  addr: number
  bytes: number[]
}

export interface SitePatch {
  /** The call's number where the site loads it itself, −1 where it is in RAX. */
  number: number
  /** Stores in their order. Between two of them all CPUs must have seen the first. */
  stores: Store[]
}

const le32 = (n: number): number[] => [n & 0xff, (n >>> 8) & 0xff, (n >>> 16) & 0xff, n >>> 24]
const le64 = (n: number): number[] => [...le32((n % 2 ** 32) | 0), ...le32(Math.floor(n / 2 ** 32))]

/**
 * The patch of the `syscall` at `site` that jumps through the entry at `entry`. `code` are the bytes from `start` on, up
 * to REACH around the site. Null: not this one.
 */
export function patchSite(code: Uint8Array, start: number, site: number, entry: number): SitePatch | null {
  const at = site - start
  if (code[at] !== SYSCALL_0 || code[at + 1] !== SYSCALL_1) return null
  const jump = [...JMP_ABSOLUTE, ...le32(entry)]
  const hole = findHole(code, start, at)
  if (hole >= 0) {
    const there = start + hole
    const short = [JMP_SHORT, (there + 2 - (site + 2)) & 0xff]
    // Two bytes are seen as a whole where they do not cross a border; elsewhere whoever comes meanwhile faults and comes again.
    const last =
      site % 8 !== 7
        ? [{ addr: site, bytes: short }]
        : [
            { addr: site, bytes: [NO_INSTRUCTION] },
            { addr: site + 1, bytes: [short[1]!] },
            { addr: site, bytes: [JMP_SHORT] },
          ]
    return {
      number: -1,
      stores: [
        // A thread that should run into the padding jumps over it.
        { addr: there, bytes: [JMP_SHORT, JMP_SIZE] },
        { addr: there + 2, bytes: jump },
        ...last,
      ],
    }
  }
  if (at < 5 || code[at - 5] !== MOV_EAX) return null
  const number = code[at - 4]! | (code[at - 3]! << 8) | (code[at - 2]! << 16) | (code[at - 1]! << 24)
  const from = site - 5
  return {
    number,
    stores: [
      // Whoever comes now faults at the first byte and comes again; whoever is past it has the number and makes the call,
      // or faults at the second instruction, whose first byte changes first.
      { addr: from, bytes: [NO_INSTRUCTION] },
      { addr: from + 1, bytes: jump.slice(1) },
      { addr: from, bytes: jump.slice(0, 1) },
    ],
  }
}

/**
 * Where a thread goes on that found no instruction at `rip`: `bytes` are the seven up to the end of the `syscall` that was at
 * `site`, patched since with a jump through `entry`. −1: nowhere, the code is not ours.
 */
export function mendSite(bytes: Uint8Array, site: number, entry: number, rip: number): number {
  if (rip === site && bytes[5] === JMP_SHORT) return rip
  if (![...JMP_ABSOLUTE, ...le32(entry)].every((byte, i) => bytes[i] === byte)) return -1
  // Before the first of two instructions: again. Between them: the number is at hand.
  return rip === site ? entry + PATCH_CALL : rip
}

/** Offset of padding that no code falls into and a short jump from the end of the instruction at `at` reaches; −1: none. */
function findHole(code: Uint8Array, start: number, at: number): number {
  let best = -1
  for (let i = Math.max(1, at - 126); i + HOLE_SIZE <= Math.min(code.length, at + 128); i++) {
    if (!endsFlow(code, i)) continue
    const end = paddingEnd(code, i)
    if (end - i < HOLE_SIZE || (start + end) % ALIGNMENT !== 0) continue
    const distance = i + 2 - (at + 2)
    if (distance < -128 || distance > 127) continue
    if (best < 0 || Math.abs(i - at) < Math.abs(best - at)) best = i
  }
  return best
}

/** Whether the instruction that ends at `i` never goes on to the next: return, jump, halt. */
function endsFlow(code: Uint8Array, i: number): boolean {
  const last = code[i - 1]!
  if (last === RET || last === 0xf4) return true
  if (i >= 5 && code[i - 5] === 0xe9) return true
  if (i < 2) return false
  const before = code[i - 2]!
  return before === JMP_SHORT || (before === 0xff && (last & 0xf8) === 0xe0) || (before === 0x0f && last === 0x0b)
}

/** The end of the padding that begins at `i`: multi-byte NOPs as assemblers emit them, or INT3. */
function paddingEnd(code: Uint8Array, i: number): number {
  let at = i
  if (code[at] === 0xcc) {
    while (code[at] === 0xcc) at++
    return at
  }
  for (;;) {
    const size = nopSize(code, at)
    if (size === 0) return at
    at += size
  }
}

const NOP_TAILS = new Map([
  [0x00, 0],
  [0x40, 1],
  [0x44, 2],
  [0x80, 4],
  [0x84, 5],
])

function nopSize(code: Uint8Array, at: number): number {
  let i = at
  while (code[i] === 0x66 || code[i] === 0x2e) i++
  if (code[i] === 0x90) return i + 1 - at
  if (code[i] !== 0x0f || code[i + 1] !== 0x1f) return 0
  const tail = NOP_TAILS.get(code[i + 2]!)
  if (tail === undefined || i + 3 + tail > code.length) return 0
  for (let k = 0; k < tail; k++) if (code[i + 3 + k] !== 0) return 0
  return i + 3 + tail - at
}

/**
 * The 64 bytes of a site's entry: where jumps through it lead, where its call returns to, and code. The code looks whether
 * GS still is the thread's slot, with instructions that leave the flags alone: if so it goes on in the stub with RCX = the
 * entry; if not, the call is made right here and traps by signal.
 */
export function entryBytes(entry: number, site: number, number: number): number[] {
  return [
    ...le64(entry + 16),
    ...le64(site + 2),
    ...(number >= 0 ? [MOV_EAX, ...le32(number)] : [0x0f, 0x1f, 0x44, 0x00, 0x00]),
    // rdgsbase %r11; mov slot->self(%r11), %rcx; not %rcx; lea 1(%rcx,%r11), %rcx; jrcxz over the next two
    ...[0xf3, 0x49, 0x0f, 0xae, 0xcb],
    ...[0x49, 0x8b, 0x4b, 0x40],
    ...[0x48, 0xf7, 0xd1],
    ...[0x4a, 0x8d, 0x4c, 0x19, 0x01],
    ...[0xe3, 2 + JMP_SIZE],
    // syscall; jmp *return
    ...[SYSCALL_0, SYSCALL_1],
    ...[...JMP_ABSOLUTE, ...le32(entry + PATCH_RETURN)],
    // mov $entry, %ecx; jmp *STUB_SITE
    ...[0xb9, ...le32(entry)],
    ...[...JMP_ABSOLUTE, ...le32(PATCH_BASE)],
    ...[0xcc, 0xcc, 0xcc],
  ]
}
