/** Entry of `tssandbox microvm setup` (dist/microvm-setup.cjs): STORE KERNEL-OR-NOTHING. */
import { dirname } from 'node:path'
import { setup } from './setup.ts'
import { Store } from './store.ts'

const [, bundle, dir, kernel] = process.argv
try {
  const say = (line: string) => process.stderr.write(`tssandbox: ${line}\n`)
  setup(new Store(dir!, dirname(bundle!)), { kernel: kernel ?? '', say })
} catch (error) {
  process.stderr.write(`tssandbox: ${(error as Error).message}\n`)
  process.exitCode = 128
}
