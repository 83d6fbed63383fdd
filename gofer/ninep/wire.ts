/**
 * 9P2000.L as Linux's v9fs speaks it (include/net/9p/9p.h; diod's protocol.md): message types with their fields, and
 * the numbers in them. Little-endian throughout:
 *
 *   message  u32 size (of all, itself included) · u8 type · u16 tag · fields
 *   string   u16 length · bytes, without a NUL
 *   qid      u8 QT_* · u32 version · u64 path
 *
 * The response to type T is T + 1, or RLERROR. Errors are Linux's errnos.
 */

export const HEADER_SIZE = 7
/** What Rread and Rreaddir have in front of their data. */
export const READ_HEADER_SIZE = HEADER_SIZE + 4

/** trans=fd takes no more (MAX_SOCK_BUF of net/9p/trans_fd.c). */
export const MAX_MSIZE = 1024 * 1024
/** Room for each message that is not bulk data: v9fs's own lower bound. */
export const MIN_MSIZE = 4096
export const VERSION = '9P2000.L'
export const NO_TAG = 0xffff
export const NO_FID = 0xffffffff
export const NO_UID = 0xffffffff
/** Names in one Twalk (P9_MAXWELEM). */
export const MAX_WALK = 16

/** → u32 ecode */
export const RLERROR = 7
/** u32 fid → u32 type · u32 bsize · u64 blocks · u64 bfree · u64 bavail · u64 files · u64 ffree · u64 fsid · u32 namelen */
export const TSTATFS = 8
/** u32 fid · u32 flags → qid · u32 iounit */
export const TLOPEN = 12
/** u32 fid (a directory; then the new file) · string name · u32 flags · u32 mode · u32 gid → qid · u32 iounit */
export const TLCREATE = 14
/** u32 dfid · string name · string target · u32 gid → qid */
export const TSYMLINK = 16
/** u32 dfid · string name · u32 mode · u32 major · u32 minor · u32 gid → qid */
export const TMKNOD = 18
/** u32 fid · u32 dfid · string name */
export const TRENAME = 20
/** u32 fid → string target */
export const TREADLINK = 22
/** u32 fid · u64 GETATTR_* → u64 valid · qid · u32 mode · u32 uid · u32 gid · u64 nlink, rdev, size, blksize, blocks ·
 * (u64 sec · u64 nsec) of atime, mtime, ctime, btime · u64 gen · u64 data version */
export const TGETATTR = 24
/** u32 fid · u32 SETATTR_* · u32 mode · u32 uid · u32 gid · u64 size · (u64 sec · u64 nsec) of atime, mtime */
export const TSETATTR = 26
/** u32 fid · u32 newfid · string name ('' lists) → u64 size. Then Tread newfid. */
export const TXATTRWALK = 30
/** u32 fid · string name · u64 size · u32 flags. Then Twrite fid, and Tclunk sets it; size 0 with XATTR_REPLACE removes. */
export const TXATTRCREATE = 32
/** u32 fid · u64 offset · u32 count → u32 count · entries: qid · u64 offset of the next · u8 DT_* · string name */
export const TREADDIR = 40
/** u32 fid · u32 datasync */
export const TFSYNC = 50
/** u32 fid · u8 LOCK_* · u32 flags · u64 start · u64 length (0: to the end) · u32 pid · string client → u8 LOCK_STATUS_* */
export const TLOCK = 52
/** u32 fid · u8 LOCK_* · u64 start · u64 length · u32 pid · string client → the same of what is in the way */
export const TGETLOCK = 54
/** u32 dfid · u32 fid · string name */
export const TLINK = 70
/** u32 dfid · string name · u32 mode · u32 gid → qid */
export const TMKDIR = 72
/** u32 dfid · string name · u32 dfid · string name */
export const TRENAMEAT = 74
/** u32 dfid · string name · u32 flags (AT_REMOVEDIR) */
export const TUNLINKAT = 76
/** u32 msize · string version → the same */
export const TVERSION = 100
/** Not needed here. */
export const TAUTH = 102
/** u32 fid · u32 afid · string uname · string aname · u32 n_uname → qid */
export const TATTACH = 104
/** u16 old tag */
export const TFLUSH = 108
/** u32 fid · u32 newfid · u16 count · string names… → u16 count · qid… */
export const TWALK = 110
/** u32 fid · u64 offset · u32 count → u32 count · data */
export const TREAD = 116
/** u32 fid · u64 offset · u32 count · data → u32 count */
export const TWRITE = 118
/** u32 fid */
export const TCLUNK = 120
/** u32 fid */
export const TREMOVE = 122

export const QT_DIR = 0x80
export const QT_SYMLINK = 0x02
export const QT_FILE = 0

/** Tgetattr: mode, nlink, uid, gid, rdev, times, ino, size, blocks. */
export const GETATTR_BASIC = 0x7ff
export const GETATTR_BTIME = 0x800

export const SETATTR_MODE = 1
export const SETATTR_UID = 2
export const SETATTR_GID = 4
export const SETATTR_SIZE = 8
export const SETATTR_ATIME = 0x10
export const SETATTR_MTIME = 0x20
export const SETATTR_CTIME = 0x40
export const SETATTR_ATIME_SET = 0x80
export const SETATTR_MTIME_SET = 0x100
export const SETATTR_ALL = 0x1ff

export const LOCK_READ = 0
export const LOCK_WRITE = 1
export const LOCK_NONE = 2
/** Tlock: the client would wait. It asks again by itself. */
export const LOCK_FLAG_BLOCK = 1
export const LOCK_FLAG_RECLAIM = 2
export const LOCK_STATUS_OK = 0
export const LOCK_STATUS_BLOCKED = 1
