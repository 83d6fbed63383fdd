/**
 * Which acceleration QEMU is started with. /dev/kvm being there says little: a KVM that emulates ring 0 in software (the
 * PVM back end of some clouds) runs a guest's kernel at half a million instructions per second, or cannot boot it. So
 * `auto` goes by what native/probe measured.
 */
import { join } from 'node:path'
import { runProcess } from '../native/spawn.ts'

export type Accel = 'kvm' | 'tcg'
export type AccelWish = Accel | 'auto'

export interface AccelChoice {
  accel: Accel
  reason: string
}

/** What the probe says of this host; it holds until the next boot. */
export interface HostFacts {
  /** 0: ring 0 runs natively. 2: it is emulated. Anything else: no KVM. */
  kvm: number
  tscKhz: number
}

const PROBE_MS = 5000

export function probeHost(dist: string): HostFacts {
  const { status, output } = runProcess([join(dist, 'probe')], PROBE_MS)
  const m = /^(\d+) (\d+)$/m.exec(output)
  if (!m) throw new Error(`the probe of this host failed: it ended with ${status}`)
  return { kvm: Number(m[1]), tscKhz: Number(m[2]) }
}

export function chooseAccel(wish: AccelWish, facts: HostFacts): AccelChoice {
  if (wish !== 'auto') return { accel: wish, reason: 'asked for' }
  if (facts.kvm === 0) return { accel: 'kvm', reason: 'ring 0 runs natively' }
  if (facts.kvm === 2) return { accel: 'tcg', reason: 'the KVM of this host emulates ring 0 in software' }
  return { accel: 'tcg', reason: 'this host has no usable KVM' }
}
