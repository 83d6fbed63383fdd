/**
 * Names of flags and constants for --strace, spelt as strace(1) spells them.
 *
 * A set is a list of (value, name) lines; a value of several bits stands before the bits that it consists of. `enumeration`
 * names one value, `flags` a combination.
 */
import { SIGNAL_NAMES } from './signals.ts'

export type Names = readonly (readonly [number, string])[]

/** 'NAME value' lines to a table; `prefix` is put before each name. */
function names(prefix: string, text: string): Names {
  return text
    .trim()
    .split(/\s+/)
    .map((word) => {
      const eq = word.indexOf('=')
      return [Number(word.slice(eq + 1)), prefix + word.slice(0, eq)] as const
    })
}

export const hex = (n: number): string => `0x${n.toString(16)}`

/** One of a table's values; `what` explains an unknown one. */
export function enumeration(table: Names, value: number, what: string): string {
  for (const [v, name] of table) if (v === value) return name
  return `${hex(value >>> 0)} /* ${what} */`
}

/** A combination of a table's bits; the rest in hexadecimal. */
export function flags(table: Names, value: number, what: string): string {
  let left = value >>> 0
  const parts: string[] = []
  for (const [v, name] of table) {
    const bits = v >>> 0
    if (bits === 0 || (left & bits) >>> 0 !== bits) continue
    parts.push(name)
    left = (left & ~bits) >>> 0
  }
  if (parts.length === 0) {
    for (const [v, name] of table) if (v === 0 && left === 0) return name
    return left === 0 ? '0' : `${hex(left)} /* ${what} */`
  }
  if (left !== 0) parts.push(hex(left))
  return parts.join('|')
}

const O_FLAGS = names(
  'O_',
  `CREAT=0100 EXCL=0200 NOCTTY=0400 TRUNC=01000 APPEND=02000 NONBLOCK=04000 SYNC=04010000 DSYNC=010000 ASYNC=020000
  DIRECT=040000 LARGEFILE=0100000 TMPFILE=020200000 DIRECTORY=0200000 NOFOLLOW=0400000 NOATIME=01000000
  CLOEXEC=02000000 PATH=010000000`.replace(/=0/g, '=0o'),
)
const ACCESS = ['O_RDONLY', 'O_WRONLY', 'O_RDWR', 'O_ACCMODE']

export function openFlags(value: number): string {
  const rest = (value & ~3) >>> 0
  const access = ACCESS[value & 3]!
  return rest === 0 ? access : `${access}|${flags(O_FLAGS, rest, 'O_???')}`
}
/** O_NONBLOCK and O_CLOEXEC alone, as pipe2 and dup3 take them. */
export const fdFlags = (value: number): string => flags(O_FLAGS, value, 'O_???')

export const PROT = names('PROT_', 'NONE=0 READ=1 WRITE=2 EXEC=4 GROWSDOWN=0x01000000 GROWSUP=0x02000000')
const MAP_TYPES = names('MAP_', 'FILE=0 SHARED=1 PRIVATE=2 SHARED_VALIDATE=3')
const MAP_BITS = names(
  'MAP_',
  `FIXED=0x10 ANONYMOUS=0x20 32BIT=0x40 GROWSDOWN=0x100 DENYWRITE=0x800 EXECUTABLE=0x1000 LOCKED=0x2000
  NORESERVE=0x4000 POPULATE=0x8000 NONBLOCK=0x10000 STACK=0x20000 HUGETLB=0x40000 SYNC=0x80000 FIXED_NOREPLACE=0x100000`,
)
export function mmapFlags(value: number): string {
  const type = enumeration(MAP_TYPES, value & 15, 'MAP_???')
  const rest = (value & ~15) >>> 0
  return rest === 0 ? type : `${type}|${flags(MAP_BITS, rest, 'MAP_???')}`
}

