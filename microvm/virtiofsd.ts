/**
 * virtiofsd, a process of its own beside QEMU that serves the container's mounts out of the guest's memory. It confines
 * itself (namespaces, seccomp, capabilities) when it has begun, in a root that holds nothing but the mounts and itself.
 */
import { closeSync, existsSync, lstatSync, mkdtempSync, openSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { close } from '../native/host.ts'
import { spawnProcess } from '../native/spawn.ts'
import { AF_UNIX, bindUnix, connectUnix, listen, SOCK_CLOEXEC, SOCK_STREAM, socket } from '../native/unix-socket.ts'
import type { Share } from '../sentry/control/protocol.ts'

/** The one in Rust (Debian 13) and its predecessor in C, and how each is told the same. */
const DAEMONS: { path: string; options: string[] }[] = [
  {
    path: '/usr/libexec/virtiofsd',
    options: ['--shared-dir=/share', '--announce-submounts', '--modcaps=-mknod:-setfcap'],
  },
  {
    path: '/usr/lib/qemu/virtiofsd',
    options: ['-f', '-o', 'source=/share,announce_submounts,modcaps=-mknod:-setfcap,log_level=warn'],
  },
]

/** Files, users of files, namespaces and chroot while it confines itself, resource limits. */
const CAPABILITIES = [0, 1, 2, 3, 4, 6, 7, 8, 18, 21, 24]
  .reduce((mask, cap) => mask | (1n << BigInt(cap)), 0n)
  .toString(16)

const FILES = ['/usr', '/lib', '/lib64', '/bin', '/etc/ld.so.cache', '/dev/null', '/dev/urandom', '/proc', '/tmp']

/** For `launch`: the mounts below /share. */
export const shareArguments = (mounts: readonly Share[]): string[] =>
  mounts.flatMap(({ source, readonly }, n) => ['--share', `${n}:${readonly ? 'ro' : 'rw'}:${source}`])

/** Started; QEMU's connection to it. Throws an Error that says why not. */
export function startVirtiofsd(dist: string, mounts: readonly Share[]): number {
  const daemon = DAEMONS.find(({ path }) => existsSync(path))
  if (!daemon)
    throw new Error('virtiofsd is not installed (Debian 12: apt-get install qemu-system-common; 13: virtiofsd)')
  const must = (what: string, r: number): number => {
    if (r < 0) throw new Error(`virtiofsd: ${what}: errno ${-r}`)
    return r
  }
  const dir = mkdtempSync(join(tmpdir(), 'tssandbox-virtiofsd-'))
  try {
    const path = join(dir, 'socket')
    const listener = must('socket', socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0))
    must('bind', bindUnix(listener, path))
    must('listen', listen(listener, 1))
    const connection = must('socket', socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0))
    must('connect', connectUnix(connection, path))
    const launch = [
      ...['--ns', 'mnt,ipc,uts,net', '--default-signals', '--setsid', '--no-core', '--no-io-uring', '--clear-env'],
      ...['--keep-fd', '3'],
      ...FILES.filter((file) => lstatSync(file, { throwIfNoEntry: false })).flatMap((file) => ['--view', file]),
      ...shareArguments(mounts),
      ...[
        '--nofile',
        '1048576',
        '--bounding-caps',
        CAPABILITIES,
        '--pdeathsig',
        '9',
        '--argv0',
        'tssandbox-virtiofsd',
        '--',
      ],
      ...[daemon.path, ...daemon.options, '--rlimit-nofile=0', '--fd=3'],
    ]
    const nothing = openSync('/dev/null', 'r+')
    const pid = spawnProcess([join(dist, 'launch'), ...launch], [nothing, nothing, 2, listener])
    closeSync(nothing)
    close(listener)
    must('launch', pid)
    return connection
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}
