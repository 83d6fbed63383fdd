/**
 * AF_PACKET: raw frames of an interface. Not provided: a container without CAP_NET_RAW sees Linux's −EPERM, one with it
 * a kernel that has no such socket type.
 */
import { EPERM, ESOCKTNOSUPPORT } from '../abi/errno.ts'
import { CAP_NET_RAW } from '../kernel/credentials.ts'
import type { SocketFamily } from './socket-family.ts'

export const packetFamily: SocketFamily = {
  create(t) {
    return t.creds.capable(CAP_NET_RAW) ? -ESOCKTNOSUPPORT : -EPERM
  },
  pair: () => -ESOCKTNOSUPPORT,
}
