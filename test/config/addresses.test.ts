import { describe, expect, it } from 'vitest'
import {
  formatAddress,
  isLoopback,
  isWildcard,
  parseAddress,
  parseCidr,
  parseHttpUrl,
  parseOrigin,
} from '../../src/config/addresses.ts'

describe('addresses', () => {
  it.each([
    ['127.0.0.1:5010', '127.0.0.1', 5010],
    ['[::1]:5010', '::1', 5010],
    ['localhost:0', 'localhost', 0],
    [':5010', undefined, 5010],
  ])('reads %s', (text, host, port) => {
    const address = parseAddress(text)

    expect(address).toEqual({ host, port })
    expect(address && formatAddress(address)).toBe(text)
  })

  it.each([
    '',
    '5010',
    'localhost',
    '::1:5010',
    '[::1]',
    '[127.0.0.1]:1',
    '127.0.0.1:65536',
    '1.2.3:80',
    'a b:1',
    'h:-1',
  ])('takes %j for no address', (text) => {
    expect(parseAddress(text)).toBeUndefined()
  })

  it.each([
    ['127.0.0.1:1', true, false],
    ['127.8.9.1:1', true, false],
    ['[::1]:1', true, false],
    ['localhost:1', true, false],
    ['127.example.com:1', false, false],
    ['192.0.2.1:1', false, false],
    ['0.0.0.0:1', false, true],
    ['[::]:1', false, true],
    ['[0:0:0:0:0:0:0:0]:1', false, true],
    [':1', false, true],
  ])('knows who can reach %s', (text, loopback, wildcard) => {
    const address = parseAddress(text) ?? { host: 'unread', port: 0 }

    expect([isLoopback(address), isWildcard(address)]).toEqual([loopback, wildcard])
  })

  it('accepts networks and lone addresses of both families', () => {
    for (const text of ['10.0.0.0/8', '192.0.2.7', 'fd00::/8', '::1', '0.0.0.0/0']) {
      expect(parseCidr(text)).toBe(text)
    }
  })

  it.each(['10.0.0.0/33', 'fd00::/129', '10.0.0.0/', '10.0.0.0/8/8', '10.0/8', 'example.com', '10.0.0.0/-1'])(
    'takes %j for no network',
    (text) => {
      expect(parseCidr(text)).toBeUndefined()
    },
  )

  it('reduces an origin to scheme, host and port', () => {
    expect(parseOrigin('https://Registry.example.com:443/')).toBe('https://registry.example.com')
    expect(parseOrigin('http://[::1]:5000')).toBe('http://[::1]:5000')
  })

  it.each([
    'registry.example.com',
    'ftp://a',
    'https://',
    'https://a/v2',
    'https://a/?b',
    'https://u:p@a',
    'https:a',
  ])('takes %j for no origin', (text) => {
    expect(parseOrigin(text)).toBeUndefined()
  })

  it('leaves a URL as it was written', () => {
    expect(parseHttpUrl('https://gitlab.example.com/jwt/auth?x=%2F')).toBe(
      'https://gitlab.example.com/jwt/auth?x=%2F',
    )
  })
})
