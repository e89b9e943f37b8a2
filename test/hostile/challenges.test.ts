/** What a primary, or whoever answers for it, may say to the site's own login: where it goes is settled here. */
import { Readable } from 'node:stream'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Dispatcher, OutgoingRequest } from '../../src/upstream/dispatcher.ts'
import { UpstreamError } from '../../src/upstream/errors.ts'
import { splitUrl } from '../../src/upstream/exchange.ts'
import { createPasswordTokenSource } from '../../src/upstream/token-source.ts'
import type { ForwardAnswer } from '../../src/upstream/upstream.ts'
import { deeplyNested, HOSTILE_TIMEOUT_MS, holds, jsonWith, LATIN, mutated, SEEDED } from './hostile.ts'

const ORIGIN = 'https://primary.example.com'
const REALM = 'https://gitlab.example.com/jwt/auth'
const LOGIN = `Basic ${Buffer.from('site:secret').toString('base64')}`
const SCOPE = 'repository:team/app:pull'

const challenge: fc.Arbitrary<string | string[] | undefined> = (() => {
  const realms = [
    ...[
      REALM,
      'https://gitlab.example.com@evil.net/',
      'https://gitlab.example.com.evil.net/',
      'https://evil.net/',
    ],
    ...[
      'https://gitlab.example.com:444/',
      'http://gitlab.example.com/',
      '//gitlab.example.com/',
      '/jwt/auth',
      '',
    ],
    ...[
      'https://gitlab.example.com\\\\@evil.net/',
      'blob:https://gitlab.example.com/x',
      'file:///etc/passwd',
    ],
    ...[
      'HTTPS://GITLAB.EXAMPLE.COM/jwt/auth',
      'https://a:b@gitlab.example.com/',
      `${ORIGIN}/`,
      'javascript:1',
    ],
  ]
  const proper = fc
    .tuple(
      fc.constantFrom(...realms),
      fc.constantFrom('service="registry"', 'service=x,realm="y"', 'scope="*"'),
    )
    .map(([realm, more]) => `Bearer realm="${realm}",${more}`)
  const others = fc.constantFrom('Basic realm="r"', 'Negotiate abc=', 'Digest qop="auth"', 'Bearer', '')
  const line = fc.oneof(proper, others, mutated(proper), fc.string({ unit: LATIN, maxLength: 30 }))
  return fc.oneof(line, fc.array(line, { maxLength: 3 }), fc.constant(undefined))
})()

const tokenAnswer: fc.Arbitrary<{ status: number; body: string }> = fc.record({
  status: fc.oneof(fc.constant(200), fc.integer({ min: 200, max: 999 })),
  body: fc.oneof(
    jsonWith(
      ['token', 'access_token', 'expires_in', 'issued_at'],
      [
        'a.b.c',
        'a b',
        'a\r\nx: y',
        '\u00e9',
        -1,
        0,
        1e308,
        'x'.repeat(70_000),
        ['a.b.c'],
        { token: 'a.b.c' },
      ],
    ).map((value) => JSON.stringify(value)),
    fc.constantFrom('', '{', '<html>', deeplyNested(30_000), '{"token":"a.b.c"}', '{"token":"a","token":7}'),
  ),
})

interface Told {
  readonly status: number
  readonly challenge: string | string[] | undefined
  readonly token: { readonly status: number; readonly body: string }
}

/** The site's dispatcher as far as a token source knows it, with an answer for every request. */
function toldDispatcher({ status, challenge: header, token }: Told) {
  const sent: OutgoingRequest[] = []
  const dispatcher: Pick<Dispatcher, 'origin' | 'timeouts' | 'send'> = {
    origin: ORIGIN,
    timeouts: { connectMs: 100, headMs: 100, writeMs: 100, tagMs: 100, bodyIdleMs: 100 },
    async send(request): Promise<ForwardAnswer> {
      sent.push(request)
      const isPing = request.operation === 'ping'
      const headers = isPing && header !== undefined ? { 'www-authenticate': header } : {}
      const body = Readable.from(Buffer.from(isPing ? '' : token.body), { objectMode: false })
      return { status: isPing ? status : token.status, headers, body }
    },
  }
  return { dispatcher, sent }
}

describe(`the site's own login (${SEEDED})`, { timeout: HOSTILE_TIMEOUT_MS }, () => {
  it('reaches the pinned realm alone, and becomes a header or an error of the primary', async () => {
    const told = fc.record({
      status: fc.oneof(
        { weight: 5, arbitrary: fc.constant(401) },
        { weight: 1, arbitrary: fc.integer({ min: 200, max: 999 }) },
      ),
      challenge,
      token: tokenAnswer,
    })
    const property = fc.asyncProperty(told, async (answers) => {
      const { dispatcher, sent } = toldDispatcher(answers)
      const source = createPasswordTokenSource(dispatcher, {
        login: () => ({ username: 'site', password: 'secret' }),
        realm: REALM,
      })
      for (let turn = 0; turn < 2; turn++) {
        try {
          const authorization = await source.authorization(SCOPE)
          if (authorization !== undefined && authorization !== LOGIN) {
            expect(authorization).toMatch(/^Bearer [\x21-\x7e]+$/)
          }
        } catch (error) {
          expect(error).toBeInstanceOf(UpstreamError)
        }
        source.refused(SCOPE)
      }
      for (const { operation, url, headers } of sent) {
        if (operation === 'ping') expect(headers['authorization']).toBeUndefined()
        else expect(splitUrl(url).origin).toBe('https://gitlab.example.com')
      }
    })

    await holds(property, { runs: 1500 })
  })
})
