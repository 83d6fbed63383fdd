// Checks the import rules between folders (.dependency-cruiser.cjs). dependency-cruiser cannot read TypeScript 7's
// sources, so it is given copies with the types stripped; imports of types alone are then gone, which is what the rules
// mean: they are about what is loaded.
import { spawnSync } from 'node:child_process'
import { cpSync, globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { stripTypeScriptTypes } from 'node:module'
import { dirname, join } from 'node:path'

const FOLDERS = 'runsc-cli,sentry,syscalls,gofer,native,microvm'
const copy = '.cache/import-rules'
rmSync(copy, { recursive: true, force: true })
const folders = new Set()
for (const file of globSync(`{${FOLDERS}}/**/*.ts`)) {
  const target = join(copy, file.replace(/\.ts$/, '.mjs'))
  mkdirSync(dirname(target), { recursive: true })
  const code = stripTypeScriptTypes(readFileSync(file, 'utf8')).replace(/(['"]\.[^'"\n]*)\.ts(['"])/g, '$1.mjs$2')
  writeFileSync(target, code)
  folders.add(file.split('/')[0])
}
cpSync('.dependency-cruiser.cjs', join(copy, '.dependency-cruiser.cjs'))
const args = ['--config', '.dependency-cruiser.cjs', ...folders]
const { status } = spawnSync('depcruise', args, { cwd: copy, stdio: 'inherit' })
process.exitCode = status ?? 1
