/**
 * Where things lie in a guest's address space (native/stub/protocol.h; test/unit/systrap-protocol.test.ts checks them).
 */
export const ARENA_BASE = 0x7fff80000000
export const SLOT_SIZE = 0x10000
export const ARENA_SLOTS = 16384
export const CONTROL_ADDR = 0x7fffe0000000
export const STUB_RESTORER = 0x7ffff0000060
export const STUB_HANDLER = 0x7ffff0000070
export const STUB_ENTER = 0x7ffff0000080
export const INTERRUPT_SIGNAL = 23
export const SIGNAL_STACK_OFFSET = 0x3000
export const SIGNAL_STACK_SIZE = 0x5000
