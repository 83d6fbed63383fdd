/**
 * poll(2), select(2) and epoll(7) constants (uapi/linux/eventpoll.h, asm-generic/poll.h).
 */
export const EPOLL_CTL_ADD = 1
export const EPOLL_CTL_DEL = 2
export const EPOLL_CTL_MOD = 3
/** The high bits of epoll_event.events, as int32. */
export const EPOLLET = 1 << 31
export const EPOLLONESHOT = 1 << 30
export const EPOLLWAKEUP = 1 << 29
export const EPOLLEXCLUSIVE = 1 << 28
/** sizeof(struct epoll_event): packed on x86-64. */
export const EPOLL_EVENT_SIZE = 12
export const EP_MAX_EVENTS = Math.floor(0x7fffffff / EPOLL_EVENT_SIZE)
/** sizeof(struct pollfd). */
export const POLLFD_SIZE = 8
