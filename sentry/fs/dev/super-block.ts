/**
 * The file system of /dev: a tmpfs that comes with the default devices (Linux: drivers/base/devtmpfs.c; for a container,
 * what runc puts on its tmpfs).
 */
import { rootCredentials } from '../../kernel/credentials.ts'
import { registerFileSystem } from '../../vfs/file-system.ts'
import { parseTmpfsOptions, type TmpfsOptions, TmpfsSuperBlock } from '../tmpfs/super-block.ts'
import './char-device.ts'
import { populateDev } from './populate.ts'

class DevSuperBlock extends TmpfsSuperBlock {
  override readonly type: string

  constructor(options: TmpfsOptions, type: string) {
    super(options)
    this.type = type
  }
}

for (const name of ['dev', 'devtmpfs']) {
  registerFileSystem({
    name,
    nodev: true,
    mount(request) {
      const options = parseTmpfsOptions(request.options)
      if (typeof options === 'number') return options
      // A configuration's tmpfs on /dev stays a tmpfs by name.
      const sb = new DevSuperBlock(options, request.source === 'devtmpfs' ? 'devtmpfs' : 'tmpfs')
      sb.source = request.source
      const err = populateDev(sb.root, rootCredentials())
      return err < 0 ? err : sb
    },
  })
}
