/**
 * Finds and loads `dist/libhost.so`. Processes run from bundles in dist/; unit tests run from the checkout.
 */
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import koffi from 'koffi'

/** The folder with the built parts: beside the running bundle, or `dist/` of the checkout. */
export function distDir(): string {
  const beside = dirname(process.argv[1] ?? '')
  return existsSync(join(beside, 'libhost.so')) ? beside : join(process.cwd(), 'dist')
}

export const libhost = koffi.load(join(distDir(), 'libhost.so'))
