"""Processes, threads, an event loop with sockets, and a database: the parts of Python that lean on the kernel."""
import asyncio, fcntl, hashlib, mmap, multiprocessing, os, queue, random, shutil, signal, socket, sqlite3, struct
import subprocess, sys, tempfile, threading, time


def square(n):
    return n * n


def child(conn, lock, value):
    with lock:
        value.value += 1
    conn.send({"pid differs": os.getpid() != os.getppid(), "sum": sum(conn.recv())})
    conn.close()


async def echo(reader, writer):
    while data := await reader.read(100):
        writer.write(data.upper())
        await writer.drain()
    writer.close()


async def client(port, n):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    out = b""
    for i in range(20):
        writer.write(f"client {n} line {i};".encode())
        await writer.drain()
        out += await reader.readuntil(b";")
    writer.close()
    await writer.wait_closed()
    return hashlib.sha256(out).hexdigest()[:12]


async def network():
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    print("asyncio", await asyncio.gather(*(client(port, n) for n in range(8))))
    server.close()
    process = await asyncio.create_subprocess_exec("tr", "a-z", "A-Z", stdin=-1, stdout=-1)
    print("async subprocess", (await process.communicate(b"from asyncio"))[0])
    try:
        await asyncio.wait_for(asyncio.sleep(5), 0.05)
    except asyncio.TimeoutError:
        print("timed out")


def main():
    print(sys.version_info[0], os.uname().sysname, os.uname().machine)
    print(subprocess.run(["sh", "-c", "echo out; echo err >&2; exit 3"], capture_output=True))
    print(subprocess.check_output("seq 1000 | sort -rn | head -3", shell=True))
    print(subprocess.run(["cat"], input=b"x" * 200000, capture_output=True).stdout == b"x" * 200000)
    print(subprocess.run(["sleep", "5"], timeout=None if False else 10, start_new_session=True, preexec_fn=lambda: signal.alarm(1)).returncode)

    results, work = [], queue.Queue()
    lock = threading.Lock()

    def worker():
        while (item := work.get()) is not None:
            with lock:
                results.append(item * 2)

    threads = [threading.Thread(target=worker) for _ in range(8)]
    for t in threads: t.start()
    for i in range(500): work.put(i)
    for t in threads: work.put(None)
    for t in threads: t.join()
    print("threads", len(results), sum(results))
    event = threading.Event()
    threading.Timer(0.05, event.set).start()
    print("timer", event.wait(5))

    with multiprocessing.Pool(4) as pool:
        print("pool", pool.map(square, range(20)))
    for method in ("fork", "spawn"):
        context = multiprocessing.get_context(method)
        here, there = context.Pipe()
        mutex, value = context.Lock(), context.Value("i", 41)
        process = context.Process(target=child, args=(there, mutex, value))
        process.start()
        here.send(list(range(100)))
        print(method, here.recv(), value.value if not process.join() else None, process.exitcode)

    asyncio.run(network())

    db = sqlite3.connect("test.db")
    db.execute("pragma journal_mode=wal")
    db.execute("create table t (id integer primary key, text text)")
    with db:
        db.executemany("insert into t (text) values (?)", ((hashlib.md5(str(i).encode()).hexdigest(),) for i in range(5000)))
    print("sqlite", db.execute("select count(*), min(text), max(text) from t where text like 'a%'").fetchone())
    other = sqlite3.connect("test.db", timeout=0.1)
    db.execute("begin immediate")
    try:
        other.execute("begin immediate")
    except sqlite3.OperationalError as error:
        print("locked:", error)
    db.rollback()
    print(db.execute("pragma integrity_check").fetchone())

    with tempfile.TemporaryDirectory() as folder:
        for i in range(200):
            with open(f"{folder}/{i}", "w") as f: f.write("line\n" * i)
        print("files", len(os.listdir(folder)), sum(e.stat().st_size for e in os.scandir(folder)))
        shutil.copytree(folder, folder + "/copy")
        print("walk", sum(len(files) for _, _, files in os.walk(folder)))

    with open("mapped", "w+b") as f:
        f.truncate(8192)
        with mmap.mmap(f.fileno(), 8192) as m:
            m[4096:4101] = b"hello"
            if os.fork() == 0:
                m[0:5] = b"child"
                os._exit(0)
            os.wait()
            print("mmap", m[0:5], m[4096:4101])
    a, b = socket.socketpair()
    socket.send_fds(a, [b"fds"], [os.open("mapped", os.O_RDONLY)])
    data, fds, _, _ = socket.recv_fds(b, 10, 4)
    print("fds", data, os.read(fds[0], 5))
    got = []
    signal.signal(signal.SIGUSR1, lambda number, frame: got.append(number))
    os.kill(os.getpid(), signal.SIGUSR1)
    print("signal", got)
    print("random", random.Random(5).random(), len(os.urandom(16)))


if __name__ == "__main__":
    main()
