/**
 * Which network the container has: `none` is the loopback stack of net/inet, `host` the network namespace that the sentry
 * itself runs in (the container's own, or the host's). Set once by configure.ts, before the first guest process.
 */
export type NetworkMode = 'none' | 'host'

export const network: { mode: NetworkMode } = { mode: 'none' }
