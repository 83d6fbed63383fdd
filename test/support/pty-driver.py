"""Types into a program under a pseudo-terminal: pty-driver.py SCRIPT PROGRAM [ARG...]

Each line of SCRIPT is `send TEXT` (with \\n, \\x03 escapes), `expect TEXT` (waits until the output since the last expect
holds TEXT), `pause SECONDS` or `size ROWS COLS`. Prints what the program wrote, and its exit code. A wait of 20 seconds fails.
"""
import fcntl, os, pty, select, struct, sys, termios, time


def main():
    script, argv = sys.argv[1], sys.argv[2:]
    pid, master = pty.fork()
    if pid == 0:
        os.execvp(argv[0], argv)
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    seen, mark = b"", 0

    def pump(seconds):
        nonlocal seen
        ready, _, _ = select.select([master], [], [], seconds)
        if not ready:
            return False
        try:
            data = os.read(master, 65536)
        except OSError:
            return None
        seen += data
        return None if not data else True

    for line in open(script):
        verb, _, rest = line.rstrip("\n").partition(" ")
        text = rest.encode().decode("unicode_escape").encode("latin1")
        if verb == "send":
            os.write(master, text)
        elif verb == "pause":
            end = time.monotonic() + float(rest)
            while (left := end - time.monotonic()) > 0:
                pump(left)
        elif verb == "size":
            rows, cols = map(int, rest.split())
            fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))
        elif verb == "expect":
            end = time.monotonic() + 20
            while text not in seen[mark:]:
                if pump(max(0, end - time.monotonic())) is not True and text not in seen[mark:]:
                    sys.stdout.buffer.write(seen)
                    sys.exit(f"\nexpected {text!r} after {seen[mark:]!r}")
            mark += seen[mark:].index(text) + len(text)
    while pump(20):
        pass
    status = os.waitpid(pid, 0)[1]
    sys.stdout.buffer.write(seen)
    print(f"\nexit {os.waitstatus_to_exitcode(status)}")


main()
