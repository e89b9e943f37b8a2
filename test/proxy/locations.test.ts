import { describe, expect, it } from 'vitest'
import { createLocations } from '../../proxy/locations.ts'
import { OciError } from '../../src/oci/errors.ts'
import { UpstreamError } from '../../src/upstream/errors.ts'
import { nameOf } from '../store/store-fixture.ts'

const ORIGIN = 'https://primary.example.com'
const SITE = 'registry.example.com:5010'
const NAME = nameOf('team/app')
const BASE = `${ORIGIN}/v2/team/app/blobs/uploads/`
const SIGNED = '?_state=a%2Bb%3D%3D+c/d=&x=%25&y='

const locations = createLocations({ upstreamOrigin: ORIGIN, secret: () => 'secret' })

const session = (location: string, base = BASE) =>
  locations.session(locations.resolve(location, SITE, base), NAME)

function split(location: string): [path: string, query: string] {
  const [path = '', ...query] = location.split('?')
  return [path, query.join('?')]
}

describe('a Location of the primary', () => {
  it.each([
    ['relative', `/v2/team/app/blobs/uploads/u-1${SIGNED}`],
    ['on its own origin', `${ORIGIN}/v2/team/app/blobs/uploads/u-1${SIGNED}`],
    ['on its own origin, with the default port', `${ORIGIN}:443/v2/team/app/blobs/uploads/u-1${SIGNED}`],
    ['on its own host in capitals', `HTTPS://Primary.Example.COM/v2/team/app/blobs/uploads/u-1${SIGNED}`],
    [
      'with a scheme it got wrong behind its TLS proxy',
      `http://primary.example.com/v2/team/app/blobs/uploads/u-1${SIGNED}`,
    ],
    ['on the host this site is known by', `https://${SITE}/v2/team/app/blobs/uploads/u-1${SIGNED}`],
    ['without a scheme', `//primary.example.com/v2/team/app/blobs/uploads/u-1${SIGNED}`],
    ['relative to the request', `u-1${SIGNED}`],
  ])('leads through this site when it is %s, its signature untouched', (_, location) => {
    expect(session(location)).toBe(`/v2/team/app/blobs/uploads/u-1${SIGNED}`)
  })

  it('comes back to the URL it named, byte for byte', () => {
    const [path, query] = split(session(`${ORIGIN}/v2/team/app/blobs/uploads/u-1${SIGNED}`))

    expect(locations.target(path, query, NAME)).toEqual({
      url: `${ORIGIN}/v2/team/app/blobs/uploads/u-1${SIGNED}`,
      foreign: false,
    })
  })

  it.each([
    ['another host', `https://storage.example.net/up/u-1${SIGNED}`],
    ['another port of its host', `https://primary.example.com:8443/v2/team/app/blobs/uploads/u-1${SIGNED}`],
    ['a host that only begins like its own', `https://primary.example.com.evil.net/u-1${SIGNED}`],
    ['userinfo that looks like its host', `https://primary.example.com@evil.net/u-1${SIGNED}`],
  ])('is sealed when it names %s, and opened as it was, without the credential', (_, location) => {
    const sealed = session(location)
    const [path, query] = split(sealed)

    expect(sealed).toMatch(/^\/v2\/team\/app\/blobs\/uploads\/[0-9a-f]{32}\?_geo=[\w-]+$/)
    expect(locations.target(path, query, NAME)).toEqual({ url: location, foreign: true })
  })

  it.each([
    ['a path outside of /v2/', '/artifacts-uploads/namespaces/x?s=%2B'],
    ['an upload path of its own', '/v2/team/app/blobs/upload/u-1?s=%2B'],
    ['the same upload in another repository', '/v2/other/app/blobs/uploads/u-1?s=%2B'],
    ['a session id with a slash in it', '/v2/team/app/blobs/uploads/a/b?s=%2B'],
    ['a session id that is a path when decoded', '/v2/team/app/blobs/uploads/..%2f..%2fx?s=%2B'],
  ])('is sealed, and keeps the credential, when the primary uses %s', (_, location) => {
    const [path, query] = split(session(location))

    expect(query).toMatch(/^_geo=/)
    expect(locations.target(path, query, NAME)).toEqual({ url: ORIGIN + location, foreign: false })
  })

  it('keeps its session id however the sealed query changes', () => {
    const [first] = split(session('https://storage.example.net/up/u-1?state=1'))
    const [second] = split(session('https://storage.example.net/up/u-1?state=2'))

    expect(first).toBe(second)
  })

  it('is relative to the place that gave it: an answer of a storage service stays with that service', () => {
    const [path, query] = split(session('/up/u-2?s=1', 'https://storage.example.net/up/u-1?s=0'))

    expect(locations.target(path, query, NAME)).toEqual({
      url: 'https://storage.example.net/up/u-2?s=1',
      foreign: true,
    })
  })

  it.each([
    'ftp://primary.example.com/x',
    'javascript:alert(1)',
    'file:///etc/passwd',
    'https://[/x',
    'https:///x',
    '\\\\',
    ' ftp://primary.example.com/x',
    'ht\ttps:\\\\[',
  ])('is refused when it is no address on the web: %s', (location) => {
    expect(() => session(location)).toThrow(UpstreamError)
  })
})