const CLONE_BITS = names(
  'CLONE_',
  `VM=0x100 FS=0x200 FILES=0x400 SIGHAND=0x800 PIDFD=0x1000 PTRACE=0x2000 VFORK=0x4000 PARENT=0x8000 THREAD=0x10000
  NEWNS=0x20000 SYSVSEM=0x40000 SETTLS=0x80000 PARENT_SETTID=0x100000 CHILD_CLEARTID=0x200000 DETACHED=0x400000
  UNTRACED=0x800000 CHILD_SETTID=0x1000000 NEWCGROUP=0x2000000 NEWUTS=0x4000000 NEWIPC=0x8000000 NEWUSER=0x10000000
  NEWPID=0x20000000 NEWNET=0x40000000 IO=0x80000000`,
)
export function cloneFlags(value: number): string {
  const signal = value & 0xff
  const rest = (value & ~0xff) >>> 0
  const parts = rest === 0 ? [] : [flags(CLONE_BITS, rest, 'CLONE_???')]
  if (signal !== 0) parts.push(signalName(signal))
  return parts.length === 0 ? '0' : parts.join('|')
}
export const namespaceFlags = (value: number): string => flags(CLONE_BITS, value, 'CLONE_???')

export function signalName(value: number): string {
  if (value >= 34 && value <= 64) return `SIGRT_${value - 32}`
  if (value === 32) return 'SIGRTMIN'
  if (value === 33) return 'SIGRT_1'
  return SIGNAL_NAMES[value] ?? String(value)
}

/** Further sets by the name of the argument kind in the table's signatures: table, and whether its values combine. */
export const SETS: Record<string, { table: Names; combine: boolean; what: string }> = {}

function set(kind: string, prefix: string, combine: boolean, text: string): void {
  SETS[kind] = { table: names(prefix, text), combine, what: `${prefix}???` }
}

