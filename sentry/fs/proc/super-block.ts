/**
 * procfs: one super block per mount(2) of "proc", all showing the one pid namespace (Linux: fs/proc/root.c).
 */

import { openHostProc } from '../../kernel/host-proc.ts'
import type { IdCache } from '../../kernel/id-space.ts'
import type { Kernel } from '../../kernel/kernel.ts'
import type { Task } from '../../kernel/task.ts'
import type { ThreadGroup } from '../../kernel/thread-group.ts'
import type { Dentry } from '../../vfs/dentry.ts'
import { registerFileSystem } from '../../vfs/file-system.ts'
import type { Inode } from '../../vfs/inode.ts'
import { PseudoSuperBlock } from '../pseudo/inode.ts'
import { ProcRoot } from './root.ts'

const PROC_SUPER_MAGIC = 0x9fa0

function drop(dir: Dentry | undefined, name: string): void {
  const dentry = dir?.child(name)
  if (dentry !== undefined && dentry.mounted === 0) dentry.unhash()
}

export class ProcSuperBlock extends PseudoSuperBlock implements IdCache {
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
    kernel.ids.addCache(this)
  }

  /**
   * The entries of a thread or process that is no more go at once (Linux: proc_flush_pid). They would be found stale when
   * they are next looked up, but nobody asks for an old id again, and behind each stands a task with all that was its own.
   */
  forgetTask(t: Task): void {
    const { pid } = t.group
    drop(this.rootDentry.child(String(pid))?.child('task'), String(t.tid))
    if (t.tid !== pid) drop(this.rootDentry, String(t.tid))
  }
  forgetGroup(g: ThreadGroup): void {
    drop(this.rootDentry, String(g.pid))
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
