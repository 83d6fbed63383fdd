/**
 * Finds and loads `dist/libhost.so`. Processes run from bundles in dist/; unit tests run from the checkout.
 */
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'

/** native/host/addon.c says what each means. */
interface Addon {
  func(name: string, result: 'void' | 'int' | 'long' | 'void *', types: readonly string[]): unknown
  view(address: number, length: number): ArrayBuffer
  address(view: NodeJS.ArrayBufferView): number
}

/** The folder with the built parts: beside the running bundle, or `dist/` of the checkout. */
export function distDir(): string {
  const beside = dirname(process.argv[1] ?? '')
  return existsSync(join(beside, 'libhost.so')) ? beside : join(process.cwd(), 'dist')
}

function load(): Addon {
  const module = { exports: {} }
  process.dlopen(module, join(distDir(), 'libhost.so'))
  return module.exports as Addon
}

export const libhost = load()
/** Memory of this process that stays for good, as an ArrayBuffer. */
export const memoryAt = libhost.view
/** Where the bytes are. Only for memory off the JavaScript heap, and as long as it is alive. */
export const addressOf = libhost.address
