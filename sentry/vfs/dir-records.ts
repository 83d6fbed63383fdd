/**
 * Directory entries that lie ready as struct linux_dirent64 records, so that getdents64(2) copies them instead of making
 * them anew.
 */
import type { DirEmitter } from './inode.ts'

export const DIRENT64_NAME = 19
const TWO32 = 0x1_0000_0000

export interface DirRecords {
  /** Records, padded with zeros to eights: guests get these bytes. */
  readonly bytes: Buffer
  readonly view: DataView
  /** Where each record begins, and behind the last one. */
  readonly starts: readonly number[]
}

/** Bytes of a record with a name of `length` bytes. */
export const recordSize = (length: number): number => (DIRENT64_NAME + length + 1 + 7) & ~7

export const recordName = (r: DirRecords, i: number): string => {
  const at = r.starts[i]! + DIRENT64_NAME
  return r.bytes.latin1Slice(at, r.bytes.indexOf(0, at))
}
/** Whether record `i` is that of `name`. */
export function isRecordOf(r: DirRecords, i: number, name: string): boolean {
  const { bytes, starts } = r
  const at = starts[i]! + DIRENT64_NAME
  const { length } = name
  if (at + length >= starts[i + 1]! || bytes[at + length] !== 0) return false
  for (let k = 0; k < length; k++) if (bytes[at + k] !== name.charCodeAt(k)) return false
  return true
}
/** d_off: the position behind the entry. */
export const recordNext = (r: DirRecords, i: number): number =>
  r.view.getUint32(r.starts[i]! + 8, true) + r.view.getUint32(r.starts[i]! + 12, true) * TWO32
const recordIno = (r: DirRecords, i: number): number =>
  r.view.getUint32(r.starts[i]!, true) + r.view.getUint32(r.starts[i]! + 4, true) * TWO32

/** Hands on the records from `first` on until `out` is full; how many it took. */
export function emitRecords(out: DirEmitter, r: DirRecords, first: number): number {
  return out.emitRecords === undefined ? emitEach(out, r, first) : out.emitRecords(r, first)
}

/** The same, one by one. */
export function emitEach(out: DirEmitter, r: DirRecords, first: number): number {
  let i = first
  for (; i < r.starts.length - 1; i++) {
    if (!out.emit(recordName(r, i), recordIno(r, i), r.bytes[r.starts[i]! + 18]!, recordNext(r, i))) break
  }
  return i - first
}
