/**
 * An attribute file of sysfs or cgroupfs (Linux: fs/kernfs/file.c): shows as a page, gives a short text.
 */
import { EACCES, EINVAL } from '../../abi/errno.ts'
import { O_ACCMODE, O_RDONLY } from '../../abi/fcntl.ts'
import type { Task } from '../../kernel/task.ts'
import { PseudoFile } from '../pseudo/file.ts'
import type { PseudoSuperBlock } from '../pseudo/inode.ts'

export type Attribute = string | ((t: Task) => string)

export class SysfsFile extends PseudoFile {
  private readonly text: Attribute
  private readonly take: ((t: Task, text: string) => number) | null

  constructor(
    sb: PseudoSuperBlock,
    permissions: number,
    text: Attribute,
    take: ((t: Task, text: string) => number) | null = null,
  ) {
    super(sb, permissions)
    this.text = text
    this.take = take
    this.size = 4096
  }
  render(t: Task): string {
    return typeof this.text === 'string' ? this.text : this.text(t)
  }
  /** kernfs refuses an open for writing, whatever the capabilities, where there is nothing to store. */
  override checkOpen(_t: Task, flags: number): number {
    return (flags & O_ACCMODE) !== O_RDONLY && this.take === null ? -EACCES : 0
  }
  override store(t: Task, text: string): number {
    if (this.take === null) return -EINVAL
    const err = this.take(t, text)
    return err < 0 ? err : text.length
  }
}
