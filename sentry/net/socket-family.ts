/** What a socket family provides (Linux: struct net_proto_family). */
import type { Task } from '../kernel/task.ts'
import type { Socket } from './socket.ts'

export interface SocketFamily {
  /** `type` without SOCK_NONBLOCK and SOCK_CLOEXEC. A new socket, not yet attached, or −errno. */
  create(t: Task, type: number, protocol: number, nonblock: boolean): Socket | number
  /** Connects two fresh sockets of this family. 0 or −errno. */
  pair(t: Task, a: Socket, b: Socket): number
}
