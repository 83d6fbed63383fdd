/** A virtual machine must know the host's network namespace whatever it is called. */
import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { isOwnNetwork } from '../../runsc-cli/container/network-namespace.ts'

test('our own network namespace is known by whatever path', () => {
  expect(isOwnNetwork('/proc/self/ns/net')).toBe(true)
  expect(isOwnNetwork(`/proc/${process.pid}/task/${process.pid}/ns/net`)).toBe(true)
  expect(isOwnNetwork('/proc/self/ns/mnt')).toBe(false)
  expect(isOwnNetwork('/proc/self/ns/nothing')).toBe(false)
})

test.skipIf(process.getuid?.() !== 0)('another one is not ours', () => {
  const name = `tss-test-${process.pid}`
  const [unshare, ...args] = ['unshare', '--net', 'sh', '-c', `mount --bind /proc/self/ns/net /run/${name} || exit 9`]
  execFileSync('sh', ['-c', `: > /run/${name}`])
  try {
    execFileSync(unshare!, args)
    expect(isOwnNetwork(`/run/${name}`)).toBe(false)
  } finally {
    execFileSync('sh', ['-c', `umount /run/${name}; rm -f /run/${name}`])
  }
})