set('prot', 'PROT_', true, 'NONE=0 READ=1 WRITE=2 EXEC=4 GROWSDOWN=0x01000000 GROWSUP=0x02000000')
set('access_mode', '', true, 'F_OK=0 R_OK=4 W_OK=2 X_OK=1')
set(
  'at_flags',
  'AT_',
  true,
  'SYMLINK_NOFOLLOW=0x100 REMOVEDIR=0x200 SYMLINK_FOLLOW=0x400 NO_AUTOMOUNT=0x800 EMPTY_PATH=0x1000 RECURSIVE=0x8000',
)
set('faccess_flags', 'AT_', true, 'SYMLINK_NOFOLLOW=0x100 EACCESS=0x200 EMPTY_PATH=0x1000')
set(
  'statx_flags',
  'AT_',
  true,
  'STATX_SYNC_AS_STAT=0 SYMLINK_NOFOLLOW=0x100 NO_AUTOMOUNT=0x800 EMPTY_PATH=0x1000 STATX_FORCE_SYNC=0x2000 STATX_DONT_SYNC=0x4000',
)
set(
  'statx_mask',
  'STATX_',
  true,
  'ALL=0xfff BASIC_STATS=0x7ff TYPE=1 MODE=2 NLINK=4 UID=8 GID=0x10 ATIME=0x20 MTIME=0x40 CTIME=0x80 INO=0x100 SIZE=0x200 BLOCKS=0x400 BTIME=0x800 MNT_ID=0x1000',
)
set(
  'ptrace_request',
  'PTRACE_',
  false,
  'TRACEME=0 PEEKTEXT=1 PEEKDATA=2 PEEKUSER=3 POKETEXT=4 POKEDATA=5 POKEUSER=6 CONT=7 KILL=8 SINGLESTEP=9 GETREGS=12 SETREGS=13 GETFPREGS=14 SETFPREGS=15 ATTACH=16 DETACH=17 SYSCALL=24 SYSEMU=31 SYSEMU_SINGLESTEP=32 SETOPTIONS=0x4200 GETEVENTMSG=0x4201 GETSIGINFO=0x4202 SETSIGINFO=0x4203 GETREGSET=0x4204 SETREGSET=0x4205 SEIZE=0x4206 INTERRUPT=0x4207 LISTEN=0x4208 PEEKSIGINFO=0x4209 GETSIGMASK=0x420a SETSIGMASK=0x420b SECCOMP_GET_FILTER=0x420c GET_SYSCALL_INFO=0x420e',
)
set('whence', 'SEEK_', false, 'SET=0 CUR=1 END=2 DATA=3 HOLE=4')
set('sig_how', 'SIG_', false, 'BLOCK=0 UNBLOCK=1 SETMASK=2')
set('wait_options', 'W', true, 'NOHANG=1 UNTRACED=2 EXITED=4 CONTINUED=8 NOWAIT=0x1000000')
set('idtype', 'P_', false, 'ALL=0 PID=1 PGID=2 PIDFD=3')
set('domain', 'AF_', false, 'UNSPEC=0 UNIX=1 INET=2 AX25=3 IPX=4 INET6=10 NETLINK=16 PACKET=17 ALG=38 VSOCK=40 XDP=44')
set(
  'msg_flags',
  'MSG_',
  true,
  `OOB=1 PEEK=2 DONTROUTE=4 CTRUNC=8 PROXY=0x10 TRUNC=0x20 DONTWAIT=0x40 EOR=0x80 WAITALL=0x100 FIN=0x200 SYN=0x400
  CONFIRM=0x800 RST=0x1000 ERRQUEUE=0x2000 NOSIGNAL=0x4000 MORE=0x8000 WAITFORONE=0x10000 CMSG_CLOEXEC=0x40000000`,
)
set('shutdown_how', 'SHUT_', false, 'RD=0 WR=1 RDWR=2')
set('epoll_op', 'EPOLL_CTL_', false, 'ADD=1 DEL=2 MOD=3')
set('epoll_flags', 'EPOLL_', true, 'CLOEXEC=0x80000')
set('efd_flags', 'EFD_', true, 'SEMAPHORE=1 NONBLOCK=0o4000 CLOEXEC=0o2000000')
set('tfd_flags', 'TFD_', true, 'NONBLOCK=0o4000 CLOEXEC=0o2000000')
set('tfd_settime', 'TFD_TIMER_', true, 'ABSTIME=1 CANCEL_ON_SET=2')
set('timer_flags', 'TIMER_', true, 'ABSTIME=1')
set('sfd_flags', 'SFD_', true, 'NONBLOCK=0o4000 CLOEXEC=0o2000000')
set('in_flags', 'IN_', true, 'NONBLOCK=0o4000 CLOEXEC=0o2000000')
set(
  'in_mask',
  'IN_',
  true,
  `ALL_EVENTS=0xfff ACCESS=1 MODIFY=2 ATTRIB=4 CLOSE_WRITE=8 CLOSE_NOWRITE=0x10 OPEN=0x20 MOVED_FROM=0x40 MOVED_TO=0x80
  CREATE=0x100 DELETE=0x200 DELETE_SELF=0x400 MOVE_SELF=0x800 ONLYDIR=0x1000000 DONT_FOLLOW=0x2000000
  EXCL_UNLINK=0x4000000 MASK_CREATE=0x10000000 MASK_ADD=0x20000000 ISDIR=0x40000000 ONESHOT=0x80000000`,
)
set(
  'clockid',
  'CLOCK_',
  false,
  `REALTIME=0 MONOTONIC=1 PROCESS_CPUTIME_ID=2 THREAD_CPUTIME_ID=3 MONOTONIC_RAW=4 REALTIME_COARSE=5
  MONOTONIC_COARSE=6 BOOTTIME=7 REALTIME_ALARM=8 BOOTTIME_ALARM=9 TAI=11`,
)
set('itimer', 'ITIMER_', false, 'REAL=0 VIRTUAL=1 PROF=2')
set(
  'madvise',
  'MADV_',
  false,
  `NORMAL=0 RANDOM=1 SEQUENTIAL=2 WILLNEED=3 DONTNEED=4 FREE=8 REMOVE=9 DONTFORK=10 DOFORK=11 MERGEABLE=12
  UNMERGEABLE=13 HUGEPAGE=14 NOHUGEPAGE=15 DONTDUMP=16 DODUMP=17 WIPEONFORK=18 KEEPONFORK=19 COLD=20 PAGEOUT=21
  POPULATE_READ=22 POPULATE_WRITE=23`,
)
set('mremap_flags', 'MREMAP_', true, 'MAYMOVE=1 FIXED=2 DONTUNMAP=4')
set('msync_flags', 'MS_', true, 'ASYNC=1 INVALIDATE=2 SYNC=4')
set('mcl_flags', 'MCL_', true, 'CURRENT=1 FUTURE=2 ONFAULT=4')
set('mfd_flags', 'MFD_', true, 'CLOEXEC=1 ALLOW_SEALING=2 HUGETLB=4 NOEXEC_SEAL=8 EXEC=0x10')
set('grnd_flags', 'GRND_', true, 'NONBLOCK=1 RANDOM=2 INSECURE=4')
set('flock_op', 'LOCK_', true, 'SH=1 EX=2 NB=4 UN=8')
set(
  'rlimit_resource',
  'RLIMIT_',
  false,
  'CPU=0 FSIZE=1 DATA=2 STACK=3 CORE=4 RSS=5 NPROC=6 NOFILE=7 MEMLOCK=8 AS=9 LOCKS=10 SIGPENDING=11 MSGQUEUE=12 NICE=13 RTPRIO=14 RTTIME=15',
)
set('rusage_who', 'RUSAGE_', false, 'SELF=0 CHILDREN=-1 THREAD=1')
set('prio_which', 'PRIO_', false, 'PROCESS=0 PGRP=1 USER=2')
set('sched_policy', 'SCHED_', false, 'OTHER=0 FIFO=1 RR=2 BATCH=3 IDLE=5 DEADLINE=6')
set('arch_prctl', 'ARCH_', false, 'SET_GS=0x1001 SET_FS=0x1002 GET_FS=0x1003 GET_GS=0x1004')
set(
  'prctl',
  'PR_',
  false,
  `SET_PDEATHSIG=1 GET_PDEATHSIG=2 GET_DUMPABLE=3 SET_DUMPABLE=4 GET_KEEPCAPS=7 SET_KEEPCAPS=8 SET_NAME=15 GET_NAME=16
  GET_SECCOMP=21 SET_SECCOMP=22 CAPBSET_READ=23 CAPBSET_DROP=24 GET_SECUREBITS=27 SET_SECUREBITS=28 SET_TIMERSLACK=29
  GET_TIMERSLACK=30 SET_MM=35 SET_CHILD_SUBREAPER=36 GET_CHILD_SUBREAPER=37 SET_NO_NEW_PRIVS=38 GET_NO_NEW_PRIVS=39
  SET_THP_DISABLE=41 GET_THP_DISABLE=42 CAP_AMBIENT=47 SET_SPECULATION_CTRL=53 SET_VMA=0x53564d41
  SET_PTRACER=0x59616d61`,
)
set(
  'fcntl',
  'F_',
  false,
  `DUPFD=0 GETFD=1 SETFD=2 GETFL=3 SETFL=4 GETLK=5 SETLK=6 SETLKW=7 SETOWN=8 GETOWN=9 SETSIG=10 GETSIG=11 SETOWN_EX=15
  GETOWN_EX=16 OFD_GETLK=36 OFD_SETLK=37 OFD_SETLKW=38 SETLEASE=1024 GETLEASE=1025 NOTIFY=1026 DUPFD_CLOEXEC=1030
  SETPIPE_SZ=1031 GETPIPE_SZ=1032 ADD_SEALS=1033 GET_SEALS=1034`,
)
set(
  'ioctl',
  '',
  false,
  `TCGETS=0x5401 TCSETS=0x5402 TCSETSW=0x5403 TCSETSF=0x5404 TCSBRK=0x5409 TCXONC=0x540a TCFLSH=0x540b TIOCEXCL=0x540c
  TIOCNXCL=0x540d TIOCSCTTY=0x540e TIOCGPGRP=0x540f TIOCSPGRP=0x5410 TIOCOUTQ=0x5411 TIOCSTI=0x5412 TIOCGWINSZ=0x5413
  TIOCSWINSZ=0x5414 FIONREAD=0x541b FIONBIO=0x5421 TIOCNOTTY=0x5422 TIOCGSID=0x5429 FIONCLEX=0x5450 FIOCLEX=0x5451
  FIOASYNC=0x5452 TIOCGPTN=0x80045430 TIOCSPTLCK=0x40045431 TIOCGPTPEER=0x5441 SIOCGIFCONF=0x8912 SIOCGIFFLAGS=0x8913
  SIOCGIFADDR=0x8915 SIOCGIFINDEX=0x8933 SIOCGIFNAME=0x8910 FICLONE=0x40049409 FS_IOC_GETFLAGS=0x80086601
  BLKGETSIZE64=0x80081272`,
)
set(
  'mount_flags',
  'MS_',
  true,
  `RDONLY=1 NOSUID=2 NODEV=4 NOEXEC=8 SYNCHRONOUS=16 REMOUNT=32 MANDLOCK=64 DIRSYNC=128 NOATIME=1024 NODIRATIME=2048
  BIND=4096 MOVE=8192 REC=16384 SILENT=32768 UNBINDABLE=0x20000 PRIVATE=0x40000 SLAVE=0x80000 SHARED=0x100000
  RELATIME=0x200000 STRICTATIME=0x1000000 LAZYTIME=0x2000000`,
)
set('umount_flags', '', true, 'MNT_FORCE=1 MNT_DETACH=2 MNT_EXPIRE=4 UMOUNT_NOFOLLOW=8')
set('fallocate_mode', 'FALLOC_FL_', true, 'KEEP_SIZE=1 PUNCH_HOLE=2 COLLAPSE_RANGE=8 ZERO_RANGE=16 INSERT_RANGE=32')
set('splice_flags', 'SPLICE_F_', true, 'MOVE=1 NONBLOCK=2 MORE=4 GIFT=8')
set('rename_flags', 'RENAME_', true, 'NOREPLACE=1 EXCHANGE=2 WHITEOUT=4')
set('fadvise', 'POSIX_FADV_', false, 'NORMAL=0 RANDOM=1 SEQUENTIAL=2 WILLNEED=3 DONTNEED=4 NOREUSE=5')
set('close_range_flags', 'CLOSE_RANGE_', true, 'UNSHARE=2 CLOEXEC=4')
set('sol', 'SOL_', false, 'SOCKET=1 IP=0 TCP=6 UDP=17 IPV6=41 RAW=255 NETLINK=270')
set('mpol', 'MPOL_', false, 'DEFAULT=0 PREFERRED=1 BIND=2 INTERLEAVE=3 LOCAL=4')
set('rwf_flags', 'RWF_', true, 'HIPRI=1 DSYNC=2 SYNC=4 NOWAIT=8 APPEND=16')
set('ipc_flags', 'IPC_', true, 'CREAT=0o1000 EXCL=0o2000 NOWAIT=0o4000')
set(
  'so_option',
  'SO_',
  false,
  `DEBUG=1 REUSEADDR=2 TYPE=3 ERROR=4 DONTROUTE=5 BROADCAST=6 SNDBUF=7 RCVBUF=8 KEEPALIVE=9 OOBINLINE=10 NO_CHECK=11
  PRIORITY=12 LINGER=13 REUSEPORT=15 PASSCRED=16 PEERCRED=17 RCVLOWAT=18 SNDLOWAT=19 RCVTIMEO_OLD=20 SNDTIMEO_OLD=21
  BINDTODEVICE=25 TIMESTAMP_OLD=29 ACCEPTCONN=30 PEERSEC=31 SNDBUFFORCE=32 RCVBUFFORCE=33 MARK=36 PROTOCOL=38 DOMAIN=39
  INCOMING_CPU=49 PEERGROUPS=59 PEERPIDFD=77`,
)
set(
  'futex_cmd',
  'FUTEX_',
  false,
  `WAIT=0 WAKE=1 FD=2 REQUEUE=3 CMP_REQUEUE=4 WAKE_OP=5 LOCK_PI=6 UNLOCK_PI=7 TRYLOCK_PI=8 WAIT_BITSET=9 WAKE_BITSET=10
  WAIT_REQUEUE_PI=11 CMP_REQUEUE_PI=12 LOCK_PI2=13`,
)

