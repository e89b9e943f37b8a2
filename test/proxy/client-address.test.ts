import { describe, expect, it } from 'vitest'
import { createClientAddress } from '../../proxy/client-address.ts'

const of = createClientAddress(['10.0.0.0/8', '::1', 'fd00::/8'])

describe('the client address', () => {
  it.each([
    ['a stranger’s claim is not believed', '203.0.113.9', '1.2.3.4', '203.0.113.9', '203.0.113.9'],
    ['a trusted hop’s is', '10.1.1.1', '203.0.113.9', '203.0.113.9', '203.0.113.9, 10.1.1.1'],
    [
      'what a client put before it is not',
      '10.1.1.1',
      '1.1.1.1, 203.0.113.9',
      '203.0.113.9',
      '203.0.113.9, 10.1.1.1',
    ],
    [
      'several trusted hops are walked through',
      '10.1.1.1',
      '203.0.113.9, 10.2.2.2',
      '203.0.113.9',
      '203.0.113.9, 10.2.2.2, 10.1.1.1',
    ],
    [
      'a dual-stack listener’s mapping is undone',
      '::ffff:10.1.1.1',
      '2001:db8::1',
      '2001:db8::1',
      '2001:db8::1, 10.1.1.1',
    ],
    ['IPv6 hops are trusted by range', 'fd00::7', '203.0.113.9', '203.0.113.9', '203.0.113.9, fd00::7'],
    ['garbage ends the walk', '10.1.1.1', 'unknown', '10.1.1.1', '10.1.1.1'],
    ['nothing claimed', '10.1.1.1', undefined, '10.1.1.1', '10.1.1.1'],
  ])('%s', (_title, peer, claim, address, forwardedFor) => {
    expect(of(peer, claim)).toEqual({ address, forwardedFor })
  })
})
