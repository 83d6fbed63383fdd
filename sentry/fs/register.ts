/**
 * Registers every file system type and device that a container can mount or open. Importing a module here is what
 * links it into the sentry.
 */
import type { BootConfig } from '../control/protocol.ts'
import type { Kernel } from '../kernel/kernel.ts'
import { fileSystem, registerFileSystem } from '../vfs/file-system.ts'
import './dev/super-block.ts'
import './pipe.ts'
import '../ipc/proc-sysvipc.ts'
import './tty/devices.ts'
import './proc/super-block.ts'
import './sys/cgroup.ts'
import './sys/super-block.ts'
import './tmpfs/super-block.ts'

export function registerFileSystems(_kernel: Kernel, _config: BootConfig): void {
  // Until each has a file system of its own: an empty one in its place.
  for (const name of ['devpts', 'mqueue']) {
    if (fileSystem(name) === undefined)
      registerFileSystem({ name, nodev: true, mount: (r) => fileSystem('tmpfs')!.mount({ ...r, options: '' }) })
  }
}
