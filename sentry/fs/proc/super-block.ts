/**
 * procfs: one super block per mount(2) of "proc", all showing the one pid namespace (Linux: fs/proc/root.c).
 */

import { openHostProc } from '../../kernel/host-proc.ts'
import type { Kernel } from '../../kernel/kernel.ts'
import { registerFileSystem } from '../../vfs/file-system.ts'
import type { Inode } from '../../vfs/inode.ts'
import { PseudoSuperBlock } from '../pseudo/inode.ts'
import { ProcRoot } from './root.ts'

const PROC_SUPER_MAGIC = 0x9fa0

export class ProcSuperBlock extends PseudoSuperBlock {
  readonly type = 'proc'
  protected readonly magic = PROC_SUPER_MAGIC
  override readonly fixedNames = true
  override readonly inodeBlockSize = 1024
  readonly kernel: Kernel
  readonly root: Inode

  constructor(kernel: Kernel) {
    super()
    this.source = 'proc'
    this.kernel = kernel
    openHostProc()
    this.root = new ProcRoot(this)
  }
}

registerFileSystem({
  name: 'proc',
  nodev: true,
  mount(request) {
    const sb = new ProcSuperBlock(request.kernel)
    sb.source = request.source
    return sb
  },
})
