/**
 * lseek(2) for files with a size (Linux: generic_file_llseek).
 */
import { EINVAL, ENXIO } from '../abi/errno.ts'
import type { FileDescription } from './file-description.ts'

export const SEEK_SET = 0
export const SEEK_CUR = 1
export const SEEK_END = 2
export const SEEK_DATA = 3
export const SEEK_HOLE = 4

const MAX_OFFSET = 2 ** 63

/** Moves `file.pos`. SEEK_DATA and SEEK_HOLE see one run of data; files with holes answer them first. */
export function seekRegular(file: FileDescription, offset: number, whence: number, size: number): number {
  let pos: number
  switch (whence) {
    case SEEK_SET:
      pos = offset
      break
    case SEEK_CUR:
      pos = file.pos + offset
      break
    case SEEK_END:
      pos = size + offset
      break
    case SEEK_DATA:
      if (offset < 0 || offset >= size) return -ENXIO
      pos = offset
      break
    case SEEK_HOLE:
      if (offset < 0 || offset >= size) return -ENXIO
      pos = size
      break
    default:
      return -EINVAL
  }
  if (pos < 0 || pos >= MAX_OFFSET) return -EINVAL
  file.pos = pos
  return pos
}
