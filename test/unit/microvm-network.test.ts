/** What of a network namespace goes into a VM. */
import { isIPv6 } from 'node:net'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { addressBytes, interfaces } from '../../microvm/network-config.ts'

const link = (ifname: string, more: object = {}) => ({
  ifname,
  link_type: 'ether',
  address: '02:42:ac:11:00:02',
  mtu: 1450,
  addr_info: [],
  ...more,
})
const inet = (local: string, prefixlen: number, scope = 'global') => ({
  family: local.includes(':') ? 'inet6' : 'inet',
  local,
  prefixlen,
  scope,
})

describe('addresses', () => {
  test('are bytes', () => {
    expect([...addressBytes('172.17.0.2')]).toEqual([172, 17, 0, 2])
    expect(addressBytes('fd00::1').toString('hex')).toBe('fd000000000000000000000000000001')
    expect(addressBytes('::').toString('hex')).toBe('0'.repeat(32))
    expect(addressBytes('1:2:3:4:5:6:7:8').toString('hex')).toBe('00010002000300040005000600070008')
    expect(addressBytes('::ffff:10.1.2.3').toString('hex')).toBe('00000000000000000000ffff0a010203')
  })

  test.each([
    '',
    '1.2.3',
    '1.2.3.256',
    'a.b.c.d',
    ':::',
    '1::2::3',
    '1:2:3',
    '12345::',
    'g::',
    '::1.2.3.999',
    'default',
  ])('%j is none', (text) => {
    expect(addressBytes(text).length).toBe(0)
  })

  test('what Node takes for one is one', () => {
    fc.assert(
      fc.property(fc.ipV6(), (text) => {
        expect(addressBytes(text).length === 16).toBe(isIPv6(text))
      }),
    )
  })
})

test('interfaces with addresses and routes of both families; without loopback, taps and the ports of bridges', () => {
  const addr = [
    { ...link('lo'), link_type: 'loopback' },
    link('eth0', { addr_info: [inet('172.17.0.2', 16), inet('fd00:1::2', 64), inet('fe80::42', 64, 'link')] }),
    link('tss-tap0'),
    link('veth0', { master: 'br0' }),
    link('net1', { address: '02:00:00:00:00:09', mtu: 9000 }),
    {},
  ]
  const routes4 = [
    { dst: 'default', gateway: '172.17.0.1', dev: 'eth0', flags: [] },
    { dst: '172.17.0.0/16', dev: 'eth0', protocol: 'kernel', scope: 'link', prefsrc: '172.17.0.2', flags: [] },
    { dst: '169.254.1.1', dev: 'eth0', scope: 'link', flags: [] },
    { dst: '10.0.0.0/8', gateway: '10.9.0.1', dev: 'net1', metric: 7, prefsrc: '10.9.0.2', flags: ['onlink'] },
    { type: 'blackhole', dst: '10.1.0.0/16', flags: [] },
    { dst: '10.2.0.0/16', nexthops: [{ gateway: '172.17.0.1', dev: 'eth0' }], flags: [] },
    { dst: '10.3.0.0/16', gateway: 'fe80::1', dev: 'eth0', flags: [] },
  ]
  const routes6 = [
    { dst: 'fd00:1::/64', dev: 'eth0', protocol: 'kernel', metric: 256, flags: [] },
    { dst: 'default', gateway: 'fd00:1::1', dev: 'eth0', metric: 1024, flags: [] },
  ]
  const [eth0, net1, ...more] = interfaces(
    ...([addr, routes4, routes6].map((x) => JSON.stringify(x)) as [string, string, string]),
    'tss-tap',
  )
  expect(more).toEqual([])
  expect(eth0).toMatchObject({ name: 'eth0', mtu: 1450, mac: Buffer.from('0242ac110002', 'hex') })
  expect(eth0!.addresses).toEqual([
    { address: Buffer.from([172, 17, 0, 2]), prefix: 16 },
    { address: addressBytes('fd00:1::2'), prefix: 64 },
  ])
  expect(eth0!.routes.map((r) => [r.to.address.toString('hex'), r.to.prefix, r.gateway.toString('hex')])).toEqual([
    ['a9fe0101', 32, ''],
    ['00000000', 0, 'ac110001'],
    ['0'.repeat(32), 0, 'fd000001000000000000000000000001'],
  ])
  expect(net1).toMatchObject({ name: 'net1', mtu: 9000, addresses: [] })
  expect(net1!.routes).toEqual([
    {
      to: { address: Buffer.from([10, 0, 0, 0]), prefix: 8 },
      gateway: Buffer.from([10, 9, 0, 1]),
      source: Buffer.from([10, 9, 0, 2]),
      metric: 7,
      onlink: true,
    },
  ])
  expect(interfaces('', '', '', 'x')).toEqual([])
})
