/** Socket pairs, and reading and writing them synchronously. */
import { poll, read, socketpair, write } from '../native/host.ts'
import { AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM } from '../native/unix-socket.ts'
import { EAGAIN, EINTR } from '../sentry/abi/errno.ts'

const POLLIN = 1
const POLLOUT = 4

/** Two connected stream sockets. */
export function socketPair(): [number, number] {
  const fds = new Int32Array(2)
  const r = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds)
  if (r < 0) throw new Error(`socketpair: errno ${-r}`)
  return [fds[0]!, fds[1]!]
}

/** What is there within `ms`, at most `buffer`; 0: the end; −EAGAIN: nothing came. */
export function readWithin(fd: number, buffer: Buffer, ms: number): number {
  const one = new Int32Array([fd, POLLIN])
  for (;;) {
    const ready = poll(one, 1, ms)
    if (ready === -EINTR) continue
    if (ready === 0) return -EAGAIN
    const n = read(fd, buffer, buffer.length)
    if (n !== -EINTR) return n
  }
}

/** All of it. False: the other end is gone, or has taken nothing for `ms`. */
export function writeAll(fd: number, bytes: Buffer, ms: number): boolean {
  const one = new Int32Array([fd, POLLOUT])
  for (let at = 0; at < bytes.length; ) {
    const rest = bytes.subarray(at)
    const n = write(fd, rest, rest.length)
    if (n > 0) at += n
    else if (n === -EAGAIN) {
      if (poll(one, 1, ms) === 0) return false
    } else if (n !== -EINTR) return false
  }
  return true
}
