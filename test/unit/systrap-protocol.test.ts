/** native/stub/protocol.h and the C structs against the constants that TypeScript mirrors. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import {
  THREAD_BYTES,
  THREAD_ROWS,
  TURN_COUNT,
  TURN_EVENTS,
  TURN_NOW,
  TURN_RESUME,
  TURN_ROW,
  TURN_TIMEOUT,
} from '../../native/systrap.ts'
import { ACTION_FLAGS } from '../../sentry/kernel/signal-actions.ts'
import { OPENED_CLOSED } from '../../sentry/platform/platform.ts'
import * as stub from '../../sentry/platform/stub.ts'
import * as actions from '../../sentry/platform/systrap/actions.ts'
import * as callSite from '../../sentry/platform/systrap/amd64/call-site.ts'
import * as knownNames from '../../sentry/platform/systrap/known-names.ts'
import * as systrap from '../../sentry/platform/systrap/layout.ts'
import * as opened from '../../sentry/platform/systrap/opened.ts'
import * as patchTable from '../../sentry/platform/systrap/patch-table.ts'
import * as slotWindow from '../../sentry/platform/systrap/window.ts'
import { callPolicy } from '../../syscalls/call-policy.ts'
import { SYSCALLS } from '../../syscalls/table.ts'

const NAMES = [
  ...['ARENA_BASE', 'SLOT_SIZE', 'ARENA_SLOTS', 'CONTROL_ADDR', 'STUB_RESTORER', 'STUB_HANDLER', 'STUB_ENTER'],
  ...['INTERRUPT_SIGNAL', 'SIGNAL_STACK_OFFSET', 'SIGNAL_STACK_SIZE', 'STUB_TEXT', 'STUB_TEXT_SIZE', 'STUB_OPS'],
  ...[
    'STUB_SITE',
    'OP_STORE',
    'PATCH_BASE',
    'PATCH_SIZE',
    'PATCH_ENTRY_SIZE',
    'PATCH_RETURN',
    'PATCH_GS_LOAD',
    'PATCH_CALL',
  ],
  ...['WINDOW_IN_OFFSET', 'WINDOW_IN_SIZE', 'WINDOW_OUT_OFFSET', 'WINDOW_OUT_SIZE', 'MAX_WINDOW_OUT'],
  ...['OPENED_DATA_OFFSET', 'OPENED_DATA_SIZE', 'OPENED_POSITION', 'OPENED_CLOSED', 'OPENED_DATA', 'OPENED_WITHDRAWN'],
  ...['SIGNALS', 'ACTION_FLAGS'],
  ...['CONTROL_SIZE', 'KNOWN_OFFSET', 'KNOWN', 'KNOWN_WAYS', 'KNOWN_NAME'],
]
const FIELDS = ['trap', 'signo', 'code', 'tid', 'fault_addr', 'trapno', 'error_code', 'framed', 'hot', 'partial']
const TURN_FIELDS = ['timeout', 'now', 'resume', 'row', 'count', 'events']
const SLOT_FIELDS =
  'state command trap op_count result nr trapped_at computed cpu entry order flags self signo code trapno error_code ' +
  'fault_addr context interrupted stack used args obeyed resumed_at waited ' +
  'out_count in_len in_addr answered answers regs out memo memo_turn row root root_turn opened actions'
const ACTIONS_FIELDS = ['told', 'changed', 'action']
const OPENED_FIELDS = ['fd', 'changes', 'put_off', 'len', 'stat']
const NAME_FIELDS = ['names', 'turn', 'root', 'len', 'result', 'name']
/** Those that assembly reads and writes. */
const REGISTERS = ['R10', 'R9', 'R8', 'RDX', 'RSI', 'RDI', 'RIP', 'RSP']
const STUB = readFileSync(join(process.cwd(), 'native/stub/stub.S'), 'utf8')
const CHECKS = ['ANY', 'OPEN', 'AT', 'MODE', 'ACCESS', 'STATX', 'SIZE']

const values = new Map<string, number>()

