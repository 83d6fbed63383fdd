/**
 * System V IPC constants (linux/ipc.h, shm.h, sem.h, msg.h).
 */
export const IPC_PRIVATE = 0
export const IPC_CREAT = 0o1000
export const IPC_EXCL = 0o2000
export const IPC_NOWAIT = 0o4000
export const IPC_RMID = 0
export const IPC_SET = 1
export const IPC_STAT = 2
export const IPC_INFO = 3

export const SHM_RDONLY = 0o10000
export const SHM_RND = 0o20000
export const SHM_REMAP = 0o40000
export const SHM_EXEC = 0o100000
export const SHM_LOCK = 11
export const SHM_UNLOCK = 12
export const SHM_STAT = 13
export const SHM_INFO = 14
export const SHM_STAT_ANY = 15
export const SHM_HUGETLB = 0o4000
/** Bits of shm_perm.mode beside the permissions. */
export const SHM_DEST = 0o1000
export const SHM_LOCKED = 0o2000

export const SEM_UNDO = 0x1000
export const GETPID = 11
export const GETVAL = 12
export const GETALL = 13
export const GETNCNT = 14
export const GETZCNT = 15
export const SETVAL = 16
export const SETALL = 17
export const SEM_STAT = 18
export const SEM_INFO = 19
export const SEM_STAT_ANY = 20

export const MSG_STAT = 11
export const MSG_INFO = 12
export const MSG_STAT_ANY = 13
export const MSG_NOERROR = 0o10000
export const MSG_EXCEPT = 0o20000
export const MSG_COPY = 0o40000

/** Sizes of the *id64_ds structures of x86-64; each begins with a struct ipc64_perm. */
export const IPC_PERM_SIZE = 48
export const SHMID_DS_SIZE = 112
export const SEMID_DS_SIZE = 104
export const MSQID_DS_SIZE = 120

export const SEMMSL = 32000
export const SEMMNI = 32000
export const SEMMNS = SEMMSL * SEMMNI
export const SEMOPM = 500
export const SEMVMX = 32767
export const SHMMNI = 4096
/** kernel.shmmax and shmall, ULONG_MAX − 2^24: as two words, and as the most that can be asked for here. */
export const SHMMAX_LO = 0xfeffffff
export const SHMMAX_HI = 0xffffffff
export const SHMMAX = 2 ** 63
export const MSGMNI = 32000
export const MSGMAX = 8192
export const MSGMNB = 16384
