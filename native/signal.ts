/** Binding of native/host/signal.c. */
import { libhost } from './library.ts'

/** From now on the signal, to this process, makes the returned eventfd readable. ≥ 0 or −errno. */
export const signalEventfd = libhost.func('host_signal_eventfd', 'long', ['int']) as (signo: number) => number