describe('a sealed upload location', () => {
  const location = 'https://storage.example.net/up/u-1?sig=a%2Bb%3D'
  const [path, query] = split(session(location))

  it('takes what the client adds to either side, without touching the signature', () => {
    const digest = `digest=sha256%3A${'0'.repeat(64)}`
    const expected = { url: `${location}&${digest}`, foreign: true }

    expect(locations.target(path, `${query}&${digest}`, NAME)).toEqual(expected)
    expect(locations.target(path, `${digest}&${query}`, NAME)).toEqual(expected)
  })

  it('gets a question mark when the sealed URL has no query', () => {
    const [barePath, bareQuery] = split(session('https://storage.example.net/up/u-1'))

    expect(locations.target(barePath, `${bareQuery}&digest=d`, NAME).url).toBe(
      'https://storage.example.net/up/u-1?digest=d',
    )
  })

  it('opens only for its repository', () => {
    expect(() => locations.target(path, query, nameOf('team/other'))).toThrow(
      expect.objectContaining({ code: 'BLOB_UPLOAD_UNKNOWN', status: 404 }),
    )
  })

  it('opens only with the secret that sealed it, which may change while the site runs', () => {
    let secret = 'old'
    const renewed = createLocations({ upstreamOrigin: ORIGIN, secret: () => secret })
    const [, old] = split(renewed.session(location, NAME))
    secret = 'new'

    expect(() => renewed.target(path, old, NAME)).toThrow(OciError)
    expect(renewed.target(path, split(renewed.session(location, NAME))[1], NAME).url).toBe(location)
  })

  it('does not open once a single character of it was changed', () => {
    const sealed = query.slice('_geo='.length)
    for (let at = 0; at < sealed.length - 1; at += 7) {
      const altered = sealed.slice(0, at) + (sealed[at] === 'A' ? 'B' : 'A') + sealed.slice(at + 1)
      expect(() => locations.target(path, `_geo=${altered}`, NAME)).toThrow(OciError)
    }
  })

  it('does not open in another writing of the same bytes', () => {
    for (const length of [1, 2, 3, 4]) {
      const [, one] = split(session(`https://storage.example.net/${'u'.repeat(length)}`))
      const last = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'.replace(
        one.at(-1) ?? '',
        '',
      )
      const others = [...last].map((character) => one.slice(0, -1) + character)
      for (const altered of [...others, `${one}=`, `${one}!`, `${one}%3D`, one.replace('=', '=\0')]) {
        expect(() => locations.target(path, altered, NAME), altered).toThrow(OciError)
      }
    }
  })

  it.each(['_geo=', '_geo=AAAA', '_geo=%2F%2F', `_geo=${'A'.repeat(100)}`, `${query}&${query}`])(
    'is unknown when malformed or given twice: %s',
    (malformed) => {
      expect(() => locations.target(path, malformed, NAME)).toThrow(OciError)
    },
  )
})

describe('an upload request', () => {
  it.each(['..', '.', '%2e%2e', '..%2f..%2fother', 'a%5Cb', 'a%00'])(
    'cannot climb out with the id %s',
    (id) => {
      expect(() => locations.target(`/v2/team/app/blobs/uploads/${id}`, '', NAME)).toThrow(OciError)
    },
  )

  it('keeps an id and query of the primary as they are written', () => {
    expect(locations.target('/v2/team/app/blobs/uploads/1%3Aa=b', 'x=%2b&y', NAME).url).toBe(
      `${ORIGIN}/v2/team/app/blobs/uploads/1%3Aa=b?x=%2b&y`,
    )
  })
})

describe('a Link of a list', () => {
  it.each([
    ['</v2/_catalog?last=a%2Fb&n=2>; rel="next"', '</v2/_catalog?last=a%2Fb&n=2>; rel="next"'],
    [`<${ORIGIN}/v2/a/tags/list?last=x>; rel="next"`, '</v2/a/tags/list?last=x>; rel="next"'],
    ['<http://internal:5000/v2/a/tags/list?last=x>; rel="next"', '</v2/a/tags/list?last=x>; rel="next"'],
    [
      '<https://a/v2/x>; rel="next", <https://b/v2/y>; rel="last"',
      '</v2/x>; rel="next", </v2/y>; rel="last"',
    ],
    ['<http://internal//evil.example.net/v2/x>; rel="next"', '</evil.example.net/v2/x>; rel="next"'],
    ['<https://evil.example.net?last=x>; rel="next"', '</?last=x>; rel="next"'],
    ['</\\evil.example.net/v2/x>; rel="next"', '</v2/x>; rel="next"'],
    ['<\t//evil.example.net/v2/x>; rel="next"', '</v2/x>; rel="next"'],
    ['<https:\\\\evil.example.net\\v2/x>; rel="next"', '</v2/x>; rel="next"'],
    ['<http:evil.example.net/v2/x>; rel="next"', '</v2/x>; rel="next"'],
    ['<?last=x>; rel="next"', '<?last=x>; rel="next"'],
  ])('leads the client to this site: %s', (given, expected) => {
    expect(locations.link(given)).toBe(expected)
  })
})
