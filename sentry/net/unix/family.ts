/** AF_UNIX in the table of families (Linux: unix_create, unix_socketpair). */
import { EPROTONOSUPPORT, ESOCKTNOSUPPORT } from '../../abi/errno.ts'
import { AF_UNIX, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET, SOCK_STREAM } from '../../abi/socket.ts'
import type { SocketFamily } from '../socket-family.ts'
import { UnixDatagram } from './dgram.ts'
import { collectGarbage } from './garbage.ts'
import { UnixStream } from './stream.ts'
import { setReleaseHook, type UnixSocket } from './unix-socket.ts'

setReleaseHook(collectGarbage)

export const unixFamily: SocketFamily = {
  create(_t, type, protocol, nonblock) {
    if (protocol !== 0 && protocol !== AF_UNIX) return -EPROTONOSUPPORT
    switch (type) {
      case SOCK_STREAM:
        return new UnixStream(protocol, nonblock)
      case SOCK_RAW:
      case SOCK_DGRAM:
        return new UnixDatagram(SOCK_DGRAM, protocol, nonblock)
      case SOCK_SEQPACKET:
        return new UnixDatagram(SOCK_SEQPACKET, protocol, nonblock)
      default:
        return -ESOCKTNOSUPPORT
    }
  },
  pair(t, a, b) {
    ;(a as UnixSocket).pair(t, b as UnixSocket)
    return 0
  },
}
