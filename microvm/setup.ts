/**
 * `tssandbox microvm setup`: brings kernel and initramfs into the store. The kernel is the distribution's (downloaded and
 * unpacked, not installed) or a file that the user gives; everything that is there already is used again.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmodSync, existsSync, globSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join, resolve } from 'node:path'
import type { MicrovmFs } from '../sentry/control/protocol.ts'
import { type CpioEntry, cpio } from './cpio.ts'
import { findQemu } from './qemu.ts'
import type { Store } from './store.ts'
import { extractVmlinux, withoutZeros } from './vmlinux.ts'

/** In the order in which they can be loaded. */
const MODULES = [
  ...['virtio_ring', 'virtio', 'virtio_mmio', 'virtio_console', 'failover', 'net_failover', 'virtio_net'],
  ...['netfs', 'fscache', '9pnet', '9pnet_fd', '9p', 'fuse', 'overlay'],
]

/** Loaded only where files are shared without a gofer. */
const SHARE_MODULES: Readonly<Record<Exclude<MicrovmFs, 'fuse' | '9p'>, string[]>> = {
  'virtio-9p': ['9pnet_virtio'],
  virtiofsd: ['virtiofs'],
}
const ALL_MODULES = [...MODULES, ...Object.values(SHARE_MODULES).flat()]

const PACKAGE = 'linux-image-amd64'
/** Counts up with changes of what is kept of a kernel. */
const FORMAT = 2

export interface SetupOptions {
  /** A bzImage or vmlinux with everything built in; empty: the distribution's. */
  kernel: string
  say(line: string): void
}

/** What older ones have left is removed. */
export function setup(store: Store, { kernel, say }: SetupOptions): void {
  findQemu()
  const name = kernel ? ownKernel(store, resolve(kernel), say) : distributionKernel(store, say)
  const dir = store.kernelDir(name)
  const modules = readdirSync(dir).filter((file) => file.endsWith('.ko'))
  const present = (names: readonly string[]) => names.map((m) => `${m}.ko`).filter((file) => modules.includes(file))
  const list = (name: string, names: readonly string[]): CpioEntry => ({
    name: `modules/${name}`,
    mode: 0o100644,
    data: Buffer.from(
      present(names)
        .map((m) => `${m}\n`)
        .join(''),
    ),
  })
  const entries: CpioEntry[] = [
    { name: 'init', mode: 0o100755, data: store.agent() },
    ...['dev', 'proc', 'sys', 'root', 'modules'].map((d) => ({ name: d, mode: 0o40755 })),
    list('order', MODULES),
    ...Object.entries(SHARE_MODULES).map(([name, names]) => list(name, names)),
    ...present(ALL_MODULES).map((m) => ({
      name: `modules/${m}`,
      mode: 0o100644,
      data: lean(readFileSync(join(dir, m))),
    })),
  ]
  store.saveImage(name, modules.length > 0, join(dir, 'vmlinux'), cpio(entries))
  store.hostFacts()
  const removed = store.prune()
  if (removed) say(`removed ${removed} images and templates that nobody uses any more`)
}

const SIGNED = '~Module signature appended~\n'
/** Behind the module and its signature: struct module_signature, whose last field is the signature's length, big-endian. */
const SIGNATURE_INFO = 12

/**
 * Sections that only cost an emulated CPU time when a module is loaded; the kernel does not find them under another name.
 * Type information for BPF, tables for stack traces (to be sorted), names for the numbers in formats of trace events.
 */
const UNWANTED_SECTIONS = ['.BTF', '.orc_unwind_ip', '_ftrace_eval_map']