export const POLL_EVENTS = names(
  'POLL',
  'IN=1 PRI=2 OUT=4 ERR=8 HUP=0x10 NVAL=0x20 RDNORM=0x40 RDBAND=0x80 WRNORM=0x100 WRBAND=0x200 MSG=0x400 RDHUP=0x2000',
)
export const EPOLL_EVENTS = names(
  'EPOLL',
  `IN=1 PRI=2 OUT=4 ERR=8 HUP=0x10 RDNORM=0x40 RDBAND=0x80 WRNORM=0x100 WRBAND=0x200 MSG=0x400 RDHUP=0x2000
  EXCLUSIVE=0x10000000 WAKEUP=0x20000000 ONESHOT=0x40000000 ET=0x80000000`,
)
export const SOCK_TYPES = names('SOCK_', 'STREAM=1 DGRAM=2 RAW=3 RDM=4 SEQPACKET=5 DCCP=6 PACKET=10')
export const SOCK_FLAGS = names('SOCK_', 'NONBLOCK=0o4000 CLOEXEC=0o2000000')
export const SA_FLAGS = names(
  'SA_',
  'RESTORER=0x4000000 NOCLDSTOP=1 NOCLDWAIT=2 SIGINFO=4 ONSTACK=0x8000000 RESTART=0x10000000 NODEFER=0x40000000 RESETHAND=0x80000000',
)
