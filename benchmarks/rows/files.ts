/** Reading files that the container has not seen and then has: what its file system costs, over 9P for a virtual machine. */
import { randomBytes } from 'node:crypto'
import { copyFileSync, existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Context, runInside } from '../inside.ts'
import type { Row } from '../types.ts'
import type { Way } from '../ways.ts'

const BIG_BYTES = 64 << 20
const FOLDERS = 100
const FILES_EACH = 20
const SMALL_BYTES = 1500

const row = (name: string, title: string, unit: string): Row => ({
  name,
  group: 'macro',
  title,
  unit,
  better: unit === 'ms' ? 'lower' : 'higher',
  limit: 60,
})

export const FILE_ROWS: Row[] = [
  row('read-first', 'dd of a 64 MiB file, as dd reports it', 'MB/s'),
  row('read-again', 'the same again', 'MB/s'),
  row('list-first', 'ls -lR of 2,000 files', 'ms'),
  row('list-again', 'the same again', 'ms'),
]

/** A folder with what is read and what reads it, to lie over a root file system. */
function fileLayer(work: string): string {
  const layer = join(work, 'file-layer')
  const folder = join(layer, 'bench-files')
  if (existsSync(folder)) return layer
  for (let i = 0; i < FOLDERS; i++) {
    const dir = join(folder, `tree/folder-${i}`)
    mkdirSync(dir, { recursive: true })
    for (let j = 0; j < FILES_EACH; j++) writeFileSync(join(dir, `file-${j}`), randomBytes(SMALL_BYTES))
  }
  writeFileSync(join(folder, 'big'), randomBytes(BIG_BYTES))
  copyFileSync(join(import.meta.dirname, '../files.sh'), join(folder, 'files.sh'))
  return layer
}

export function measureFiles(way: Way, rows: Row[], context: Context): Promise<void> {
  const command = (some: Row[]) => ['/bin/sh', '/bench-files/files.sh', ...some.map((r) => r.name)]
  return runInside(way, rows, command, { ...context, lower: `${fileLayer(context.work)}:${context.lower}` })
}
