/**
 * FUSE as Linux speaks it over /dev/fuse (include/uapi/linux/fuse.h, protocol 7.31 to 7.37; fuse(4)): requests by number
 * with their fields, and the numbers in them. Little-endian throughout:
 *
 *   request  u32 length (of all) · u32 opcode · u64 unique · u64 node · u32 uid · u32 gid · u32 pid · u32 padding · fields
 *   answer   u32 length · i32 −errno or 0 · u64 unique · fields, unless it is an error
 *   name     bytes · NUL
 *   attr     u64 ino, size, blocks, atime, mtime, ctime · u32 ns of those three, mode, nlink, uid, gid, rdev, blksize, flags
 *   entry    u64 node, generation, entry validity, attr validity · u32 ns of both · attr
 *
 * Times of validity are in seconds. A node is a file as the guest's kernel knows it, until it forgets it.
 */

export const REQUEST_HEADER = 40
export const ANSWER_HEADER = 16
export const ENTRY_SIZE = 128
/** Of the largest read or write, which are a message each: measured, larger ones gain nothing. */
export const MAX_DATA = 512 * 1024
/** What a write has beside its data, and any other request at most: two names, an attribute's value is less than data. */
export const MAX_FIELDS = 4096
export const MAJOR = 7
export const MINOR = 37
export const OLDEST_MINOR = 31
export const ROOT_NODE = 1

/** name → entry; node 0: there is none, and how long that is so */
export const LOOKUP = 1
/** u64 lookups. No answer. */
export const FORGET = 2
/** u32 flags · u32 · u64 handle → u64 validity · u32 ns · u32 · attr */
export const GETATTR = 3
/** u32 FATTR_* · u32 · u64 handle, size, lock owner, atime, mtime, ctime · u32 ns of those three, mode, –, uid, gid, – → as GETATTR */
export const SETATTR = 4
/** → target, without NUL */
export const READLINK = 5
/** name · target → entry */
export const SYMLINK = 6
/** u32 mode, rdev, umask, – · name → entry */
export const MKNOD = 8
/** u32 mode, umask · name → entry */
export const MKDIR = 9
/** name */
export const UNLINK = 10
/** name */
export const RMDIR = 11
/** u64 new directory · name · new name */
export const RENAME = 12
/** u64 node of the file · name → entry */
export const LINK = 13
/** u32 flags · u32 → u64 handle · u32 flags · u32 */
export const OPEN = 14
/** u64 handle, offset · u32 size, – · u64 lock owner · u32 flags, – → data */
export const READ = 15
/** u64 handle, offset · u32 size, WRITE_* · u64 lock owner · u32 flags, – · data → u32 size · u32 */
export const WRITE = 16
/** → u64 blocks, bfree, bavail, files, ffree · u32 bsize, namelen, frsize · u32 ×7 */
export const STATFS = 17
/** u64 handle · u32 flags · u32 · u64 lock owner */
export const RELEASE = 18
/** u64 handle · u32 1: data only · u32 */
export const FSYNC = 20
/** u32 size, flags · name · value */
export const SETXATTR = 21
/** u32 size, – · name → value; size 0: u32 its size · u32 */
export const GETXATTR = 22
/** u32 size, – → names; size 0: as above */
export const LISTXATTR = 23
/** name */
export const REMOVEXATTR = 24
/** u64 handle · u32 · u32 · u64 lock owner */
export const FLUSH = 25
/** u32 major, minor, readahead, INIT_* → u32 major, minor, readahead, INIT_* · u16 ×2 background · u32 max write, time's
 * granularity · u16 max pages, – · u32 ×8 */
export const INIT = 26
export const OPENDIR = 27
/** as READ → entries: u64 ino, offset of the next · u32 length, DT_* · name · zeros to a multiple of 8 */
export const READDIR = 28
export const RELEASEDIR = 29
export const FSYNCDIR = 30
/** u32 flags, mode, umask, – · name → entry · as OPEN */
/** u64 handle, owner, start, end (inclusive) · u32 F_*LCK, pid, LK_*, – → u64 start, end · u32 F_*LCK, pid */
export const GETLK = 31
/** the same → nothing */
export const SETLK = 32
/** It waits, until it is interrupted. */
export const SETLKW = 33
export const CREATE = 35
/** u64 unique of the request whose process has a signal */
export const INTERRUPT = 36
export const DESTROY = 38
/** u32 count · u32 · (u64 node · u64 lookups)… No answer. */
export const BATCH_FORGET = 42
/** u64 handle, offset, length · u32 mode · u32 */
export const FALLOCATE = 43
/** as READDIR, each with an entry in front, which counts as a lookup */
export const READDIRPLUS = 44
/** u64 new directory · u32 flags · u32 · name · new name */
export const RENAME2 = 45
/** u64 handle, offset · u32 whence · u32 → u64 offset */
export const LSEEK = 46
/** u64 handle, offset, node to, handle to, offset to, length, flags → as WRITE */
export const COPY_FILE_RANGE = 47
/** as CREATE */
export const TMPFILE = 51

export const FATTR_MODE = 1
export const FATTR_UID = 2
export const FATTR_GID = 4
export const FATTR_SIZE = 8
export const FATTR_HANDLE = 0x40
export const FATTR_ATIME = 0x10
export const FATTR_MTIME = 0x20
export const FATTR_ATIME_NOW = 0x80
export const FATTR_MTIME_NOW = 0x100
export const FATTR_KILL_SUIDGID = 0x800

export const GETATTR_HANDLE = 1
/** Of cached pages, by any handle. */
export const WRITE_CACHE = 1
export const WRITE_KILL_SUIDGID = 4
export const OPEN_KILL_SUIDGID = 1
export const RELEASE_FLOCK_UNLOCK = 2
export const LK_FLOCK = 1
export const FOPEN_KEEP_CACHE = 2

export const INIT_ASYNC_READ = 1
export const INIT_POSIX_LOCKS = 2
export const INIT_ATOMIC_O_TRUNC = 8
export const INIT_BIG_WRITES = 0x20
export const INIT_FLOCK_LOCKS = 0x400
export const INIT_AUTO_INVAL_DATA = 0x1000
export const INIT_DO_READDIRPLUS = 0x2000
export const INIT_READDIRPLUS_AUTO = 0x4000
export const INIT_ASYNC_DIO = 0x8000
export const INIT_WRITEBACK_CACHE = 0x1_0000
export const INIT_NO_OPEN_SUPPORT = 0x2_0000
export const INIT_PARALLEL_DIROPS = 0x4_0000
export const INIT_MAX_PAGES = 0x40_0000
export const INIT_CACHE_SYMLINKS = 0x80_0000
export const INIT_NO_OPENDIR_SUPPORT = 0x100_0000
export const INIT_HANDLE_KILLPRIV_V2 = 0x1000_0000
