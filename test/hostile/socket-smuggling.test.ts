/**
 * Request smuggling through NGINX as `deploy/nginx.conf` has it, the site and the primary: whatever an attacker sends,
 * what is hidden in it is run by none of them, and nobody else gets an answer that is not theirs.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openRaw } from '../e2e/raw-http.ts'
import { type GeoRegistry, startGeoRegistry } from '../support/geo-registry.ts'
import { type LyingPrimary, startLyingPrimary } from '../support/lying-primary.ts'
import { type Nginx, startNginx } from '../support/nginx.ts'
import { createRegistryApi, type RegistryApi } from '../support/registry-api.ts'
import { until } from '../support/wait.ts'

let primary: LyingPrimary
let site: GeoRegistry
let nginx: Nginx
let victims: Readonly<Record<'site' | 'nginx', RegistryApi>>

beforeAll(async () => {
  primary = await startLyingPrimary()
  site = await startGeoRegistry({
    primary: primary.url,
    config: { http: { idletimeout: '2s', trustedproxies: ['127.0.0.1'] }, auth: { none: { push: true } } },
  })
  const conf = await readFile(join(import.meta.dirname, '../../deploy/nginx.conf'), 'utf8')
  const locations = conf.slice(conf.indexOf('    location /'), conf.lastIndexOf('}'))
  nginx = await startNginx({
    balanced: { geo_registry: [site.url] },
    keepalive: 1, // All clients share one connection to the site, which an attacker would leave in disorder.
    servers: [{ extra: locations.replace('https://registry.primary.example.com', primary.url) }],
  })
  victims = { site: createRegistryApi(site.url), nginx: createRegistryApi(nginx.url) }
})
afterAll(async () => {
  for (const owned of [victims.site, victims.nginx, nginx, site, primary]) await owned[Symbol.asyncDispose]()
})

const HIDDEN = 'GET /v2/hidden/tags/list HTTP/1.1\r\nHost: x\r\nX-Request-Id: stolen\r\n\r\n'
const UPLOAD = 'POST /v2/team/app/blobs/uploads/'
const message = (start: string, lines: readonly string[], body: string) =>
  [`${start} HTTP/1.1`, 'Host: x', ...lines, '', body].join('\r\n')

/** Framed by its length, which covers what is hidden: who believes anything else runs it. */
const byLength = (...lines: string[]) =>
  message(UPLOAD, [`Content-Length: ${5 + HIDDEN.length}`, ...lines], `0\r\n\r\n${HIDDEN}`)
/** Framed by chunks, of which one holds what is hidden: who believes a length of 4 runs it. */
const byChunks = (...lines: string[]) =>
  message(
    UPLOAD,
    ['Content-Length: 4', ...lines],
    `${HIDDEN.length.toString(16).padStart(2, '0')}\r\n${HIDDEN}\r\n0\r\n\r\n`,
  )
/** In chunks, with what is hidden in this one place of them. */
const inChunks = (body: string) => message(UPLOAD, ['Transfer-Encoding: chunked'], body)
const SIZE = HIDDEN.length.toString(16)

