/** Addresses that a primary names, and the sealed ones that a client brings back. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createLocations } from '../../proxy/locations.ts'
import { OciError } from '../../src/oci/errors.ts'
import type { RepositoryName } from '../../src/oci/reference.ts'
import { UpstreamError } from '../../src/upstream/errors.ts'
import { nameOf } from '../store/store-fixture.ts'
import { HOSTILE_TIMEOUT_MS, holds, LATIN, mutated, SEEDED } from './hostile.ts'

const ORIGIN = 'https://primary.example.com'
const SITE = 'registry.example.com'
const NAME = nameOf('team/app')
const OTHER = nameOf('team/other')
const BASE = `${ORIGIN}/v2/team/app/blobs/uploads/`
const locations = createLocations({ upstreamOrigin: ORIGIN, secret: () => 'secret' })

/** A header's value as node and undici let it pass. */
const isHeader = (text: string) => /^[\t\x20-\x7e\x80-\xff]*$/.test(text)
const SEEDS = [
  '/v2/team/app/blobs/uploads/u-1?_state=a%2Bb',
  `${ORIGIN}/v2/team/app/blobs/uploads/u-1?s=%2B`,
  `https://${SITE}/v2/team/app/blobs/uploads/u-1`,
  'https://storage.example.net/up?sig=a%2Bb%3D',
  '//evil.example.net/v2/team/app/blobs/uploads/u-1',
  'u-1?x=1',
  '../../../other/app/blobs/uploads/u-1',
  '\\\\evil.example.net\\x',
  '',
]
const address: fc.Arbitrary<string> = fc
  .oneof(mutated(fc.constantFrom(...SEEDS)), fc.string({ unit: LATIN, maxLength: 20 }))
  .filter(isHeader)
const base = fc.constantFrom(BASE, 'https://storage.example.net/up/u-1?s=0')

/** The session's path and query under this site; undefined where the Location was refused as it should be. */
function sessionOf(location: string, from: string): { path: string; query: string } | undefined {
  try {
    const text = locations.session(locations.resolve(location, SITE, from), NAME)
    const [path = '', ...query] = text.split('?')
    return { path, query: query.join('?') }
  } catch (error) {
    expect(error).toBeInstanceOf(UpstreamError)
    return undefined
  }
}

function refusalOf(path: string, query: string, name: RepositoryName): unknown {
  try {
    return locations.target(path, query, name)
  } catch (error) {
    return error
  }
}

describe(`a Location of any shape (${SEEDED})`, { timeout: HOSTILE_TIMEOUT_MS }, () => {
  it('leads the client to this site, and back to nowhere with a credential but the primary', async () => {
    const property = fc.property(address, base, (location, from) => {
      const session = sessionOf(location, from)
      if (!session) return
      expect(session.path).toMatch(/^\/v2\/team\/app\/blobs\/uploads\/[^/]+$/)
      expect(isHeader(`${session.path}?${session.query}`)).toBe(true)
      const { url, foreign } = locations.target(session.path, session.query, NAME)
      const reached = new URL(url)
      expect(['http:', 'https:']).toContain(reached.protocol)
      // What goes with the credential goes to the primary; what goes there without it loses only its login.
      if (!foreign) expect(reached.origin).toBe(ORIGIN)
    })
    await holds(property, { runs: 2000 })
  })

  it('is never opened for another repository', async () => {
    const property = fc.property(address, base, (location, from) => {
      const session = sessionOf(location, from)
      if (!session?.query.startsWith('_geo=')) return
      expect(refusalOf(session.path, session.query, OTHER)).toBeInstanceOf(OciError)
    })
    await holds(property, { runs: 1000 })
  })
})

describe(`a sealed Location (${SEEDED})`, { timeout: HOSTILE_TIMEOUT_MS }, () => {
  const { path, query } = sessionOf('https://storage.example.net/up/u-1?sig=a%2Bb%3D', BASE) ?? {
    path: '',
    query: '',
  }
  const sealed = query.slice('_geo='.length)

  it('is refused with any one bit of it flipped', () => {
    for (let at = 0; at < sealed.length; at++) {
      for (let bit = 0; bit < 8; bit++) {
        const flipped = String.fromCharCode(sealed.charCodeAt(at) ^ (1 << bit))
        const altered = sealed.slice(0, at) + flipped + sealed.slice(at + 1)
        expect(refusalOf(path, `_geo=${altered}`, NAME), `bit ${bit} of character ${at}`).toBeInstanceOf(
          OciError,
        )
      }
    }
  })

  it('is refused in any other writing', async () => {
    const property = fc.property(mutated(fc.constant(sealed)), (altered) => {
      // What follows an `&` is the client's own to add.
      fc.pre(altered.split('&')[0] !== sealed)
      expect(refusalOf(path, `_geo=${altered}`, NAME)).toBeInstanceOf(OciError)
    })
    await holds(property, { runs: 2000 })
  })

  it('sends nothing elsewhere, whatever a client adds to it', async () => {
    const added = fc.string({ unit: LATIN, maxLength: 20 }).filter((text) => /^[\x21-\x7e]*$/.test(text))
    const property = fc.property(added, fc.boolean(), (text, before) => {
      fc.pre(!text.split('&').some((part) => part.startsWith('_geo=')))
      const both = before ? `${text}&${query}` : `${query}&${text}`
      const target = locations.target(path, both, NAME)
      expect([new URL(target.url).origin, target.foreign]).toEqual(['https://storage.example.net', true])
    })
    await holds(property, { runs: 1000 })
  })
})

describe(`a Link of any shape (${SEEDED})`, { timeout: HOSTILE_TIMEOUT_MS }, () => {
  const links = [
    '</v2/_catalog?last=a%2Fb&n=2>; rel="next"',
    `<${ORIGIN}/v2/a/tags/list?last=x>; rel="next"`,
    '<//internal:5000/v2/a/tags/list?last=x>; rel="next", <https://b/v2/y>; rel="last"',
    '<https://evil.example.net?last=x>; rel=next',
    '<http://primary.example.com//evil.example.net/v2/x>; rel="next"',
    '<?last=x>; rel="next"',
  ]
  const header = mutated(fc.constantFrom(...links)).filter(isHeader)

  it('never leads the client away from this site', async () => {
    const property = fc.property(header, (text) => {
      const rewritten = locations.link(text)
      expect(isHeader(rewritten)).toBe(true)
      for (const [, target = ''] of rewritten.matchAll(/<([^>]*)>/g)) {
        const reached = URL.parse(target, `https://${SITE}/v2/team/app/tags/list`)
        // Another scheme is nothing a client of a registry could follow.
        if (reached && /^https?:$/.test(reached.protocol)) expect(reached.host, target).toBe(SITE)
      }
    })
    await holds(property, { runs: 2000 })
  })
})
