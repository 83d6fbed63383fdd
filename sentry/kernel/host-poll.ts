/**
 * Readiness of host descriptors that guest objects stand on (stdio pipes, host sockets, consoles, the control socket).
 *
 * Edge-triggered by default: a handler hears of each change once and asks poll(2) for the level. A descriptor must be
 * unwatched before it is closed.
 */

import { poll } from '../../native/host.ts'
import { EINVAL } from '../abi/errno.ts'
import type { Platform } from '../platform/platform.ts'

export interface HostFdHandler {
  /** `events`: EPOLL* mask of the host. */
  onHostEvents(events: number): void
}

const EPOLL_CTL_ADD = 1
const EPOLL_CTL_DEL = 2
const EPOLL_CTL_MOD = 3
export const EPOLLET = 0x80000000

const POLLFD = new Int32Array(2)
const POLLFD_16 = new Int16Array(POLLFD.buffer)

export class HostPoll {
  private readonly platform: Platform
  private readonly handlers: (HostFdHandler | undefined)[] = []

  constructor(platform: Platform) {
    this.platform = platform
  }

  /** 0 or −errno (−EPERM: a regular file, always ready). Add EPOLLET for edge-triggered. */
  watch(fd: number, events: number, handler: HostFdHandler): number {
    if (fd < 0) return -EINVAL
    const ret = this.platform.watchHostFd(EPOLL_CTL_ADD, fd, events, fd)
    if (ret === 0) this.handlers[fd] = handler
    return ret
  }
  modify(fd: number, events: number): number {
    return this.platform.watchHostFd(EPOLL_CTL_MOD, fd, events, fd)
  }
  unwatch(fd: number): void {
    if (this.handlers[fd] === undefined) return
    this.handlers[fd] = undefined
    this.platform.watchHostFd(EPOLL_CTL_DEL, fd, 0, fd)
  }

  /** Runs the handlers of the events that platform.wait() reported. */
  dispatch(): void {
    const n = this.platform.hostEventCount
    for (let i = 0; i < n; i++) {
      const handler = this.handlers[this.platform.hostEventData(i)]
      if (handler !== undefined) handler.onHostEvents(this.platform.hostEventMask(i))
    }
  }
}

/** The level now: POLL* (= EPOLL*) events of a host fd out of `events`. */
export function hostPollNow(fd: number, events: number): number {
  POLLFD[0] = fd
  POLLFD_16[2] = events
  POLLFD_16[3] = 0
  return poll(POLLFD, 1, 0) > 0 ? POLLFD_16[3]! : 0
}