const ATTACKS: Readonly<Record<string, string>> = {
  'a length and chunks': byLength('Transfer-Encoding: chunked'),
  'chunks and a length': byChunks('Transfer-Encoding: chunked'),
  'chunks under a vertical tab': byLength('Transfer-Encoding:\x0bchunked'),
  'chunks behind a tab': byLength('Transfer-Encoding:\tchunked'),
  'chunks before a tab': byLength('Transfer-Encoding: chunked\t'),
  'chunks in capitals': byLength('TRANSFER-ENCODING: CHUNKED'),
  'chunks in quotes': byLength('Transfer-Encoding: "chunked"'),
  'chunks with a parameter': byLength('Transfer-Encoding: chunked;q=1'),
  'chunks twice': byLength('Transfer-Encoding: chunked, chunked'),
  'chunks and then nothing': byLength('Transfer-Encoding: chunked', 'Transfer-Encoding: identity'),
  'nothing and then chunks': byLength('Transfer-Encoding: identity', 'Transfer-Encoding: chunked'),
  'chunks by an underscore': byLength('Transfer_Encoding: chunked'),
  'chunks before a space': byLength('Transfer-Encoding : chunked'),
  'chunks by a bare LF': byLength('X: y\nTransfer-Encoding: chunked'),
  'chunks by a bare CR': byLength('X: y\rTransfer-Encoding: chunked'),
  'chunks by a folded line': byLength('X: y', ' Transfer-Encoding: chunked'),
  'chunks behind a NUL': byLength('X: y\0', 'Transfer-Encoding: chunked'),
  'chunks that Connection would remove': byLength(
    'Connection: Transfer-Encoding',
    'Transfer-Encoding: chunked',
  ),
  'a length that Connection would remove': byLength('Connection: Content-Length'),
  'an empty coding': byLength('Transfer-Encoding:'),
  'a second length of none': byLength('Content-Length: 0'),
  'the same length twice': byLength(`Content-Length: ${5 + HIDDEN.length}`),
  'a signed length': message(UPLOAD, [`Content-Length: +${HIDDEN.length}`], HIDDEN),
  'a negative length': message(UPLOAD, ['Content-Length: -1'], HIDDEN),
  'a length with a space in it': message(UPLOAD, ['Content-Length: 1 0'], HIDDEN),
  'a length in hexadecimal': message(UPLOAD, [`Content-Length: 0x${SIZE}`], HIDDEN),
  'a length that is too large for a number': message(
    UPLOAD,
    ['Content-Length: 18446744073709551616'],
    HIDDEN,
  ),
  'an underscored length': message(UPLOAD, [`Content_Length: 0`, `Content-Length: ${HIDDEN.length}`], HIDDEN),
  'a chunk size that is too large for a number': inChunks(`10000000000000000\r\n${HIDDEN}\r\n0\r\n\r\n`),
  'a chunk size that is signed': inChunks(`+${SIZE}\r\n${HIDDEN}\r\n0\r\n\r\n`),
  'a chunk extension': inChunks(`${SIZE};a="\\\r\n${HIDDEN}\r\n0\r\n\r\n`),
  'a chunk extension that ends in LF alone': inChunks(`2;\nxx\r\n${SIZE}\r\n${HIDDEN}\r\n0\r\n\r\n`),
  'a chunk that ends in LF alone': inChunks(`2\r\nxx\n${SIZE}\r\n${HIDDEN}\r\n0\r\n\r\n`),
  'trailers that look like framing': inChunks(`${SIZE}\r\n${HIDDEN}\r\n0\r\nContent-Length: 9\r\n\r\n`),
  'a body of a GET': message('GET /v2/team/app/tags/list', [`Content-Length: ${HIDDEN.length}`], HIDDEN),
  'a body of a HEAD': message('HEAD /v2/team/app/manifests/v1', [`Content-Length: ${HIDDEN.length}`], HIDDEN),
  'a body of a DELETE': message(
    'DELETE /v2/team/app/manifests/v1',
    [`Content-Length: ${HIDDEN.length}`],
    HIDDEN,
  ),
  'a body of what is refused': message(
    'PUT /v2/BAD/manifests/v1',
    [`Content-Length: ${HIDDEN.length}`],
    HIDDEN,
  ),
  'a body of a path that is none': message('POST /nowhere', [`Content-Length: ${HIDDEN.length}`], HIDDEN),
  'an expectation': message(UPLOAD, [`Content-Length: ${HIDDEN.length}`, 'Expect: 100-continue'], HIDDEN),
  'an unknown expectation': message(UPLOAD, [`Content-Length: ${HIDDEN.length}`, 'Expect: 200-ok'], HIDDEN),
  'two expectations': byLength('Expect: 100-continue', 'Expect: x 100-continue'),
  'an upgrade to HTTP/2': byLength(
    'Connection: Upgrade, HTTP2-Settings',
    'Upgrade: h2c',
    'HTTP2-Settings: AAMAAABk',
  ),
  'an upgrade to a web socket': byLength(
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Version: 13',
  ),
  'an override of its method': byLength('X-HTTP-Method-Override: GET', 'X-Method: GET'),
  'HTTP/1.0 in chunks': byLength('Transfer-Encoding: chunked').replace('HTTP/1.1', 'HTTP/1.0'),
  'HTTP/0.9': `GET /v2/\r\n${HIDDEN}`,
  'HTTP/3.0': message(UPLOAD, [`Content-Length: ${HIDDEN.length}`], HIDDEN).replace('HTTP/1.1', 'HTTP/3.0'),
  'a preface of HTTP/2': `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n${HIDDEN}`,
  'a tunnel': message('CONNECT 127.0.0.1:1', ['Content-Length: 0'], HIDDEN),
  'a trace': message('TRACE /v2/', [`Content-Length: ${HIDDEN.length}`], HIDDEN),
  'a line break in the target': `GET /v2/%0d%0a%0d%0a${HIDDEN.replaceAll('\r\n', '%0d%0a').replaceAll(' ', '%20')} HTTP/1.1\r\nHost: x\r\n\r\n`,
}

describe.each(['site', 'nginx'] as const)(
  'what is hidden is not run, and nobody else is touched, by way of the %s',
  (way) => {
    it.each(Object.entries(ATTACKS))('%s', async (what, bytes) => {
      const { port } = way === 'site' ? site : nginx
      await using attacker = await openRaw(port)
      attacker.socket.write(Buffer.from(bytes, 'latin1'))
      // Victims ask while the attack is under way and after it, each by a name of its own that the answer must bear.
      for (let count = 1; count <= 3; count++) {
        const headers = { 'x-request-id': `victim-${count}` }
        const answer = await victims[way].request('GET', `/v2/victim/v${count}/tags/list`, { headers })
        expect([answer.status, answer.headers['x-request-id']], what).toEqual([200, `victim-${count}`])
        expect(JSON.parse(answer.body.toString())).toMatchObject({ name: `victim/v${count}` })
        if (count === 1) {
          await until(() => attacker.statuses().length > 0 || attacker.isClosed, {
            what: 'an answer to the attack',
          })
        }
      }

      expect(attacker.received()).not.toMatch(/x-request-id: (?:stolen|victim)|victim\/v/i)
      expect(
        primary.requests.filter(({ url }) => url.startsWith('/v2/hidden')),
        what,
      ).toEqual([])
      expect(
        site.lines.filter(({ uri }) => String(uri).startsWith('/v2/hidden')),
        what,
      ).toEqual([])
    })
  },
)

it('the primary sees as many bytes of a body as the site was sent, whichever way they were framed', async () => {
  for (const { port } of [site, nginx]) {
    for (const body of [byLength(), inChunks(`${SIZE};x=y\r\n${HIDDEN}\r\n5\r\n0\r\n\r\n\r\n0\r\n\r\n`)]) {
      const seen = primary.requests.length
      await using client = await openRaw(port)
      client.socket.write(body)
      await until(() => client.statuses().length > 0, { what: 'the answer' })

      const posted = primary.requests.slice(seen).filter(({ method }) => method === 'POST')
      expect(posted.map(({ bodyBytes }) => bodyBytes)).toEqual([HIDDEN.length + 5])
    }
  }
})
