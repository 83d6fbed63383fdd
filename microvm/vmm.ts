/**
 * A virtual machine monitor as the rest of microvm/ sees it, so that another can take QEMU's place. It is a process; it
 * ends with the VM, and the VM with it.
 */
import type { Accel } from './accel.ts'
import type { Image } from './store.ts'

/** 9P connections of one VM at most: serial ports, whose number is fixed when the VM is made. */
export const NINEP_PORTS = 20

/** What a VM consists of. Two of the same shape can be restored from one template. */
export interface VmShape {
  image: Image
  accel: Accel
  /** MiB. */
  memory: number
  cpus: number
  tscKhz: number
}

export interface VmConnections {
  /** Connected stream sockets; the VMM gets them. */
  agent: number
  /** By port; what is not there is connected to nothing. */
  ninep: number[]
  /** An open tap device; −1: the interface has no cable, and its frames go to `noCable`, a socket that nobody reads. */
  tap: number
  noCable: number
  /** Takes what the guest kernel writes to its console. */
  console: number
}

/** A booted VM on disk. */
export interface Template {
  memory: string
  state: string
}

export interface Confinement {
  /** User and group of the VMM's process. */
  id: number
  /** Directories of cgroups that it joins. */
  cgroups: string[]
}

export interface RunningVm {
  pid: number
}

export interface Vmm {
  /** Goes into the names of templates: another version cannot restore them. */
  version(): string
  boot(shape: VmShape, to: VmConnections, confinement: Confinement): RunningVm
  restore(shape: VmShape, template: Template, to: VmConnections, confinement: Confinement): RunningVm
  /** Boots a VM, lets `ready` (given the agent's socket) wait for its agent, and saves it to two files of `dir`. */
  save(shape: VmShape, dir: string, ready: (agent: number) => void): void
}
