import { expect, test } from 'vitest'
import { FIRST_SANDBOX_ID, isMapped } from '../../sentry/confine/identity.ts'

test('which ids a user namespace has', () => {
  expect(isMapped('         0          0 4294967295\n', FIRST_SANDBOX_ID)).toBe(true)
  expect(isMapped('         0     100000      65536\n', FIRST_SANDBOX_ID)).toBe(false)
  expect(isMapped('0 1000 1\n1 100000 2000000000\n', FIRST_SANDBOX_ID)).toBe(true)
  expect(isMapped('', 0)).toBe(false)
})
