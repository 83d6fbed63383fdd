/**
 * Templates: a VM that has booted and waits for its first order, saved once per shape and restored for each container. A
 * template holds nothing of any container; clock, randomness and names are given to each VM when it wakes.
 */
import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Store } from './store.ts'
import type { Template, Vmm, VmShape } from './vmm.ts'

/** Counts up with any change of the machine's devices and CPU, or of what the agent does before it says hello. */
const DEVICES = 11

interface TemplateManifest {
  /** Without it the template is of no use. */
  image: string
  memoryBytes: number
  stateBytes: number
}

/** Everything that a restored VM has to have in common with the saved one. Told at every start, so it is no hash. */
export function templateName(shape: VmShape, vmm: string): string {
  const { image, accel, memory, cpus, tscKhz, networked, ports, growing } = shape
  const kind = `${networked ? 'net' : 'plain'}${growing ? '-grows' : ''}`
  return [image.hash, accel, `${memory}M`, cpus, tscKhz, kind, ports, DEVICES, vmm].join('-')
}

/** Whole, as its manifest says; null otherwise. */
export function findTemplate(dir: string): Template | null {
  const template = { memory: join(dir, 'memory'), state: join(dir, 'state'), isNew: false }
  try {
    const manifest = JSON.parse(readFileSync(join(dir, 'manifest.json'), 'utf8')) as TemplateManifest
    const whole =
      statSync(template.memory).size === manifest.memoryBytes && statSync(template.state).size === manifest.stateBytes
    return whole && manifest.stateBytes > 0 ? template : null
  } catch {
    return null
  }
}

/** Finds or makes the template for `shape`. `ready`: see {@link Vmm.save}. */
export function template(store: Store, vmm: Vmm, shape: VmShape, ready: (agent: number) => void): Template {
  const dir = join(store.dir, 'templates', templateName(shape, vmm.version()))
  const found = findTemplate(dir)
  if (found) return found
  rmSync(dir, { recursive: true, force: true })
  store.publish(dir, (temporary) => {
    vmm.save(shape, temporary, ready)
    const manifest: TemplateManifest = {
      image: shape.image.hash,
      memoryBytes: statSync(join(temporary, 'memory')).size,
      stateBytes: statSync(join(temporary, 'state')).size,
    }
    writeFileSync(join(temporary, 'manifest.json'), JSON.stringify(manifest))
  })
  const made = findTemplate(dir)
  if (!made) throw new Error(`the virtual machine's template in ${dir} is not whole`)
  return { ...made, isNew: true }
}