/** A module without these and without its signature, which proves nothing inside an image that is ours. */
export function lean(module: Buffer): Buffer {
  const end = module.length - SIGNED.length
  let length = module.length
  if (end > SIGNATURE_INFO && module.subarray(end).toString('latin1') === SIGNED)
    length = end - SIGNATURE_INFO - module.readUInt32BE(end - 4)
  const out = Buffer.from(length > 0 ? module.subarray(0, length) : module)
  for (const section of UNWANTED_SECTIONS) {
    // Also where it is the end of another name, as of `.rela.orc_unwind_ip`: the linker keeps the two in one place.
    const at = out.indexOf(`${section}\0`, 0, 'latin1')
    if (at >= 0) out.write('-', at + section.length - 1, 'latin1')
  }
  return out
}

function ownKernel(store: Store, file: string, say: SetupOptions['say']): string {
  const image = readFileSync(file)
  const name = `${basename(file)}-${createHash('sha256').update(image).digest('hex').slice(0, 12)}`
  if (!existsSync(store.kernelDir(name))) {
    say(`unpacking ${file}`)
    store.publish(store.kernelDir(name), (dir) =>
      writeFileSync(join(dir, 'vmlinux'), withoutZeros(extractVmlinux(image))),
    )
  }
  return name
}

function output(command: string, args: string[], cwd?: string): string {
  const { stdout, stderr, status, error } = spawnSync(command, args, { cwd, encoding: 'utf8', maxBuffer: 1 << 26 })
  if (error) throw new Error(`${command} is needed for that: ${error.message}`)
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${stderr.trim().split('\n').pop()}`)
  return stdout
}

/** The package that linux-image-amd64 stands for now: `linux-image-6.1.0-56-amd64`. */
function kernelPackage(): string {
  const ask = () => /^\s*Depends: (linux-image-\S+)$/m.exec(output('apt-cache', ['depends', PACKAGE]))?.[1]
  let found: string | undefined
  try {
    found = ask()
  } catch {}
  if (!found) {
    output('apt-get', ['update'])
    found = ask()
  }
  if (!found) throw new Error(`the package lists know no ${PACKAGE}; give a kernel with --kernel FILE`)
  return found
}

function distributionKernel(store: Store, say: SetupOptions['say']): string {
  // A kernel that is there is good enough: newer ones come with `--kernel`, or when the folder is removed.
  const edition = createHash('sha256').update(`${ALL_MODULES} ${FORMAT}`).digest('hex').slice(0, 8)
  const present = globSync(join(store.kernelDir(`linux-image-*-${edition}`), 'vmlinux'))[0]
  if (present) return basename(resolve(present, '..'))
  const packageName = kernelPackage()
  const name = `${packageName}-${edition}`
  say(`downloading ${packageName}`)
  const work = mkdtempSync(join(tmpdir(), 'tssandbox-kernel-'))
  try {
    // apt downloads as a user of its own.
    chmodSync(work, 0o777)
    try {
      output('apt-get', ['download', packageName], work)
    } catch {
      output('apt-get', ['update'])
      output('apt-get', ['download', packageName], work)
    }
    say('unpacking it')
    const deb = globSync(join(work, '*.deb'))[0]!
    const members = [...ALL_MODULES.map((m) => `./lib/modules/*/${m}.ko*`), './boot/vmlinuz-*']
    const quoted = members.map((m) => `'${m}'`).join(' ')
    output('sh', [
      '-c',
      `dpkg-deb --fsys-tarfile "$0" | tar -x -C "$1" --wildcards ${quoted} './usr/lib/modules/*/none' 2>/dev/null; true`,
      deb,
      work,
    ])
    const image = globSync(join(work, 'boot/vmlinuz-*'))[0]
    if (!image) throw new Error(`${packageName} holds no kernel`)
    store.publish(store.kernelDir(name), (dir) => {
      writeFileSync(join(dir, 'vmlinux'), withoutZeros(extractVmlinux(readFileSync(image))))
      for (const file of globSync(join(work, '**/*.ko*'))) {
        const plain = join(dir, basename(file).replace(/\.(xz|zst|gz)$/, ''))
        if (file.endsWith('.xz')) output('xz', ['-d', file])
        writeFileSync(plain, readFileSync(file.replace(/\.xz$/, '')))
      }
    })
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
  return name
}
