"""Changes a prepared folder in every way, printing what is seen: the folder is the overlay's lower layer in the sandbox.

lower-changes.py --prepare DIR makes the folder; lower-changes.py DIR changes it.
"""
import errno, mmap, os, stat, sys


def prepare(top):
    os.makedirs(f"{top}/dir/deep/deeper")
    for path in ("a", "b", "c", "big", "dir/x", "dir/y", "dir/deep/z", "dir/deep/deeper/w", "linked1", "gone", "mapped", "exec", "open"):
        with open(f"{top}/{path}", "w") as f:
            f.write(f"content of {path}\n" * (5000 if path == "big" else 1))
    os.link(f"{top}/linked1", f"{top}/linked2")
    os.symlink("a", f"{top}/symlink")
    os.symlink("dir", f"{top}/dirlink")
    os.mkfifo(f"{top}/fifo")
    os.mkdir(f"{top}/empty")
    os.mkdir(f"{top}/full")
    for i in range(50):
        open(f"{top}/full/{i:02}", "w").close()
    with open(f"{top}/exec", "w") as f:
        f.write("#!/bin/sh\necho executed\n")


def show(name, call):
    try:
        result = call()
    except OSError as error:
        result = errno.errorcode[error.errno]
    print(f"{name}: {result}")


def text(path):
    with open(path) as f:
        return f.read()


def put(path, data, mode="w"):
    with open(path, mode) as f:
        f.write(data)


def names(path="."):
    return sorted(os.listdir(path))


def identity(path):
    st = os.lstat(path)
    return st.st_dev, st.st_ino


def main(top):
    os.chdir(top)
    print(names(), names("full")[-3:], names("dir"))

    before = identity("a")
    reader = os.open("a", os.O_RDONLY)
    put("a", "more\n", "a")
    show("append", lambda: text("a"))
    show("an older descriptor sees it", lambda: os.read(reader, 100))
    show("same inode after a write", lambda: identity("a") == before and os.fstat(reader).st_ino == before[1])
    put("a", "short")
    show("truncated", lambda: (text("a"), os.pread(reader, 100, 0), os.fstat(reader).st_size))
    show("through the symlink", lambda: text("symlink"))

    put("linked1", "changed by one name")
    show("hard link", lambda: (text("linked2"), os.stat("linked1").st_nlink, identity("linked1") == identity("linked2")))
    os.unlink("linked1")
    show("one name left", lambda: (text("linked2"), os.stat("linked2").st_nlink))
    show("link of a lower file", lambda: (os.link("b", "b2"), put("b2", "via b2"), text("b"), os.stat("b").st_nlink))

    show("chmod", lambda: (os.chmod("exec", 0o755), oct(os.stat("exec").st_mode), os.popen("./exec").read()))
    show("chown", lambda: (os.chown("c", 5, 6), os.stat("c").st_uid, os.stat("c").st_gid, text("c")))
    show("utime", lambda: (os.utime("c", (7, 8)), os.stat("c").st_mtime))
    show("truncate", lambda: (os.truncate("big", 30), text("big")))

    show("rename", lambda: (os.rename("c", "dir/moved"), text("dir/moved"), os.path.exists("c")))
    show("rename over", lambda: (os.rename("dir/moved", "dir/x"), text("dir/x"), names("dir")))
    inside = os.open("dir/deep", os.O_RDONLY)
    show("rename of a full directory", lambda: (os.rename("dir", "dir2"), names("dir2"), names("dir2/deep"), os.path.exists("dir")))
    show("a file in it", lambda: (text("dir2/deep/deeper/w"), put("dir2/deep/z", "new"), text("dir2/deep/z")))
    show("its descriptor", lambda: (sorted(os.listdir(inside)), os.stat("z", dir_fd=inside).st_size))
    show("a link to its old name", lambda: text("dirlink/x"))
    show("a new directory of the old name is empty", lambda: (os.mkdir("dir"), names("dir")))
    show("through the link", lambda: names("dirlink"))
    show("and back", lambda: (os.rmdir("dir"), os.rename("dir2", "dir"), names("dirlink")))

    held = os.open("gone", os.O_RDWR)
    show("unlink", lambda: (os.unlink("gone"), os.path.exists("gone"), "gone" in names()))
    show("still readable", lambda: (os.read(held, 100), os.fstat(held).st_nlink, os.write(held, b"more"), os.fstat(held).st_size))
    show("created anew", lambda: (put("gone", "new file"), text("gone"), identity("gone") != os.fstat(held).st_ino))
    show("exclusive creation", lambda: os.close(os.open("gone", os.O_CREAT | os.O_EXCL)))
    show("rmdir of a full directory", lambda: os.rmdir("full"))
    for i in range(0, 50, 2):
        os.unlink(f"full/{i:02}")
    show("half of it", lambda: (len(names("full")), names("full")[:3]))
    for name in names("full"):
        os.unlink(f"full/{name}")
    show("emptied", lambda: (names("full"), os.rmdir("full"), os.path.exists("full")))
    show("made again", lambda: (os.mkdir("full"), names("full"), put("full/07", "x"), names("full")))
    show("file for directory", lambda: (os.rmdir("empty"), put("empty", "now a file"), text("empty"), stat.S_ISREG(os.stat("empty").st_mode)))
    show("directory for file", lambda: (os.unlink("b"), os.mkdir("b"), names("b"), text("b2")))
    show("rename of a directory over an empty one", lambda: (os.mkdir("target"), os.rename("full", "target"), names("target")))
    show("rename of a directory over a full one", lambda: os.rename("b", "target"))
    show("symlink replaced", lambda: (os.unlink("symlink"), os.symlink("b2", "symlink"), text("symlink")))
    show("fifo", lambda: (stat.S_ISFIFO(os.stat("fifo").st_mode), os.rename("fifo", "fifo2"), stat.S_ISFIFO(os.stat("fifo2").st_mode)))

    fd = os.open("mapped", os.O_RDWR)
    with mmap.mmap(fd, 7) as shared:
        shared[0:7] = b"CONTENT"
    show("shared mapping", lambda: text("mapped"))
    older = os.open("open", os.O_RDONLY)
    newer = os.open("open", os.O_RDWR)
    os.write(newer, b"CONTENT")
    show("two descriptors", lambda: (os.pread(older, 20, 0), os.pread(newer, 20, 0)))
    show("locks meet", lambda: lock_conflict("open", older, newer))
    print(names(), names("dir"), names("target"))
    for where, folders, files in sorted(os.walk(".")):
        for name in sorted(folders + files):
            st = os.lstat(os.path.join(where, name))
            print(os.path.join(where, name), oct(st.st_mode), st.st_uid, st.st_size if stat.S_ISREG(st.st_mode) else "-", st.st_nlink if stat.S_ISREG(st.st_mode) else "-")


def lock_conflict(path, *fds):
    import fcntl
    fcntl.flock(fds[0], fcntl.LOCK_EX)
    try:
        fcntl.flock(fds[1], fcntl.LOCK_EX | fcntl.LOCK_NB)
        return "none"
    except BlockingIOError:
        return "conflict"


if sys.argv[1] == "--prepare":
    prepare(sys.argv[2])
else:
    main(sys.argv[1])