beforeAll(() => {
  const dir = join(process.cwd(), '.cache/unit')
  mkdirSync(dir, { recursive: true })
  const print = (name: string, value: string) => `printf("${name} %lu\\n", (unsigned long)(${value}));`
  const source = `#include "host/systrap.h"
#include <stddef.h>
#include <stdio.h>
#include <sys/user.h>
int main(void) {
  ${NAMES.map((n) => print(n, n)).join('\n  ')}
  ${FIELDS.map((f) => print(`thread.${f}`, `offsetof(struct thread, ${f})`)).join('\n  ')}
  ${TURN_FIELDS.map((f) => print(`turn.${f}`, `offsetof(struct turn, ${f})`)).join('\n  ')}
  ${print('event', 'sizeof(struct epoll_event)')}
  ${print('event.data', 'offsetof(struct epoll_event, data)')}
  ${SLOT_FIELDS.split(' ')
    .map((f) => print(`slot.${f}`, `offsetof(struct stub_slot, ${f})`))
    .join('\n  ')}
  ${OPENED_FIELDS.map((f) => print(`opened.${f}`, `offsetof(struct stub_slot, opened.${f})`)).join('\n  ')}
  ${ACTIONS_FIELDS.map((f) => print(`actions.${f}`, `offsetof(struct stub_slot, actions.${f})`)).join('\n  ')}
  ${print('action', 'sizeof(struct stub_action)')}
  ${NAME_FIELDS.map((f) => print(`name.${f}`, `offsetof(struct stub_name, ${f})`)).join('\n  ')}
  ${CHECKS.map((c) => print(`CHECK_${c}`, `CHECK_${c}`)).join('\n  ')}
  ${print('name', 'sizeof(struct stub_name)')}
  ${print('known', 'sizeof(struct stub_known)')}
  ${print('control', 'sizeof(struct stub_control)')}
  ${print('control.names', 'offsetof(struct stub_control, names)')}
  ${print('control.roots', 'offsetof(struct stub_control, roots)')}
  ${print('control.changes', 'offsetof(struct stub_control, changes)')}
  ${print('slot.ops', 'offsetof(struct stub_slot, ops)')}
  ${print('slot', 'sizeof(struct stub_slot)')}
  ${print('thread', 'sizeof(struct thread)')}
  ${print('THREADS', 'THREADS')}
  ${['SITE_FLAGS_OFFSET', 'TRAP_INTERRUPT'].map((n) => print(n, n)).join('\n  ')}
  ${REGISTERS.map((r) => print(`regs.${r}`, `offsetof(struct stub_slot, regs) + offsetof(struct user_regs_struct, ${r.toLowerCase()})`)).join('\n  ')}
}`
  const file = join(dir, 'protocol.c')
  writeFileSync(file, source)
  execFileSync('cc', ['-I', join(process.cwd(), 'native'), '-w', '-o', join(dir, 'protocol'), file])
  for (const line of execFileSync(join(dir, 'protocol'), { encoding: 'utf8' }).trim().split('\n')) {
    const [name, value] = line.split(' ')
    values.set(name!, Number(value))
  }
})

test('addresses and sizes are the same in C and TypeScript', () => {
  const mirrored: Record<string, unknown> = {
    ...stub,
    ...systrap,
    ...callSite,
    ...patchTable,
    ...slotWindow,
    ...knownNames,
    ...opened,
    ...actions,
    OPENED_CLOSED,
    ACTION_FLAGS,
  }
  for (const name of NAMES) expect([name, mirrored[name]]).toEqual([name, values.get(name)])
  expect(stub.STUB_BASE).toBe(values.get('ARENA_BASE'))
})

test('the stub in assembly has the offsets of the slot', () => {
  const known = new Map<string, number>()
  const term = (text: string) => known.get(text) ?? Number(text)
  for (const [, name, text] of STUB.matchAll(/^\t\.set\t(\w+), (.+)$/gm)) {
    const [first, sign, second] = text!.split(' ')
    known.set(name!, term(first!) + (sign === undefined ? 0 : Number(`${sign}1`) * term(second!)))
  }
  for (const field of ['trap', 'result', 'stack', 'interrupted', 'regs'])
    expect([field, known.get(field.toUpperCase())]).toEqual([field, values.get(`slot.${field}`)])
  for (const name of REGISTERS) expect([name, known.get(name)]).toEqual([name, values.get(`regs.${name}`)])
  expect(known.get('SITE_STACK_TOP')).toBe(values.get('SIGNAL_STACK_OFFSET'))
  expect(known.get('SITE_FLAGS')).toBe(values.get('SITE_FLAGS_OFFSET'))
  expect(known.get('SITE_RBX')).toBe(values.get('SITE_FLAGS_OFFSET')! - 8)
  expect(known.get('TRAP_INTERRUPT')).toBe(values.get('TRAP_INTERRUPT'))
})

