/**
 * /sys/class/net and /sys/devices/virtual/net: the interfaces of the container's network namespace (Linux:
 * net/core/net-sysfs.c). They come and go, so both directories ask each time.
 */
import { networkInterfaces } from 'node:os'
import { ENOENT } from '../../abi/errno.ts'
import { hostPidFile } from '../../kernel/host-proc.ts'
import type { Task } from '../../kernel/task.ts'
import type { DirEmitter, Inode } from '../../vfs/inode.ts'
import { DT_DIR, DT_LNK, PseudoDirectory, PseudoSymlink, TreeDirectory } from '../pseudo/directory.ts'
import { SysfsFile } from './attribute.ts'
import type { SysfsSuperBlock } from './super-block.ts'

const COUNTERS = [
  'rx_bytes',
  'rx_packets',
  'rx_errors',
  'rx_dropped',
  'rx_fifo_errors',
  'rx_frame_errors',
  'rx_compressed',
  'multicast',
  'tx_bytes',
  'tx_packets',
  'tx_errors',
  'tx_dropped',
  'tx_fifo_errors',
  'collisions',
  'tx_carrier_errors',
  'tx_compressed',
]

/** Interface → its row of counters, in the order of /proc/net/dev. */
function interfaces(): Map<string, string[]> {
  const found = new Map<string, string[]>()
  for (const line of hostPidFile(process.pid, 'net/dev').split('\n').slice(2)) {
    const colon = line.indexOf(':')
    if (colon > 0)
      found.set(
        line.slice(0, colon).trim(),
        line
          .slice(colon + 1)
          .trim()
          .split(/\s+/),
      )
  }
  if (found.size === 0) found.set('lo', [])
  return found
}

const NO_MAC = '00:00:00:00:00:00'

function macOf(name: string): string {
  try {
    return networkInterfaces()[name]?.[0]?.mac ?? NO_MAC
  } catch {
    // Without a network the confined sentry has no socket to ask with.
    return NO_MAC
  }
}

class DeviceDirectory extends TreeDirectory {
  private readonly device: string

  constructor(sb: SysfsSuperBlock, device: string, index: number) {
    super(sb, 0o755)
    this.device = device
    const lo = device === 'lo'
    const attributes: Record<string, string | (() => string)> = {
      addr_assign_type: lo ? '0\n' : '3\n',
      addr_len: '6\n',
      address: () => `${macOf(device)}\n`,
      broadcast: lo ? '00:00:00:00:00:00\n' : 'ff:ff:ff:ff:ff:ff\n',
      carrier: '1\n',
      dev_id: '0x0\n',
      dev_port: '0\n',
      dormant: '0\n',
      flags: lo ? '0x9\n' : '0x1003\n',
      ifalias: '',
      ifindex: `${index}\n`,
      iflink: `${index}\n`,
      link_mode: '0\n',
      mtu: lo ? '65536\n' : '1500\n',
      operstate: lo ? 'unknown\n' : 'up\n',
      tx_queue_len: '1000\n',
      type: lo ? '772\n' : '1\n',
      uevent: `INTERFACE=${device}\nIFINDEX=${index}\n`,
    }
    for (const [name, text] of Object.entries(attributes)) this.add(name, new SysfsFile(sb, 0o444, text))
    const statistics = this.dir('statistics', 0o755)
    COUNTERS.forEach((name, i) => {
      statistics.add(name, new SysfsFile(sb, 0o444, () => `${interfaces().get(device)?.[i] ?? '0'}\n`))
    })
    this.add('subsystem', new PseudoSymlink(sb, '../../../../class/net'))
  }
  override get alive(): boolean {
    return interfaces().has(this.device)
  }
}

/** One entry per interface: directories of devices, or links to them. */
class InterfaceDirectory extends PseudoDirectory {
  private readonly type: number
  private readonly make: (name: string, index: number) => Inode
  private readonly made = new Map<string, Inode>()

  constructor(sb: SysfsSuperBlock, type: number, make: (name: string, index: number) => Inode) {
    super(sb, 0o755)
    this.type = type
    this.make = make
  }
  private inodeOf(name: string, index: number): Inode {
    let inode = this.made.get(name)
    if (inode === undefined) {
      inode = this.make(name, index)
      this.made.set(name, inode)
    }
    return inode
  }
  lookup(name: string): Inode | number {
    const index = [...interfaces().keys()].indexOf(name)
    return index < 0 ? -ENOENT : this.inodeOf(name, index + 1)
  }
  readdir(_t: Task, pos: number, out: DirEmitter): number {
    const names = [...interfaces().keys()]
    for (let i = Math.max(0, pos - 2); i < names.length; i++) {
      if (!out.emit(names[i]!, this.inodeOf(names[i]!, i + 1).ino, this.type, i + 3)) return 0
    }
    return 0
  }
}

export function addInterfaces(sb: SysfsSuperBlock): void {
  sb.place(
    'devices/virtual/net',
    () => new InterfaceDirectory(sb, DT_DIR, (name, index) => new DeviceDirectory(sb, name, index)),
  )
  sb.place(
    'class/net',
    () => new InterfaceDirectory(sb, DT_LNK, (name) => new PseudoSymlink(sb, `../../devices/virtual/net/${name}`)),
  )
}
