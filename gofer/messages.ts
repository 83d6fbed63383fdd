/**
 * What a sentry may ask its gofer: types of request, each with its fields → those of the response (protocol.ts has their
 * layout). A number is never used again for another meaning. Nothing else is exported here: whoever wants a name or all types
 * takes the module as a whole.
 */

/** u32 version → u32 version · u16 count · per mount: u16 id · u32 MOUNT_* flags · stat */
export const HELLO = 1
/** path base · path names · u32 open flags or NO_OPEN → i32 stop · u16 count · stat… · [stop > 0: text target] · i32 opened [+ fd] */
export const WALK = 2
/** path → stat */
export const STAT = 3
/** path · u32 flags → stat + fd. Regular files only. */
export const OPEN = 4
/** path · u32 mode · u32 uid · u32 gid → stat + fd (read-write). The name must be free. */
export const CREATE = 5
/**
 * path · u32 cursorLow · u32 cursorHigh · u16 below · path beside → u32 cursorLow · u32 cursorHigh · u16 end · u16 count · u16 directories · entries · per directory: text path · u16 count · entries.
 * An entry: stat · text name · text target. `below` 1: with the last entries come whole directories, as many as have room:
 * first those below this one, then the ones called `beside` in its parent and those below them. Each comes behind its parent; paths begin in the parent of the one that was asked for.
 */
export const READDIR = 6
/** path · u32 mode · u32 uid · u32 gid → stat */
export const MKDIR = 7
/** path · u32 mode · u32 uid · u32 gid · u32 rdev → stat. FIFOs and sockets; devices where the mount allows them. */
export const MKNOD = 8
/** path · text target · u32 uid · u32 gid → stat */
export const SYMLINK = 9
/** path old · path new → stat of new. With a descriptor `old` is ignored: the descriptor's file gets the name. */
export const LINK = 10
/** path */
export const UNLINK = 11
/** path */
export const RMDIR = 12
/** path old · path new · u32 RENAME_* flags */
export const RENAME = 13
/** path · u32 ATTR_* valid · u32 mode · u32 uid · u32 gid · f64 size · time atime · time mtime → stat. With a descriptor: of its file. */
export const SETATTR = 14
/** path → text */
export const READLINK = 15
/** path → blob of struct statfs */
export const STATFS = 16
/** path · text name → blob */
export const GETXATTR = 17
/** path · text name · blob value · u32 flags */
export const SETXATTR = 18
/** path → blob of NUL-terminated names */
export const LISTXATTR = 19
/** path · text name */
export const REMOVEXATTR = 20
/** path of a directory or file: to disk */
export const FSYNC = 21
/** path of a directory · u32 mode · u32 uid · u32 gid → stat + fd (read-write) of a file without a name */
export const TMPFILE = 22
/** u32 cpu: where the sentry runs; the gofer answers from there from now on. */
export const PLACE = 23
