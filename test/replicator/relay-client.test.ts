/** Asking a relay over HTTP: what is sent, what is believed, and what a person is told when there is no answer. */

import { writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { LogPage } from '../../replicator/relay/page.ts'
import {
  createRelayClient,
  type LogQuestion,
  type RelayClientOptions,
} from '../../replicator/relay-client.ts'
import { digestOf } from '../../src/oci/digest.ts'
import { signingKey } from '../support/keys.ts'
import { tempFolder } from '../support/temp.ts'
import { APP, notice, tagNamed } from './inbox-world.ts'

const DIGEST = digestOf(Buffer.from('x'))
const PAGE: LogPage = {
  log: 'log-1',
  records: [
    { number: 4, notice: notice('push', APP, { tag: 'v1', digest: DIGEST }) },
    { number: 5, notice: notice('rename', APP, { to: 'team/new' }) },
  ],
  through: 5,
  last: 9,
  settledThrough: 2,
  heldMs: 12.5,
  watermark: { epoch: 'e', round: 3, through: 5, ageMs: 250 },
  note: 'why',
}
const QUESTION: LogQuestion = {
  after: { log: 'log-1', number: 3 },
  settled: false,
  seen: { epoch: 'e', round: 2 },
  waitMs: 50,
}
const never = new AbortController().signal

let owned: AsyncDisposableStack
let answer: (request: IncomingMessage, response: ServerResponse) => void
let asked: IncomingMessage[]
beforeEach(() => {
  owned = new AsyncDisposableStack()
  asked = []
  answer = (_, response) => response.end(JSON.stringify(PAGE))
})
afterEach(() => owned.disposeAsync())

const listener: RequestListener = (request, response) => {
  asked.push(request)
  answer(request, response)
}

async function relay(tls?: { readonly cert: string; readonly key: string }): Promise<string> {
  const server = tls ? createTlsServer(tls, listener) : createServer(listener)
  owned.defer(async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return `${tls ? 'https' : 'http'}://127.0.0.1:${port}`
}
function clientOf(url: string, options: Partial<RelayClientOptions> = {}) {
  return owned.use(createRelayClient({ url, token: () => 'the-token', ...options }))
}
async function asking(options: Partial<RelayClientOptions> = {}, question = QUESTION) {
  return await clientOf(await relay(), options).ask(question, never)
}
/** How a question ended that got no answer. */
async function failing(options: Partial<RelayClientOptions> = {}, url?: string): Promise<string> {
  const client = clientOf(url ?? (await relay()), options)
  return await client.ask(QUESTION, never).then(
    () => 'answered',
    (error: unknown) => (error instanceof Error ? `${error.name}: ${error.message}` : ''),
  )
}
const parametersOf = (request: IncomingMessage | undefined) =>
  Object.fromEntries(new URL(request?.url ?? '', 'http://relay').searchParams)

describe('a question to a relay', () => {
  it('says where the site stands, by its token, and is never the same address twice', async () => {
    const client = clientOf(`${await relay()}/geo/`)
    await client.ask(QUESTION, never)
    await client.ask({ after: undefined, settled: true, seen: undefined, waitMs: 0 }, never)

    expect(asked[0]?.url).toMatch(/^\/geo\/log\?/)
    expect(asked[0]?.headers).toMatchObject({
      authorization: 'Bearer the-token',
      'accept-encoding': 'gzip',
      'cache-control': 'no-store',
    })
    const [first, second] = asked.map(parametersOf)
    expect(first).toMatchObject({ after: '3', log: 'log-1', epoch: 'e', round: '2', wait: '50' })
    expect(first).not.toHaveProperty('settled')
    expect(second).toEqual({ wait: '0', settled: '1', question: expect.any(String) })
    expect(second?.['question']).not.toBe(first?.['question'])
  })

  it('goes over one connection that stays open', async () => {
    const client = clientOf(await relay())
    for (let turn = 0; turn < 5; turn++) await client.ask(QUESTION, never)
    expect(new Set(asked.map(({ socket }) => socket)).size).toBe(1)
  })

  it.each([
    ['plain', (response: ServerResponse, text: string) => response.end(text)],
    [
      'gzip',
      (response: ServerResponse, text: string) =>
        response.setHeader('content-encoding', 'gzip').end(gzipSync(text)),
    ],
  ])('is answered with a page, %s', async (_, send) => {
    answer = (_request, response) => send(response, JSON.stringify({ ...PAGE, added: 'by a later version' }))
    expect(await asking()).toMatchObject({ kind: 'page', page: PAGE })
  })

  it('is timed from before it was sent until all of its answer was here', async () => {
    let nowMs = 100
    answer = (_, response) => {
      nowMs += 1_000
      response.end(JSON.stringify(PAGE))
    }
    expect(await asking({ now: () => nowMs })).toMatchObject({ sentAtMs: 100, answeredAtMs: 1_100 })
  })

  it('is told what the log has in place of what it no longer has', async () => {
    answer = (_, response) => response.writeHead(410).end('{"log":"log-2","first":5,"last":9}')
    expect(await asking()).toEqual({ kind: 'gone', gone: { log: 'log-2', first: 5, last: 9 } })
    expect(
      await clientOf(await relay())
        .ask({ ...QUESTION, after: undefined }, never)
        .catch(String),
    ).toMatch(/answered 410/)
  })

  it('uses the token that its file has by then', async () => {
    const tokens = ['old', 'new']
    const client = clientOf(await relay(), { token: () => tokens.shift() ?? '' })
    await client.ask(QUESTION, never)
    await client.ask(QUESTION, never)
    expect(asked.map(({ headers }) => headers.authorization)).toEqual(['Bearer old', 'Bearer new'])
  })

  it('ends with the reason of whoever gives it up', async () => {
    const giving = new AbortController()
    answer = () => giving.abort(new Error('closing'))
    await expect(clientOf(await relay()).ask(QUESTION, giving.signal)).rejects.toThrow('closing')
  })
})

describe('no answer', () => {
  it.each([
    [401, /RelayAwayError: .*token \(401\): relay\.token here and relay\.sites there/],
    [404, /RelayAwayError: .*correct relay\.url/],
    [429, /RelayAwayError: .*one replicator/],
    [302, /RelayAwayError: .*answered 302/],
    [503, /RelayAwayError: .*answered 503/],
  ])('of status %i is told in a sentence', async (status, told) => {
    answer = (_, response) => response.writeHead(status, { location: 'http://127.0.0.1:1/' }).end('no')
    expect(await failing()).toMatch(told)
    expect(asked).toHaveLength(1)
  })

  it('for want of a relay is told in a sentence', async () => {
    expect(await failing({}, 'http://127.0.0.1:1')).toMatch(/RelayAwayError: .*ECONNREFUSED/)
  })

  it('is waited for no longer than the wait and a little', async () => {
    answer = () => {}
    expect(await failing({ headGraceMs: 50 })).toMatch(/RelayAwayError: .*no answer in time/)
  })

  it('is made of one that begins and never ends', async () => {
    answer = (_, response) => void response.write('{')
    expect(await failing({ bodyTimeoutMs: 50 })).toMatch(/RelayAwayError: .*no answer in time/)
  })

  it('is made of one that is cut', async () => {
    answer = (_, response) => {
      response.setHeader('content-length', '1000')
      response.write('{', () => response.destroy())
    }
    expect(await failing()).toMatch(/RelayAwayError: .*cannot be reached/)
  })

  it.each([
    ['too large', (response: ServerResponse) => response.end(' '.repeat(2_000)), /larger than 1000 bytes/],
    [
      'too large unpacked',
      (response: ServerResponse) =>
        response.setHeader('content-encoding', 'gzip').end(gzipSync(' '.repeat(100_000))),
      /larger than 1000 bytes/,
    ],
    [
      'no gzip',
      (response: ServerResponse) => response.setHeader('content-encoding', 'gzip').end('{}'),
      /cannot be unpacked/,
    ],
    [
      'packed otherwise',
      (response: ServerResponse) => response.setHeader('content-encoding', 'br').end('{}'),
      /expected gzip/,
    ],
    ['a web page', (response: ServerResponse) => response.end('<html>'), /is no JSON: relay\.url/],
    ['another JSON', (response: ServerResponse) => response.end('[]'), /not understood/],
  ])('is made of one that is %s', async (_, send, told) => {
    answer = (_request, response) => send(response)
    const ended = await failing({ maxBytes: 1_000 })
    expect(ended).toMatch(/^RelayAnswerError/)
    expect(ended).toMatch(told)
  })

  const record = (fields: object) => ({
    records: [{ number: 4, notice: { ...PAGE.records[0]?.notice, ...fields } }],
  })
  it.each([
    ['an action nobody knows', record({ action: 'melt' })],
    ['a name outside the grammar', record({ repository: '../up' })],
    ['a tag outside the grammar', record({ tag: ' ' })],
    ['a digest outside the grammar', record({ digest: 'sha256:1' })],
    ['an id no database takes', record({ id: 'a\u0000b' })],
    ['a negative age', { watermark: { ...PAGE.watermark, ageMs: -1 } }],
    ['a negative hold', { heldMs: -1 }],
    ['no hold', { heldMs: undefined }],
    ['a number that is none', { through: 1.5 }],
    ['a text for a number', { last: '9' }],
  ])('is made of a page with %s, rather than skipping it', async (_, fields) => {
    answer = (_request, response) => response.end(JSON.stringify({ ...PAGE, ...fields }))
    expect(await failing()).toMatch(/RelayAnswerError: .*not understood \(.+\)/)
  })
})

describe('a relay that speaks TLS', () => {
  it('is believed with its certificate in relay.cafile, also when that is renewed, and not without', async () => {
    const folder = owned.use(await tempFolder('relay-client'))
    const [own, other] = [await signingKey({ name: 'relay' }), await signingKey({ name: 'other' })]
    const url = await relay({ cert: own.certificatePem, key: own.privateKeyPem })
    const caFile = join(folder.path, 'ca.pem')
    await writeFile(caFile, other.certificatePem)
    const client = clientOf(url, { caFile })

    await expect(client.ask(QUESTION, never)).rejects.toThrow(/look at relay\.cafile/)
    await writeFile(caFile, own.certificatePem)
    client.renew()
    expect(await client.ask(QUESTION, never)).toMatchObject({ kind: 'page' })
    expect(await failing({}, url)).toMatch(/look at relay\.cafile/)
    expect(tagNamed('v1')).toBe(PAGE.records[0]?.notice.tag)
  })
})