test('the thread table has the layout that TypeScript reads', () => {
  expect(values.get('thread')).toBe(THREAD_BYTES)
  expect(values.get('THREADS')).toBe(THREAD_ROWS)
  expect(FIELDS.map((f) => values.get(`thread.${f}`))).toEqual([216, 220, 224, 228, 232, 240, 244, 272, 276, 304])
})

test('a turn has the layout that TypeScript reads and writes', () => {
  const doubles = [TURN_TIMEOUT, TURN_NOW].map((at) => 8 * at)
  const words = [TURN_RESUME, TURN_ROW, TURN_COUNT, TURN_EVENTS].map((at) => 4 * at)
  expect(TURN_FIELDS.map((f) => values.get(`turn.${f}`))).toEqual([...doubles, ...words])
  expect([values.get('event.data'), values.get('event')]).toEqual([4, 12])
})

test('what a stub knows of an opened file has the layout that TypeScript writes', () => {
  expect(OPENED_FIELDS.map((f) => values.get(`opened.${f}`))).toEqual([560, 564, 568, 572, 576])
})

test('what a stub knows of signal actions has the layout that TypeScript writes', () => {
  expect(ACTIONS_FIELDS.map((f) => values.get(`actions.${f}`))).toEqual([720, 728, 736])
  expect(values.get('action')).toBe(32)
})

test('the table of names has the layout that TypeScript writes', () => {
  const { KNOWN, KNOWN_OFFSET, KNOWN_NAME, CONTROL_SIZE } = knownNames
  expect(NAME_FIELDS.map((f) => values.get(`name.${f}`))).toEqual([0, 4, 8, 12, 16, 20])
  expect(values.get('name')).toBe(20 + KNOWN_NAME)
  expect(values.get('known')).toBe(KNOWN * (4 + 20 + KNOWN_NAME))
  expect(values.get('control')).toBeLessThanOrEqual(KNOWN_OFFSET)
  expect(KNOWN_OFFSET + values.get('known')!).toBeLessThanOrEqual(CONTROL_SIZE)
  expect(['names', 'roots', 'changes'].map((f) => values.get(`control.${f}`))).toEqual([64, 68, 72])
  expect(CHECKS.map((c) => values.get(`CHECK_${c}`))).toEqual([1, 2, 3, 4, 5, 6, 7])
})

test('calls that only ask for a name say which argument decides', () => {
  const check = (name: string) => {
    const { check } = callPolicy(SYSCALLS.find((call) => call.name === name)!)
    return [check & 7, check >> 3]
  }
  expect(check('stat')[1]).toBe(values.get('CHECK_ANY'))
  expect(check('openat')).toEqual([2, values.get('CHECK_OPEN')])
  expect(check('newfstatat')).toEqual([3, values.get('CHECK_AT')])
  expect(check('faccessat')).toEqual([2, values.get('CHECK_MODE')])
  expect(check('faccessat2')).toEqual([2, values.get('CHECK_ACCESS')])
  expect(check('statx')).toEqual([2, values.get('CHECK_STATX')])
  expect(check('readlinkat')).toEqual([3, values.get('CHECK_SIZE')])
  for (const name of ['creat', 'openat2', 'mkdir', 'execve', 'unlink', 'chdir']) expect(check(name)).toEqual([0, 0])
})

test('the comments of struct stub_slot tell its offsets', () => {
  const header = readFileSync(join(process.cwd(), 'native/stub/protocol.h'), 'utf8')
  for (const field of SLOT_FIELDS.split(' ')) {
    const match = new RegExp(`\\b${field}(?:\\[\\w+\\])?;\\s*/\\* (\\d+)`).exec(header)
    expect([field, Number(match?.[1])]).toEqual([field, values.get(`slot.${field}`)])
  }
  expect(values.get('slot.ops')).toBe(0x1000)
  expect(values.get('slot')).toBeLessThanOrEqual(systrap.SIGNAL_STACK_OFFSET)
})
