/**
 * A virtual machine monitor as the rest of microvm/ sees it, so that another can take QEMU's place. It is a process; it
 * ends with the VM, and the VM with it.
 */
import type { Share } from '../sentry/control/protocol.ts'
import type { Accel } from './accel.ts'
import type { Image } from './store.ts'

/** 9P connections of one VM at most: serial ports, whose number is fixed when the VM is made. */
export const NINEP_PORTS = 20
/** Network cards. They cost little while nobody uses them (native/agent/network.c). */
export const CARDS = 4
/** In the VM of a pod, whose sandbox has few mounts; members' ports are put into the running VM. */
export const POD_PORTS = 4
/** 9P ports have numbers below this (native/agent/agent.h). */
export const PORT_NUMBERS = 64

/** What a VM consists of. Two of the same shape can be restored from one template. */
export interface VmShape {
  image: Image
  accel: Accel
  /** MiB. */
  memory: number
  cpus: number
  tscKhz: number
  /** With network cards, which take time to find even where nothing is to go through them. */
  networked: boolean
  /** 9P ports that are there from the start. */
  ports: number
  /** More can be put in later. */
  growing: boolean
}

export interface VmConnections {
  /** Connected stream sockets; the VMM gets them. */
  agent: number
  /** By port; what is not there is connected to nothing. */
  ninep: number[]
  /** Open tap devices, by card. */
  taps: number[]
  /** Files that come without a gofer, below one root: each mount is a folder by its number. */
  shares: SharedFiles | null
  /** Takes what the guest kernel writes to its console. */
  console: number
}

/** By whom; the daemon's socket is connected, and QEMU serves by itself. */
export type SharedFiles = { by: 'virtio-9p'; mounts: Share[] } | { by: 'virtiofsd'; socket: number }

/** A booted VM on disk. */
export interface Template {
  memory: string
  state: string
  /** It has been made just now. */
  isNew: boolean
}

export interface Confinement {
  /** User and group of the VMM's process. */
  id: number
  /** Directories of cgroups that it joins. */
  cgroups: string[]
}

export interface RunningVm {
  pid: number
  /** Our ends of its connections, when they are others than it was given: those are not used then. */
  ends: { agent: number; console: number } | null
  fixedPorts: number
  /** Makes a 9P port for a connected socket. Only where the shape is `growing`. Throws an Error that says why not. */
  connect(port: number, fd: number): void
  /** Takes it out again. */
  disconnect(port: number): void
  /** Readable when the VMM tells something unasked, which has to be taken off it; −1: it never does. */
  events: number
  hear(): void
  /** Lets go of what disconnected ports have held; false: not of all yet. */
  tidy(): boolean
}

export interface Vmm {
  /** Goes into the names of templates: another version cannot restore them. */
  version(): string
  boot(shape: VmShape, to: VmConnections, confinement: Confinement): RunningVm
  restore(shape: VmShape, template: Template, to: VmConnections, confinement: Confinement): RunningVm
  /** Boots a VM, lets `ready` (given the agent's socket) wait for its agent, and saves it to two files of `dir`. */
  save(shape: VmShape, dir: string, ready: (agent: number) => void): void
}
