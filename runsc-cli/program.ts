/**
 * The command line: every command with its flags, and which file has its body. Bodies are loaded when they are run, so
 * that no command pays for another. Flags of runc that have no meaning here are accepted; each says so in its help.
 */
import { resolve } from 'node:path'
import { Command, Option } from 'commander'
import type { CommandBody } from './command.ts'
import { CliError } from './errors.ts'
import { Log } from './log.ts'
import { defaultRoot, type GlobalOptions } from './options.ts'
import { versionText } from './version.ts'

type AnyBody = CommandBody<never>
type Load = () => Promise<{ body: unknown }>

const collect = (value: string, previous: string[] | undefined) => [...(previous ?? []), value]

const PLATFORMS = ['auto', 'ptrace', 'systrap', 'microvm']

export interface Outcome {
  code: number
  globals: GlobalOptions | null
}

const HELP = ['-h', '--help', 'help']

/** `words`: what follows the program's name. */
export function makeProgram(outcome: Outcome, words: readonly string[]): Command {
  const program = new Command('tssandbox')
    .description('An OCI container runtime whose kernel is written in TypeScript')
    .enablePositionalOptions()
    .helpOption('-h, --help', 'show help')
    .version(versionText(), '-v, --version', 'print the version')
    .option('--root <dir>', 'where the state of containers lives', defaultRoot())
    .option('--log <file>', 'write log lines to this file', '')
    .addOption(new Option('--log-format <format>', 'format of log lines').choices(['text', 'json']).default('text'))
    .option('--debug', 'log more', false)
    .addOption(
      new Option(
        '--platform <name>',
        'how guest code runs: under the kernel in TypeScript (systrap, ptrace), or under a Linux in a virtual machine (microvm)',
      )
        .choices(PLATFORMS)
        .default('auto'),
    )
    .addOption(
      new Option(
        '--microvm-accel <name>',
        'acceleration of virtual machines; auto: KVM where ring 0 is native, else emulation',
      )
        .choices(['auto', 'kvm', 'tcg'])
        .default('auto'),
    )
    .addOption(
      new Option('--microvm-template <mode>', 'on: restore a saved virtual machine; off: boot each')
        .choices(['on', 'off'])
        .default('on'),
    )
    .addOption(
      new Option(
        '--microvm-fs <server>',
        "who serves a virtual machine's files: the gofer, by FUSE or by 9P; or, with less between guest and host and a cold boot each, " +
          "QEMU's own virtio-9p or virtiofsd",
      )
        .choices(['fuse', '9p', 'virtio-9p', 'virtiofsd'])
        .default('fuse'),
    )
    .option('--microvm-dir <dir>', 'kernels and templates of virtual machines', '/var/lib/tssandbox/microvm')
    .addOption(
      new Option('--network <mode>', "host: the container's network namespace; none: loopback inside the sandbox")
        .choices(['host', 'none'])
        .default('host'),
    )
    .option(
      '--debug-log <dir>',
      'write debug, strace and start-up logs to files in this directory; run and do print the phases of their start',
      '',
    )
    .option('--strace', 'log every system call of the guest with its arguments and result', false)
    .option('--systemd-cgroup', 'linux.cgroupsPath is in the form slice:prefix:name', false)
    .option('--cgroup-manager <name>', 'cgroupfs, systemd (as --systemd-cgroup) or disabled (as --ignore-cgroups)')
    .option('--ignore-cgroups', "leave the host's cgroups alone", false)
    .option('--rootless <mode>', 'accepted; true implies --ignore-cgroups', 'auto')
    .option('--criu <path>', 'accepted, no effect')
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'tssandbox: ')) })

  const globals = (): GlobalOptions => {
    const o = program.opts()
    const manager = o.cgroupManager as string | undefined
    return {
      root: o.root,
      log: o.log,
      logFormat: o.logFormat,
      debug: o.debug,
      systemdCgroup: o.systemdCgroup || manager === 'systemd',
      ignoreCgroups: o.ignoreCgroups || manager === 'disabled',
      rootless: o.rootless === 'true',
      platform: o.platform,
      microvm: {
        store: resolve(o.microvmDir),
        accel: o.microvmAccel,
        template: o.microvmTemplate === 'on',
        fs: o.microvmFs,
      },
      network: o.network,
      debugLog: o.debugLog && resolve(o.debugLog),
      strace: o.strace,
    }
  }
  const add = (synopsis: string, description: string, load: Load): Command =>
    program
      .command(synopsis)
      .description(description)
      .helpOption('-h, --help', 'show help')
      .action(async (...all: unknown[]) => {
        const command = all.pop() as Command
        const g = globals()
        outcome.globals = g
        if (NEEDS_ROOT.has(command.name()) && process.getuid?.() !== 0)
          throw new CliError(`${command.name()}: has to be run as root`)
        const { body } = (await load()) as { body: AnyBody }
        const invocation = { args: command.args, options: command.opts() as never, globals: g, log: new Log(g) }
        outcome.code = await body(invocation)
      })

  const creating = (command: Command): Command =>
    command
      .option('-b, --bundle <dir>', 'the folder with config.json', '.')
      .option('-f, --config <name>', 'name of the configuration inside the bundle', 'config.json')
      .option('--console-socket <path>', "unix socket that receives the terminal's pty master", '')
      .option('--pid-file <file>', "write the container's host pid to this file", '')
      .option('--no-pivot', 'accepted, no effect: there is nothing to pivot')
      .option('--no-new-keyring', 'accepted, no effect: there are no keyrings')
      .option('--preserve-fds <n>', 'pass on this many descriptors, from 3 upwards', '0')

  const commands: Record<string, () => Command> = {
    create: () =>
      creating(add('create <id>', 'create a container that waits for start', () => import('./commands/create.ts'))),
    start: () => add('start <id>', 'run the process of a created container', () => import('./commands/start.ts')),
    run: () =>
      creating(add('run <id>', 'create and start a container', () => import('./commands/run.ts')))
        .option('-d, --detach', 'return when it runs', false)
        .option('--keep', 'do not delete it when it ends', false)
        .option('--no-subreaper', 'accepted, no effect'),
    state: () => add('state <id>', 'print the state of a container as JSON', () => import('./commands/state.ts')),
    kill: () =>
      add('kill <id> [signal]', 'send a signal (default SIGTERM)', () => import('./commands/kill.ts'))
        .option('-a, --all', 'to all processes of the container', false)
        .option('-p, --pid <pid>', "to this process, by the container's own number", ''),
    delete: () =>
      add('delete <id...>', 'remove a stopped container', () => import('./commands/delete.ts')).option(
        '-f, --force',
        'kill it if it still runs; no error if it is gone',
        false,
      ),
    list: () =>
      add('list', 'list containers', () => import('./commands/list.ts'))
        .addOption(new Option('-f, --format <format>', 'output').choices(['table', 'json', 'text']).default('table'))
        .option('-q, --quiet', 'only ids', false),
    ps: () =>
      add('ps <id> [ps-options...]', "list a container's processes", () => import('./commands/ps.ts'))
        .addOption(
          new Option('-f, --format <format>', 'json: a bare array of host pids')
            .choices(['table', 'json'])
            .default('table'),
        )
        .passThroughOptions(),
    exec: () =>
      add('exec <id> [command...]', 'run a further process in a running container', () => import('./commands/exec.ts'))
        .option('-p, --process <file>', 'the process as JSON, as in config.json', '')
        .option('-d, --detach', 'return when it runs', false)
        .option('--pid-file <file>', 'write the host pid that stands for the process to this file', '')
        .option('--console-socket <path>', "unix socket that receives the terminal's pty master", '')
        .option('-t, --tty', 'give it a terminal', false)
        .option('-e, --env <name=value>', 'add to its environment', collect, [])
        .option('--cwd <dir>', 'its working directory', '')
        .option('-u, --user <uid[:gid]>', 'its user and group', '')
        .option('-g, --additional-gids <gid>', 'its further groups', collect, [])
        .option('-c, --cap <capability>', 'a further capability', collect, [])
        .option('--no-new-privs', 'it cannot gain privileges')
        .option('--apparmor <profile>', 'accepted, no effect')
        .option('--process-label <label>', 'accepted, no effect')
        .option('--preserve-fds <n>', 'accepted, no effect')
        .option('--cgroup <path>', 'accepted, no effect')
        .option('--ignore-paused', 'also when the container is paused', false)
        .passThroughOptions(),
    'exec-stand-in': () =>
      program.command('exec-stand-in <id>', { hidden: true }).action(async (...all: unknown[]) => {
        const command = all.pop() as Command
        const { standIn } = await import('./commands/exec.ts')
        const g = globals()
        outcome.code = await standIn({ args: command.args, options: {}, globals: g, log: new Log(g) })
      }),
    pause: () => add('pause <id>', 'stop all processes of a container', () => import('./commands/pause.ts')),
    resume: () => add('resume <id>', 'let them go on', () => import('./commands/resume.ts')),
    wait: () =>
      add(
        'wait <id>',
        'wait for a container to end and print its exit status',
        () => import('./commands/wait.ts'),
      ).option('--pid <pid>', "wait for this process, by the container's own number", ''),
    update: () =>
      add('update <id>', "change a container's limits", () => import('./commands/update.ts'))
        .option('-r, --resources <file>', 'linux.resources as JSON, - for stdin', '')
        .option('--memory <bytes>', 'memory limit', '')
        .option('--memory-reservation <bytes>', 'soft memory limit', '')
        .option('--memory-swap <bytes>', 'memory and swap together', '')
        .option('--cpu-share <n>', 'relative weight', '')
        .option('--cpu-quota <us>', 'time per period', '')
        .option('--cpu-period <us>', 'length of a period', '')
        .option('--cpuset-cpus <list>', 'CPUs to use', '')
        .option('--cpuset-mems <list>', 'memory nodes to use', '')
        .option('--pids-limit <n>', 'tasks in the container', '')
        .option('--blkio-weight <n>', 'relative weight of disk access', '')
        .option('--cpu-rt-period <us>', 'accepted, no effect')
        .option('--cpu-rt-runtime <us>', 'accepted, no effect')
        .option('--kernel-memory <bytes>', 'accepted, no effect')
        .option('--kernel-memory-tcp <bytes>', 'accepted, no effect'),
    events: () =>
      add('events <id>', 'print statistics', () => import('./commands/events.ts'))
        .option('--stats', 'once', false)
        .option('--interval <seconds>', 'time between two', '5s'),
    spec: () =>
      add('spec [command...]', 'write a config.json for run', () => import('./commands/spec.ts'))
        .option('-b, --bundle <dir>', 'where to', '.')
        .option('--cwd <dir>', 'working directory of the process', '')
        .option('--netns <path>', 'join this network namespace', '')
        .option('--rootless', 'accepted, no effect')
        .passThroughOptions(),
    features: () =>
      add('features', 'print what this runtime supports, as JSON', () => import('./commands/features.ts')),
    syscalls: () =>
      add('syscalls', 'print which system calls the kernel has', () => import('./commands/list-syscalls.ts')).addOption(
        new Option('--format <format>', 'output').choices(['table', 'json']).default('table'),
      ),
    microvm: () =>
      add(
        'microvm <action>',
        'setup: bring in kernel and initramfs for --platform=microvm',
        () => import('./commands/microvm.ts'),
      ).option(
        '--kernel <file>',
        "a bzImage or vmlinux with 9P, virtio-mmio, console, net and overlay built in, in place of the distribution's",
        '',
      ),
    do: () =>
      add(
        'do [command...]',
        "run one command on the host's files, read-only, under an in-memory overlay",
        () => import('./commands/do.ts'),
      )
        .option('--root <dir>', 'its root directory', '')
        .option('--cwd <dir>', 'its working directory', '')
        .option('-e, --env <name[=value]>', 'add to its environment', collect, [])
        .option('-v, --volume <source[:destination[:ro]]>', 'a host path that it may use directly', collect, [])
        .option('--hostname <name>', 'its host name', '')
        .addOption(new Option('--network <mode>', 'as the global flag').choices(['host', 'none']))
        .addOption(new Option('--platform <name>', 'as the global flag').choices(PLATFORMS))
        .option('--strace', 'as the global flag')
        .option('--debug-log <dir>', 'as the global flag')
        .passThroughOptions(),
  }
  // To describe them all takes 4 ms. What is not among the words cannot be meant.
  const asked = Object.keys(commands).filter((name) => words.includes(name))
  const help = asked.length === 0 || words.some((word) => HELP.includes(word))
  for (const name of help ? Object.keys(commands) : asked) commands[name]!()
  return program
}

/** Commands that make namespaces and cgroups. */
const NEEDS_ROOT = new Set(['create', 'run', 'do'])
