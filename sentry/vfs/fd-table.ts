/**
 * Descriptor table of a task (Linux: struct files_struct). Shared by CLONE_FILES, reference-counted.
 */
import { EMFILE } from '../abi/errno.ts'
import type { Task } from '../kernel/task.ts'
import type { FileDescription } from './file-description.ts'
import { releasePosixLocks } from './locks.ts'

export class FdTable {
  private readonly files: (FileDescription | undefined)[] = []
  private readonly cloexec: boolean[] = []
  /** No descriptor below this is free. */
  private firstFree = 0
  private refs = 1

  get(fd: number): FileDescription | undefined {
    return this.files[fd]
  }

  /** Takes over the caller's reference. Returns the lowest free descriptor ≥ `min` below `limit`, or −EMFILE (reference dropped). */
  install(file: FileDescription, cloexec: boolean, limit: number, min = 0): number {
    const files = this.files
    let fd = Math.max(this.firstFree, min)
    while (fd < files.length && files[fd] !== undefined) fd++
    if (fd >= limit) {
      file.unref()
      return -EMFILE
    }
    this.put(fd, file, cloexec)
    if (min <= this.firstFree) this.firstFree = fd + 1
    return fd
  }

  /** Puts a file at `fd`, closing what was there. Takes over the caller's reference. */
  replace(t: Task, fd: number, file: FileDescription, cloexec: boolean): void {
    const old = this.files[fd]
    this.put(fd, file, cloexec)
    if (old !== undefined) this.drop(t, old)
  }

  /** What close(2) does to the description. */
  drop(t: Task, file: FileDescription): number {
    const inode = file.inode
    if (inode.locks !== null) releasePosixLocks(this, inode)
    const ret = file.flush(t)
    file.unref()
    return ret
  }

  private put(fd: number, file: FileDescription, cloexec: boolean): void {
    while (this.files.length < fd) {
      this.files.push(undefined)
      this.cloexec.push(false)
    }
    this.files[fd] = file
    this.cloexec[fd] = cloexec
  }

  /** Takes the descriptor out of the table; the caller gets its reference. */
  remove(fd: number): FileDescription | undefined {
    const file = this.files[fd]
    if (file === undefined) return undefined
    this.files[fd] = undefined
    if (fd < this.firstFree) this.firstFree = fd
    return file
  }

  getCloexec(fd: number): boolean {
    return this.cloexec[fd] === true
  }
  setCloexec(fd: number, on: boolean): void {
    this.cloexec[fd] = on
  }

  /** One more than the highest slot in use. */
  get size(): number {
    let n = this.files.length
    while (n > 0 && this.files[n - 1] === undefined) n--
    return n
  }

  /** A copy for fork. */
  clone(): FdTable {
    const copy = new FdTable()
    for (let fd = 0; fd < this.files.length; fd++) {
      const file = this.files[fd]
      copy.files.push(file === undefined ? undefined : file.ref())
      copy.cloexec.push(this.cloexec[fd]!)
    }
    copy.firstFree = this.firstFree
    return copy
  }

  /** Closes the close-on-exec descriptors. */
  doExec(t: Task): void {
    for (let fd = 0; fd < this.files.length; fd++) if (this.cloexec[fd] === true) this.close(t, fd)
  }

  /** close(2) without its errors. */
  close(t: Task, fd: number): void {
    const file = this.remove(fd)
    if (file !== undefined) this.drop(t, file)
  }

  get shared(): boolean {
    return this.refs > 1
  }
  ref(): this {
    this.refs++
    return this
  }
  /** A task lets go of the table; the last one closes everything. */
  unref(t: Task): void {
    if (--this.refs > 0) return
    for (let fd = 0; fd < this.files.length; fd++) this.close(t, fd)
  }
}
